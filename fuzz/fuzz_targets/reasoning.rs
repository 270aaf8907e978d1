//! Any answer of a reasoning model, cut anywhere.
#![no_main]

#[path = "../src/reasoning_body.rs"]
mod reasoning_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reasoning_body::exercise(bytes);
});
