//! A stack that is large enough for hostile templates.

/// Stack of the thread on which templates are compiled and rendered.
///
/// minijinja descends into an expression such as `----1` without a limit, and drops a value such as `[[[[1]]]]` by
/// recursion. The length of a source and the fuel of a rendering bound how deep that goes, and this holds it: some
/// 1 kB for each byte of source, or instruction. It is address space; what real templates touch is a few pages.
const STACK_BYTES: usize = 512 << 20;

/// Does the work on a thread of its own with a large stack. None where the system gives none.
pub(super) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).ok()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
