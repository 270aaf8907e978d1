//! The forward pass: a ragged batch of tokens in, the hidden states of its output rows out, and
//! their logits.
//!
//! One pass serves every architecture; what differs are facts (`weights::ModelConfig`). Rows of all
//! sequences lie in one matrix, so that each projection reads its weights once for all of them;
//! attention alone goes by spans, each over the pages of its own sequence. No row's result depends
//! on the others. In the last layer only keys and values are needed of all rows; from the
//! attention on, the pass goes on with the output rows alone.

use kernels::{Activations, AttentionSpan, Gate, PackedMatrix, Pool};
use weights::{Activation, FfnKind, LayerConfig, LayerRope, ModelConfig};

use crate::batch::{Batch, Span};
use crate::deltas::{LowRank, project, project_add};
use crate::loading::weight_type;
use crate::model::{Model, Norm, Projection};
use crate::profile::Phase;

impl Model {
    /// Whether the first and the last token of the vocabulary give finite logits.
    pub(crate) fn proves_finite(&mut self) -> bool {
        let mut batch = Batch::default();
        let tokens = [0, self.config.vocab_size as u32 - 1];
        batch.push(&tokens, 0, &[0], tokens.len());
        // A batch may be bounded to one token: then the first must do.
        if self.buffers.x.len() < tokens.len() * self.config.n_embd {
            batch.clear();
            batch.push(&tokens[..1], 0, &[0], 1);
        }
        self.forward(&batch);
        let isa = self.pool.isa();
        let (logits, _) = self.logits(0, batch.n_outputs());
        kernels::finite(isa, logits)
    }

    /// Computes a batch: keys and values go to their pages, hidden states of the output rows stay
    /// for `logits`.
    pub(crate) fn forward(&mut self, batch: &Batch) {
        self.embed(batch);
        let all: Vec<AttentionSpan<'_>> = batch.spans.iter().map(|span| whole_span(batch, span)).collect();
        let outputs = output_spans(batch);
        let last = self.layers.len() - 1;
        for layer_idx in 0..last {
            self.layer(layer_idx, batch, &all, None);
        }
        self.layer(last, batch, &all, Some(&outputs));
    }

    /// The logits of `n` output rows of the last batch, from the `first`: [n, vocab_size].
    ///
    /// The pool comes along, for drawing from the rows in parallel.
    pub(crate) fn logits(&mut self, first: usize, n: usize) -> (&mut [f32], &Pool) {
        let Model { pool, config, output, buffers, stopwatch, .. } = self;
        let (n_embd, vocab_size) = (config.n_embd, config.vocab_size);
        let x = &buffers.x[first * n_embd..(first + n) * n_embd];
        let logits = &mut buffers.logits[..n * vocab_size];
        normalise(pool, config, Some(&output.norm), x, n, &mut buffers.activations);
        project(pool, &buffers.activations, [&output.projection], [&mut *logits], &mut buffers.low);
        add_bias(pool, &output.projection, logits);
        if config.logit_scale != 1.0 {
            kernels::scale(pool, logits, config.logit_scale);
        }
        if let Some(cap) = config.final_softcap {
            kernels::softcap(pool, logits, cap);
        }
        stopwatch.lap(Phase::LmHead, bytes(&[&output.projection]), ops(&[&output.projection], n));
        (logits, pool)
    }

