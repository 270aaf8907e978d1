//! The first half of a gated feed-forward network in one run: both products, the gate and the quantisation of what goes
//! into the next product, block after block while the sums are in the first cache.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::{FEW_PANELS, Kernels, Output, check, fetch_distance, multiply, tile_shape};
use crate::activations::{BLOCK_WORDS, Gate, MAX_PANEL, Panel, QuantiseGated, n_panels, panel};
use crate::blocks::BLOCK_LEN;
use crate::disjoint::Disjoint;
use crate::simd::run_on;
use crate::{Activations, Operand, PackedMatrix, Pool};

/// out = function(x · gateᵀ) · (x · upᵀ), as int8: `[x.n_tokens(), gate.n_rows()]`; the same as [`crate::project`] and
/// [`Activations::set_gated`] give. A value that is no finite number makes the scale of its block NaN.
///
/// # Panics
/// As [`crate::project`]; when the matrices differ in shape, their rows are not whole blocks of 32, or `out` does not
/// keep int8.
pub fn project_gated(
    pool: &Pool,
    x: &Activations,
    function: Gate,
    gate: &PackedMatrix,
    up: &PackedMatrix,
    out: &mut Activations,
) {
    check(pool, x, gate);
    check(pool, x, up);
    assert_eq!(gate.n_rows(), up.n_rows(), "gate and up must have the same shape");
    assert!(gate.n_rows().is_multiple_of(BLOCK_LEN), "rows must be whole blocks of {BLOCK_LEN}");
    let (isa, n_tokens) = (pool.isa(), x.n_tokens());
    let n_blocks = gate.n_rows() / BLOCK_LEN;
    let is_by_token = x.is_by_token();
    let words = out.begin_int8(isa, n_tokens, gate.n_rows());
    if n_tokens == 0 {
        return;
    }
    let groups_per_block = BLOCK_LEN / gate.layout().rows;
    let n_panels = n_panels(isa, n_tokens);
    let (groups_per_tile, panels_per_tile) = tile_shape(pool, x, gate);
    // Two matrices share what a tile of one would take.
    let blocks_per_tile = (groups_per_tile / 2 / groups_per_block).max(1);
    let n_block_tiles = n_blocks.div_ceil(blocks_per_tile);
    let mats = [gate, up].map(|mat| (mat, Kernels::of(mat)));
    pool.run(n_block_tiles * n_panels.div_ceil(panels_per_tile), &|tile, _| {
        let first_block = tile % n_block_tiles * blocks_per_tile;
        let blocks = first_block..(first_block + blocks_per_tile).min(n_blocks);
        let first_panel = tile / n_block_tiles * panels_per_tile;
        let panels = first_panel..(first_panel + panels_per_tile).min(n_panels);
        // [width][32] each
        let mut sums = [[0.0; MAX_PANEL * BLOCK_LEN]; 2];
        let quantise = |sums: &[[f32; MAX_PANEL * BLOCK_LEN]; 2], block_idx: usize, panel: Panel| {
            let block_words = BLOCK_WORDS * panel.width;
            let at = panel.first * n_blocks * BLOCK_WORDS + block_idx * block_words;
            // SAFETY: a block of a panel belongs to one tile.
            let words = unsafe { words.range(at, block_words) };
            let [gate, up] = sums;
            run_on(isa, QuantiseGated { function, gate, up, words, width: panel.width, is_by_token });
        };
        #[cfg(target_arch = "x86_64")]
        if is_by_token {
            let unpack_and_multiply = |room: &mut amx::Room<'_>| {
                for block_idx in blocks {
                    let places = (0..2).flat_map(|i| (0..groups_per_block).map(move |group| (i, group)));
                    for (at, (i, group)) in places.clone().enumerate() {
                        let (mat, group_idx) = (mats[i].0, block_idx * groups_per_block + group);
                        if mat.needs() == Operand::Int8 {
                            room.unpack(at, mat, group_idx);
                        }
                    }
                    for panel_idx in panels.clone() {
                        let panel = panel(isa, n_tokens, panel_idx);
                        for (at, (i, group)) in places.clone().enumerate() {
                            let ((mat, kernels), out) = (&mats[i], Disjoint::new(&mut sums[i]));
                            let output = output_of(&out, mat, group, 1, false);
                            let group_idx = block_idx * groups_per_block + group;
                            // SAFETY: as `output_of` says.
                            unsafe {
                                match mat.needs() {
                                    Operand::Int8 => room.multiply(at, mat, x, panel, &output),
                                    _ => multiply(x, mat, kernels, group_idx, 1, panel, &output),
                                }
                            }
                        }
                        quantise(&sums, block_idx, panel);
                    }
                }
            };
            // SAFETY: activations are laid out by token with that set alone, which the pool found available.
            return unsafe { amx::with_room(2 * groups_per_block, x.n_cols(), unpack_and_multiply) };
        }
        let mut block = |block_idx: usize, panel_idx: usize| {
            let panel = panel(isa, n_tokens, panel_idx);
            for ((mat, kernels), sums) in mats.iter().zip(&mut sums) {
                let out = Disjoint::new(sums);
                for group in (0..groups_per_block).step_by(kernels.n_groups) {
                    let n_groups = kernels.n_groups.min(groups_per_block - group);
                    let output = output_of(&out, mat, group, n_groups, panel_idx == panels.start);
                    let group_idx = block_idx * groups_per_block + group;
                    // SAFETY: as `output_of` says.
                    unsafe { multiply(x, mat, kernels, group_idx, n_groups, panel, &output) };
                }
            }
            quantise(&sums, block_idx, panel);
        };
        if panels.len() <= FEW_PANELS {
            blocks.for_each(|block_idx| panels.clone().for_each(|panel_idx| block(block_idx, panel_idx)));
        } else {
            for panel_idx in panels.clone() {
                blocks.clone().for_each(|block_idx| block(block_idx, panel_idx));
            }
        }
    });
}

/// Where groups of rows from `group` on go in the sums of a block, `[tokens of a panel][32]`: there is room for all of it.
fn output_of<'a>(
    out: &'a Disjoint<'a, f32>,
    mat: &PackedMatrix,
    group: usize,
    n_groups: usize,
    is_first_panel: bool,
) -> Output<'a> {
    let rows = mat.layout().rows;
    Output {
        out,
        first: group * rows,
        stride: BLOCK_LEN,
        n_rows: n_groups * rows,
        add: None,
        fetch_ahead: if is_first_panel { fetch_distance(n_groups * mat.group_bytes()) } else { 0 },
    }
}
