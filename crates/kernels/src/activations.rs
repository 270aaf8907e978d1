//! The input of projections: rows of activations, quantised once to int8 and laid out for the tiles.
//!
//! Tokens are cut into panels of at most `max_panel` (as many as a register tile takes, widths even). A
//! panel of T tokens holds, block of 32 columns after block, `11 · T` words:
//!
//! | words | what |
//! |---|---|
//! | [8][T] | four int8 columns each: dword g has columns 4g.. of the block |
//! | [T] | scale: x ≈ scale · q, f32 |
//! | [T] | scale · sum of q over the block, f32: what minimums of weights multiply with |
//! | [T] | sums of q over columns 0..16 and 16..32, i16 each: what offsets of weights multiply with |
//!
//! so that a tile reads one stream with constant distances. For the tiles of AMX the columns lie token by token,
//! `[T][8]`; the rest is the same.
//!
//! Beside it, for float weights, `[n_cols][T]` f32, where a panel of more than [`MAX_WIDTH`] tokens counts as several
//! ([`Panel::narrow`]), and for weights that meet bf16 the tokens' rows, [`row_words`] apart.
//! How tokens are cut into panels never changes a token's numbers.
#![allow(unsafe_code)]

mod source;

use half::bf16;

use crate::aligned::{AlignedWords, LINE};
use crate::blocks::BLOCK_LEN;
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes, run_on};
use crate::{Isa, Operand, Pool};

pub use source::Gate;
use source::{Gated, LayerNorm, Plain, RmsNorm, Source};

/// Words of one token's block of 32 columns.
pub(crate) const BLOCK_WORDS: usize = 11;
/// Most tokens of a panel, for every instruction set.
pub(crate) const MAX_PANEL: usize = 16;
/// Most tokens of a panel whose sums lie in vector registers.
pub(crate) const MAX_WIDTH: usize = 8;
/// Words behind the last panel's that a tile of AMX reads and ignores: rows of tokens that are not there.
const TILE_SLACK: usize = MAX_PANEL * BLOCK_LEN / size_of::<u32>();
/// Below this many values the caller quantises alone: waking others costs more.
const SERIAL_LEN: usize = 8 * 1024;

/// Reusable room for the quantised rows of one input; filled by `set…`, read by [`crate::project`].
#[derive(Default)]
pub struct Activations {
    keep_int8: bool,
    keep_f32: bool,
    keep_bf16: bool,
    /// Whether the rows at hand are there as int8 alone.
    is_int8_alone: bool,
    isa: Option<Isa>,
    n_tokens: usize,
    n_cols: usize,
    words: AlignedWords,
    floats: Vec<f32>,
    pairs: AlignedWords,
}

/// Rooms for the rows at hand; those of forms that are not kept are empty.
struct Rooms<'a> {
    words: Disjoint<'a, u32>,
    floats: Disjoint<'a, f32>,
    pairs: Disjoint<'a, u32>,
}

/// Tokens `first .. first + width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    pub(crate) first: usize,
    pub(crate) width: usize,
}

impl Panel {
    /// The panel in panels of at most [`MAX_WIDTH`] tokens.
    pub(crate) fn narrow(self) -> impl Iterator<Item = Panel> {
        (0..self.width)
            .step_by(MAX_WIDTH)
            .map(move |t| Panel { first: self.first + t, width: (self.width - t).min(MAX_WIDTH) })
    }
}

impl Activations {
    /// Room for inputs of every kind of matrix.
    pub fn new() -> Activations {
        Activations::keeping(|_| true)
    }

    /// Room for inputs of matrices that need certain forms.
    pub fn keeping(is_needed: impl Fn(Operand) -> bool) -> Activations {
        Activations {
            keep_int8: is_needed(Operand::Int8),
            keep_f32: is_needed(Operand::F32),
            keep_bf16: is_needed(Operand::Bf16),
            ..Activations::default()
        }
    }

    /// Number of rows.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Length of a row.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Takes the rows of `x`: `[n_tokens, n_cols]`.
    pub fn set(&mut self, pool: &Pool, x: &[f32], n_tokens: usize, n_cols: usize) {
        assert_eq!(x.len(), n_tokens * n_cols, "x must be [n_tokens, n_cols]");
        self.fill(pool, n_tokens, n_cols, Plain { x, n_cols });
    }

