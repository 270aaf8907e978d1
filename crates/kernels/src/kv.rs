//! Keys and values of one layer, in pages of 64 tokens.
//!
//! In a page each key-value head has its keys, transposed and in blocks of 16, `[4][head_dim_k][16]`, so that scores
//! of many keys are computed side by side, then its values in blocks of 16 columns, `[head_dim_v / 16][64][16]`
//! (rounded up); bf16 values in pairs of tokens, `[head_dim_v / 16][32][16][2]`, as processors multiply them. So what a
//! tile of a product reads lies in one piece. Pages are named by number; memory comes from
//! the system, in huge pages where it has them, when a page is first written.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::aligned::AlignedBytes;
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes, run_on};
use crate::{Isa, Pool};

/// Tokens in a page.
pub const PAGE_LEN: usize = 64;
/// Keys, or columns of values, of a block: the widest vector.
pub(crate) const BLOCK_LEN: usize = 16;
/// The largest finite f16; larger keys and values are cut to it rather than to infinity.
const F16_MAX: f32 = 65504.0;
/// Below this many numbers the caller writes alone.
const SERIAL_LEN: usize = 16 * 1024;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Half precision.
    F16,
    /// Keys as f16, values as bf16, with which softmax's weights, rounded to bf16 too, are multiplied in pairs. What
    /// is rounded here averages out over the keys; scores, whose errors an exponential would magnify, are not touched.
    F16Bf16,
    /// Single precision.
    F32,
}

impl KvType {
    /// The fastest type, of two bytes a number.
    pub fn fastest(isa: Isa) -> KvType {
        if isa.has_bf16() { KvType::F16Bf16 } else { KvType::F16 }
    }

    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            KvType::F16 | KvType::F16Bf16 => 2,
            KvType::F32 => 4,
        }
    }
}

/// The pages of one layer.
pub struct KvLayer {
    n_pages: usize,
    n_kv_heads: usize,
    head_dim_k: usize,
    head_dim_v: usize,
    ty: KvType,
    data: AlignedBytes,
}

impl KvLayer {
    /// Room for `n_pages` pages; nothing of it is touched yet.
    pub fn new(
        n_pages: usize,
        n_kv_heads: usize,
        head_dim_k: usize,
        head_dim_v: usize,
        ty: KvType,
    ) -> KvLayer {
        let bytes = n_pages * KvLayer::bytes_per_page(n_kv_heads, head_dim_k, head_dim_v, ty.bytes());
        KvLayer { n_pages, n_kv_heads, head_dim_k, head_dim_v, ty, data: AlignedBytes::zeroed(bytes) }
    }

    /// Bytes of one page of a layer of that shape, of numbers of `number_bytes`.
    pub fn bytes_per_page(
        n_kv_heads: usize,
        head_dim_k: usize,
        head_dim_v: usize,
        number_bytes: usize,
    ) -> usize {
        n_kv_heads * PAGE_LEN * (head_dim_k + head_dim_v.next_multiple_of(BLOCK_LEN)) * number_bytes
    }

    /// Bytes of all pages, touched or not.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Number of pages.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Number of key-value heads.
    pub fn n_kv_heads(&self) -> usize {
        self.n_kv_heads
    }

