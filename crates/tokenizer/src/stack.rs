//! Work that recurses as deep as what a stranger sent is nested, on a thread with a stack that holds it.

/// Does the work on a thread of its own with so large a stack. None where the system gives none.
///
/// The stack is address space; of what is not touched no memory is taken.
pub(crate) fn with_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("deep".to_owned()).stack_size(bytes);
        let thread = thread.spawn_scoped(scope, work).ok()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
