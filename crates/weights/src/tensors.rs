//! The one table of tensor names and shapes; loading, checking, training and export all iterate over it.

use std::fmt;

use crate::config::{
    ConfigError, FfnKind, LayerConfig, ModelConfig, NormKind, NormPlace, QkNorm, RopeScaling,
};
use crate::gguf::{Gguf, TensorInfo, quote};
use crate::tensor_type::TensorType;

/// What a tensor is for; with a layer's number it is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are GGUF's, see `TensorRole::stem`
pub enum TensorRole {
    TokenEmbd,
    PositionEmbd,
    OutputNorm,
    OutputNormBias,
    Output,
    OutputBias,
    RopeFreqs,
    RopeFactorsLong,
    RopeFactorsShort,
    AttnNorm,
    AttnNormBias,
    AttnQkv,
    AttnQkvBias,
    AttnQ,
    AttnQBias,
    AttnK,
    AttnKBias,
    AttnV,
    AttnVBias,
    AttnQNorm,
    AttnKNorm,
    AttnOutput,
    AttnOutputBias,
    PostAttnNorm,
    FfnNorm,
    FfnNormBias,
    FfnGate,
    FfnGateBias,
    FfnUp,
    FfnUpBias,
    FfnDown,
    FfnDownBias,
    PostFfnNorm,
}

impl TensorRole {
    /// GGUF's name, without the layer.
    const fn stem(self) -> &'static str {
        match self {
            TensorRole::TokenEmbd => "token_embd.weight",
            TensorRole::PositionEmbd => "position_embd.weight",
            TensorRole::OutputNorm => "output_norm.weight",
            TensorRole::OutputNormBias => "output_norm.bias",
            TensorRole::Output => "output.weight",
            TensorRole::OutputBias => "output.bias",
            TensorRole::RopeFreqs => "rope_freqs.weight",
            TensorRole::RopeFactorsLong => "rope_factors_long.weight",
            TensorRole::RopeFactorsShort => "rope_factors_short.weight",
            TensorRole::AttnNorm => "attn_norm.weight",
            TensorRole::AttnNormBias => "attn_norm.bias",
            TensorRole::AttnQkv => "attn_qkv.weight",
            TensorRole::AttnQkvBias => "attn_qkv.bias",
            TensorRole::AttnQ => "attn_q.weight",
            TensorRole::AttnQBias => "attn_q.bias",
            TensorRole::AttnK => "attn_k.weight",
            TensorRole::AttnKBias => "attn_k.bias",
            TensorRole::AttnV => "attn_v.weight",
            TensorRole::AttnVBias => "attn_v.bias",
            TensorRole::AttnQNorm => "attn_q_norm.weight",
            TensorRole::AttnKNorm => "attn_k_norm.weight",
            TensorRole::AttnOutput => "attn_output.weight",
            TensorRole::AttnOutputBias => "attn_output.bias",
            TensorRole::PostAttnNorm => "post_attention_norm.weight",
            TensorRole::FfnNorm => "ffn_norm.weight",
            TensorRole::FfnNormBias => "ffn_norm.bias",
            TensorRole::FfnGate => "ffn_gate.weight",
            TensorRole::FfnGateBias => "ffn_gate.bias",
            TensorRole::FfnUp => "ffn_up.weight",
            TensorRole::FfnUpBias => "ffn_up.bias",
            TensorRole::FfnDown => "ffn_down.weight",
            TensorRole::FfnDownBias => "ffn_down.bias",
            TensorRole::PostFfnNorm => "post_ffw_norm.weight",
        }
    }

    /// The tensor's name: `blk.3.attn_q.weight` with a layer, `output.weight` without.
    pub fn tensor_name(self, layer_idx: Option<usize>) -> String {
        match layer_idx {
            Some(layer_idx) => format!("blk.{layer_idx}.{}", self.stem()),
            None => self.stem().to_owned(),
        }
    }
}

/// A tensor that a model has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// GGUF's name.
    pub name: String,
    /// Sizes outermost first: `[n_rows, n_cols]` of a matrix, `[n]` of a vector.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: TensorRole,
    /// The layer it belongs to.
    pub layer_idx: Option<usize>,
}

