//! One layer, forward and backward.

use kernels::{CausalAttention, GateFunction, Pool, Store};
use weights::{Activation, FfnKind, LayerConfig, NormPlace, QkNorm, TensorRole};

use super::linear::{Linear, LowRank, Products};
use super::{Model, TokenBatch, Weights, room};
use crate::lora::MATRICES;
use crate::parameters::Parameters;

/// What a layer keeps for its backward pass: `[n_rows, …]` each.
#[derive(Default)]
pub(super) struct LayerTape {
    /// The residual stream before the feed-forward network.
    x_between: Vec<f32>,
    /// Queries and keys before their norm, where they have one.
    q_plain: Vec<f32>,
    k_plain: Vec<f32>,
    /// As attention saw them.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attn: Vec<f32>,
    log_sums: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// What was added to the stream before its norm, where it has one.
    attn_update: Vec<f32>,
    ffn_update: Vec<f32>,
    /// What lies between A and B of the adapters, as in `lora::MATRICES`.
    low: [Vec<f32>; MATRICES.len()],
}

#[cfg(test)]
impl LayerTape {
    /// Numbers in it.
    pub(super) fn len(&self) -> usize {
        let LayerTape { x_between, q_plain, k_plain, q, k, v, attn, log_sums, .. } = self;
        let LayerTape { gate, up, attn_update, ffn_update, low, .. } = self;
        let all = [x_between, q_plain, k_plain, q, k, v, attn, log_sums, gate, up, attn_update, ffn_update];
        all.into_iter().chain(low).map(Vec::len).sum()
    }
}

/// Where a matrix of a layer stands in `lora::MATRICES`.
fn place(role: TensorRole) -> usize {
    MATRICES.iter().position(|of| *of == role).expect("a matrix of a layer")
}

/// The weights of one layer.
struct LayerWeights<'a> {
    weights: Weights<'a>,
    layer_idx: usize,
}

impl<'a> LayerWeights<'a> {
    fn maybe(&self, role: TensorRole) -> Option<&'a [f32]> {
        self.weights.vector(role, Some(self.layer_idx))
    }

    fn get(&self, role: TensorRole) -> &'a [f32] {
        self.maybe(role).expect("the table of tensors has it wherever this is asked")
    }

    /// The matrix `[n_out, n_in]`.
    fn linear(&self, role: TensorRole, n_in: usize, n_out: usize) -> Linear<'a> {
        Linear::of(&self.weights, role, self.layer_idx, n_in, n_out)
    }
}

/// Their gradients.
struct LayerGradient<'a> {
    gradient: &'a mut Parameters,
    layer_idx: usize,
    /// Where the gradient of a norm goes that is not learnt.
    unused: &'a mut Vec<f32>,
}

impl LayerGradient<'_> {
    fn maybe(&mut self, role: TensorRole) -> Option<&mut [f32]> {
        self.gradient.get_mut(role, Some(self.layer_idx))
    }

    /// Of a norm of `len` numbers.
    fn norm(&mut self, role: TensorRole, len: usize) -> &mut [f32] {
        match self.gradient.get_mut(role, Some(self.layer_idx)) {
            Some(gradient) => gradient,
            None => room(self.unused, len),
        }
    }
}

/// Adds up the rows of a gradient: what a bias gets.
fn add_rows(dy: &[f32], to: &mut [f32]) {
    for row in dy.chunks_exact(to.len()) {
        to.iter_mut().zip(row).for_each(|(to, d)| *to += d);
    }
}

/// What every step of a layer asks for.
struct Shape<'a> {
    pool: &'a Pool,
    by: Products<'a>,
    n_embd: usize,
    eps: f32,
    place: NormPlace,
    residual_scale: f32,
    function: GateFunction,
    layer: LayerConfig,
}