    /// Takes `rms_norm(x) · weight`; x: `[n_tokens, n_cols]`, weight: `[n_cols]`.
    pub fn set_rms_norm(
        &mut self,
        pool: &Pool,
        x: &[f32],
        weight: &[f32],
        eps: f32,
        n_tokens: usize,
        n_cols: usize,
    ) {
        assert_eq!(x.len(), n_tokens * n_cols, "x must be [n_tokens, n_cols]");
        assert_eq!(weight.len(), n_cols, "weight must be [n_cols]");
        self.fill(pool, n_tokens, n_cols, RmsNorm { x, n_cols, weight, eps });
    }

    /// Takes `layer_norm(x) · weight + bias`; x: `[n_tokens, n_cols]`, weight and bias: `[n_cols]`.
    #[allow(clippy::too_many_arguments)] // two shapes and a norm
    pub fn set_layer_norm(
        &mut self,
        pool: &Pool,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        n_tokens: usize,
        n_cols: usize,
    ) {
        assert_eq!(x.len(), n_tokens * n_cols, "x must be [n_tokens, n_cols]");
        assert_eq!(weight.len(), n_cols, "weight must be [n_cols]");
        assert_eq!(bias.len(), n_cols, "bias must be [n_cols]");
        self.fill(pool, n_tokens, n_cols, LayerNorm { x, n_cols, weight, bias, eps });
    }

    /// Takes `function(gate) · up`; gate and up: `[n_tokens, n_cols]`.
    pub fn set_gated(
        &mut self,
        pool: &Pool,
        function: Gate,
        gate: &[f32],
        up: &[f32],
        n_tokens: usize,
        n_cols: usize,
    ) {
        assert_eq!(gate.len(), n_tokens * n_cols, "gate must be [n_tokens, n_cols]");
        assert_eq!(up.len(), n_tokens * n_cols, "up must be [n_tokens, n_cols]");
        self.fill(pool, n_tokens, n_cols, Gated { gate, up, n_cols, function });
    }

    fn fill<S: Source>(&mut self, pool: &Pool, n_tokens: usize, n_cols: usize, source: S) {
        let isa = pool.isa();
        let rooms = self.begin(isa, n_tokens, n_cols, false);
        let n_panels = n_panels(isa, n_tokens);
        let fill_panel = |panel_idx: usize| {
            let panel = panel(isa, n_tokens, panel_idx);
            for token in 0..panel.width {
                let place = Place { width: panel.width, token, is_by_token: is_by_token(isa, n_tokens) };
                run_on(isa, FillRow { source: &source, rooms: &rooms, panel, place, n_cols });
            }
        };
        if n_tokens * n_cols <= SERIAL_LEN {
            (0..n_panels).for_each(fill_panel);
        } else {
            pool.run(n_panels, &|panel_idx, _| fill_panel(panel_idx));
        }
    }

