//! Any bytes as a file of tokens.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trainer::token_files(bytes);
});