impl Shape<'_> {
    /// The width over which queries and keys are normalised, if they are.
    fn qk_norm_lens(&self, kind: QkNorm) -> Option<(usize, usize)> {
        match kind {
            QkNorm::None => None,
            QkNorm::PerHead => Some((self.layer.head_dim_k, self.layer.head_dim_k)),
            QkNorm::Whole => Some((self.layer.q_dim(), self.layer.k_dim())),
        }
    }

    fn attention<'a>(&self, scale: f32, batch: &TokenBatch<'a>) -> CausalAttention<'a> {
        CausalAttention {
            n_heads: self.layer.n_heads,
            n_kv_heads: self.layer.n_kv_heads,
            head_dim: self.layer.head_dim_k,
            scale,
            window: self.layer.window,
            sequences: batch.sequences,
            precision: self.by.precision,
        }
    }

    /// h = norm(x), or x where no norm stands before.
    fn normalised(&self, x: &[f32], norm: Option<&[f32]>, h: &mut [f32], inverses: &mut [f32]) {
        match norm {
            Some(norm) => kernels::rms_norm_forward(self.pool, x, norm, self.eps, h, inverses),
            None => h.copy_from_slice(x),
        }
    }

    /// dx += what comes back through [`Shape::normalised`] from dh.
    fn normalised_backward(
        &self,
        x: &[f32],
        norm: Option<(&[f32], &mut [f32])>,
        inverses: &[f32],
        dh: &[f32],
        dx: &mut [f32],
    ) {
        match norm {
            Some((norm, d_norm)) => kernels::rms_norm_backward(self.pool, x, norm, inverses, dh, dx, d_norm),
            None => kernels::add(self.pool, dx, dh),
        }
    }

    fn has_pre(&self) -> bool {
        self.place != NormPlace::Post
    }

    fn has_post(&self) -> bool {
        self.place != NormPlace::Pre
    }
}

