//! From mapped weights to a model that computes: checks, repacking, room for keys and values.
//!
//! Tensors are repacked one after the other, each by all threads, and the map's pages are given
//! back after each, so that file and copy are never both resident. Where `output.weight` is a
//! matrix of its own, the embeddings are looked up in the map: a step reads a few rows of them.

use std::sync::Arc;

use kernels::{KernelError, KvLayer, KvType, Operand, PAGE_LEN, PackedMatrix, Pool, WeightType};
use weights::{
    FfnKind, Gguf, LayerConfig, ModelConfig, NormKind, ScaledAdapter, TensorInfo, TensorRole, TensorType,
    check_tensors,
};

use crate::deltas::{Delta, Deltas};
use crate::engine::EngineConfig;
use crate::error::EngineError;
use crate::model::{Embedding, Ffn, Layer, Model, Norm, Output, Projection, all_matrices};

/// How far the loading of a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of tensors that are done.
    pub done_bytes: u64,
    /// Bytes of all tensors.
    pub total_bytes: u64,
}

/// Bytes that the keys and values of one token take in all layers.
pub fn kv_bytes_per_token(config: &ModelConfig) -> u64 {
    page_bytes(config) / PAGE_LEN as u64
}

/// Bytes of one page in all layers.
fn page_bytes(config: &ModelConfig) -> u64 {
    let layer_bytes = |layer: &LayerConfig| {
        KvLayer::bytes_per_page(layer.n_kv_heads, layer.head_dim_k, layer.head_dim_v, KV_BYTES) as u64
    };
    config.layers.iter().map(layer_bytes).sum()
}

/// Bytes of a key's or value's number, of whichever type [`load`] takes.
pub(crate) const KV_BYTES: usize = KvType::F16.bytes();

/// Loads a model and proves that it computes finite values.
pub(crate) fn load(
    gguf: Arc<Gguf>,
    config: &ModelConfig,
    adapters: &[ScaledAdapter],
    engine: &EngineConfig,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Model, EngineError> {
    check_config(config, engine)?;
    check_tensors(&gguf, config).map_err(|e| EngineError::Tensors(Arc::new(e)))?;
    let deltas = Deltas::new(adapters, config)?;
    let n_pages = kv_pages(config, engine)?;
    let pool = Pool::new(engine.n_threads, engine.isa).map_err(EngineError::Threads)?;
    let total_bytes = gguf.tensors().iter().map(TensorInfo::n_bytes).sum();
    let mut loader =
        Loader { gguf: &gguf, deltas: &deltas, pool: &pool, done_bytes: 0, total_bytes, progress };

    let (output, embedding) = loader.ends(config, Arc::clone(&gguf))?;
    let mut layers = Vec::with_capacity(config.n_layers());
    for layer_idx in 0..config.n_layers() {
        layers.push(loader.layer(config, layer_idx)?);
    }
    // Quantised models round what they multiply more than bf16 does; float models are to agree with their reference.
    let quantised = all_matrices(&layers, &output).any(|matrix| matrix.needs() == Operand::Int8);
    let kv_type = if quantised { KvType::fastest(engine.isa) } else { KvType::F16 };
    let kv = config
        .layers
        .iter()
        .map(|layer| KvLayer::new(n_pages, layer.n_kv_heads, layer.head_dim_k, layer.head_dim_v, kv_type));
    let kv = kv.collect();
    let mut model = Model::new(pool, config, engine, n_pages, embedding, layers, output, kv, deltas.key());
    match model.proves_finite() {
        true => Ok(model),
        false => Err(EngineError::BrokenModel),
    }
}

fn check_config(config: &ModelConfig, engine: &EngineConfig) -> Result<(), EngineError> {
    let fields = [
        ("n_threads", engine.n_threads),
        ("max_seq_len", engine.max_seq_len),
        ("max_batch_tokens", engine.max_batch_tokens),
        ("max_running", engine.max_running),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, value)| *value == 0) {
        return Err(EngineError::BadConfig { field });
    }
    if config.learned_positions && engine.max_seq_len > config.max_seq_len {
        return Err(EngineError::ContextTooLong {
            asked: engine.max_seq_len,
            max_seq_len: config.max_seq_len,
        });
    }
    Ok(())
}

