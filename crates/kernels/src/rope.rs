//! Rotary positions: pairs of elements turned by an angle that grows with the position.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use crate::Pool;
use crate::elementwise::for_row_chunks;
use crate::simd::{Kernel, Lanes, run_on};

/// Which elements of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// Neighbours: (2i, 2i + 1).
    Norm,
    /// Halves: (i, i + n_rot / 2).
    Neox,
}

/// Positions whose angles are computed together.
const CHUNK: usize = 128;
/// Chunks that are remembered; positions beyond (a million) are computed each time.
const MAX_CHUNKS: usize = 8192;

/// The angles of a model; cosines and sines of the positions met so far are remembered.
pub struct RopeTable {
    kind: RopeKind,
    inv_freq: Vec<f32>,
    attn_factor: f32,
    /// For each position `[cos; n_pairs]` then `[sin; n_pairs]`, both times `attn_factor`.
    chunks: Vec<OnceLock<Box<[f32]>>>,
}

impl RopeTable {
    /// A table for heads whose first `2 · inv_freq.len()` elements are turned; the rest passes through.
    /// `inv_freq[i]`: angle of pair i per position; `attn_factor` scales what was turned.
    pub fn new(kind: RopeKind, inv_freq: Vec<f32>, attn_factor: f32) -> RopeTable {
        let chunks = (0..MAX_CHUNKS).map(|_| OnceLock::new()).collect();
        RopeTable { kind, inv_freq, attn_factor, chunks }
    }

    /// Elements of a head that are turned.
    pub fn n_rot(&self) -> usize {
        2 * self.inv_freq.len()
    }

    fn angles_of(&self, pos: usize, out: &mut [f32]) {
        let (cos, sin) = out.split_at_mut(self.inv_freq.len());
        for ((cos, sin), freq) in cos.iter_mut().zip(sin).zip(&self.inv_freq) {
            // The angle in f32, as the reference implementations have it; its sine in f64 costs nothing here.
            let (s, c) = f64::from(pos as f32 * freq).sin_cos();
            *cos = (c * f64::from(self.attn_factor)) as f32;
            *sin = (s * f64::from(self.attn_factor)) as f32;
        }
    }

    /// Calls `f` with the cosines and sines of a position.
    fn with_angles(&self, pos: usize, f: impl FnOnce(&[f32])) {
        let n = self.n_rot();
        match self.chunks.get(pos / CHUNK) {
            Some(chunk) => {
                let angles = chunk.get_or_init(|| {
                    let mut angles = vec![0.0; CHUNK * n];
                    for (i, out) in angles.chunks_exact_mut(n).enumerate() {
                        self.angles_of(pos / CHUNK * CHUNK + i, out);
                    }
                    angles.into_boxed_slice()
                });
                f(&angles[pos % CHUNK * n..][..n]);
            }
            None => {
                let mut angles = vec![0.0; n];
                self.angles_of(pos, &mut angles);
                f(&angles);
            }
        }
    }
}

/// Turns every head of every token by its position.
///
/// x: `[positions.len(), n_heads, head_dim]`
pub fn rope(
    pool: &Pool,
    x: &mut [f32],
    n_heads: usize,
    head_dim: usize,
    positions: &[u32],
    table: &RopeTable,
) {
    let row_len = n_heads * head_dim;
    assert_eq!(x.len(), positions.len() * row_len, "x must be [n_tokens, n_heads, head_dim]");
    assert!(table.n_rot() <= head_dim, "{} elements of a head of {head_dim} cannot turn", table.n_rot());
    if x.is_empty() || table.n_rot() == 0 {
        return;
    }
    for_row_chunks(pool, x, row_len, |rows, first| {
        let positions = &positions[first / row_len..];
        for (row, &pos) in rows.chunks_exact_mut(row_len).zip(positions) {
            table.with_angles(pos as usize, |angles| {
                run_on(pool.isa(), Turn { kind: table.kind, row, head_dim, angles });
            });
        }
    });
}