    /// Stores the keys and values of consecutive tokens, the first at `first_pos`. `pages[i]` holds positions
    /// 64 i .. 64 i + 64 of the sequence.
    ///
    /// k: `[n, n_kv_heads, head_dim_k]`, v: `[n, n_kv_heads, head_dim_v]`
    ///
    /// # Panics
    /// When lengths do not fit, a page does not exist or occurs twice, or `pages` ends too early.
    pub fn write(&mut self, pool: &Pool, pages: &[u32], first_pos: usize, k: &[f32], v: &[f32]) {
        let (k_dim, v_dim) = (self.n_kv_heads * self.head_dim_k, self.n_kv_heads * self.head_dim_v);
        if k_dim == 0 {
            return;
        }
        let n_tokens = k.len() / k_dim;
        assert_eq!(k.len(), n_tokens * k_dim, "k must be [n, n_kv_heads, head_dim_k]");
        assert_eq!(v.len(), n_tokens * v_dim, "v must be [n, n_kv_heads, head_dim_v]");
        if n_tokens == 0 {
            return;
        }
        let (first_page, last_page) = (first_pos / PAGE_LEN, (first_pos + n_tokens - 1) / PAGE_LEN);
        assert!(last_page < pages.len(), "position {} lies beyond the pages", first_pos + n_tokens - 1);
        let touched = &pages[first_page..=last_page];
        for (i, &page) in touched.iter().enumerate() {
            assert!((page as usize) < self.n_pages, "page {page} of {}", self.n_pages);
            assert!(!touched[..i].contains(&page), "page {page} is written twice at once");
        }
        let shape = HeadShape { k: self.head_dim_k, v: self.head_dim_v };
        let (n_heads, ty, isa) = (self.n_kv_heads, self.ty, pool.isa());
        let head_bytes = shape.elements() * ty.bytes();
        let data = Disjoint::new(&mut self.data);
        let write_head = |tile: usize| {
            let (page_idx, head) = (first_page + tile / n_heads, tile % n_heads);
            let from = first_pos.max(page_idx * PAGE_LEN);
            let to = (first_pos + n_tokens).min((page_idx + 1) * PAGE_LEN);
            let at = (pages[page_idx] as usize * n_heads + head) * head_bytes;
            // SAFETY: pages are distinct (checked) and a tile writes one head of one page.
            let bytes = unsafe { data.range(at, head_bytes) };
            for pos in from..to {
                let row = pos - first_pos;
                let k = &k[row * k_dim + head * shape.k..][..shape.k];
                let v = &v[row * v_dim + head * shape.v..][..shape.v];
                run_on(isa, WriteToken { ty, shape, bytes: &mut *bytes, slot: pos % PAGE_LEN, k, v });
            }
        };
        let n_tiles = touched.len() * n_heads;
        if k.len() + v.len() <= SERIAL_LEN {
            (0..n_tiles).for_each(write_head);
        } else {
            pool.run(n_tiles, &|tile, _| write_head(tile));
        }
    }

    /// Copies the first `n_tokens` tokens of page `from` to page `to`.
    ///
    /// # Panics
    /// When a page does not exist or `n_tokens` is more than a page.
    pub fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        assert!(n_tokens <= PAGE_LEN, "a page holds {PAGE_LEN} tokens");
        let (from, to) = (self.page_range(from), self.page_range(to));
        // Keys are transposed, so the first tokens are no range: the page goes as a whole.
        self.data.copy_within(from, to.start);
    }

    /// A page of all heads, as stored: only a layer of the same shape understands it.
    ///
    /// # Panics
    /// When the page does not exist.
    pub fn page(&self, page: u32) -> &[u8] {
        &self.data[self.page_range(page)]
    }

    /// As [`KvLayer::page`], to be filled with a page of a layer of the same shape.
    ///
    /// # Panics
    /// When the page does not exist.
    pub fn page_mut(&mut self, page: u32) -> &mut [u8] {
        let range = self.page_range(page);
        &mut self.data[range]
    }

    fn page_range(&self, page: u32) -> Range<usize> {
        assert!((page as usize) < self.n_pages, "page {page} of {}", self.n_pages);
        let page_bytes = self.data.len() / self.n_pages;
        page as usize * page_bytes..(page as usize + 1) * page_bytes
    }

    /// How they are stored.
    pub fn kv_type(&self) -> KvType {
        self.ty
    }

    pub(crate) fn shape(&self) -> HeadShape {
        HeadShape { k: self.head_dim_k, v: self.head_dim_v }
    }

    /// Keys (`[4][head_dim_k][16]`) and values (`[v_stride / 16][64][16]`) of a head of a page, as stored.
    pub(crate) fn head(&self, page: u32, head: usize) -> &[u8] {
        let head_bytes = self.shape().elements() * self.ty.bytes();
        &self.data[(page as usize * self.n_kv_heads + head) * head_bytes..][..head_bytes]
    }
}

/// Length of a head's keys and values.
#[derive(Clone, Copy)]
pub(crate) struct HeadShape {
    pub(crate) k: usize,
    pub(crate) v: usize,
}

impl HeadShape {
    /// Columns of values with those that fill the last block.
    pub(crate) fn v_stride(self) -> usize {
        self.v.next_multiple_of(BLOCK_LEN)
    }

    /// Numbers that a head has in a page.
    fn elements(self) -> usize {
        PAGE_LEN * (self.k + self.v_stride())
    }
}

struct WriteToken<'a> {
    ty: KvType,
    shape: HeadShape,
    bytes: &'a mut [u8],
    slot: usize,
    k: &'a [f32],
    v: &'a [f32],
}

