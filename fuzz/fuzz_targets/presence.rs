//! Any payload is refused, or is a presence that reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::Presence;

fuzz_target!(|payload: &[u8]| {
    if let Ok(read) = Presence::decode(payload) {
        let again = Presence::decode(&read.encode()).expect("what was read can be read again");
        assert_eq!(again, read);
    }
});
