//! Projections: y = x · Wᵀ for quantised and float weights, several matrices in one parallel region.
//!
//! A tile is some groups of rows times some panels of tokens. Inside it a kernel computes one group times one
//! panel with all sums in registers, from the first block of columns to the last: the order in which a row's
//! products are added is the same in every shape, so its result does not depend on its neighbours.
//!
//! For each block of 32 columns the integer products, of weights less their type's offset, are summed exactly, then
//! acc = fma(sum as f32, weight scale · activation scale, acc), and for types with a minimum
//! acc = fma(minimum, activation scale · activation sum, acc).
#![allow(unsafe_code)]

/// Expands `$widths!(TYPE)` for the quantised type that `$ty` is.
macro_rules! for_quantised {
    ($ty:expr, $widths:ident) => {
        match $ty {
            WeightType::Q4_0 => $widths!(Q4_0),
            WeightType::Q4_1 => $widths!(Q4_1),
            WeightType::Q5_0 => $widths!(Q5_0),
            WeightType::Q5_1 => $widths!(Q5_1),
            WeightType::Q8_0 => $widths!(Q8_0),
            WeightType::Q4K => $widths!(Q4K),
            WeightType::Q5K => $widths!(Q5K),
            WeightType::Q6K => $widths!(Q6K),
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => {
                unreachable!("float types have kernels of their own")
            }
        }
    };
}
use for_quantised;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod gated;
mod scalar;

use crate::activations::{MAX_WIDTH, Panel, n_panels, panel};
use crate::aligned::LINE;
use crate::blocks::BLOCK_LEN;
use crate::disjoint::Disjoint;
use crate::simd::{Cache, prefetch};
use crate::{Activations, Isa, Operand, PackedMatrix, Pool, WeightType};

pub use gated::project_gated;

/// Matrices that one call takes at most: queries, keys and values, a gate and its partner, with room to spare.
pub const MAX_MATRICES: usize = 8;

/// Bytes of weights that a tile of few tokens reads: some two microseconds from memory.
const STREAM_TILE_BYTES: usize = 24 * 1024;
/// How far ahead of the weights at hand the cache is asked for them where rows are long.
const FETCH_BYTES: usize = 4096;
/// Up to so many bytes the cache is asked for the same place of the next groups, which meets every line once.
const FETCH_GROUPS_BYTES: usize = 24 * 1024;
/// Bytes of activations that stay in the second cache while rows of weights pass: half of a small one.
const TOKENS_BYTES: usize = 224 * 1024;
/// Bytes of weights of a tile of many tokens, which stay there too while each panel meets them.
const BLOCKED_TILE_BYTES: usize = 64 * 1024;
/// Multiplications of a tile of many tokens at most: some hundred microseconds.
const BLOCKED_TILE_MACS: usize = 8 << 20;
/// The same in the tiles of AMX.
const AMX_TILE_MACS: usize = 4 * BLOCKED_TILE_MACS;
/// Groups of rows that are unpacked beside each other for the tiles of AMX: with the panel that meets them, they stay
/// in the first cache where rows are short.
#[cfg(target_arch = "x86_64")]
const UNPACKED_GROUPS: usize = 2;
/// Up to this many panels, each group of rows meets all of them while it is in the first cache; beyond,
/// each panel meets all groups of the tile.
const FEW_PANELS: usize = 3;

/// outs[i] = x · mats[i]ᵀ: `[x.n_tokens(), mats[i].n_rows()]`.
///
/// # Panics
/// When shapes do not fit, `x` was not filled with this pool's instruction set or without the form
/// ([`PackedMatrix::needs`]) that a matrix wants, or there are more than [`MAX_MATRICES`].
pub fn project(pool: &Pool, x: &Activations, mats: &[&PackedMatrix], outs: &mut [&mut [f32]]) {
    assert_eq!(mats.len(), outs.len(), "one output for each matrix");
    assert!(mats.len() <= MAX_MATRICES, "at most {MAX_MATRICES} matrices at once, found {}", mats.len());
    let mut parts: [Option<Part<'_>>; MAX_MATRICES] = [const { None }; MAX_MATRICES];
    for ((part, mat), out) in parts.iter_mut().zip(mats).zip(outs.iter_mut()) {
        *part = Some(Part::new(pool, x, mat, out, None));
    }
    run_parts(pool, x, &mut parts);
}

/// out += scale · (x · matᵀ); out: `[x.n_tokens(), mat.n_rows()]`.
///
/// # Panics
/// As [`project`].
pub fn project_add(pool: &Pool, x: &Activations, mat: &PackedMatrix, scale: f32, out: &mut [f32]) {
    run_parts(pool, x, &mut [Some(Part::new(pool, x, mat, out, Some(scale)))]);
}

/// One matrix of a run.
struct Part<'a> {
    mat: &'a PackedMatrix,
    kernels: Kernels,
    out: Disjoint<'a, f32>,
    add: Option<f32>,
    groups_per_tile: usize,
    panels_per_tile: usize,
    /// Tiles of all parts before this one, and up to its end.
    first_tile: usize,
    end_tile: usize,
}

