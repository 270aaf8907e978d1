//! Panels hold what they say, and the fused forms equal their steps.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_data::{available_pools, random_floats};

/// The 32 quantised columns of one block of one token, its scale and sum, and the sums of its halves.
fn block_of(x: &Activations, pool: &Pool, token: usize, block_idx: usize) -> (Vec<i8>, [f32; 2], [i16; 2]) {
    let panel = (0..n_panels(pool.isa(), x.n_tokens()))
        .map(|i| panel(pool.isa(), x.n_tokens(), i))
        .find(|panel| (panel.first..panel.first + panel.width).contains(&token))
        .unwrap();
    let (t, width) = (token - panel.first, panel.width);
    let words = &x.words_of(panel)[block_idx * BLOCK_WORDS * width..][..BLOCK_WORDS * width];
    let word = |g: usize| if x.is_by_token() { words[8 * t + g] } else { words[g * width + t] };
    let bytes = (0..8).flat_map(|g| word(g).to_le_bytes()).map(|b| b as i8).collect();
    let halves = words[10 * width + t];
    let floats = [8, 9].map(|i| f32::from_bits(words[i * width + t]));
    (bytes, floats, [halves as i16, (halves >> 16) as i16])
}

#[test]
fn every_token_is_in_one_panel_and_panels_are_even_or_full() {
    for isa in Isa::ALL {
        for n_tokens in 1..100 {
            let panels: Vec<Panel> = (0..n_panels(isa, n_tokens)).map(|i| panel(isa, n_tokens, i)).collect();
            let mut next = 0;
            for panel in &panels {
                assert_eq!(panel.first, next);
                next += panel.width;
                assert!(panel.width >= 1 && panel.width <= max_panel(isa, n_tokens));
            }
            assert_eq!(next, n_tokens);
            let widths = || panels.iter().map(|panel| panel.width);
            if is_by_token(isa, n_tokens) {
                assert!(widths().rev().skip(1).all(|width| width == MAX_PANEL));
            } else {
                assert!(widths().max().unwrap() - widths().min().unwrap() <= 1);
            }
        }
    }
}

#[test]
fn blocks_hold_the_nearest_bytes_with_their_scale_and_sums() {
    for pool in available_pools() {
        for n_tokens in [1, 5, 7, 30] {
            let n_cols = 96;
            let mut x = random_floats(n_tokens as u64, n_tokens * n_cols);
            x[..32].fill(0.0);
            let mut activations = Activations::new();
            activations.set(&pool, &x, n_tokens, n_cols);
            for token in 0..n_tokens {
                for block_idx in 0..3 {
                    let x = &x[token * n_cols + block_idx * 32..][..32];
                    let (bytes, [scale, sum], halves) = block_of(&activations, &pool, token, block_idx);
                    let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                    assert_eq!(scale, largest * (1.0 / 127.0));
                    for (x, &b) in x.iter().zip(&bytes) {
                        assert!((x - f32::from(b) * scale).abs() <= scale * 0.5001, "{:?}", pool.isa());
                    }
                    let total = |bytes: &[i8]| bytes.iter().map(|&b| i16::from(b)).sum::<i16>();
                    assert_eq!(sum, scale * f32::from(total(&bytes)));
                    assert_eq!(halves, [total(&bytes[..16]), total(&bytes[16..])]);
                }
            }
        }
    }
}

#[test]
fn fused_forms_equal_their_steps() {
    for pool in available_pools() {
        for (n_tokens, n_cols) in [(1, 64), (3, 20), (200, 96)] {
            let x = random_floats(1, n_tokens * n_cols);
            let other = random_floats(2, n_tokens * n_cols);
            let (weight, bias) = (random_floats(3, n_cols), random_floats(4, n_cols));
            let (mut fused, mut steps) = (Activations::new(), Activations::new());
            let near = |fused: &Activations, steps: &Activations, what: &str| {
                let n = n_tokens * n_cols;
                for (a, b) in fused.floats[..n].iter().zip(&steps.floats[..n]) {
                    assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{what} {:?}: {a} {b}", pool.isa());
                }
            };

            let mut y = x.clone();
            crate::rms_norm(&pool, &mut y, &weight, 1e-5);
            steps.set(&pool, &y, n_tokens, n_cols);
            fused.set_rms_norm(&pool, &x, &weight, 1e-5, n_tokens, n_cols);
            near(&fused, &steps, "rms norm");

            let mut y = x.clone();
            crate::layer_norm(&pool, &mut y, &weight, &bias, 1e-5);
            steps.set(&pool, &y, n_tokens, n_cols);
            fused.set_layer_norm(&pool, &x, &weight, &bias, 1e-5, n_tokens, n_cols);
            near(&fused, &steps, "layer norm");

            let mut y = x.clone();
            crate::silu_mul(&pool, &mut y, &other);
            steps.set(&pool, &y, n_tokens, n_cols);
            fused.set_gated(&pool, Gate::Silu, &x, &other, n_tokens, n_cols);
            near(&fused, &steps, "silu");

            let mut y = x.clone();
            crate::gelu_mul(&pool, &mut y, &other);
            steps.set(&pool, &y, n_tokens, n_cols);
            fused.set_gated(&pool, Gate::GeluTanh, &x, &other, n_tokens, n_cols);
            near(&fused, &steps, "gelu");
        }
    }
}
