//! Memory for weights, keys and values: on cache-line boundaries, zero at first, not touched before written.
//!
//! Matrices lie in large chunks that the system is asked to back with huge pages: a token reads every weight
//! once, and with 4 KiB pages the walks through the page table took a quarter of the bandwidth (measured: 17
//! against 22 GB/s with one thread of a Zen 3). Keys and values gain a tenth.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// A huge page.
const HUGE: usize = 2 << 20;
/// Small matrices share chunks of this size.
const CHUNK_BYTES: usize = 32 << 20;
/// From this size on a matrix has a chunk of its own.
const LARGE_BYTES: usize = CHUNK_BYTES / 4;

/// A fixed number of zeroed bytes that start on a cache line.
pub(crate) struct AlignedBytes {
    start: *mut u8,
    len: usize,
    /// Keeps the memory; freed with the last that shares it.
    _chunk: Arc<Chunk>,
}

// SAFETY: it alone refers to its bytes, like a `Vec<u8>`; the chunk is only kept alive.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Bytes in an allocation of their own.
    pub(crate) fn zeroed(len: usize) -> AlignedBytes {
        let (chunk, align) =
            if len < HUGE { (Chunk::with_slack(len, LINE), LINE) } else { (Chunk::huge(len), HUGE) };
        AlignedBytes { start: chunk.aligned(align), len, _chunk: Arc::new(chunk) }
    }
}

/// Words that start on a cache line; room that grows.
#[derive(Default)]
pub(crate) struct AlignedWords(Vec<Line>);

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u32; LINE / size_of::<u32>()]);

impl AlignedWords {
    /// Makes room for so many words; new ones are zero.
    pub(crate) fn at_least(&mut self, n_words: usize) {
        let n_lines = n_words.div_ceil(LINE / size_of::<u32>());
        if self.0.len() < n_lines {
            self.0.resize(n_lines, Line([0; _]));
        }
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        let n_words = size_of_val(&self.0[..]) / size_of::<u32>();
        // SAFETY: lines are words without gaps.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), n_words) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u32] {
        let n_words = size_of_val(&self.0[..]) / size_of::<u32>();
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), n_words) }
    }

    /// The words as floats.
    pub(crate) fn as_floats(&self) -> &[f32] {
        let words = self.as_slice();
        // SAFETY: a float is as large and as aligned as a word, and every word is one.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    pub(crate) fn as_mut_floats(&mut self) -> &mut [f32] {
        let words = self.as_mut_slice();
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }
}

/// Hands out parts of chunks, one after the other; what was freed comes back with the last part of a chunk.
#[derive(Default)]
pub(crate) struct Arena {
    current: Option<Arc<Chunk>>,
    used: usize,
}

impl Arena {
    pub(crate) fn zeroed(&mut self, len: usize) -> AlignedBytes {
        if len >= LARGE_BYTES {
            let chunk = Chunk::huge(len);
            return AlignedBytes { start: chunk.aligned(HUGE), len, _chunk: Arc::new(chunk) };
        }
        if self.current.is_none() || self.used + len > CHUNK_BYTES {
            self.current = Some(Arc::new(Chunk::huge(CHUNK_BYTES)));
            self.used = 0;
        }
        let chunk = self.current.as_ref().expect("made above");
        // SAFETY: `used + len` is at most CHUNK_BYTES, which lie behind the chunk's aligned start.
        let start = unsafe { chunk.aligned(HUGE).add(self.used) };
        self.used += len.next_multiple_of(LINE);
        AlignedBytes { start, len, _chunk: Arc::clone(chunk) }
    }
}

/// Memory from the allocator, zeroed. Large amounts come as untouched pages from the system: a request with a
/// large alignment would be filled with zeros by hand, so this asks for more and starts at the boundary inside.
struct Chunk {
    allocation: *mut u8,
    layout: Layout,
}

// SAFETY: a chunk owns its memory; only `AlignedBytes` refer to parts of it, each to its own.
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared chunk gives out addresses and nothing else.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// On huge pages where the system has them.
    fn huge(len: usize) -> Chunk {
        let len = len.next_multiple_of(HUGE);
        let chunk = Chunk::with_slack(len, HUGE);
        #[cfg(target_os = "linux")]
        {
            let start = chunk.aligned(HUGE).cast();
            // SAFETY: the range lies inside of the allocation; the advice changes no contents. Where it is
            // refused, ordinary pages serve.
            let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxHugepage) };
        }
        chunk
    }

    fn with_slack(len: usize, slack: usize) -> Chunk {
        let layout = Layout::from_size_align(len.saturating_add(slack), 16)
            .expect("no matrix is larger than the address space");
        // SAFETY: the size is at least `slack`, never zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        if allocation.is_null() {
            handle_alloc_error(layout);
        }
        Chunk { allocation, layout }
    }

    /// The first boundary inside; less than `align` bytes, the slack, are skipped.
    fn aligned(&self, align: usize) -> *mut u8 {
        self.allocation.map_addr(|address| address.next_multiple_of(align))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
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

    #[test]
    fn words_start_on_a_line_and_keep_what_they_hold() {
        let mut words = AlignedWords::default();
        assert!(words.as_slice().is_empty());
        words.at_least(5);
        words.as_mut_slice()[4] = 7;
        words.at_least(1000);
        let found = words.as_slice();
        assert!(found.as_ptr().align_offset(LINE) == 0 && found.len() >= 1000);
        assert!(found.iter().enumerate().all(|(i, &word)| word == if i == 4 { 7 } else { 0 }));
    }

    #[test]
    fn parts_of_an_arena_are_zero_and_do_not_overlap() {
        let mut arena = Arena::default();
        let lens = [0, 1, 65, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES, LARGE_BYTES - 64, 1000];
        let mut parts: Vec<AlignedBytes> = Vec::new();
        for (i, len) in (1..).zip([lens, lens].concat()) {
            let mut part = arena.zeroed(len);
            assert!(part.as_ptr().align_offset(LINE) == 0 && part.len() == len);
            assert!(part.iter().all(|&b| b == 0), "part {i}");
            part.fill(i);
            parts.push(part);
            if i % 3 == 0 {
                parts.remove(0);
            }
        }
        drop(arena);
        assert!(parts.iter().all(|part| part.windows(2).all(|two| two[0] == two[1])));
    }
}
