//! Any first bytes of a connection are read as a CONNECT or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    broker::fuzzing::connect(bytes);
});
