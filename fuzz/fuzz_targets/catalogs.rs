//! Any bytes as a catalog file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    models::fuzzing::catalog(bytes);
});
