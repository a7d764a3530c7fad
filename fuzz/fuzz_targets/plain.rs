//! Any payload is an unknown word, or a state or order that reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{PlainOrder, PlainState};

fuzz_target!(|payload: &[u8]| {
    if let Some(order) = PlainOrder::decode(payload) {
        assert_eq!(order.to_string().as_bytes(), payload);
    }
    if let Some(state) = PlainState::decode(payload) {
        assert_eq!(
            PlainState::decode(state.to_string().as_bytes()),
            Some(state)
        );
    }
});