impl<'a> Part<'a> {
    fn new(
        pool: &Pool,
        x: &Activations,
        mat: &'a PackedMatrix,
        out: &'a mut [f32],
        add: Option<f32>,
    ) -> Part<'a> {
        check(pool, x, mat);
        assert_eq!(out.len(), x.n_tokens() * mat.n_rows(), "out must be [n_tokens, n_rows]");
        let kernels = Kernels::of(mat);
        let (groups_per_tile, panels_per_tile) = tile_shape(pool, x, mat);
        // Whole sets of groups: one alone waits for its own sums.
        let groups_per_tile = groups_per_tile.next_multiple_of(kernels.n_groups);
        Part {
            mat,
            kernels,
            out: Disjoint::new(out),
            add,
            groups_per_tile,
            panels_per_tile,
            first_tile: 0,
            end_tile: 0,
        }
    }

    fn n_tiles(&self, n_panels: usize) -> usize {
        self.mat.n_groups().div_ceil(self.groups_per_tile) * n_panels.div_ceil(self.panels_per_tile)
    }
}

/// Whether the activations fit the matrix.
fn check(pool: &Pool, x: &Activations, mat: &PackedMatrix) {
    assert_eq!(x.n_cols(), mat.n_cols(), "activations must be as wide as the matrix");
    assert_eq!(mat.isa(), pool.isa(), "the matrix was packed for another instruction set");
    assert_eq!(x.isa(), Some(pool.isa()), "the activations were set with another instruction set");
    let filled = match mat.needs() {
        Operand::Int8 => x.has_int8(),
        Operand::F32 => x.has_f32(),
        Operand::Bf16 => x.has_bf16(),
    };
    assert!(filled, "{} weights need activations as {:?}", mat.weight_type().name(), mat.needs());
}

/// Groups and panels of a tile: small enough to share out evenly, large enough to be worth the counter, and
/// within the second cache.
fn tile_shape(pool: &Pool, x: &Activations, mat: &PackedMatrix) -> (usize, usize) {
    let n_panels = n_panels(pool.isa(), x.n_tokens()).max(1);
    let group_bytes = mat.group_bytes().max(1);
    let even = mat.n_groups().div_ceil(pool.n_threads() * 4).max(1);
    if n_panels <= FEW_PANELS {
        return ((STREAM_TILE_BYTES / group_bytes).clamp(1, even), n_panels);
    }
    // Even chunks of tokens.
    let token_bytes = (mat.n_cols() * x.bytes_per_32(mat.needs()) / BLOCK_LEN).max(1);
    let panel_tokens = x.n_tokens().div_ceil(n_panels);
    let panels_fit = (TOKENS_BYTES / (token_bytes * panel_tokens)).max(FEW_PANELS + 1);
    let panels = n_panels.div_ceil(n_panels.div_ceil(panels_fit));
    let macs_per_group = (mat.layout().rows * mat.n_cols() * panel_tokens * panels).max(1);
    let macs = if x.is_by_token() { AMX_TILE_MACS } else { BLOCKED_TILE_MACS };
    let groups = (BLOCKED_TILE_BYTES / group_bytes).min(macs / macs_per_group);
    (groups.clamp(2.min(even), even), panels)
}