/// All tensors of a model, in the order of the forward pass.
///
/// Each of them must be there: which optional parts a file has (biases, a separate output, frequency factors) is part
/// of the configuration.
pub fn tensor_specs(config: &ModelConfig) -> Vec<TensorSpec> {
    let mut specs = Vec::new();
    let mut whole = |role: TensorRole, shape: &[usize]| {
        let name = role.tensor_name(None);
        specs.push(TensorSpec { name, shape: shape.to_vec(), role, layer_idx: None });
    };
    let n_embd = config.n_embd;
    whole(TensorRole::TokenEmbd, &[config.vocab_size, n_embd]);
    if config.learned_positions {
        whole(TensorRole::PositionEmbd, &[config.max_seq_len, n_embd]);
    }
    if let Some(rope) = &config.rope {
        if rope.freq_factors.is_some() {
            whole(TensorRole::RopeFreqs, &[rope.n_rot / 2]);
        }
        if let RopeScaling::LongRope { .. } = rope.scaling {
            whole(TensorRole::RopeFactorsLong, &[rope.n_rot / 2]);
            whole(TensorRole::RopeFactorsShort, &[rope.n_rot / 2]);
        }
    }
    for (layer_idx, layer) in config.layers.iter().enumerate() {
        layer_specs(config, layer_idx, layer, &mut specs);
    }
    let mut whole = |role: TensorRole, shape: &[usize]| {
        let name = role.tensor_name(None);
        specs.push(TensorSpec { name, shape: shape.to_vec(), role, layer_idx: None });
    };
    whole(TensorRole::OutputNorm, &[n_embd]);
    if config.norm.kind == NormKind::Layer {
        whole(TensorRole::OutputNormBias, &[n_embd]);
    }
    if !config.tied_output {
        whole(TensorRole::Output, &[config.vocab_size, n_embd]);
    }
    if config.output_bias {
        whole(TensorRole::OutputBias, &[config.vocab_size]);
    }
    specs
}

fn layer_specs(config: &ModelConfig, layer_idx: usize, layer: &LayerConfig, specs: &mut Vec<TensorSpec>) {
    let mut add = |role: TensorRole, shape: &[usize]| {
        let layer_idx = Some(layer_idx);
        let name = role.tensor_name(layer_idx);
        specs.push(TensorSpec { name, shape: shape.to_vec(), role, layer_idx });
    };
    let n_embd = config.n_embd;
    let (q_dim, k_dim, v_dim) = (layer.q_dim(), layer.k_dim(), layer.v_dim());
    let has_pre = config.norm.place != NormPlace::Post;
    let has_post = config.norm.place != NormPlace::Pre;
    let has_norm_bias = config.norm.kind == NormKind::Layer;

    if has_pre {
        add(TensorRole::AttnNorm, &[n_embd]);
        if has_norm_bias {
            add(TensorRole::AttnNormBias, &[n_embd]);
        }
    }
    if config.qkv_fused {
        add(TensorRole::AttnQkv, &[q_dim + k_dim + v_dim, n_embd]);
        if config.qkv_bias {
            add(TensorRole::AttnQkvBias, &[q_dim + k_dim + v_dim]);
        }
    } else {
        for (role, bias, n_rows) in [
            (TensorRole::AttnQ, TensorRole::AttnQBias, q_dim),
            (TensorRole::AttnK, TensorRole::AttnKBias, k_dim),
            (TensorRole::AttnV, TensorRole::AttnVBias, v_dim),
        ] {
            add(role, &[n_rows, n_embd]);
            if config.qkv_bias {
                add(bias, &[n_rows]);
            }
        }
    }
    match config.qk_norm {
        QkNorm::None => {}
        QkNorm::PerHead => {
            add(TensorRole::AttnQNorm, &[layer.head_dim_k]);
            add(TensorRole::AttnKNorm, &[layer.head_dim_k]);
        }
        QkNorm::Whole => {
            add(TensorRole::AttnQNorm, &[q_dim]);
            add(TensorRole::AttnKNorm, &[k_dim]);
        }
    }
    add(TensorRole::AttnOutput, &[n_embd, layer.attn_out_dim()]);
    if config.attn_out_bias {
        add(TensorRole::AttnOutputBias, &[n_embd]);
    }
    if has_post {
        add(TensorRole::PostAttnNorm, &[n_embd]);
    }

    if has_pre {
        add(TensorRole::FfnNorm, &[n_embd]);
        if has_norm_bias {
            add(TensorRole::FfnNormBias, &[n_embd]);
        }
    }
    let n_ff = layer.n_ff;
    let n_up = match config.ffn {
        FfnKind::Gated { fused: true, .. } => 2 * n_ff,
        _ => n_ff,
    };
    let has_gate = matches!(config.ffn, FfnKind::Gated { fused: false, .. });
    for (role, bias, shape, is_there) in [
        (TensorRole::FfnGate, TensorRole::FfnGateBias, [n_ff, n_embd], has_gate),
        (TensorRole::FfnUp, TensorRole::FfnUpBias, [n_up, n_embd], true),
        (TensorRole::FfnDown, TensorRole::FfnDownBias, [n_embd, n_ff], true),
    ] {
        if is_there {
            add(role, &shape);
            if config.ffn_bias {
                add(bias, &shape[..1]);
            }
        }
    }
    if has_post {
        add(TensorRole::PostFfnNorm, &[n_embd]);
    }
}

/// Checks that a file has exactly the tensors of its configuration, in the right shapes and in formats that can be
/// loaded: matrices in any of [`TensorType::ALL`], vectors as plain floats.
pub fn check_tensors(gguf: &Gguf, config: &ModelConfig) -> Result<(), ConfigError> {
    let specs = tensor_specs(config);
    for spec in &specs {
        match gguf.tensor(&spec.name) {
            Some(info) => check_tensor(spec, info)?,
            None => {
                return Err(ConfigError::MissingTensor {
                    tensor: spec.name.clone(),
                    expected: spec.shape.clone(),
                });
            }
        }
    }
    let known: std::collections::HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    match gguf.tensors().iter().find(|info| !known.contains(info.name.as_str())) {
        None => Ok(()),
        Some(info) => Err(ConfigError::UnexpectedTensor {
            tensor: quote(info.name.as_bytes()).trim_matches('"').to_owned(),
            found: info.shape(),
            arch: config.arch.name(),
        }),
    }
}

