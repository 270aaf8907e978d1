//! Any bytes as the records of a task.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trainer::eval::fuzzing::eval_tasks(bytes);
});
