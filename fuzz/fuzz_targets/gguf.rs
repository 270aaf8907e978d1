//! Any bytes as a model file.
#![no_main]

#[path = "../src/gguf_body.rs"]
mod gguf_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    gguf_body::exercise(bytes);
});