fn check_tensor(spec: &TensorSpec, info: &TensorInfo) -> Result<(), ConfigError> {
    if !same_shape(&spec.shape, info) {
        return Err(ConfigError::TensorShape {
            tensor: spec.name.clone(),
            expected: spec.shape.clone(),
            found: info.shape(),
        });
    }
    let is_vector = spec.shape.len() == 1;
    let wrong_type = |expected: Vec<TensorType>| {
        let expected = Names(&expected).to_string();
        Err(ConfigError::TensorType { tensor: spec.name.clone(), expected, found: info.kind.name() })
    };
    match info.kind.loadable() {
        Some(ty) if ty.is_float() => Ok(()),
        _ if is_vector => wrong_type(TensorType::ALL.into_iter().filter(|ty| ty.is_float()).collect()),
        Some(_) => Ok(()),
        None => wrong_type(TensorType::ALL.to_vec()),
    }
}

/// Whether the file's sizes, row length first and padded with ones, are those of the table.
fn same_shape(expected: &[usize], info: &TensorInfo) -> bool {
    let n_dims = expected.len().max(info.dims.len());
    (0..n_dims).all(|i| {
        let expected = if i < expected.len() { expected[expected.len() - 1 - i] as u64 } else { 1 };
        info.dims.get(i).copied().unwrap_or(1) == expected
    })
}

struct Names<'a>(&'a [TensorType]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|ty| ty.name()).collect();
        write!(f, "{}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tiny_model::TinyModel;

    fn check(model: &TinyModel) -> Result<(), String> {
        let gguf = model.build();
        let config = ModelConfig::from_gguf(&gguf).unwrap();
        check_tensors(&gguf, &config).map_err(|error| error.to_string())
    }

    #[test]
    fn a_complete_model_passes_and_the_table_lists_just_its_tensors() {
        let model = TinyModel::llama();
        assert_eq!(check(&model), Ok(()));
        let gguf = model.build();
        let specs = tensor_specs(&ModelConfig::from_gguf(&gguf).unwrap());
        assert_eq!(specs.len(), gguf.tensors().len());
        for spec in specs {
            let found = gguf.tensor(&spec.name).unwrap().shape();
            assert_eq!(found, spec.shape.iter().map(|&n| n as u64).collect::<Vec<_>>(), "{}", spec.name);
            assert_eq!(spec.role.tensor_name(spec.layer_idx), spec.name);
        }
    }

    #[test]
    fn a_missing_tensor_is_named_with_its_shape() {
        let mut model = TinyModel::llama();
        model.remove("blk.1.attn_k.weight");
        let expected = "tensor \"blk.1.attn_k.weight\" is missing; expected shape [32, 32]";
        assert_eq!(check(&model), Err(expected.into()));
    }

    #[test]
    fn a_wrong_shape_is_told_with_both_shapes() {
        let mut model = TinyModel::llama();
        model.tensor("blk.0.attn_q.weight").shape = vec![32, 64];
        let expected = "tensor \"blk.0.attn_q.weight\": expected shape [64, 32], found [32, 64]";
        assert_eq!(check(&model), Err(expected.into()));
        model.tensor("blk.0.attn_q.weight").shape = vec![2, 64, 32];
        let expected = "tensor \"blk.0.attn_q.weight\": expected shape [64, 32], found [2, 64, 32]";
        assert_eq!(check(&model), Err(expected.into()));
        model.tensor("blk.0.attn_q.weight").shape = vec![1, 1, 64, 32];
        assert_eq!(check(&model), Ok(()), "sizes of one do not matter");
    }

    #[test]
    fn a_quantised_vector_is_refused_and_a_quantised_matrix_is_not() {
        let mut model = TinyModel::llama();
        model.tensor("blk.0.attn_q.weight").ty = TensorType::Q4_0;
        assert_eq!(check(&model), Ok(()));
        model.tensor("output_norm.weight").ty = TensorType::Q8_0;
        let expected = "tensor \"output_norm.weight\": expected type F32, F16, BF16, found Q8_0";
        assert_eq!(check(&model), Err(expected.into()));
    }

    #[test]
    fn a_tensor_that_would_be_ignored_is_refused() {
        let mut model = TinyModel::llama();
        model.add("blk.1.attn_q.bias", &[64]); // no bias in layer 0
        let expected = "tensor \"blk.1.attn_q.bias\" ([64]) is none of the tensors of a llama model";
        assert_eq!(check(&model), Err(expected.into()));
    }

    #[test]
    fn a_model_bigger_than_its_vocabulary_list_is_refused() {
        let mut model = TinyModel::llama();
        model.tensor("token_embd.weight").shape = vec![11, 32];
        let expected = "tensor \"token_embd.weight\": expected shape [10, 32], found [11, 32]";
        assert_eq!(check(&model), Err(expected.into()));
    }
}