/// Pages that the memory for keys and values holds; at least one full sequence must fit.
fn kv_pages(config: &ModelConfig, engine: &EngineConfig) -> Result<usize, EngineError> {
    let page_bytes = page_bytes(config);
    let n_pages = engine.kv_memory_bytes / page_bytes;
    let n_needed = engine.max_seq_len.div_ceil(PAGE_LEN) as u64;
    if n_pages < n_needed {
        return Err(EngineError::KvMemoryTooSmall {
            max_seq_len: engine.max_seq_len,
            needed: n_needed * page_bytes,
            given: engine.kv_memory_bytes,
            fits: n_pages as usize * PAGE_LEN,
        });
    }
    // Page ids are u32; nobody has memory for more.
    Ok(n_pages.min(u64::from(u32::MAX)) as usize)
}

struct Loader<'a> {
    gguf: &'a Gguf,
    deltas: &'a Deltas<'a>,
    pool: &'a Pool,
    done_bytes: u64,
    total_bytes: u64,
    progress: &'a mut dyn FnMut(LoadProgress),
}

impl Loader<'_> {
    /// The output matrix and the embeddings, one copy if they are the same.
    fn ends(&mut self, config: &ModelConfig, gguf: Arc<Gguf>) -> Result<(Output, Embedding), EngineError> {
        let embd_name = TensorRole::TokenEmbd.tensor_name(None);
        let matrix_role = match config.tied_output {
            true => TensorRole::TokenEmbd,
            false => TensorRole::Output,
        };
        let (matrix, delta) = self.matrix(matrix_role, None)?;
        let tokens = match config.tied_output {
            true => None,
            false => {
                let info = self.info(&embd_name).clone();
                let ty = weight_type(loadable(&info));
                let finite = kernels::check_finite(self.pool, ty, self.gguf.bytes(&info));
                finite.map_err(|e| kernel_error(&embd_name, e))?;
                self.done(&info);
                Some((gguf, info))
            }
        };
        let token_delta = self.deltas.of_tokens(self.pool, &embd_name)?;
        let positions = match config.learned_positions {
            true => Some(self.vector(TensorRole::PositionEmbd, None)?),
            false => None,
        };
        let output = Output {
            norm: self.norm(config, TensorRole::OutputNorm, TensorRole::OutputNormBias, None)?,
            projection: Projection {
                matrix,
                delta,
                bias: self.vector_if(config.output_bias, TensorRole::OutputBias, None)?,
            },
        };
        Ok((output, Embedding { tokens, delta: token_delta, positions }))
    }

    fn layer(&mut self, config: &ModelConfig, layer_idx: usize) -> Result<Layer, EngineError> {
        use TensorRole as Role;
        let facts = &config.layers[layer_idx];
        let at = Some(layer_idx);
        let has_pre = config.norm.place != weights::NormPlace::Post;
        let has_post = config.norm.place != weights::NormPlace::Pre;
        let has_qk_norm = config.qk_norm != weights::QkNorm::None;
        let attn_norm = match has_pre {
            true => Some(self.norm(config, Role::AttnNorm, Role::AttnNormBias, at)?),
            false => None,
        };
        let [q, k, v] = self.qkv(config, facts, at)?;
        let q_norm = self.vector_if(has_qk_norm, Role::AttnQNorm, at)?;
        let k_norm = self.vector_if(has_qk_norm, Role::AttnKNorm, at)?;
        let out = self.projection(Role::AttnOutput, Role::AttnOutputBias, config.attn_out_bias, at)?;
        let post_attn_norm = self.vector_if(has_post, Role::PostAttnNorm, at)?;
        let ffn_norm = match has_pre {
            true => Some(self.norm(config, Role::FfnNorm, Role::FfnNormBias, at)?),
            false => None,
        };
        let ffn = self.ffn(config, facts, at)?;
        let post_ffn_norm = self.vector_if(has_post, Role::PostFfnNorm, at)?;
        Ok(Layer { attn_norm, q, k, v, q_norm, k_norm, out, post_attn_norm, ffn_norm, ffn, post_ffn_norm })
    }

    fn qkv(
        &mut self,
        config: &ModelConfig,
        facts: &LayerConfig,
        at: Option<usize>,
    ) -> Result<[Projection; 3], EngineError> {
        use TensorRole as Role;
        let n_rows = [facts.q_dim(), facts.k_dim(), facts.v_dim()];
        if config.qkv_fused {
            let matrices = self.row_slices(Role::AttnQkv, at, &n_rows)?;
            let bias = self.vector_if(config.qkv_bias, Role::AttnQkvBias, at)?;
            return Ok(with_biases(matrices, bias, &n_rows));
        }
        let mut one = |role, bias_role| self.projection(role, bias_role, config.qkv_bias, at);
        Ok([
            one(Role::AttnQ, Role::AttnQBias)?,
            one(Role::AttnK, Role::AttnKBias)?,
            one(Role::AttnV, Role::AttnVBias)?,
        ])
    }

    fn ffn(
        &mut self,
        config: &ModelConfig,
        facts: &LayerConfig,
        at: Option<usize>,
    ) -> Result<Ffn, EngineError> {
        use TensorRole as Role;
        let mut one = |role, bias_role| self.projection(role, bias_role, config.ffn_bias, at);
        let (gate, up) = match config.ffn {
            FfnKind::Gated { fused: false, .. } => {
                (Some(one(Role::FfnGate, Role::FfnGateBias)?), one(Role::FfnUp, Role::FfnUpBias)?)
            }
            FfnKind::Plain { .. } => (None, one(Role::FfnUp, Role::FfnUpBias)?),
            FfnKind::Gated { fused: true, .. } => {
                let n_rows = [facts.n_ff; 2];
                let matrices = self.row_slices(Role::FfnUp, at, &n_rows)?;
                let bias = self.vector_if(config.ffn_bias, Role::FfnUpBias, at)?;
                let [gate, up] = with_biases(matrices, bias, &n_rows);
                (Some(gate), up)
            }
        };
        let down = self.projection(Role::FfnDown, Role::FfnDownBias, config.ffn_bias, at)?;
        Ok(Ffn { gate, up, down })
    }

    fn norm(
        &mut self,
        config: &ModelConfig,
        role: TensorRole,
        bias_role: TensorRole,
        at: Option<usize>,
    ) -> Result<Norm, EngineError> {
        let has_bias = config.norm.kind == NormKind::Layer;
        Ok(Norm { weight: self.vector(role, at)?, bias: self.vector_if(has_bias, bias_role, at)? })
    }

    fn projection(
        &mut self,
        role: TensorRole,
        bias_role: TensorRole,
        has_bias: bool,
        at: Option<usize>,
    ) -> Result<Projection, EngineError> {
        let (matrix, delta) = self.matrix(role, at)?;
        Ok(Projection { matrix, delta, bias: self.vector_if(has_bias, bias_role, at)? })
    }

    /// A whole matrix, repacked, and what adapters add to it.
    fn matrix(&mut self, role: TensorRole, at: Option<usize>) -> Result<Adapted, EngineError> {
        let info = self.info(&role.tensor_name(at)).clone();
        let [matrix] = self.row_slices(role, at, &[info.n_rows() as usize])?;
        Ok(matrix)
    }

    /// Consecutive rows of a matrix as matrices of their own, repacked.
    fn row_slices<const N: usize>(
        &mut self,
        role: TensorRole,
        at: Option<usize>,
        n_rows: &[usize; N],
    ) -> Result<[Adapted; N], EngineError> {
        let name = role.tensor_name(at);
        let info = self.info(&name).clone();
        let ty = loadable(&info);
        let n_cols = info.n_cols() as usize;
        let row_bytes = info.n_bytes() as usize / info.n_rows() as usize;
        let mut rest = self.gguf.bytes(&info);
        // Embeddings are changed where they are looked up.
        let mut deltas = match role {
            TensorRole::TokenEmbd => [const { None }; N],
            _ => self.deltas.of_rows(self.pool, &name, n_rows)?,
        };
        let mut packed = Vec::with_capacity(N);
        for (&n, delta) in n_rows.iter().zip(&mut deltas) {
            let (bytes, tail) = rest.split_at(n * row_bytes);
            rest = tail;
            let matrix = PackedMatrix::pack(self.pool, weight_type(ty), n, n_cols, bytes);
            packed.push((matrix.map_err(|e| kernel_error(&name, e))?, delta.take()));
        }
        self.done(&info);
        packed.try_into().map_err(|_| unreachable!("one matrix was packed for each count"))
    }

    fn vector_if(
        &mut self,
        is_there: bool,
        role: TensorRole,
        at: Option<usize>,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        is_there.then(|| self.vector(role, at)).transpose()
    }

    /// A vector, as f32.
    fn vector(&mut self, role: TensorRole, at: Option<usize>) -> Result<Vec<f32>, EngineError> {
        let name = role.tensor_name(at);
        let info = self.info(&name).clone();
        let mut values = vec![0.0; info.n_elements() as usize];
        kernels::dequantize(weight_type(loadable(&info)), self.gguf.bytes(&info), &mut values);
        if values.iter().any(|x| !x.is_finite()) {
            return Err(EngineError::NonFiniteWeights { tensor: name });
        }
        self.done(&info);
        Ok(values)
    }

    fn info(&self, name: &str) -> &TensorInfo {
        self.gguf.tensor(name).expect("check_tensors found every tensor of the configuration")
    }

    fn done(&mut self, info: &TensorInfo) {
        self.gguf.release(info);
        self.done_bytes += info.n_bytes();
        (self.progress)(LoadProgress { done_bytes: self.done_bytes, total_bytes: self.total_bytes });
    }
}