    /// Room for rows of another shape.
    fn begin(&mut self, isa: Isa, n_tokens: usize, n_cols: usize, is_int8_alone: bool) -> Rooms<'_> {
        (self.isa, self.n_tokens, self.n_cols) = (Some(isa), n_tokens, n_cols);
        self.is_int8_alone = is_int8_alone;
        // Only float matrices can have rows that are not whole blocks.
        let n_words = if self.has_int8() { n_tokens * n_cols / BLOCK_LEN * BLOCK_WORDS } else { 0 };
        let n_floats = if self.has_f32() { n_tokens * n_cols } else { 0 };
        let n_pairs = if self.has_bf16() { n_tokens * row_words(n_cols) } else { 0 };
        self.words.at_least(n_words + TILE_SLACK);
        self.pairs.at_least(n_pairs);
        if self.floats.len() < n_floats {
            self.floats.resize(n_floats, 0.0);
        }
        Rooms {
            words: Disjoint::new(&mut self.words.as_mut_slice()[..n_words]),
            floats: Disjoint::new(&mut self.floats[..n_floats]),
            pairs: Disjoint::new(&mut self.pairs.as_mut_slice()[..n_pairs]),
        }
    }

    /// Room for rows that are filled as int8 alone: the words of all panels.
    pub(crate) fn begin_int8(&mut self, isa: Isa, n_tokens: usize, n_cols: usize) -> Disjoint<'_, u32> {
        assert!(self.keep_int8 && n_cols.is_multiple_of(BLOCK_LEN), "int8 must be kept, in whole blocks");
        self.begin(isa, n_tokens, n_cols, true).words
    }

    pub(crate) fn isa(&self) -> Option<Isa> {
        self.isa
    }

    pub(crate) fn has_int8(&self) -> bool {
        self.keep_int8 && self.n_cols.is_multiple_of(BLOCK_LEN)
    }

    /// Whether panels are laid out for the tiles of AMX.
    pub(crate) fn is_by_token(&self) -> bool {
        self.isa.is_some_and(|isa| is_by_token(isa, self.n_tokens))
    }

    pub(crate) fn has_f32(&self) -> bool {
        self.keep_f32 && !self.is_int8_alone
    }

    pub(crate) fn has_bf16(&self) -> bool {
        self.keep_bf16 && !self.is_int8_alone && self.n_cols.is_multiple_of(2)
    }

    /// Bytes of 32 columns of a token.
    pub(crate) fn bytes_per_32(&self, operand: Operand) -> usize {
        match operand {
            Operand::Int8 => BLOCK_WORDS * size_of::<u32>(),
            Operand::F32 => BLOCK_LEN * size_of::<f32>(),
            Operand::Bf16 => BLOCK_LEN * size_of::<u16>(),
        }
    }

    /// The int8 blocks of a panel: `[n_cols / 32][11 · width]` words.
    pub(crate) fn words_of(&self, panel: Panel) -> &[u32] {
        &self.words_from(panel)[..panel.width * self.n_cols / BLOCK_LEN * BLOCK_WORDS]
    }

    /// The same with all that lies behind: words for as many tokens as a tile of AMX reads, or more.
    pub(crate) fn words_from(&self, panel: Panel) -> &[u32] {
        &self.words.as_slice()[panel.first * self.n_cols / BLOCK_LEN * BLOCK_WORDS..]
    }

    /// The floats of a narrow panel: `[n_cols][width]`.
    pub(crate) fn floats_of(&self, panel: Panel) -> &[f32] {
        &self.floats[panel.first * self.n_cols..][..panel.width * self.n_cols]
    }

    /// The rows of a panel as bf16: `[width, row_words]`, the first n_cols / 2 words of each.
    pub(crate) fn pairs_of(&self, panel: Panel) -> &[u32] {
        let row_words = row_words(self.n_cols);
        &self.pairs.as_slice()[panel.first * row_words..][..panel.width * row_words]
    }
}

/// Words from a token's row of bf16 to the next: a line more than the row has, so that rows whose length is a power of
/// two do not meet in the same few places of a cache.
pub(crate) const fn row_words(n_cols: usize) -> usize {
    const LINE_WORDS: usize = LINE / size_of::<u32>();
    (n_cols / 2).next_multiple_of(LINE_WORDS) + LINE_WORDS
}

/// Most tokens of a panel: as many as the register tile of `isa` takes.
const fn max_panel(isa: Isa, n_tokens: usize) -> usize {
    match isa {
        Isa::Scalar | Isa::Avx2 => 6,
        // One register of rows × 8 tokens, or two × 6: the latter once the weights are read again anyway.
        Isa::Avx512 | Isa::Amx if n_tokens <= MAX_WIDTH => MAX_WIDTH,
        Isa::Avx512 => 6,
        Isa::Amx => MAX_PANEL,
    }
}

/// Whether so many tokens are worth the tiles of AMX, and laid out for them.
const fn is_by_token(isa: Isa, n_tokens: usize) -> bool {
    matches!(isa, Isa::Amx) && n_tokens > MAX_WIDTH
}

