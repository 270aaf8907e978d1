//! A loaded model: its weights by layer, the pages of its keys and values, and the buffers of a step.
//!
//! What is done with them stands in `forward.rs`; how they come from a file, in `loading.rs`.

use std::sync::Arc;

use kernels::{Activations, KvLayer, KvType, Operand, PackedMatrix, Pool, RopeKind, RopeTable};
use weights::{FfnKind, Gguf, LayerConfig, ModelConfig, RopeConfig, RopePairing, TensorInfo};

use crate::deltas::{Delta, LowRank, TokenDelta};
use crate::engine::EngineConfig;
use crate::pages::PageId;
use crate::profile::Stopwatch;

/// Rows of logits that are held at once.
const MAX_LOGIT_ROWS: usize = 16;

/// A weight matrix and what is added to its product.
pub(crate) struct Projection {
    pub(crate) matrix: PackedMatrix,
    /// By adapters.
    pub(crate) delta: Option<Delta>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// weight: [n_embd], bias: [n_embd] for layer norms
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The feed-forward network of a layer.
pub(crate) struct Ffn {
    /// [n_ff, n_embd]; absent in a plain network.
    pub(crate) gate: Option<Projection>,
    /// [n_ff, n_embd]
    pub(crate) up: Projection,
    /// [n_embd, n_ff]
    pub(crate) down: Projection,
}

impl Ffn {
    /// Whether both products and the gate are computed at once: nothing is added between them, and the next product
    /// takes int8 alone.
    pub(crate) fn is_fused(&self) -> bool {
        let is_bare = |projection: &Projection| projection.bias.is_none() && projection.delta.is_none();
        let has_gate = self.gate.as_ref().is_some_and(is_bare);
        let takes_int8 = self.down.matrix.needs() == Operand::Int8 && self.down.delta.is_none();
        has_gate && is_bare(&self.up) && takes_int8
    }
}

/// One layer's weights.
pub(crate) struct Layer {
    pub(crate) attn_norm: Option<Norm>,
    /// [q_dim, n_embd]
    pub(crate) q: Projection,
    /// [k_dim, n_embd]
    pub(crate) k: Projection,
    /// [v_dim, n_embd]
    pub(crate) v: Projection,
    /// [head_dim_k] or [q_dim]
    pub(crate) q_norm: Option<Vec<f32>>,
    /// [head_dim_k] or [k_dim]
    pub(crate) k_norm: Option<Vec<f32>>,
    /// [n_embd, attn_out_dim]
    pub(crate) out: Projection,
    pub(crate) post_attn_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Option<Norm>,
    pub(crate) ffn: Ffn,
    pub(crate) post_ffn_norm: Option<Vec<f32>>,
}

/// Where the first residual stream comes from.
pub(crate) struct Embedding {
    /// The matrix in the map; `None` if the output matrix serves.
    pub(crate) tokens: Option<(Arc<Gguf>, TensorInfo)>,
    /// Added to the tokens' rows by adapters.
    pub(crate) delta: Option<TokenDelta>,
    /// [max_seq_len, n_embd], added to the tokens' rows.
    pub(crate) positions: Option<Vec<f32>>,
}

/// From the last residual stream to logits.
pub(crate) struct Output {
    pub(crate) norm: Norm,
    /// [vocab_size, n_embd]
    pub(crate) projection: Projection,
}

/// A loaded model with its keys and values and the buffers of a step.
pub(crate) struct Model {
    pub(crate) pool: Pool,
    pub(crate) config: ModelConfig,
    pub(crate) n_pages: usize,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output: Output,
    pub(crate) kv: Vec<KvLayer>,
    pub(crate) rope: Option<RopeTable>,
    pub(crate) rope_local: Option<RopeTable>,
    /// Tells the adapters in it from all others.
    pub(crate) adapters_key: Option<u64>,
    pub(crate) buffers: Buffers,
    pub(crate) stopwatch: Stopwatch,
}

/// Activations of one step; each holds `max_batch_tokens` rows of its own width.
pub(crate) struct Buffers {
    /// The residual stream: [n_rows, n_embd]
    pub(crate) x: Vec<f32>,
    /// What is added to it: [n_rows, n_embd]
    pub(crate) update: Vec<f32>,
    /// [n_rows, q_dim]
    pub(crate) q: Vec<f32>,
    /// [n_rows, k_dim]
    pub(crate) k: Vec<f32>,
    /// [n_rows, v_dim]
    pub(crate) v: Vec<f32>,
    /// [n_rows, attn_out_dim]
    pub(crate) attn: Vec<f32>,
    /// [n_rows, n_ff]
    pub(crate) gate: Vec<f32>,
    /// [n_rows, n_ff]
    pub(crate) up: Vec<f32>,
    /// [MAX_LOGIT_ROWS, vocab_size]
    pub(crate) logits: Vec<f32>,
    /// Input of the projections of a layer's two halves, and of the output matrix.
    pub(crate) activations: Activations,
    /// Input of the feed-forward network's last projection.
    pub(crate) hidden: Activations,
    /// What adapters compute in between.
    pub(crate) low: LowRank,
}

impl Model {
    /// Joins weights and room for keys and values to a model.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        pool: Pool,
        config: &ModelConfig,
        engine: &EngineConfig,
        n_pages: usize,
        embedding: Embedding,
        layers: Vec<Layer>,
        output: Output,
        kv: Vec<KvLayer>,
        adapters_key: Option<u64>,
    ) -> Model {
        let n_rows = engine.max_batch_tokens;
        let widest = |width: fn(&LayerConfig) -> usize| {
            vec![0.0; n_rows * config.layers.iter().map(width).max().unwrap_or(0)]
        };
        let n_ff_unfused = (layers.iter().zip(&config.layers))
            .filter_map(|(layer, facts)| (!layer.ffn.is_fused()).then_some(facts.n_ff))
            .max()
            .unwrap_or(0);
        let has_gate = matches!(config.ffn, FfnKind::Gated { .. });
        let buffers = Buffers {
            x: vec![0.0; n_rows * config.n_embd],
            update: vec![0.0; n_rows * config.n_embd],
            q: widest(LayerConfig::q_dim),
            k: widest(LayerConfig::k_dim),
            v: widest(LayerConfig::v_dim),
            attn: widest(LayerConfig::attn_out_dim),
            gate: vec![0.0; if has_gate { n_rows * n_ff_unfused } else { 0 }],
            up: vec![0.0; n_rows * n_ff_unfused],
            logits: vec![0.0; MAX_LOGIT_ROWS * config.vocab_size],
            activations: {
                Activations::keeping(|operand| all_matrices(&layers, &output).any(|m| m.needs() == operand))
            },
            hidden: {
                let down = || layers.iter().flat_map(|layer| layer.ffn.down.matrices());
                Activations::keeping(|operand| down().any(|matrix| matrix.needs() == operand))
            },
            low: LowRank::new({
                let ranks =
                    layers.iter().map(Layer::max_rank).chain(embedding.delta.as_ref().map(TokenDelta::rank));
                let rank = ranks.max().unwrap_or(0);
                (n_rows * rank).max(MAX_LOGIT_ROWS * output.projection.rank())
            }),
        };
        let table =
            |rope: &Option<RopeConfig>| rope.as_ref().map(|rope| rope_table(rope, engine.max_seq_len));
        Model {
            rope: table(&config.rope),
            rope_local: table(&config.rope_local),
            adapters_key,
            pool,
            config: config.clone(),
            n_pages,
            embedding,
            layers,
            output,
            kv,
            buffers,
            stopwatch: Stopwatch::new(),
        }
    }