/// A matrix and what adapters add to its product.
type Adapted = (PackedMatrix, Option<Delta>);

/// Gives each matrix its part of a common bias.
fn with_biases<const N: usize>(
    matrices: [Adapted; N],
    bias: Option<Vec<f32>>,
    n_rows: &[usize; N],
) -> [Projection; N] {
    let mut first = 0;
    let mut n_rows = n_rows.iter();
    matrices.map(|(matrix, delta)| {
        let n = n_rows.next().copied().unwrap_or(0);
        let bias = bias.as_ref().map(|bias| bias[first..first + n].to_vec());
        first += n;
        Projection { matrix, delta, bias }
    })
}

fn loadable(info: &TensorInfo) -> TensorType {
    info.kind.loadable().expect("check_tensors admits loadable types only")
}

/// The kernels' word for a file's number format.
pub fn weight_type(ty: TensorType) -> WeightType {
    match ty {
        TensorType::F32 => WeightType::F32,
        TensorType::F16 => WeightType::F16,
        TensorType::BF16 => WeightType::BF16,
        TensorType::Q4_0 => WeightType::Q4_0,
        TensorType::Q4_1 => WeightType::Q4_1,
        TensorType::Q5_0 => WeightType::Q5_0,
        TensorType::Q5_1 => WeightType::Q5_1,
        TensorType::Q8_0 => WeightType::Q8_0,
        TensorType::Q4K => WeightType::Q4K,
        TensorType::Q5K => WeightType::Q5K,
        TensorType::Q6K => WeightType::Q6K,
    }
}

pub(crate) fn kernel_error(tensor: &str, error: KernelError) -> EngineError {
    let tensor = tensor.to_string();
    match error {
        KernelError::NonFinite { .. } => EngineError::NonFiniteWeights { tensor },
        source => EngineError::Kernel { tensor, source },
    }
}