struct Turn<'a> {
    kind: RopeKind,
    row: &'a mut [f32],
    head_dim: usize,
    angles: &'a [f32],
}

impl Kernel for Turn<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        // Plain loops: compiled for the instruction set, the compiler vectorises them.
        let n_pairs = self.angles.len() / 2;
        let (cos, sin) = self.angles.split_at(n_pairs);
        for head in self.row.chunks_exact_mut(self.head_dim) {
            match self.kind {
                RopeKind::Norm => {
                    for ((pair, c), s) in head.as_chunks_mut().0.iter_mut().zip(cos).zip(sin) {
                        let [a, b] = *pair;
                        *pair = [a * c - b * s, a * s + b * c];
                    }
                }
                RopeKind::Neox => {
                    let (low, rest) = head.split_at_mut(n_pairs);
                    for (((a, b), c), s) in low.iter_mut().zip(&mut rest[..n_pairs]).zip(cos).zip(sin) {
                        (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{available_pools, random_floats};

    /// Turns random heads, with four elements behind the pairs, and compares with double precision.
    fn turn(n_pairs: usize, base: f32, positions: &[u32]) {
        let (n_heads, head_dim) = (3, 2 * n_pairs + 4);
        let inv_freq: Vec<f32> = (0..n_pairs).map(|i| base.powi(i as i32)).collect();
        let x = random_floats(1, positions.len() * n_heads * head_dim);
        for pool in available_pools() {
            for kind in [RopeKind::Norm, RopeKind::Neox] {
                let table = RopeTable::new(kind, inv_freq.clone(), 1.5);
                let mut found = x.clone();
                rope(&pool, &mut found, n_heads, head_dim, positions, &table);
                for (h, (found, x)) in found.chunks(head_dim).zip(x.chunks(head_dim)).enumerate() {
                    let pos = positions[h / n_heads];
                    for (i, freq) in inv_freq.iter().enumerate() {
                        let (a, b) = match kind {
                            RopeKind::Norm => (2 * i, 2 * i + 1),
                            RopeKind::Neox => (i, i + n_pairs),
                        };
                        let (s, c) = f64::from(pos as f32 * freq).sin_cos();
                        let (x, y) = (f64::from(x[a]), f64::from(x[b]));
                        assert!(
                            (f64::from(found[a]) - 1.5 * (x * c - y * s)).abs() < 1e-6,
                            "{kind:?} {pos} {i} of {n_pairs}"
                        );
                        assert!(
                            (f64::from(found[b]) - 1.5 * (x * s + y * c)).abs() < 1e-6,
                            "{kind:?} {pos} {i} of {n_pairs}"
                        );
                    }
                    assert_eq!(found[2 * n_pairs..], x[2 * n_pairs..]);
                }
            }
        }
    }

    #[test]
    fn pairs_turn_by_their_angle_and_the_rest_passes() {
        turn(8, 0.3, &[0, 1, 5, 127, 128, 4000, 2_000_000]);
        for n_pairs in [1, 3, 4, 7, 8, 15, 16, 17, 24, 31, 32, 40, 64, 65] {
            turn(n_pairs, 0.8, &[0, 1, 5, 127, 4000]);
        }
    }

    #[test]
    fn a_token_turns_alike_alone_and_among_many() {
        let table = RopeTable::new(RopeKind::Neox, vec![1.0, 0.1, 0.01, 0.001], 1.0);
        let x = random_floats(2, 1000 * 64);
        let positions: Vec<u32> = (0..1000).collect();
        for pool in available_pools() {
            let mut all = x.clone();
            rope(&pool, &mut all, 8, 8, &positions, &table);
            let mut one = x[700 * 64..701 * 64].to_vec();
            rope(&pool, &mut one, 8, 8, &[700], &table);
            assert_eq!(one, all[700 * 64..701 * 64]);
        }
    }
}
