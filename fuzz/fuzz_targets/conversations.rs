//! Any bytes as a file of conversations to import.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    store::fuzzing::conversations(bytes);
});