    /// x = rows of the embeddings · embd_scale (+ rows of the positions)
    fn embed(&mut self, batch: &Batch) {
        let Model { pool, config, embedding, output, buffers, stopwatch, .. } = self;
        let n_embd = config.n_embd;
        let x = &mut buffers.x[..batch.n_rows() * n_embd];
        match &embedding.tokens {
            None => output.projection.matrix.unpack_rows(pool, &batch.tokens, x),
            Some((gguf, info)) => {
                let ty = weight_type(info.kind.loadable().expect("checked when loading"));
                kernels::dequantize_rows(pool, ty, gguf.bytes(info), n_embd, &batch.tokens, x);
            }
        }
        if let Some(delta) = &embedding.delta {
            delta.add(pool, &batch.tokens, x, &mut buffers.low);
        }
        if config.embd_scale != 1.0 {
            kernels::scale(pool, x, config.embd_scale);
        }
        if let Some(positions) = &embedding.positions {
            for (&pos, row) in batch.positions.iter().zip(x.chunks_exact_mut(n_embd)) {
                let learned = &positions[pos as usize * n_embd..][..n_embd];
                row.iter_mut().zip(learned).for_each(|(x, p)| *x += p);
            }
        }
        stopwatch.lap(Phase::Embed, 0, 0);
    }