impl Kernel for WriteToken<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let WriteToken { ty, shape, bytes, slot, k, v } = self;
        let (keys, values) = bytes.split_at_mut(shape.k * PAGE_LEN * ty.bytes());
        match ty {
            KvType::F32 => {
                put_keys(keys, shape, slot, k, floats);
                put_values(values, slot, v, floats);
            }
            KvType::F16 => {
                put_keys(keys, shape, slot, k, |x, to| halves(l, x, to));
                put_values(values, slot, v, |x, to| halves(l, x, to));
            }
            KvType::F16Bf16 => {
                put_keys(keys, shape, slot, k, |x, to| halves(l, x, to));
                put_value_pairs(l, values, slot, v);
            }
        }
    }
}

/// Stores a token's keys, `[4][head_dim_k][16]`; `convert` writes up to a block of numbers.
#[inline(always)]
fn put_keys<const BYTES: usize>(
    keys: &mut [u8],
    shape: HeadShape,
    slot: usize,
    k: &[f32],
    convert: impl Fn(&[f32], &mut [[u8; BYTES]]),
) {
    let keys: &mut [[[u8; BYTES]; BLOCK_LEN]] = keys.as_chunks_mut().0.as_chunks_mut().0;
    let rows = &mut keys[slot / BLOCK_LEN * shape.k..][..shape.k];
    for (rows, k) in rows.chunks_mut(BLOCK_LEN).zip(k.chunks(BLOCK_LEN)) {
        let mut converted = [[0; BYTES]; BLOCK_LEN];
        convert(k, &mut converted);
        for (row, k) in rows.iter_mut().zip(converted) {
            row[slot % BLOCK_LEN] = k;
        }
    }
}

/// Stores a token's values, `[v_stride / 16][64][16]`.
#[inline(always)]
fn put_values<const BYTES: usize>(
    values: &mut [u8],
    slot: usize,
    v: &[f32],
    convert: impl Fn(&[f32], &mut [[u8; BYTES]]),
) {
    let values: &mut [[[u8; BYTES]; BLOCK_LEN]] = values.as_chunks_mut().0.as_chunks_mut().0;
    for (block, v) in values.chunks_mut(PAGE_LEN).zip(v.chunks(BLOCK_LEN)) {
        convert(v, &mut block[slot][..v.len()]);
    }
}

/// Stores a token's values as bf16, `[v_stride / 16][32][16][2]`.
#[inline(always)]
fn put_value_pairs<L: Lanes>(l: L, values: &mut [u8], slot: usize, v: &[f32]) {
    let values: &mut [[[[u8; 2]; 2]; BLOCK_LEN]] =
        values.as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0;
    for (block, v) in values.chunks_mut(PAGE_LEN / 2).zip(v.chunks(BLOCK_LEN)) {
        let mut converted = [[0; 2]; BLOCK_LEN];
        by_vectors(l, v, &mut converted, |x, to| {
            // SAFETY: a vector's room, as `by_vectors` promises.
            unsafe { l.store_bf16(to, x) }
        });
        for (pair, v) in block[slot / 2].iter_mut().zip(&converted[..v.len()]) {
            pair[slot % 2] = *v;
        }
    }
}

/// to = x, up to a block of them.
#[inline(always)]
fn floats(x: &[f32], to: &mut [[u8; 4]]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to = x.to_ne_bytes());
}

/// to = x as f16, up to a block of them.
#[inline(always)]
fn halves<L: Lanes>(l: L, x: &[f32], to: &mut [[u8; 2]]) {
    // SAFETY: a vector's room, as `by_vectors` promises.
    by_vectors(l, x, to, |x, to| unsafe { l.store_f16(to, x) });
}

/// Converts up to a block of numbers, limited to what is finite as f16, a vector at a time; `store` gets room for one.
#[inline(always)]
fn by_vectors<L: Lanes>(l: L, x: &[f32], to: &mut [[u8; 2]], store: impl Fn(L::V, *mut u16)) {
    let (mut wide, mut halves) = ([0.0; BLOCK_LEN], [0u16; BLOCK_LEN]);
    wide[..x.len()].copy_from_slice(x);
    for at in (0..BLOCK_LEN).step_by(L::N) {
        // SAFETY: the buffer holds a block, which is whole vectors.
        let x = unsafe { l.load(wide.as_ptr().add(at)) };
        let limited = l.min(l.splat(F16_MAX), l.max(l.splat(-F16_MAX), x));
        store(limited, halves[at..at + L::N].as_mut_ptr());
    }
    to.iter_mut().zip(halves).for_each(|(to, half)| *to = half.to_ne_bytes());
}