/// Number of panels that `n_tokens` are cut into.
pub(crate) fn n_panels(isa: Isa, n_tokens: usize) -> usize {
    n_tokens.div_ceil(max_panel(isa, n_tokens))
}

/// The panel of that number: widths differ by at most one; for the tiles of AMX, full ones before the last.
pub(crate) fn panel(isa: Isa, n_tokens: usize, panel_idx: usize) -> Panel {
    if is_by_token(isa, n_tokens) {
        let first = panel_idx * MAX_PANEL;
        return Panel { first, width: (n_tokens - first).min(MAX_PANEL) };
    }
    let n_panels = n_panels(isa, n_tokens);
    let (narrow, n_wide) = (n_tokens / n_panels, n_tokens % n_panels);
    let first = panel_idx * narrow + panel_idx.min(n_wide);
    Panel { first, width: narrow + usize::from(panel_idx < n_wide) }
}

struct FillRow<'a, S> {
    source: &'a S,
    rooms: &'a Rooms<'a>,
    panel: Panel,
    place: Place,
    n_cols: usize,
}

/// Where a token's words lie in a block of its panel.
#[derive(Clone, Copy)]
struct Place {
    width: usize,
    token: usize,
    is_by_token: bool,
}

impl Place {
    /// Stores the 32 columns.
    #[inline(always)]
    fn put_columns(self, words: &mut [u32], bytes: [i8; BLOCK_LEN]) {
        let fours = bytes.map(i8::cast_unsigned);
        let fours: [u32; 8] = std::array::from_fn(|g| u32::from_le_bytes(fours.as_chunks().0[g]));
        if self.is_by_token {
            words[8 * self.token..][..8].copy_from_slice(&fours);
        } else {
            fours.into_iter().enumerate().for_each(|(g, four)| words[g * self.width + self.token] = four);
        }
    }

    #[inline(always)]
    fn scale(self) -> usize {
        8 * self.width + self.token
    }

    #[inline(always)]
    fn sum(self) -> usize {
        9 * self.width + self.token
    }

    #[inline(always)]
    fn halves(self) -> usize {
        10 * self.width + self.token
    }
}

impl<S: Source> Kernel for FillRow<'_, S> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Panel { first, width } = self.panel;
        let row = first + self.place.token;
        let known = self.source.row(l, row);
        let Rooms { words, floats, pairs } = self.rooms;
        if words.len() > 0 {
            let per_token = self.n_cols / BLOCK_LEN * BLOCK_WORDS;
            // SAFETY: a panel is filled by one tile, and panels do not overlap.
            let words = unsafe { words.range(first * per_token, width * per_token) };
            let mut not_finite = l.splat(0.0);
            for (block_idx, words) in words.chunks_exact_mut(width * BLOCK_WORDS).enumerate() {
                let col = block_idx * BLOCK_LEN;
                // SAFETY: n_cols is a multiple of the block length, so the block's columns exist.
                not_finite = unsafe {
                    quantise_block(l, words, self.place, not_finite, |i| {
                        self.source.vector(l, known, row, col + i)
                    })
                };
            }
            if l.sum(not_finite) != 0.0 {
                // An infinity or a NaN in: NaN out, for the whole row, so that it is noticed.
                for words in words.chunks_exact_mut(width * BLOCK_WORDS) {
                    words[self.place.scale()] = f32::NAN.to_bits();
                }
            }
        }
        if floats.len() > 0 {
            let narrow = self.panel.narrow().nth(self.place.token / MAX_WIDTH);
            let Panel { first, width } = narrow.expect("the token is in the panel");
            // SAFETY: as for the words.
            let floats = unsafe { floats.range(first * self.n_cols, width * self.n_cols) };
            let mut buffer = [0.0; 16];
            let n_whole = self.n_cols - self.n_cols % L::N;
            for col in (0..n_whole).step_by(L::N) {
                // SAFETY: N columns from `col` on exist; the buffer holds the widest vector.
                unsafe { l.store(buffer.as_mut_ptr(), self.source.vector(l, known, row, col)) };
                for (i, &x) in buffer[..L::N].iter().enumerate() {
                    floats[(col + i) * width + self.place.token % MAX_WIDTH] = x;
                }
            }
            for col in n_whole..self.n_cols {
                floats[col * width + self.place.token % MAX_WIDTH] = self.source.element(row, col);
            }
        }
        if pairs.len() > 0 {
            let row_words = row_words(self.n_cols);
            // SAFETY: a row is filled by one tile, and rows do not overlap.
            let pairs = unsafe { pairs.range(row * row_words, row_words) };
            let n_whole = self.n_cols - self.n_cols % L::N;
            for col in (0..n_whole).step_by(L::N) {
                // SAFETY: N columns from `col` on exist, and have their places in the row.
                unsafe {
                    let halves = pairs.as_mut_ptr().cast::<u16>().add(col);
                    l.store_bf16(halves, self.source.vector(l, known, row, col));
                }
            }
            for col in (n_whole..self.n_cols).step_by(2) {
                let half = |col| u32::from(bf16::from_f32(self.source.element(row, col)).to_bits());
                pairs[col / 2] = half(col) | half(col + 1) << 16;
            }
        }
    }
}