    /// Pages of keys and values.
    pub(crate) fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// The most rows of logits that can be asked for at once.
    pub(crate) fn max_logit_rows(&self) -> usize {
        MAX_LOGIT_ROWS
    }

    /// Bytes of weights, keys and values, and buffers.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let matrices = all_matrices(&self.layers, &self.output);
        let weights: usize = matrices.map(PackedMatrix::bytes).sum();
        let kv: usize = self.kv.iter().map(KvLayer::bytes).sum();
        let b = &self.buffers;
        let floats = [&b.x, &b.update, &b.q, &b.k, &b.v, &b.attn, &b.gate, &b.up, &b.logits];
        let buffers: usize = floats.iter().map(|buffer| buffer.len() * size_of::<f32>()).sum();
        (weights + kv + buffers + b.low.bytes()) as u64
    }

    /// How keys and values are kept; `None` without layers.
    pub(crate) fn kv_type(&self) -> Option<KvType> {
        self.kv.first().map(KvLayer::kv_type)
    }

    /// Bytes of a page in all layers.
    pub(crate) fn page_bytes(&self) -> usize {
        self.kv.iter().map(|layer| layer.bytes() / layer.n_pages().max(1)).sum()
    }

    /// A page of all layers, one behind the other: [page_bytes]
    pub(crate) fn read_page(&self, page: PageId) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.page_bytes());
        self.kv.iter().for_each(|layer| data.extend_from_slice(layer.page(page)));
        data
    }

    /// Fills a page with what `read_page` gave: [page_bytes]
    pub(crate) fn write_page(&mut self, page: PageId, data: &[u8]) {
        let mut rest = data;
        for layer in &mut self.kv {
            let to = layer.page_mut(page);
            let (from, behind) = rest.split_at(to.len());
            to.copy_from_slice(from);
            rest = behind;
        }
    }

    /// Copies the first `n_tokens` of a page to another, in every layer.
    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId, n_tokens: usize) {
        for layer in &mut self.kv {
            layer.copy_page(from, to, n_tokens);
        }
    }
}

impl Layer {
    fn matrices(&self) -> impl Iterator<Item = &PackedMatrix> {
        let gate = self.ffn.gate.as_ref();
        let all = [&self.q, &self.k, &self.v, &self.out, &self.ffn.up, &self.ffn.down];
        all.into_iter().chain(gate).flat_map(Projection::matrices)
    }

    /// Of what is projected together.
    fn max_rank(&self) -> usize {
        let qkv = self.q.rank() + self.k.rank() + self.v.rank();
        let gate_up = self.ffn.up.rank() + self.ffn.gate.as_ref().map_or(0, Projection::rank);
        [qkv, gate_up, self.out.rank(), self.ffn.down.rank()].into_iter().max().unwrap_or(0)
    }
}

pub(crate) fn all_matrices<'a>(
    layers: &'a [Layer],
    output: &'a Output,
) -> impl Iterator<Item = &'a PackedMatrix> {
    layers.iter().flat_map(Layer::matrices).chain(output.projection.matrices())
}

fn rope_table(rope: &RopeConfig, max_seq_len: usize) -> RopeTable {
    let kind = match rope.pairing {
        RopePairing::Norm => RopeKind::Norm,
        RopePairing::Neox => RopeKind::Neox,
    };
    RopeTable::new(kind, rope.inverse_frequencies(max_seq_len), rope.attn_factor)
}
