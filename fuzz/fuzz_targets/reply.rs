//! Any payload is refused, or is a reply that reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::Reply;

fuzz_target!(|payload: &[u8]| {
    if let Ok(read) = Reply::decode(payload) {
        let again = Reply::decode(&read.encode()).expect("what was read can be read again");
        assert_eq!(again, read);
    }
});
