//! What adapters add to a projection: y = x·Wᵀ + (x·Aᵀ)·Bᵀ, with A and B thin and W as it is, quantised and packed.
//!
//! The A of all adapters that change a matrix lie one under the other and their B side by side, each B times its
//! scale, so that a matrix has one pair however many adapters there are. A stands beside W in one product over x; B is
//! added to its result. Both are f32, and a row's sums go from the first column to the last as everywhere.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::{Activations, MAX_MATRICES, Operand, PackedMatrix, Pool, WeightType};
use weights::{Adapter, LoraPair, ModelConfig, ScaledAdapter, TensorInfo};
use xxhash_rust::xxh3::Xxh3;

use crate::error::EngineError;
use crate::loading::{kernel_error, weight_type};
use crate::model::Projection;

/// What is added to one matrix.
pub(crate) struct Delta {
    /// [rank, n_in]
    pub(crate) a: PackedMatrix,
    /// [n_out, rank]
    pub(crate) b: PackedMatrix,
}

/// What is added to the embeddings.
pub(crate) struct TokenDelta {
    rank: usize,
    /// [vocab_size, rank]
    rows: Vec<f32>,
    /// [n_embd, rank]
    b: PackedMatrix,
}

/// Room for x·Aᵀ of some projections.
pub(crate) struct LowRank {
    /// [n_rows, rank] of each
    rows: Vec<f32>,
    activations: Activations,
}

impl LowRank {
    /// Room for so many numbers.
    pub(crate) fn new(len: usize) -> LowRank {
        LowRank { rows: vec![0.0; len], activations: Activations::keeping(|operand| operand == Operand::F32) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() * size_of::<f32>()
    }
}

impl Projection {
    /// Columns of the thin matrices; 0 without.
    pub(crate) fn rank(&self) -> usize {
        self.delta.as_ref().map_or(0, |delta| delta.a.n_rows())
    }

    /// The matrix and the thin ones beside it.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &PackedMatrix> {
        [&self.matrix].into_iter().chain(self.delta.iter().flat_map(|delta| [&delta.a, &delta.b]))
    }
}

/// outs[i] = projections[i] of the activations, without bias; what they all read is read once.
///
/// outs[i]: [n_rows, n_out of i]
pub(crate) fn project<const N: usize>(
    pool: &Pool,
    activations: &Activations,
    projections: [&Projection; N],
    mut outs: [&mut [f32]; N],
    low: &mut LowRank,
) {
    const { assert!(2 * N <= MAX_MATRICES) };
    if projections.iter().all(|projection| projection.delta.is_none()) {
        return kernels::project(pool, activations, &projections.map(|p| &p.matrix), &mut outs);
    }
    let n_rows = activations.n_tokens();
    let mut matrices = [&projections[0].matrix; MAX_MATRICES];
    let mut targets: [&mut [f32]; MAX_MATRICES] = Default::default();
    let mut rest = &mut low.rows[..];
    let mut n = N;
    for (i, (projection, out)) in projections.iter().zip(&mut outs).enumerate() {
        (matrices[i], targets[i]) = (&projection.matrix, out);
        if let Some(delta) = &projection.delta {
            let (rows, tail) = rest.split_at_mut(n_rows * projection.rank());
            (matrices[n], targets[n]) = (&delta.a, rows);
            (rest, n) = (tail, n + 1);
        }
    }
    kernels::project(pool, activations, &matrices[..n], &mut targets[..n]);
    let mut first = 0;
    for (projection, out) in projections.iter().zip(&mut outs) {
        if let Some(delta) = &projection.delta {
            let rows = &low.rows[first..][..n_rows * projection.rank()];
            low.activations.set(pool, rows, n_rows, projection.rank());
            kernels::project_add(pool, &low.activations, &delta.b, 1.0, out);
            first += rows.len();
        }
    }
}

/// out += scale · projection of the activations, without bias
///
/// out: [n_rows, n_out]
pub(crate) fn project_add(
    pool: &Pool,
    activations: &Activations,
    projection: &Projection,
    scale: f32,
    out: &mut [f32],
    low: &mut LowRank,
) {
    kernels::project_add(pool, activations, &projection.matrix, scale, out);
    if let Some(delta) = &projection.delta {
        let (n_rows, rank) = (activations.n_tokens(), projection.rank());
        let rows = &mut low.rows[..n_rows * rank];
        kernels::project(pool, activations, &[&delta.a], &mut [&mut *rows]);
        low.activations.set(pool, rows, n_rows, rank);
        kernels::project_add(pool, &low.activations, &delta.b, scale, out);
    }
}

impl TokenDelta {
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// x += what is added to the rows of these tokens
    ///
    /// x: [n_tokens, n_embd]
    pub(crate) fn add(&self, pool: &Pool, tokens: &[u32], x: &mut [f32], low: &mut LowRank) {
        let rows = &mut low.rows[..tokens.len() * self.rank];
        for (&token, row) in tokens.iter().zip(rows.chunks_exact_mut(self.rank)) {
            row.copy_from_slice(&self.rows[token as usize * self.rank..][..self.rank]);
        }
        low.activations.set(pool, rows, tokens.len(), self.rank);
        kernels::project_add(pool, &low.activations, &self.b, 1.0, x);
    }
}

/// Adapters on their way into a model: what they add, by the name of the base's tensor.
pub(crate) struct Deltas<'a> {
    by_tensor: HashMap<&'a str, Vec<Part<'a>>>,
    key: Option<u64>,
}