fn run_parts(pool: &Pool, x: &Activations, parts: &mut [Option<Part<'_>>]) {
    if x.n_tokens() == 0 {
        return;
    }
    let n_panels = n_panels(pool.isa(), x.n_tokens());
    let mut n_tiles = 0;
    for part in parts.iter_mut().flatten() {
        part.first_tile = n_tiles;
        n_tiles += part.n_tiles(n_panels);
        part.end_tile = n_tiles;
    }
    let parts = &*parts;
    pool.run(n_tiles, &|tile, _| {
        let part =
            parts.iter().flatten().find(|part| tile < part.end_tile).expect("every tile belongs to a part");
        run_tile(x, n_panels, part, tile - part.first_tile);
    });
}

fn run_tile(x: &Activations, n_panels: usize, part: &Part<'_>, tile: usize) {
    let isa = part.mat.isa();
    // Groups vary fastest: tiles that follow each other share the activations in the second cache.
    let n_row_tiles = part.mat.n_groups().div_ceil(part.groups_per_tile);
    let first_group = tile % n_row_tiles * part.groups_per_tile;
    let groups = first_group..(first_group + part.groups_per_tile).min(part.mat.n_groups());
    let first_panel = tile / n_row_tiles * part.panels_per_tile;
    let panels = first_panel..(first_panel + part.panels_per_tile).min(n_panels);
    let mat = part.mat;
    let output_of = |group_idx: usize, n_groups: usize, panel: Panel, panel_idx: usize| {
        let first_row = group_idx * mat.layout().rows;
        // Checked by `Part::new`: the last token's rows end inside `out`.
        assert!((panel.first + panel.width) * mat.n_rows() <= part.out.len());
        Output {
            out: &part.out,
            first: panel.first * mat.n_rows() + first_row,
            stride: mat.n_rows(),
            n_rows: (mat.n_rows() - first_row).min(n_groups * mat.layout().rows),
            add: part.add,
            // The first panel meets weights that may still be in memory.
            fetch_ahead: if panel_idx == panels.start {
                fetch_distance(n_groups * mat.group_bytes())
            } else {
                0
            },
        }
    };
    #[cfg(target_arch = "x86_64")]
    if mat.needs() == Operand::Int8 && x.is_by_token() {
        let unpack_and_multiply = |room: &mut amx::Room<'_>| {
            for first in groups.clone().step_by(UNPACKED_GROUPS) {
                let groups = first..(first + UNPACKED_GROUPS).min(groups.end);
                for (at, group_idx) in groups.clone().enumerate() {
                    room.unpack(at, mat, group_idx);
                }
                for panel_idx in panels.clone() {
                    let panel = panel(isa, x.n_tokens(), panel_idx);
                    for (at, group_idx) in groups.clone().enumerate() {
                        let output = output_of(group_idx, 1, panel, panel_idx);
                        // SAFETY: `output` lies inside (asserted), and its rows belong to this tile alone.
                        unsafe { room.multiply(at, mat, x, panel, &output) };
                    }
                }
            }
        };
        // SAFETY: activations are laid out by token with that set alone, which the pool found available.
        return unsafe { amx::with_room(UNPACKED_GROUPS, mat.n_cols(), unpack_and_multiply) };
    }
    let width = part.kernels.n_groups;
    let product = |group_idx: usize, panel_idx: usize| {
        let n_groups = width.min(groups.end - group_idx);
        let panel = panel(isa, x.n_tokens(), panel_idx);
        let output = output_of(group_idx, n_groups, panel, panel_idx);
        // SAFETY: as above.
        unsafe { multiply(x, mat, &part.kernels, group_idx, n_groups, panel, &output) };
    };
    if panels.len() <= FEW_PANELS {
        for group_idx in groups.clone().step_by(width) {
            panels.clone().for_each(|panel_idx| product(group_idx, panel_idx));
        }
    } else {
        for panel_idx in panels.clone() {
            groups.clone().step_by(width).for_each(|group_idx| product(group_idx, panel_idx));
        }
    }
}