    /// One layer over all rows; with `outputs`, from the attention on over the output rows alone,
    /// which move to the front of `x`.
    fn layer(
        &mut self,
        layer_idx: usize,
        batch: &Batch,
        spans: &[AttentionSpan<'_>],
        outputs: Option<&[AttentionSpan<'_>]>,
    ) {
        let Model { pool, config, layers, kv, rope, rope_local, buffers: b, stopwatch, .. } = self;
        let (layer, facts, kv) = (&layers[layer_idx], &config.layers[layer_idx], &mut kv[layer_idx]);
        let n_embd = config.n_embd;
        let n_rows = batch.n_rows();
        let eps = config.norm.eps;
        let (q_dim, k_dim, v_dim) = (facts.q_dim(), facts.k_dim(), facts.v_dim());

        // queries, keys, values
        let x = &b.x[..n_rows * n_embd];
        normalise(pool, config, layer.attn_norm.as_ref(), x, n_rows, &mut b.activations);
        stopwatch.lap(Phase::Norm, 0, 0);
        let q = &mut b.q[..n_rows * q_dim];
        let k = &mut b.k[..n_rows * k_dim];
        let v = &mut b.v[..n_rows * v_dim];
        let qkv = [&layer.q, &layer.k, &layer.v];
        project(pool, &b.activations, qkv, [&mut *q, &mut *k, &mut *v], &mut b.low);
        stopwatch.lap(Phase::Qkv, bytes(&qkv), ops(&qkv, n_rows));

        add_bias(pool, &layer.q, q);
        add_bias(pool, &layer.k, k);
        add_bias(pool, &layer.v, v);
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            // The weight's length is the width that is normalised: a head, or all heads together.
            kernels::rms_norm(pool, q, q_norm, eps);
            kernels::rms_norm(pool, k, k_norm, eps);
        }
        let table = match facts.rope {
            LayerRope::None => None,
            LayerRope::Global => rope.as_ref(),
            LayerRope::Local => rope_local.as_ref(),
        };
        if let Some(table) = table {
            kernels::rope(pool, q, facts.n_heads, facts.head_dim_k, &batch.positions, table);
            kernels::rope(pool, k, facts.n_kv_heads, facts.head_dim_k, &batch.positions, table);
        }
        for span in spans {
            let rows = span.first_row..span.first_row + span.n_rows;
            let k = &k[rows.start * k_dim..rows.end * k_dim];
            let v = &v[rows.start * v_dim..rows.end * v_dim];
            kv.write(pool, span.pages, span.first_pos, k, v);
        }
        stopwatch.lap(Phase::RopeAndCache, 0, 0);

        let (n_rows, spans) = match outputs {
            None => (n_rows, spans),
            Some([]) => return,
            Some(outputs) => {
                keep_output_rows(batch, &mut b.x, n_embd);
                keep_output_rows(batch, &mut b.q, q_dim);
                (batch.n_outputs(), outputs)
            }
        };

        // attention
        let q = &b.q[..n_rows * q_dim];
        let attn = &mut b.attn[..n_rows * facts.attn_out_dim()];
        kernels::attention(
            pool,
            q,
            facts.n_heads,
            spans,
            kv,
            config.attn_scale,
            config.attn_softcap,
            facts.window,
            attn,
        );
        let (kv_bytes, kv_ops) = attention_cost(facts, spans);
        stopwatch.lap(Phase::Attention, kv_bytes, kv_ops);
        b.activations.set(pool, attn, n_rows, facts.attn_out_dim());
        let x = &mut b.x[..n_rows * n_embd];
        let post_norm = layer.post_attn_norm.as_deref();
        add_projection(pool, config, &b.activations, &layer.out, post_norm, &mut b.update, x, &mut b.low);
        stopwatch.lap(Phase::AttnOut, bytes(&[&layer.out]), ops(&[&layer.out], n_rows));

        // feed-forward
        normalise(pool, config, layer.ffn_norm.as_ref(), x, n_rows, &mut b.activations);
        stopwatch.lap(Phase::Norm, 0, 0);
        let ffn = &layer.ffn;
        let (FfnKind::Gated { activation, .. } | FfnKind::Plain { activation }) = config.ffn;
        match &ffn.gate {
            Some(gate_proj) if ffn.is_fused() => {
                let (gate, up) = (&gate_proj.matrix, &ffn.up.matrix);
                kernels::project_gated(pool, &b.activations, gate_of(activation), gate, up, &mut b.hidden);
                let both = [gate_proj, &ffn.up];
                stopwatch.lap(Phase::FfnUp, bytes(&both), ops(&both, n_rows));
            }
            Some(gate_proj) => {
                let (gate, up) = (&mut b.gate[..n_rows * facts.n_ff], &mut b.up[..n_rows * facts.n_ff]);
                let both = [gate_proj, &ffn.up];
                project(pool, &b.activations, both, [&mut *gate, &mut *up], &mut b.low);
                add_bias(pool, gate_proj, gate);
                add_bias(pool, &ffn.up, up);
                stopwatch.lap(Phase::FfnUp, bytes(&both), ops(&both, n_rows));
                b.hidden.set_gated(pool, gate_of(activation), gate, up, n_rows, facts.n_ff);
            }
            None => {
                let up = &mut b.up[..n_rows * facts.n_ff];
                project(pool, &b.activations, [&ffn.up], [&mut *up], &mut b.low);
                add_bias(pool, &ffn.up, up);
                stopwatch.lap(Phase::FfnUp, bytes(&[&ffn.up]), ops(&[&ffn.up], n_rows));
                match activation {
                    Activation::Silu => kernels::silu(pool, up),
                    Activation::Gelu => kernels::gelu(pool, up),
                }
                b.hidden.set(pool, up, n_rows, facts.n_ff);
            }
        }
        stopwatch.lap(Phase::Activation, 0, 0);
        let post_norm = layer.post_ffn_norm.as_deref();
        add_projection(pool, config, &b.hidden, &ffn.down, post_norm, &mut b.update, x, &mut b.low);
        stopwatch.lap(Phase::FfnDown, bytes(&[&ffn.down]), ops(&[&ffn.down], n_rows));
    }
}

/// The gate that this activation makes.
fn gate_of(activation: Activation) -> Gate {
    match activation {
        Activation::Silu => Gate::Silu,
        Activation::Gelu => Gate::GeluTanh,
    }
}

/// activations = norm(x), quantised; x itself where there is no norm before a block.
///
/// x: [n_rows, n_embd]
fn normalise(
    pool: &Pool,
    config: &ModelConfig,
    norm: Option<&Norm>,
    x: &[f32],
    n_rows: usize,
    activations: &mut Activations,
) {
    let (n_embd, eps) = (config.n_embd, config.norm.eps);
    match norm {
        None => activations.set(pool, x, n_rows, n_embd),
        Some(Norm { weight, bias: None }) => {
            activations.set_rms_norm(pool, x, weight, eps, n_rows, n_embd);
        }
        Some(Norm { weight, bias: Some(bias) }) => {
            activations.set_layer_norm(pool, x, weight, bias, eps, n_rows, n_embd);
        }
    }
}

/// x += post_norm(projection(activations)) · residual_scale
///
/// update: room for x; x: [n_rows, n_embd]
#[allow(clippy::too_many_arguments)] // one of a layer's two halves, as it stands
fn add_projection(
    pool: &Pool,
    config: &ModelConfig,
    activations: &Activations,
    projection: &Projection,
    post_norm: Option<&[f32]>,
    update: &mut [f32],
    x: &mut [f32],
    low: &mut LowRank,
) {
    if projection.bias.is_none() && post_norm.is_none() {
        project_add(pool, activations, projection, config.residual_scale, x, low);
        return;
    }
    let update = &mut update[..x.len()];
    project(pool, activations, [projection], [&mut *update], low);
    add_bias(pool, projection, update);
    if let Some(weight) = post_norm {
        kernels::rms_norm(pool, update, weight, config.norm.eps);
    }
    kernels::add_scaled(pool, x, update, config.residual_scale);
}

/// y: [n_rows, matrix.n_rows()]
fn add_bias(pool: &Pool, projection: &Projection, y: &mut [f32]) {
    if let Some(bias) = &projection.bias {
        kernels::add_bias(pool, y, bias);
    }
}

fn whole_span<'a>(batch: &'a Batch, span: &Span) -> AttentionSpan<'a> {
    AttentionSpan {
        first_row: span.first_row,
        n_rows: span.n_rows,
        first_pos: span.first_pos,
        pages: batch.span_pages(span),
    }
}

