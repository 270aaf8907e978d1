//! One layer, forward and backward.

use kernels::{
    CausalAttention, FactorRoom, Factors, FactorsMut, GateFunction, Pool, Precision, RopeTable, Store,
};
use weights::{Activation, FfnKind, LayerConfig, NormPlace, QkNorm, TensorRole};

use super::linear::{Back, Linear, LowRank, Products, backward, weight_gradients};
use super::{Model, Room, TokenBatch, Weights, room};
use crate::lora::MATRICES;
use crate::parameters::Parameters;

/// What a layer keeps for its backward pass: `[n_rows, …]` each.
#[derive(Default)]
pub(super) struct LayerTape {
    /// The residual stream before attention, and before the feed-forward network.
    x: FactorRoom,
    x_between: FactorRoom,
    /// Queries and keys before their norm, or, where they have none, as attention saw them.
    q: FactorRoom,
    k: FactorRoom,
    v: FactorRoom,
    attn: FactorRoom,
    log_sums: Vec<f32>,
    gate: FactorRoom,
    up: FactorRoom,
    /// What was added to the stream before its norm, where it has one.
    attn_update: Normed,
    ffn_update: Normed,
    /// What lies between A and B of the adapters, as in `lora::MATRICES`.
    low: [Vec<f32>; MATRICES.len()],
}

/// What goes into a norm, and the norm's r of each row.
#[derive(Default)]
struct Normed {
    x: FactorRoom,
    inverses: Vec<f32>,
}

impl Normed {
    /// The gradient of x, as a product reads it, and d_norm += that of the norm's weights, from that of the result.
    fn backward<'a>(
        &self,
        s: &Shape<'_>,
        norm: &[f32],
        d: &[f32],
        to: &'a mut FactorRoom,
        d_norm: &mut [f32],
    ) -> Factors<'a> {
        let x = self.x.get(d.len(), s.stored);
        s.norm_backward(x, norm, &self.inverses[..d.len() / norm.len()], d, to, d_norm)
    }
}