/// What one adapter adds to a tensor.
struct Part<'a> {
    adapter: &'a Adapter,
    pair: &'a LoraPair,
    /// Of B · A.
    scale: f32,
}

impl<'a> Deltas<'a> {
    /// Holds all adapters against the model; those of scale 0 add nothing.
    pub(crate) fn new(
        adapters: &'a [ScaledAdapter],
        config: &ModelConfig,
    ) -> Result<Deltas<'a>, EngineError> {
        let mut by_tensor: HashMap<&str, Vec<Part<'_>>> = HashMap::new();
        let mut hash = Xxh3::new();
        for ScaledAdapter { adapter, scale } in adapters {
            let fitted = adapter.fit(config).map_err(|error| EngineError::Adapter(Arc::new(error)))?;
            for pair in fitted.into_iter().map(|fitted| fitted.pair).filter(|_| *scale != 0.0) {
                let part = Part { adapter, pair, scale: scale * adapter.factor(pair) };
                hash.update(pair.tensor.as_bytes());
                hash.update(&part.scale.to_le_bytes());
                for info in [&pair.a, &pair.b] {
                    hash.update(info.kind.name().as_bytes());
                    hash.update(adapter.gguf().bytes(info));
                }
                by_tensor.entry(&pair.tensor).or_default().push(part);
            }
        }
        let key = (!by_tensor.is_empty()).then(|| hash.digest());
        Ok(Deltas { by_tensor, key })
    }

    /// Tells what is added from whatever else could be; `None` when nothing is.
    pub(crate) fn key(&self) -> Option<u64> {
        self.key
    }

    /// What is added to consecutive rows of a matrix.
    pub(crate) fn of_rows<const N: usize>(
        &self,
        pool: &Pool,
        tensor: &str,
        n_rows: &[usize; N],
    ) -> Result<[Option<Delta>; N], EngineError> {
        let Some(parts) = self.by_tensor.get(tensor) else { return Ok([const { None }; N]) };
        let rank = parts.iter().map(|part| part.pair.rank).sum();
        let n_cols = parts[0].pair.a.n_cols() as usize;
        let a: Vec<f32> = parts.iter().flat_map(|part| part.values(&part.pair.a)).collect();
        let b = side_by_side(parts, |part| part.scaled_b());
        let mut deltas = [const { None }; N];
        let mut rest = &b[..];
        for (delta, &n) in deltas.iter_mut().zip(n_rows) {
            let (rows, tail) = rest.split_at(n * rank);
            rest = tail;
            // Each gets an A of its own: rows that were fused in the file (q, k and v) are projections apart here.
            *delta = Some(Delta {
                a: pack(pool, parts, ".lora_a", rank, n_cols, &a)?,
                b: pack(pool, parts, ".lora_b", n, rank, rows)?,
            });
        }
        Ok(deltas)
    }

    /// What is added to the embeddings.
    pub(crate) fn of_tokens(&self, pool: &Pool, tensor: &str) -> Result<Option<TokenDelta>, EngineError> {
        let Some(parts) = self.by_tensor.get(tensor) else { return Ok(None) };
        let rank = parts.iter().map(|part| part.pair.rank).sum();
        let rows = side_by_side(parts, |part| part.values(&part.pair.a));
        if rows.iter().any(|x| !x.is_finite()) {
            return Err(EngineError::NonFiniteWeights { tensor: format!("{tensor}.lora_a") });
        }
        let b = side_by_side(parts, |part| part.scaled_b());
        let b = pack(pool, parts, ".lora_b", b.len() / rank, rank, &b)?;
        Ok(Some(TokenDelta { rank, rows, b }))
    }
}

impl Part<'_> {
    fn values(&self, info: &TensorInfo) -> Vec<f32> {
        let mut values = vec![0.0; info.n_elements() as usize];
        let ty = info.kind.loadable().expect("checked when the adapter was read");
        kernels::dequantize(weight_type(ty), self.adapter.gguf().bytes(info), &mut values);
        values
    }

    fn scaled_b(&self) -> Vec<f32> {
        let mut values = self.values(&self.pair.b);
        values.iter_mut().for_each(|x| *x *= self.scale);
        values
    }
}

/// Matrices `[n_rows, rank]` of all parts as one, `[n_rows, sum of ranks]`.
fn side_by_side(parts: &[Part<'_>], values: impl Fn(&Part<'_>) -> Vec<f32>) -> Vec<f32> {
    if let [only] = parts {
        return values(only);
    }
    let matrices: Vec<(usize, Vec<f32>)> = parts.iter().map(|part| (part.pair.rank, values(part))).collect();
    let n_rows = matrices.first().map_or(0, |(rank, values)| values.len() / rank);
    let mut joined = Vec::with_capacity(matrices.iter().map(|(_, values)| values.len()).sum());
    for row in 0..n_rows {
        for (rank, values) in &matrices {
            joined.extend_from_slice(&values[row * rank..][..*rank]);
        }
    }
    joined
}

fn pack(
    pool: &Pool,
    parts: &[Part<'_>],
    half: &str,
    n_rows: usize,
    n_cols: usize,
    values: &[f32],
) -> Result<PackedMatrix, EngineError> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    PackedMatrix::pack(pool, WeightType::F32, n_rows, n_cols, &bytes)
        .map_err(|error| kernel_error(&format!("{}{half}", parts[0].pair.tensor), error))
}