impl Model {
    fn shape<'a>(&self, pool: &'a Pool, n_rows: usize, layer_idx: usize) -> Shape<'a> {
        let config = &self.config;
        let FfnKind::Gated { activation, .. } = config.ffn else {
            unreachable!("checked when the model was made")
        };
        Shape {
            pool,
            by: Products { pool, precision: self.precision, n_rows },
            n_embd: config.n_embd,
            eps: config.norm.eps,
            place: config.norm.place,
            residual_scale: config.residual_scale,
            function: match activation {
                Activation::Silu => GateFunction::Silu,
                Activation::Gelu => GateFunction::Gelu,
            },
            layer: config.layers[layer_idx].clone(),
        }
    }

    /// The stream goes through a layer. To compute again what the layer kept, `goes_on` is false: what it adds to the
    /// stream in the end is then left out.
    pub(super) fn layer_forward(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        layer_idx: usize,
        goes_on: bool,
    ) {
        let n_rows = batch.tokens.len();
        let s = self.shape(pool, n_rows, layer_idx);
        let base = self.base.clone();
        let of = LayerWeights { weights: self.weights(base.as_deref(), parameters), layer_idx };
        let (n_embd, n_ff) = (s.n_embd, s.layer.n_ff);
        let (q_dim, k_dim) = (s.layer.q_dim(), s.layer.k_dim());
        let attn_scale = self.config.attn_scale;
        let qk_norm = s.qk_norm_lens(self.config.qk_norm);
        let mut tape = std::mem::take(self.tape(layer_idx));
        let x = &mut self.room.x[..n_rows * n_embd];
        let h = room(&mut self.room.h, n_rows * n_embd);
        let inverses = room(&mut self.room.inverses, n_rows);

        keep(&mut self.inputs[layer_idx], x);
        s.normalised(x, of.maybe(TensorRole::AttnNorm).filter(|_| s.has_pre()), h, inverses);
        let q = room(&mut tape.q, n_rows * q_dim);
        let k = room(&mut tape.k, n_rows * k_dim);
        let v = room(&mut tape.v, n_rows * k_dim);
        for (role, bias, n_out, out) in [
            (TensorRole::AttnQ, TensorRole::AttnQBias, q_dim, &mut *q),
            (TensorRole::AttnK, TensorRole::AttnKBias, k_dim, &mut *k),
            (TensorRole::AttnV, TensorRole::AttnVBias, k_dim, &mut *v),
        ] {
            of.linear(role, n_embd, n_out).forward(s.by, h, out, &mut tape.low[place(role)]);
            if let Some(bias) = of.maybe(bias) {
                kernels::add_bias(pool, out, bias);
            }
        }
        if let Some((q_len, k_len)) = qk_norm {
            for (plain, out, role, len) in [
                (&mut tape.q_plain, &mut *q, TensorRole::AttnQNorm, q_len),
                (&mut tape.k_plain, &mut *k, TensorRole::AttnKNorm, k_len),
            ] {
                keep(plain, out);
                let inverses = room(&mut self.room.wide[0], out.len() / len);
                kernels::rms_norm_forward(pool, &plain[..out.len()], of.get(role), s.eps, out, inverses);
            }
        }
        if let Some(rope) = self.rope_of(layer_idx) {
            let (heads, kv_heads, dim) = (s.layer.n_heads, s.layer.n_kv_heads, s.layer.head_dim_k);
            kernels::rope(pool, q, heads, dim, batch.positions, &rope.there);
            kernels::rope(pool, k, kv_heads, dim, batch.positions, &rope.there);
        }
        let attn = room(&mut tape.attn, n_rows * q_dim);
        let log_sums = room(&mut tape.log_sums, n_rows * s.layer.n_heads);
        kernels::attention_forward(pool, &s.attention(attn_scale, batch), q, k, v, attn, log_sums);
        let x = &mut self.room.x[..n_rows * n_embd];
        let update = room(&mut self.room.update, n_rows * n_embd);
        let role = TensorRole::AttnOutput;
        of.linear(role, q_dim, n_embd).forward(s.by, attn, update, &mut tape.low[place(role)]);
        let inverses = room(&mut self.room.inverses, n_rows);
        if s.has_post() {
            keep(&mut tape.attn_update, update);
            let norm = of.get(TensorRole::PostAttnNorm);
            kernels::rms_norm_forward(
                pool,
                &tape.attn_update[..n_rows * n_embd],
                norm,
                s.eps,
                update,
                inverses,
            );
        }
        kernels::add_scaled(pool, x, update, s.residual_scale);

        keep(&mut tape.x_between, x);
        let h = room(&mut self.room.h, n_rows * n_embd);
        s.normalised(x, of.maybe(TensorRole::FfnNorm).filter(|_| s.has_pre()), h, inverses);
        let gate = room(&mut tape.gate, n_rows * n_ff);
        let up = room(&mut tape.up, n_rows * n_ff);
        for (role, out) in [(TensorRole::FfnGate, &mut *gate), (TensorRole::FfnUp, &mut *up)] {
            of.linear(role, n_embd, n_ff).forward(s.by, h, out, &mut tape.low[place(role)]);
        }
        let role = TensorRole::FfnDown;
        let down = of.linear(role, n_ff, n_embd);
        let low = &mut tape.low[place(role)];
        let hidden = room(&mut self.room.wide[0], n_rows * n_ff);
        kernels::gate_forward(pool, s.function, gate, up, hidden);
        if goes_on || s.has_post() {
            down.forward(s.by, hidden, update, low);
        } else {
            down.keep_low(s.by, hidden, low);
        }
        if s.has_post() {
            keep(&mut tape.ffn_update, update);
            let norm = of.get(TensorRole::PostFfnNorm);
            kernels::rms_norm_forward(
                pool,
                &tape.ffn_update[..n_rows * n_embd],
                norm,
                s.eps,
                update,
                inverses,
            );
        }
        if goes_on {
            kernels::add_scaled(pool, x, update, s.residual_scale);
        }
        *self.tape(layer_idx) = tape;
    }

    pub(super) fn layer_backward(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        layer_idx: usize,
        gradient: &mut Parameters,
    ) {
        let n_rows = batch.tokens.len();
        let s = self.shape(pool, n_rows, layer_idx);
        let base = self.base.clone();
        let of = LayerWeights { weights: self.weights(base.as_deref(), parameters), layer_idx };
        // Below the first layer of a model that stays as it is nothing is learnt.
        let goes_on = layer_idx > 0 || base.is_none();
        let (n_embd, n_ff) = (s.n_embd, s.layer.n_ff);
        let (q_dim, k_dim) = (s.layer.q_dim(), s.layer.k_dim());
        let attn_scale = self.config.attn_scale;
        let qk_norm = s.qk_norm_lens(self.config.qk_norm);
        let mut tape = std::mem::take(self.tape(layer_idx));
        let mut buffers = std::mem::take(&mut self.room);
        let mut d_of = LayerGradient { gradient, layer_idx, unused: &mut buffers.unused };
        let len = n_rows * n_embd;
        let dx = &mut buffers.dx[..len];
        let h = room(&mut buffers.h, len);
        let dh = room(&mut buffers.dh, len);
        let inverses = room(&mut buffers.inverses, n_rows);
        let d_update = room(&mut buffers.d_update, len);
        let [hidden, d_wide, more] = &mut buffers.wide;
        let d_low = &mut buffers.d_low;
        macro_rules! low {
            ($role:expr) => {
                &mut LowRank { kept: &tape.low[place($role)], gradient: d_low }
            };
        }

        // The feed-forward network.
        update_backward(&s, dx, d_update, |d| {
            let norm = of.get(TensorRole::PostFfnNorm);
            let d_norm = d_of.norm(TensorRole::PostFfnNorm, norm.len());
            post_norm_backward(&s, &tape.ffn_update[..len], norm, d, h, dh, inverses, d_norm);
        });
        let (gate, up) = (&mut tape.gate[..n_rows * n_ff], &mut tape.up[..n_rows * n_ff]);
        let hidden = room(hidden, n_rows * n_ff);
        let d_hidden = room(d_wide, n_rows * n_ff);
        kernels::gate_forward(pool, s.function, gate, up, hidden);
        let role = TensorRole::FfnDown;
        let into = Some((&mut *d_hidden, Store::Replace));
        of.linear(role, n_ff, n_embd).backward(s.by, hidden, d_update, into, low!(role), d_of.gradient);
        kernels::gate_backward(pool, s.function, gate, up, d_hidden);
        let x = &tape.x_between[..len];
        let norm = of.maybe(TensorRole::FfnNorm).filter(|_| s.has_pre());
        s.normalised(x, norm, h, inverses);
        for (role, dy, into) in
            [(TensorRole::FfnGate, &*gate, Store::Replace), (TensorRole::FfnUp, &*up, Store::Add)]
        {
            let into = Some((&mut *dh, into));
            of.linear(role, n_embd, n_ff).backward(s.by, h, dy, into, low!(role), d_of.gradient);
        }
        let norm = norm.map(|norm| (norm, d_of.norm(TensorRole::FfnNorm, norm.len())));
        s.normalised_backward(x, norm, inverses, dh, dx);

        // Attention.
        update_backward(&s, dx, d_update, |d| {
            let norm = of.get(TensorRole::PostAttnNorm);
            let d_norm = d_of.norm(TensorRole::PostAttnNorm, norm.len());
            post_norm_backward(&s, &tape.attn_update[..len], norm, d, h, dh, inverses, d_norm);
        });
        let attn = &tape.attn[..n_rows * q_dim];
        let d_attn = room(d_wide, n_rows * q_dim);
        let role = TensorRole::AttnOutput;
        let into = Some((&mut *d_attn, Store::Replace));
        of.linear(role, q_dim, n_embd).backward(s.by, attn, d_update, into, low!(role), d_of.gradient);
        let all = room(more, n_rows * (q_dim + 2 * k_dim));
        let (dq, rest) = all.split_at_mut(n_rows * q_dim);
        let (dk, dv) = rest.split_at_mut(n_rows * k_dim);
        let (q, k, v) = (&tape.q[..n_rows * q_dim], &tape.k[..n_rows * k_dim], &tape.v[..n_rows * k_dim]);
        let log_sums = &tape.log_sums[..n_rows * s.layer.n_heads];
        let shape = s.attention(attn_scale, batch);
        kernels::attention_backward(pool, &shape, q, k, v, attn, log_sums, d_attn, dq, dk, dv);
        if let Some(rope) = self.rope_of(layer_idx) {
            let (heads, kv_heads, dim) = (s.layer.n_heads, s.layer.n_kv_heads, s.layer.head_dim_k);
            kernels::rope(pool, dq, heads, dim, batch.positions, &rope.back);
            kernels::rope(pool, dk, kv_heads, dim, batch.positions, &rope.back);
        }
        if let Some((q_len, k_len)) = qk_norm {
            for (plain, d, role, len) in [
                (&tape.q_plain, &mut *dq, TensorRole::AttnQNorm, q_len),
                (&tape.k_plain, &mut *dk, TensorRole::AttnKNorm, k_len),
            ] {
                let plain = &plain[..d.len()];
                let both = room(&mut buffers.logits, d.len() + d.len() / len);
                let (d_plain, inverses) = both.split_at_mut(d.len());
                // The logits' buffer is free while layers are at work. Of the norm only the inverses are wanted.
                kernels::rms_norm_forward(pool, plain, of.get(role), s.eps, d_plain, inverses);
                d_plain.fill(0.0);
                let d_norm = d_of.norm(role, of.get(role).len());
                kernels::rms_norm_backward(pool, plain, of.get(role), inverses, d, d_plain, d_norm);
                d.copy_from_slice(d_plain);
            }
        }
        let x = &self.inputs[layer_idx][..len];
        let norm = of.maybe(TensorRole::AttnNorm).filter(|_| s.has_pre());
        s.normalised(x, norm, h, inverses);
        for (role, bias, n_out, dy, into) in [
            (TensorRole::AttnQ, TensorRole::AttnQBias, q_dim, &*dq, Store::Replace),
            (TensorRole::AttnK, TensorRole::AttnKBias, k_dim, &*dk, Store::Add),
            (TensorRole::AttnV, TensorRole::AttnVBias, k_dim, &*dv, Store::Add),
        ] {
            let into = goes_on.then_some((&mut *dh, into));
            of.linear(role, n_embd, n_out).backward(s.by, h, dy, into, low!(role), d_of.gradient);
            if let Some(d_bias) = d_of.maybe(bias) {
                add_rows(dy, d_bias);
            }
        }
        if goes_on {
            let norm = norm.map(|norm| (norm, d_of.norm(TensorRole::AttnNorm, norm.len())));
            s.normalised_backward(x, norm, inverses, dh, dx);
        }
        self.room = buffers;
        *self.tape(layer_idx) = tape;
    }
}