#[cfg(test)]
impl LayerTape {
    /// Numbers in it.
    pub(super) fn len(&self) -> usize {
        let LayerTape { x, x_between, q, k, v, attn, log_sums, gate, up, attn_update, ffn_update, low } =
            self;
        let updates = [attn_update, ffn_update];
        let factors =
            [x, x_between, q, k, v, attn, gate, up].into_iter().chain(updates.map(|update| &update.x));
        let n_factors = factors.map(FactorRoom::bytes).sum::<usize>() / size_of::<f32>();
        let floats = low.iter().chain(updates.map(|update| &update.inverses));
        n_factors + log_sums.len() + floats.map(Vec::len).sum::<usize>()
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
fn add_rows(dy: Factors<'_>, to: &mut [f32]) {
    for first in (0..dy.len()).step_by(to.len()) {
        dy.part(first..first + to.len()).add_to(to);
    }
}

/// What every step of a layer asks for.
struct Shape<'a> {
    pool: &'a Pool,
    by: Products<'a>,
    /// In what the factors of products are kept.
    stored: Precision,
    n_embd: usize,
    eps: f32,
    place: NormPlace,
    residual_scale: f32,
    function: GateFunction,
    layer: LayerConfig,
}

impl Shape<'_> {
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
    fn normalised<'a>(
        &self,
        x: Factors<'a>,
        norm: Option<&[f32]>,
        h: &'a mut FactorRoom,
        inverses: &mut [f32],
    ) -> Factors<'a> {
        let Some(norm) = norm else { return x };
        let to = h.room(x.len(), self.stored);
        kernels::rms_norm_forward(self.pool, x, norm, self.eps, to, inverses);
        h.get(x.len(), self.stored)
    }

    /// Numbers as a product reads them.
    fn factors<'a>(&self, x: &'a [f32], to: &'a mut FactorRoom) -> Factors<'a> {
        if self.stored == Precision::F32 {
            return Factors::Floats(x);
        }
        kernels::copy(self.pool, x, to.room(x.len(), self.stored));
        to.get(x.len(), self.stored)
    }

    /// The `len` numbers that `write` puts into floats, as products read them: in their place at once, or by way of
    /// `floats`.
    fn written<'a>(
        &self,
        len: usize,
        to: &'a mut FactorRoom,
        floats: &mut [f32],
        write: impl FnOnce(&mut [f32]),
    ) -> Factors<'a> {
        match to.room(len, self.stored) {
            FactorsMut::Floats(to) => write(to),
            to @ FactorsMut::Halves(_) => {
                let floats = &mut floats[..len];
                write(floats);
                kernels::copy(self.pool, floats, to);
            }
        }
        to.get(len, self.stored)
    }

    /// x += scale · what a projection makes of `from`, behind a norm where `post` has one.
    fn add_to_stream(
        &self,
        (projection, from, low): (&Linear<'_>, Factors<'_>, &mut Vec<f32>),
        post: Option<(&mut Normed, &[f32])>,
        x: &mut [f32],
        update: &mut Vec<f32>,
        floats: &mut [f32],
    ) {
        if post.is_none() && self.residual_scale == 1.0 {
            projection.forward(self.by, from, (x, Store::Add), low);
            return;
        }
        let update = room(update, x.len());
        match post {
            Some((normed, norm)) => {
                let plain = self.written(x.len(), &mut normed.x, floats, |out| {
                    projection.forward(self.by, from, (out, Store::Replace), low);
                });
                let inverses = room(&mut normed.inverses, x.len() / norm.len());
                let update = FactorsMut::Floats(update);
                kernels::rms_norm_forward(self.pool, plain, norm, self.eps, update, inverses);
            }
            None => projection.forward(self.by, from, (update, Store::Replace), low),
        }
        kernels::add_scaled(self.pool, x, update, self.residual_scale);
    }

    /// Queries or keys behind their norm and turned, from what they were before.
    fn heads<'a>(
        &self,
        plain: Factors<'_>,
        (norm, inverses): (&[f32], &mut Vec<f32>),
        n_heads: usize,
        rope: Option<(&RopeTable, &[u32])>,
        to: &'a mut FactorRoom,
        floats: &mut [f32],
    ) -> Factors<'a> {
        let inverses = room(inverses, plain.len() / norm.len());
        self.written(plain.len(), to, floats, |out| {
            let normed = FactorsMut::Floats(out);
            kernels::rms_norm_forward(self.pool, plain, norm, self.eps, normed, inverses);
            self.turn(out, n_heads, rope);
        })
    }

    fn turn(&self, heads: &mut [f32], n_heads: usize, rope: Option<(&RopeTable, &[u32])>) {
        if let Some((table, positions)) = rope {
            kernels::rope(self.pool, heads, n_heads, self.layer.head_dim_k, positions, table);
        }
    }

    /// The gradient of what went into a norm, as a product reads it, and d_norm += that of the norm's weights.
    fn norm_backward<'a>(
        &self,
        x: Factors<'_>,
        norm: &[f32],
        inverses: &[f32],
        d: &[f32],
        to: &'a mut FactorRoom,
        d_norm: &mut [f32],
    ) -> Factors<'a> {
        let dx = to.room(d.len(), self.stored);
        kernels::rms_norm_backward(self.pool, x, norm, inverses, Some(d), dx, Store::Replace, d_norm);
        to.get(d.len(), self.stored)
    }

    /// The gradient of what a projection added to the stream, from the stream's.
    fn update_backward<'a>(
        &self,
        dx: &'a [f32],
        post: Option<(&Normed, &[f32], &mut [f32])>,
        scaled: &'a mut Vec<f32>,
        to: &'a mut FactorRoom,
    ) -> Factors<'a> {
        let d = if self.residual_scale == 1.0 {
            dx
        } else {
            let scaled = room(scaled, dx.len());
            kernels::copy(self.pool, dx, FactorsMut::Floats(scaled));
            kernels::scale(self.pool, scaled, self.residual_scale);
            scaled
        };
        match post {
            Some((normed, norm, d_norm)) => normed.backward(self, norm, d, to, d_norm),
            None => self.factors(d, to),
        }
    }

    /// dx += what comes back through [`Shape::normalised`] from dh.
    fn normalised_backward(
        &self,
        x: Factors<'_>,
        norm: Option<(&[f32], &mut [f32])>,
        inverses: &[f32],
        dh: &[f32],
        dx: &mut [f32],
    ) {
        match norm {
            Some((norm, d_norm)) => {
                let dx = FactorsMut::Floats(dx);
                kernels::rms_norm_backward(self.pool, x, norm, inverses, Some(dh), dx, Store::Add, d_norm);
            }
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
        let layer = &config.layers[layer_idx];
        Shape {
            pool,
            by: Products { pool, precision: self.precision, n_rows },
            stored: self.precision.stored(pool, &[config.n_embd, layer.n_ff, layer.head_dim_k]),
            n_embd: config.n_embd,
            eps: config.norm.eps,
            place: config.norm.place,
            residual_scale: config.residual_scale,
            function: match activation {
                Activation::Silu => GateFunction::Silu,
                Activation::Gelu => GateFunction::Gelu,
            },
            layer: layer.clone(),
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
        let qk_norm = self.config.qk_norm != QkNorm::None;
        let mut tape = std::mem::take(self.tape(layer_idx));
        let mut buffers = std::mem::take(&mut self.room);
        let Room { x, h, inverses, qk_inverses, update, wide, narrow, floats, .. } = &mut buffers;
        let x = &mut x[..n_rows * n_embd];
        let floats = room(floats, n_rows * n_embd.max(n_ff).max(q_dim));
        let pre = |role| of.maybe(role).filter(|_| s.has_pre());
        let rope = self.rope_of(layer_idx).map(|rope| (&rope.there, batch.positions));

        kernels::copy(pool, x, tape.x.room(x.len(), s.stored));
        let inverses = room(inverses, n_rows);
        let plain = if s.has_pre() { Factors::Floats(x) } else { tape.x.get(x.len(), s.stored) };
        let h_attn = s.normalised(plain, pre(TensorRole::AttnNorm), h, inverses);
        let (heads, kv_heads) = (s.layer.n_heads, s.layer.n_kv_heads);
        let [plain_q, plain_k, v] = [
            (TensorRole::AttnQ, TensorRole::AttnQBias, q_dim, &mut tape.q, heads),
            (TensorRole::AttnK, TensorRole::AttnKBias, k_dim, &mut tape.k, kv_heads),
            (TensorRole::AttnV, TensorRole::AttnVBias, k_dim, &mut tape.v, 0),
        ]
        .map(|(role, bias, n_out, to, n_heads)| {
            let low = &mut tape.low[place(role)];
            s.written(n_rows * n_out, to, floats, |out| {
                of.linear(role, n_embd, n_out).forward(s.by, h_attn, (&mut *out, Store::Replace), low);
                if let Some(bias) = of.maybe(bias) {
                    kernels::add_bias(pool, out, bias);
                }
                if !qk_norm && n_heads > 0 {
                    s.turn(out, n_heads, rope);
                }
            })
        });
        let [of_q, of_k] = qk_inverses;
        let [q, k] = if qk_norm {
            [
                s.heads(plain_q, (of.get(TensorRole::AttnQNorm), of_q), heads, rope, wide, floats),
                s.heads(plain_k, (of.get(TensorRole::AttnKNorm), of_k), kv_heads, rope, narrow, floats),
            ]
        } else {
            [plain_q, plain_k]
        };
        let q_len = n_rows * q_dim;
        let log_sums = room(&mut tape.log_sums, n_rows * heads);
        let attn = tape.attn.room(q_len, s.stored);
        kernels::attention_forward(pool, &s.attention(attn_scale, batch), q, k, v, attn, log_sums);
        let role = TensorRole::AttnOutput;
        let projection = of.linear(role, q_dim, n_embd);
        let made = (&projection, tape.attn.get(q_len, s.stored), &mut tape.low[place(role)]);
        let post = s.has_post().then(|| (&mut tape.attn_update, of.get(TensorRole::PostAttnNorm)));
        s.add_to_stream(made, post, x, update, floats);

        kernels::copy(pool, x, tape.x_between.room(x.len(), s.stored));
        let plain = if s.has_pre() { Factors::Floats(x) } else { tape.x_between.get(x.len(), s.stored) };
        let h = s.normalised(plain, pre(TensorRole::FfnNorm), h, inverses);
        let [gate, up] =
            [(TensorRole::FfnGate, &mut tape.gate), (TensorRole::FfnUp, &mut tape.up)].map(|(role, to)| {
                let low = &mut tape.low[place(role)];
                s.written(n_rows * n_ff, to, floats, |out| {
                    of.linear(role, n_embd, n_ff).forward(s.by, h, (out, Store::Replace), low);
                })
            });
        kernels::gate_forward(pool, s.function, gate, up, wide.room(n_rows * n_ff, s.stored));
        let hidden = wide.get(n_rows * n_ff, s.stored);
        let role = TensorRole::FfnDown;
        let projection = of.linear(role, n_ff, n_embd);
        let low = &mut tape.low[place(role)];
        let post = s.has_post().then(|| (&mut tape.ffn_update, of.get(TensorRole::PostFfnNorm)));
        if goes_on || s.has_post() {
            s.add_to_stream((&projection, hidden, low), post, x, update, floats);
        } else {
            projection.keep_low(s.by, hidden, low);
        }
        self.room = buffers;
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
        let qk_norm = self.config.qk_norm != QkNorm::None;
        let mut tape = std::mem::take(self.tape(layer_idx));
        let mut buffers = std::mem::take(&mut self.room);
        #[rustfmt::skip] // one name after the other
        let Room {
            dx, h, inverses, qk_inverses, update, wide, narrow, floats, d_low, unused, ..
        } = &mut buffers;
        let mut d_of = LayerGradient { gradient, layer_idx, unused };
        let len = n_rows * n_embd;
        let dx = &mut dx[..len];
        let inverses = room(inverses, n_rows);
        let [d_low, d_low2, d_low3] = d_low;
        macro_rules! back {
            ($role:expr, $n_in:expr, $n_out:expr, $dy:expr, $d_low:expr) => {
                Back {
                    linear: of.linear($role, $n_in, $n_out),
                    dy: $dy,
                    low: LowRank { kept: &tape.low[place($role)], gradient: $d_low },
                }
            };
        }
        macro_rules! update_backward {
            ($normed:expr, $role:expr) => {{
                let norm = s.has_post().then(|| of.get($role));
                let post = norm.map(|norm| (&$normed, norm, d_of.norm($role, norm.len())));
                s.update_backward(dx, post, update, narrow)
            }};
        }

        // The feed-forward network.
        let d_ffn = update_backward!(tape.ffn_update, TensorRole::PostFfnNorm);
        let wide_len = n_rows * n_ff;
        let mut down = back!(TensorRole::FfnDown, n_ff, n_embd, d_ffn, d_low);
        let d_hidden = room(floats, wide_len);
        down.input_gradient(s.by, (&mut *d_hidden, Store::Replace));
        let [d_gate, d_up] = [&mut tape.gate, &mut tape.up].map(|kept| kept.again(wide_len, s.stored));
        let hidden = wide.room(wide_len, s.stored);
        kernels::gate_backward(pool, s.function, d_gate, d_up, d_hidden, hidden);
        weight_gradients(s.by, wide.get(wide_len, s.stored), [down], d_of.gradient);
        let x = tape.x_between.get(len, s.stored);
        let norm = of.maybe(TensorRole::FfnNorm).filter(|_| s.has_pre());
        let h_ffn = s.normalised(x, norm, h, inverses);
        let dh = room(floats, len);
        let [d_gate, d_up] = [&tape.gate, &tape.up].map(|kept| kept.get(wide_len, s.stored));
        let gate_and_up = [
            back!(TensorRole::FfnGate, n_embd, n_ff, d_gate, d_low),
            back!(TensorRole::FfnUp, n_embd, n_ff, d_up, d_low2),
        ];
        backward(s.by, h_ffn, gate_and_up, Some(&mut *dh), d_of.gradient);
        let norm = norm.map(|norm| (norm, d_of.norm(TensorRole::FfnNorm, norm.len())));
        s.normalised_backward(x, norm, inverses, dh, dx);

        // Attention.
        let d_attn_update = update_backward!(tape.attn_update, TensorRole::PostAttnNorm);
        let (q_len, k_len) = (n_rows * q_dim, n_rows * k_dim);
        let (heads, kv_heads) = (s.layer.n_heads, s.layer.n_kv_heads);
        let attn = tape.attn.get(q_len, s.stored);
        // What comes out of the projections takes the place of what came out of attention.
        let (first, rest) = room(floats, q_len.max(len) + q_len + 2 * k_len).split_at_mut(q_len.max(len));
        let d_attn = &mut first[..q_len];
        let (dq, rest) = rest.split_at_mut(q_len);
        let (dk, dv) = rest.split_at_mut(k_len);
        let output = back!(TensorRole::AttnOutput, q_dim, n_embd, d_attn_update, d_low);
        backward(s.by, attn, [output], Some(&mut *d_attn), d_of.gradient);
        let [plain_q, plain_k] =
            [(&tape.q, q_len), (&tape.k, k_len)].map(|(kept, len)| kept.get(len, s.stored));
        let rope = self.rope_of(layer_idx);
        let [of_q, of_k] = qk_inverses;
        let [q, k] = if qk_norm {
            let there = rope.map(|rope| (&rope.there, batch.positions));
            [
                s.heads(plain_q, (of.get(TensorRole::AttnQNorm), of_q), heads, there, wide, dq),
                s.heads(plain_k, (of.get(TensorRole::AttnKNorm), of_k), kv_heads, there, narrow, dk),
            ]
        } else {
            [plain_q, plain_k]
        };
        let v = tape.v.get(k_len, s.stored);
        let log_sums = &tape.log_sums[..n_rows * heads];
        let shape = s.attention(attn_scale, batch);
        kernels::attention_backward(pool, &shape, q, k, v, attn, log_sums, d_attn, dq, dk, dv);
        let back = rope.map(|rope| (&rope.back, batch.positions));
        s.turn(dq, heads, back);
        s.turn(dk, kv_heads, back);
        macro_rules! through_norm {
            ($plain:expr, $role:expr, $inverses:expr, $d:expr, $to:expr) => {{
                let norm = of.get($role);
                let d_norm = d_of.norm($role, norm.len());
                s.norm_backward($plain, norm, &$inverses[..$d.len() / norm.len()], $d, $to, d_norm)
            }};
        }
        let [d_q, d_k] = if qk_norm {
            [
                through_norm!(plain_q, TensorRole::AttnQNorm, of_q, dq, wide),
                through_norm!(plain_k, TensorRole::AttnKNorm, of_k, dk, narrow),
            ]
        } else {
            [s.factors(dq, wide), s.factors(dk, narrow)]
        };
        let d_v = s.factors(dv, &mut tape.v);
        let x = tape.x.get(len, s.stored);
        let norm = of.maybe(TensorRole::AttnNorm).filter(|_| s.has_pre());
        let h_attn = s.normalised(x, norm, h, inverses);
        let dh = &mut first[..len];
        let qkv = [
            back!(TensorRole::AttnQ, n_embd, q_dim, d_q, d_low),
            back!(TensorRole::AttnK, n_embd, k_dim, d_k, d_low2),
            back!(TensorRole::AttnV, n_embd, k_dim, d_v, d_low3),
        ];
        backward(s.by, h_attn, qkv, goes_on.then_some(&mut *dh), d_of.gradient);
        let biases =
            [(TensorRole::AttnQBias, d_q), (TensorRole::AttnKBias, d_k), (TensorRole::AttnVBias, d_v)];
        for (bias, dy) in biases {
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
