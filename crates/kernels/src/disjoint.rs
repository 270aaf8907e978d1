//! A slice that several workers write at once, each its own part.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// A mutable slice shared by the tiles of one parallel run; the tiles promise to touch disjoint ranges.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is through `range` and `as_ptr`, whose callers promise disjoint ranges, so threads never share an element.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as above; it is a mutable borrow that may move between threads when `T` may.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where an element lies, as a number to prefetch; not to be read through.
    pub(crate) fn address(&self, idx: usize) -> *const T {
        self.start.wrapping_add(idx)
    }

    /// Where `len` elements from `from` on begin, of which the caller reads and writes only those that are its own.
    pub(crate) fn part(&self, from: usize, len: usize) -> *mut T {
        assert!(from <= self.len && len <= self.len - from, "range outside of the shared slice");
        self.start.wrapping_add(from)
    }

    /// The elements `from .. from + len`.
    ///
    /// # Safety
    /// No other live reference may cover any of these elements: each tile asks only for its own.
    #[allow(clippy::mut_from_ref)] // that is what the type is for
    pub(crate) unsafe fn range(&self, from: usize, len: usize) -> &mut [T] {
        // SAFETY: the range lies inside the borrowed slice (checked); the caller keeps ranges disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.part(from, len), len) }
    }
}