/// The spans of the output rows, numbered as they stand after `keep_output_rows`.
fn output_spans(batch: &Batch) -> Vec<AttentionSpan<'_>> {
    let mut first_row = 0;
    let mut outputs = Vec::with_capacity(batch.spans.len());
    for span in batch.spans.iter().filter(|span| span.n_outputs > 0) {
        let n_rows = span.n_outputs;
        let first_pos = span.first_pos + span.n_rows - n_rows;
        outputs.push(AttentionSpan { first_row, n_rows, first_pos, pages: batch.span_pages(span) });
        first_row += n_rows;
    }
    outputs
}

/// Moves the output rows of `rows`, [n_rows, width], to the front.
fn keep_output_rows(batch: &Batch, rows: &mut [f32], width: usize) {
    let mut to = 0;
    for span in &batch.spans {
        let end = span.first_row + span.n_rows;
        let first = end - span.n_outputs;
        rows.copy_within(first * width..end * width, to * width);
        to += span.n_outputs;
    }
}

/// Bytes of weights that some projections read.
fn bytes(projections: &[&Projection]) -> usize {
    projections.iter().flat_map(|p| p.matrices()).map(PackedMatrix::bytes).sum()
}

/// Multiplications and additions of `n_rows` rows through some projections.
fn ops(projections: &[&Projection], n_rows: usize) -> usize {
    let matrices = projections.iter().flat_map(|p| p.matrices());
    matrices.map(|matrix| 2 * n_rows * matrix.n_rows() * matrix.n_cols()).sum()
}

/// Bytes of keys and values read, and operations, of one layer's attention.
fn attention_cost(facts: &LayerConfig, spans: &[AttentionSpan<'_>]) -> (usize, usize) {
    let (mut bytes, mut ops) = (0, 0);
    for span in spans {
        let seen = |pos: usize| facts.window.map_or(pos + 1, |window| window.min(pos + 1));
        let last = seen(span.first_pos + span.n_rows - 1);
        let first = seen(span.first_pos);
        bytes += last * (facts.k_dim() + facts.v_dim()) * crate::loading::KV_BYTES;
        let n_pairs = span.n_rows * (first + last) / 2;
        ops += 2 * n_pairs * (facts.q_dim() + facts.attn_out_dim());
    }
    (bytes, ops)
}
