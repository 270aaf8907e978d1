//! Any bytes as a file of a corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trainer::fuzzing::corpora(bytes);
});
