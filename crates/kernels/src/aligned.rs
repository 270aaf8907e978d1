//! Bytes on a cache-line boundary, zero at first and not touched before they are written.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};

const LINE: usize = 64;

/// A fixed number of zeroed bytes that start on a cache line.
///
/// Large ones come as untouched pages from the system: an aligned request would be filled with zeros by
/// hand, so this asks for a line more and starts at the boundary inside.
pub(crate) struct AlignedBytes {
    start: *mut u8,
    len: usize,
    allocation: *mut u8,
    layout: Layout,
}

// SAFETY: it owns its bytes, like a `Vec<u8>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    pub(crate) fn zeroed(len: usize) -> AlignedBytes {
        let layout =
            Layout::from_size_align(len + LINE, 16).expect("no matrix is larger than the address space");
        // SAFETY: the size is at least LINE, never zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        if allocation.is_null() {
            handle_alloc_error(layout);
        }
        let skip = allocation.align_offset(LINE);
        debug_assert!(skip < LINE);
        // SAFETY: less than LINE bytes are skipped, and LINE more than `len` were allocated.
        let start = unsafe { allocation.add(skip) };
        AlignedBytes { start, len, allocation, layout }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, freed once.
        unsafe { dealloc(self.allocation, self.layout) }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes from `start` on belong to this value.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_on_a_line_and_are_zero() {
        for len in [0, 1, 63, 64, 65, 1 << 20] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert!(bytes.as_ptr().align_offset(LINE) == 0 && bytes.len() == len);
            assert!(bytes.iter().all(|&b| b == 0));
            bytes.fill(1);
        }
    }
}