/// Quantises 32 columns of a token into its places among the words of a panel's block. Returns what
/// `not_finite` becomes: not zero once a value was infinite or NaN.
///
/// # Safety
/// `vector(i)` must be callable for every multiple i of N below 32.
#[inline(always)]
unsafe fn quantise_block<L: Lanes>(
    l: L,
    words: &mut [u32],
    place: Place,
    not_finite: L::V,
    vector: impl Fn(usize) -> L::V,
) -> L::V {
    let n_vectors = BLOCK_LEN / L::N;
    let mut x = [l.splat(0.0); BLOCK_LEN / 8];
    let mut largest = l.splat(0.0);
    let mut not_finite = not_finite;
    for (i, x) in x[..n_vectors].iter_mut().enumerate() {
        *x = vector(i * L::N);
        largest = l.max(l.abs(*x), largest);
        not_finite = l.fma(*x, l.splat(0.0), not_finite);
    }
    let largest = l.largest(largest);
    let scale = largest * (1.0 / 127.0);
    let inverse = l.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    let mut bytes = [0i8; BLOCK_LEN];
    for (i, x) in x[..n_vectors].iter().enumerate() {
        // SAFETY: `bytes` has 32 places, i · N + N of them at most.
        unsafe { l.store_i8(bytes.as_mut_ptr().add(i * L::N), l.mul(*x, inverse)) };
    }
    let [first, second] = bytes.as_chunks().0 else { unreachable!("a block is twice 16 columns") };
    let (low, high) = (l.sum_bytes(first), l.sum_bytes(second));
    place.put_columns(words, bytes);
    words[place.scale()] = scale.to_bits();
    words[place.sum()] = (scale * f32::from(low + high)).to_bits();
    words[place.halves()] = u32::from(low as u16) | u32::from(high as u16) << 16;
    not_finite
}

/// Quantises function(gate) · up of a block of a panel; gate and up: `[width, 32]`, words: `[11 · width]`.
pub(crate) struct QuantiseGated<'a> {
    pub(crate) function: Gate,
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
    pub(crate) words: &'a mut [u32],
    pub(crate) width: usize,
    /// As [`Activations::is_by_token`].
    pub(crate) is_by_token: bool,
}

impl Kernel for QuantiseGated<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let QuantiseGated { function, gate, up, words, width, is_by_token } = self;
        assert!(gate.len() >= width * BLOCK_LEN && up.len() >= width * BLOCK_LEN);
        let source = Gated { gate, up, n_cols: BLOCK_LEN, function };
        let place = |token: usize| Place { width, token, is_by_token };
        let mut not_finite = l.splat(0.0);
        for token in 0..width {
            // SAFETY: each token has a block of both (asserted).
            not_finite = unsafe {
                quantise_block(l, words, place(token), not_finite, |i| source.vector(l, (), token, i))
            };
        }
        if l.sum(not_finite) != 0.0 {
            for token in 0..width {
                if (0..BLOCK_LEN).any(|i| !source.element(token, i).is_finite()) {
                    words[place(token).scale()] = f32::NAN.to_bits();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
