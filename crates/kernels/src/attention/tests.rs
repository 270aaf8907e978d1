//! Attention against double precision, and the promise that a row's result depends on nothing else.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_data::{Random, available_pools, random_floats};
use crate::{Isa, KvType};

/// Sums in f32 over some hundred keys; the reference reads numbers that are rounded as in the pages.
const TOLERANCE: f64 = 2e-5;
/// Beside values of bf16 softmax's weights are rounded too, by 2^−9 of themselves at most, and values lie in −1..1: one
/// number may be off by so much, their mean by a tenth of it.
const WEIGHTS_TOLERANCE: f64 = 1.0 / 512.0;

#[derive(Clone, Copy, Debug)]
struct Model {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim_k: usize,
    head_dim_v: usize,
    ty: KvType,
    softcap: Option<f32>,
    window: Option<usize>,
}

const PLAIN: Model = Model {
    n_heads: 6,
    n_kv_heads: 2,
    head_dim_k: 16,
    head_dim_v: 16,
    ty: KvType::F32,
    softcap: None,
    window: None,
};

/// A sequence with all its queries, keys and values.
struct Sequence {
    n: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Sequence {
    fn random(model: &Model, seed: u64, n: usize) -> Sequence {
        let f16 = |x: &f32| half::f16::from_f32(*x).to_f32();
        let bf16 = |x: &f32| half::bf16::from_f32(*x).to_f32();
        let k = random_floats(seed + 1, n * model.n_kv_heads * model.head_dim_k);
        let v = random_floats(seed + 2, n * model.n_kv_heads * model.head_dim_v);
        let (k, v) = match model.ty {
            KvType::F32 => (k, v),
            KvType::F16 => (k.iter().map(f16).collect(), v.iter().map(f16).collect()),
            KvType::F16Bf16 => (k.iter().map(f16).collect(), v.iter().map(bf16).collect()),
        };
        Sequence {
            n,
            q: random_floats(seed, n * model.n_heads * model.head_dim_k).iter().map(|x| 4.0 * x).collect(),
            k,
            v,
        }
    }

    /// The output of one row and head in double precision.
    fn exact(&self, model: &Model, pos: usize, head: usize, scale: f32) -> Vec<f64> {
        let (dk, dv) = (model.head_dim_k, model.head_dim_v);
        let kv_head = head / (model.n_heads / model.n_kv_heads);
        let first = (pos + 1).saturating_sub(model.window.unwrap_or(usize::MAX));
        let q = &self.q[(pos * model.n_heads + head) * dk..][..dk];
        let scores: Vec<f64> = (first..=pos)
            .map(|key| {
                let k = &self.k[(key * model.n_kv_heads + kv_head) * dk..][..dk];
                let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                let score = dot * f64::from(scale);
                model.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        let value = |key: usize, i: usize| f64::from(self.v[(key * model.n_kv_heads + kv_head) * dv + i]);
        (0..dv)
            .map(|i| weights.iter().zip(first..).map(|(w, key)| w * value(key, i)).sum::<f64>() / total)
            .collect()
    }
}

/// Pages of several sequences, dealt out in disorder.
struct Cache {
    kv: KvLayer,
    free: Vec<u32>,
}

impl Cache {
    fn new(model: &Model, n_pages: usize) -> Cache {
        let mut free: Vec<u32> = (0..n_pages as u32).collect();
        let mut random = Random::new(1);
        (1..n_pages).for_each(|i| free.swap(i, random.below(i + 1)));
        let kv = KvLayer::new(n_pages, model.n_kv_heads, model.head_dim_k, model.head_dim_v, model.ty);
        Cache { kv, free }
    }

    fn pages(&mut self, n_tokens: usize) -> Vec<u32> {
        self.free.split_off(self.free.len() - n_tokens.div_ceil(PAGE_LEN))
    }
}

/// Runs a sequence in chunks, writing each chunk's keys and values before its attention.
fn run_in_chunks(pool: &Pool, model: &Model, sequence: &Sequence, chunk: usize) -> Vec<f32> {
    let mut cache = Cache::new(model, sequence.n.div_ceil(PAGE_LEN) + 3);
    let pages = cache.pages(sequence.n);
    let q_dim = model.n_heads * model.head_dim_k;
    let (k_dim, v_dim) = (model.n_kv_heads * model.head_dim_k, model.n_kv_heads * model.head_dim_v);
    let mut out = vec![f32::NAN; sequence.n * model.n_heads * model.head_dim_v];
    let out_dim = model.n_heads * model.head_dim_v;
    for first in (0..sequence.n).step_by(chunk) {
        let end = (first + chunk).min(sequence.n);
        let (k, v) = (&sequence.k[first * k_dim..end * k_dim], &sequence.v[first * v_dim..end * v_dim]);
        cache.kv.write(pool, &pages, first, k, v);
        let spans = [AttentionSpan { first_row: 0, n_rows: end - first, first_pos: first, pages: &pages }];
        let (q, out) = (&sequence.q[first * q_dim..end * q_dim], &mut out[first * out_dim..end * out_dim]);
        attention(pool, q, model.n_heads, &spans, &cache.kv, 0.3, model.softcap, model.window, out);
    }
    out
}

fn models() -> Vec<Model> {
    let mut models = vec![PLAIN];
    models.extend([KvType::F16, KvType::F32].map(|ty| Model { ty, softcap: Some(5.0), ..PLAIN }));
    models.extend([1, 7, 64, 65, 100].map(|window| Model { window: Some(window), ..PLAIN }));
    models.extend([(4, 4), (8, 1), (7, 1), (14, 2)].map(|(n_heads, n_kv_heads)| Model {
        n_heads,
        n_kv_heads,
        ty: KvType::F16,
        ..PLAIN
    }));
    models.extend([(8, 8), (4, 12), (20, 24), (64, 64), (48, 80), (128, 128)].map(
        |(head_dim_k, head_dim_v)| Model { head_dim_k, head_dim_v, n_heads: 4, ty: KvType::F16, ..PLAIN },
    ));
    let pairs: Vec<Model> = models.iter().map(|&model| Model { ty: KvType::F16Bf16, ..model }).collect();
    models.extend(pairs);
    models
}

/// Compares every `step`th position, and the last ones, with double precision.
fn compare(pool: &Pool, model: &Model, n: usize, chunk: usize, step: usize) {
    let sequence = Sequence::random(model, n as u64, n);
    let found = run_in_chunks(pool, model, &sequence, chunk);
    let dv = model.head_dim_v;
    let (mut n_numbers, mut sum) = (0.0, 0.0);
    let tolerance = if model.ty == KvType::F16Bf16 { WEIGHTS_TOLERANCE } else { TOLERANCE };
    for pos in (0..n).filter(|pos| pos % step == 0 || pos + 3 > n) {
        for head in 0..model.n_heads {
            let expected = sequence.exact(model, pos, head, 0.3);
            let found = &found[(pos * model.n_heads + head) * dv..][..dv];
            for (f, e) in found.iter().zip(&expected) {
                let error = (f64::from(*f) - e).abs();
                assert!(
                    error <= tolerance,
                    "{:?} {model:?} pos {pos} of {n}, head {head}: {f} {e}",
                    pool.isa()
                );
                n_numbers += 1.0;
                sum += error;
            }
        }
    }
    // A few numbers alone may all be at the end of what is allowed.
    if n_numbers > 1000.0 {
        assert!(
            sum / n_numbers <= tolerance / 10.0,
            "{:?} {model:?} {n}: mean {}",
            pool.isa(),
            sum / n_numbers
        );
    }
}

#[test]
fn outputs_equal_double_precision_for_every_shape() {
    for pool in available_pools() {
        for model in models() {
            for n in [1, 2, 63, 64, 65, 300] {
                compare(&pool, &model, n, n, 7);
            }
        }
    }
}

#[test]
fn every_group_size_and_odd_head_lengths_equal_double_precision() {
    for pool in available_pools() {
        for ty in [KvType::F16, KvType::F16Bf16, KvType::F32] {
            for n_heads in 1..=7 {
                for (head_dim_k, head_dim_v) in [(8, 8), (32, 48), (24, 40)] {
                    for (softcap, window) in [(None, None), (Some(3.0), None), (None, Some(40))] {
                        let model =
                            Model { n_heads, n_kv_heads: 1, head_dim_k, head_dim_v, ty, softcap, window };
                        for (n, chunk) in [(1, 1), (3, 3), (130, 130), (130, 3)] {
                            compare(&pool, &model, n, chunk, 13);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_chunks_and_with_any_threads() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let pools = [1, 2, 3].map(|n_threads| Pool::new(n_threads, isa).unwrap());
        let kinds = [(None, KvType::F16), (Some(50), KvType::F16), (Some(300), KvType::F16)];
        let pairs = kinds.map(|(window, _)| (window, KvType::F16Bf16));
        for model in (kinds.into_iter().chain(pairs)).map(|(window, ty)| Model {
            window,
            ty,
            head_dim_k: 32,
            head_dim_v: 32,
            ..PLAIN
        }) {
            let sequence = Sequence::random(&model, 3, 700);
            let whole = run_in_chunks(&pools[0], &model, &sequence, 700);
            for pool in &pools {
                for chunk in [1, 2, 7, 8, 64, 100, 333] {
                    let found = run_in_chunks(pool, &model, &sequence, chunk);
                    assert!(
                        found == whole,
                        "{isa:?}, chunks of {chunk}, {} threads, {model:?}",
                        pool.n_threads()
                    );
                }
            }
        }
    }
}

#[test]
fn sequences_of_one_batch_do_not_see_each_other() {
    for pool in available_pools() {
        let model = Model { ty: KvType::F16, ..PLAIN };
        let lens = [1, 700, 64, 130];
        let sequences: Vec<Sequence> =
            lens.iter().map(|&n| Sequence::random(&model, 10 * n as u64, n)).collect();
        let mut cache = Cache::new(&model, 20);
        let pages: Vec<Vec<u32>> = sequences.iter().map(|s| cache.pages(s.n)).collect();
        let (mut q, mut spans) = (Vec::new(), Vec::new());
        let q_dim = model.n_heads * model.head_dim_k;
        // The last tokens of each: 1 of a prompt alone, 1 as in decoding, 3, 130.
        let n_last = [1, 1, 3, 130];
        let mut first_row = 0;
        for ((sequence, pages), n_rows) in sequences.iter().zip(&pages).zip(n_last) {
            cache.kv.write(&pool, pages, 0, &sequence.k, &sequence.v);
            q.extend_from_slice(&sequence.q[(sequence.n - n_rows) * q_dim..]);
            spans.push(AttentionSpan { first_row, n_rows, first_pos: sequence.n - n_rows, pages });
            first_row += n_rows;
        }
        let out_dim = model.n_heads * model.head_dim_v;
        let mut out = vec![f32::NAN; first_row * out_dim];
        attention(&pool, &q, model.n_heads, &spans, &cache.kv, 0.3, None, None, &mut out);
        for ((sequence, span), n_rows) in sequences.iter().zip(&spans).zip(n_last) {
            let alone = run_in_chunks(&pool, &model, sequence, 64);
            let found = &out[span.first_row * out_dim..][..n_rows * out_dim];
            assert!(*found == alone[(sequence.n - n_rows) * out_dim..], "{:?} {}", pool.isa(), sequence.n);
        }
    }
}

#[test]
fn a_copied_page_serves_a_branch_and_rubbish_behind_the_end_is_not_seen() {
    let pools = available_pools();
    for (pool, ty) in pools.iter().flat_map(|pool| [(pool, KvType::F16), (pool, KvType::F16Bf16)]) {
        let model = Model { ty, ..PLAIN };
        let sequence = Sequence::random(&model, 5, 99);
        let whole = run_in_chunks(pool, &model, &sequence, 99);
        let mut cache = Cache::new(&model, 4);
        let k_dim = model.n_kv_heads * model.head_dim_k;
        // Everything was in use before, with numbers that spread if they are touched.
        let rubbish = vec![f32::NAN; 4 * PAGE_LEN * k_dim];
        cache.kv.write(pool, &[0, 1, 2, 3], 0, &rubbish, &rubbish);
        cache.kv.write(pool, &[0, 1], 0, &sequence.k[..70 * k_dim], &sequence.v[..70 * k_dim]);
        cache.kv.copy_page(1, 3, 6);
        cache.kv.write(pool, &[0, 3], 70, &sequence.k[70 * k_dim..], &sequence.v[70 * k_dim..]);
        let out_dim = model.n_heads * model.head_dim_v;
        let mut out = vec![f32::NAN; 29 * out_dim];
        let spans = [AttentionSpan { first_row: 0, n_rows: 29, first_pos: 70, pages: &[0, 3] }];
        let q = &sequence.q[70 * model.n_heads * model.head_dim_k..];
        attention(pool, q, model.n_heads, &spans, &cache.kv, 0.3, None, None, &mut out);
        assert!(out == whole[70 * out_dim..], "{:?}", pool.isa());
    }
}

#[test]
fn large_numbers_are_cut_to_the_largest_half_float() {
    for pool in available_pools() {
        let model =
            Model { n_heads: 1, n_kv_heads: 1, head_dim_k: 8, head_dim_v: 8, ty: KvType::F16, ..PLAIN };
        let mut cache = Cache::new(&model, 1);
        cache.kv.write(&pool, &[0], 0, &[1e9; 8], &[-1e9; 8]);
        let mut out = vec![0.0; 8];
        let spans = [AttentionSpan { first_row: 0, n_rows: 1, first_pos: 0, pages: &[0] }];
        attention(&pool, &[0.01; 8], 1, &spans, &cache.kv, 1.0, None, None, &mut out);
        assert_eq!(out, [-65504.0; 8]);
    }
}

#[test]
#[should_panic(expected = "page 9 of 4")]
fn a_page_that_does_not_exist_is_refused() {
    let pool = Pool::new(1, Isa::Scalar).unwrap();
    let cache = Cache::new(&PLAIN, 4);
    let spans = [AttentionSpan { first_row: 0, n_rows: 1, first_pos: 0, pages: &[9] }];
    let (q, mut out) = (vec![0.0; 96], vec![0.0; 96]);
    attention(&pool, &q, 6, &spans, &cache.kv, 1.0, None, None, &mut out);
}
