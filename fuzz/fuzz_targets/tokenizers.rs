//! Any vocabulary with any text: encoded, decoded, streamed.
#![no_main]

#[path = "../src/tokenizers_body.rs"]
mod tokenizers_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tokenizers_body::exercise(bytes);
});
