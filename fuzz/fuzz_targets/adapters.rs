//! Any bytes as an adapter.
#![no_main]

#[path = "../src/adapters_body.rs"]
mod adapters_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    adapters_body::exercise(bytes);
});
