//! Any chat template with any messages.
#![no_main]

#[path = "../src/templates_body.rs"]
mod templates_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    templates_body::exercise(bytes);
});
