//! The trie of subscriptions and the filter itself agree about every topic; both come in one text, a line each.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((filter, topic)) = text.split_once('\n') {
        broker::fuzzing::matches(filter, topic);
    }
});
