//! Any bytes as a Python wheel.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    models::fuzzing::wheel(bytes);
});
