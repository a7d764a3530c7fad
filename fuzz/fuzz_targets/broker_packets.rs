//! Any bytes of a connected client are read as packets or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    broker::fuzzing::packets(bytes);
});
