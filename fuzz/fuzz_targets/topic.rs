//! Any text is refused, or is a topic that prints as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::Topic;

fuzz_target!(|text: &str| {
    if let Ok(topic) = text.parse::<Topic>() {
        assert_eq!(topic.to_string(), text);
    }
});
