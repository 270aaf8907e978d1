//! Any bytes as a hub's listing, and as a manifest of Ollama or of our own.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    models::fuzzing::manifest(bytes);
});