/// Copies to a buffer that grows.
fn keep(to: &mut Vec<f32>, from: &[f32]) {
    room(to, from.len()).copy_from_slice(from);
}

/// The gradient of what was added to the stream, through its norm where it has one.
fn update_backward(s: &Shape<'_>, dx: &[f32], d_update: &mut [f32], post_norm: impl FnOnce(&mut [f32])) {
    d_update.copy_from_slice(dx);
    if s.residual_scale != 1.0 {
        kernels::scale(s.pool, d_update, s.residual_scale);
    }
    if s.has_post() {
        post_norm(d_update);
    }
}

/// d: the gradient of norm(update) → that of the update, in its place; `h` and `dh` are written over.
#[allow(clippy::too_many_arguments)] // what goes in and what comes out
fn post_norm_backward(
    s: &Shape<'_>,
    update: &[f32],
    norm: &[f32],
    d: &mut [f32],
    h: &mut [f32],
    dh: &mut [f32],
    inverses: &mut [f32],
    d_norm: &mut [f32],
) {
    kernels::rms_norm_forward(s.pool, update, norm, s.eps, h, inverses);
    dh.fill(0.0);
    kernels::rms_norm_backward(s.pool, update, norm, inverses, d, dh, d_norm);
    d.copy_from_slice(dh);
}