/// Some groups of rows times one panel.
///
/// # Safety
/// The output must have room for so many rows of all tokens of the panel, which nobody else reads or writes.
unsafe fn multiply(
    x: &Activations,
    mat: &PackedMatrix,
    kernels: &Kernels,
    group_idx: usize,
    n_groups: usize,
    panel: Panel,
    output: &Output<'_>,
) {
    let weights = mat.group(group_idx).as_ptr();
    // SAFETY: weights are whole groups of this layout, with so many headers (columns); the panel holds as many
    // blocks (columns) of its width; the kernel was chosen for that width and number of groups, and for an
    // instruction set that is there; the output is as the caller promises.
    unsafe {
        match mat.needs() {
            Operand::Int8 => {
                let n_headers = mat.n_cols() / BLOCK_LEN / mat.layout().n_blocks;
                let kernel = kernels.get(panel.width, n_groups);
                kernel(weights, mat.group_bytes(), n_headers, x.words_of(panel).as_ptr(), output);
            }
            Operand::F32 | Operand::Bf16 => {
                for part in panel.narrow() {
                    let first = output.first + (part.first - panel.first) * output.stride;
                    let kernel = kernels.get(part.width, n_groups);
                    let x = match mat.needs() {
                        Operand::Bf16 => x.pairs_of(part).as_ptr(),
                        _ => x.floats_of(part).as_ptr().cast(),
                    };
                    kernel(weights, mat.group_bytes(), mat.n_cols(), x, &Output { first, ..*output });
                }
            }
        }
    }
}

/// Where a kernel's sums go: token t's rows to `first + t · stride ..`, `n_rows` of them.
pub(crate) struct Output<'a> {
    out: &'a Disjoint<'a, f32>,
    first: usize,
    stride: usize,
    n_rows: usize,
    add: Option<f32>,
    /// How far ahead the kernel fetches weights; 0 for not at all.
    fetch_ahead: usize,
}

impl Output<'_> {
    /// Where row `row` (counted within the tile) of token `token` goes, and how many rows follow in the matrix.
    #[inline(always)]
    fn place(&self, token: usize, row: usize) -> (usize, usize) {
        (self.first + token * self.stride + row, self.n_rows.saturating_sub(row))
    }

    /// Asks for the cache line of token `token`'s first row, to be written soon.
    #[inline(always)]
    fn prefetch(&self, token: usize) {
        prefetch(self.out.address(self.first + token * self.stride).cast(), Cache::FirstToWrite);
    }

    /// Stores sums that are not a whole vector, or any for the scalar kernels.
    ///
    /// # Safety
    /// The rows must belong to the calling tile.
    unsafe fn put(&self, token: usize, row: usize, sums: &[f32]) {
        let (at, n_rows) = self.place(token, row);
        let n_rows = n_rows.min(sums.len());
        // SAFETY: as the caller promises.
        let out = unsafe { self.out.range(at, n_rows) };
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = match self.add {
                Some(scale) => crate::project::scalar::multiply_add(scale, sum, *out),
                None => sum,
            };
        }
    }
}

/// How far ahead weights are asked for where they are met for the first time: memory is the bound there, and the
/// hardware looks ahead too little and stops at every page.
fn fetch_distance(groups_bytes: usize) -> usize {
    if groups_bytes <= FETCH_GROUPS_BYTES { groups_bytes } else { FETCH_BYTES }
}

/// Asks for the cache lines of `len` bytes from `at` on.
#[inline(always)]
fn fetch(at: *const u8, len: usize) {
    for line in (0..len).step_by(LINE) {
        prefetch(at.wrapping_add(line), Cache::First);
    }
}

/// Weights (first group), bytes of a group, headers or columns, activations of the panel, output.
///
/// # Safety
/// As stated in [`multiply`].
type TileKernel = unsafe fn(*const u8, usize, usize, *const u32, &Output<'_>);

/// The kernels for one type: for every panel width, for one group and for as many as `n_groups`.
#[derive(Clone, Copy)]
struct Kernels {
    n_groups: usize,
    one: [TileKernel; MAX_WIDTH],
    several: [TileKernel; MAX_WIDTH],
}

impl Kernels {
    fn of(mat: &PackedMatrix) -> Kernels {
        let ty = mat.weight_type();
        match (mat.isa(), ty) {
            #[cfg(target_arch = "x86_64")]
            _ if mat.needs() == Operand::Bf16 => float::kernels_of_pairs(),
            (isa, WeightType::F32 | WeightType::F16 | WeightType::BF16) => float::kernels(isa, ty),
            (Isa::Scalar, _) => scalar::kernels(ty),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => avx2::kernels(ty),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Amx, _) => avx512::kernels(ty),
            #[cfg(not(target_arch = "x86_64"))]
            _ => scalar::kernels(ty),
        }
    }

    fn get(&self, width: usize, n_groups: usize) -> TileKernel {
        if n_groups == 1 {
            return self.one[width - 1];
        }
        assert_eq!(n_groups, self.n_groups, "kernels take one group or a full set");
        self.several[width - 1]
    }
}

#[cfg(test)]
mod tests;
