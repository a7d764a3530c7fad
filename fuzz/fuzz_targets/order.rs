//! Any payload is refused, or is an order that reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::Order;

fuzz_target!(|payload: &[u8]| {
    if let Ok(read) = Order::decode(payload) {
        let again = Order::decode(&read.encode()).expect("what was read can be read again");
        assert_eq!(again, read);
    }
});
