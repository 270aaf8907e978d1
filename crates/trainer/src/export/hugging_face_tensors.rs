//! Tensors by the names that `transformers` gives them, with what GGUF did to their numbers undone.
//!
//! | where | GGUF | Hugging Face |
//! |---|---|---|
//! | rows of a head of q and k, RoPE by neighbours | pair `i` is rows `2i`, `2i + 1` | rows `i`, `i + head_dim / 2` |
//! | norms of gemma | the factor | the factor less one |

use weights::{Architecture, FfnKind, ModelConfig, NormPlace, RopePairing, TensorRole, TensorSpec};

/// The tensor's name in `transformers`; none for what is part of the configuration there.
pub(super) fn hugging_face_name(config: &ModelConfig, spec: &TensorSpec) -> Option<String> {
    let stem = stem(spec.role, config)?;
    Some(match spec.layer_idx {
        Some(layer_idx) => format!("model.layers.{layer_idx}.{stem}"),
        None => stem.to_owned(),
    })
}

/// The name without the layer.
fn stem(role: TensorRole, config: &ModelConfig) -> Option<&'static str> {
    let has_both_norms = config.norm.place == NormPlace::PreAndPost;
    let gate_up_fused = matches!(config.ffn, FfnKind::Gated { fused: true, .. });
    Some(match role {
        TensorRole::TokenEmbd => "model.embed_tokens.weight",
        TensorRole::OutputNorm => "model.norm.weight",
        TensorRole::Output => "lm_head.weight",
        TensorRole::AttnNorm => "input_layernorm.weight",
        TensorRole::AttnQkv => "self_attn.qkv_proj.weight",
        TensorRole::AttnQ => "self_attn.q_proj.weight",
        TensorRole::AttnQBias => "self_attn.q_proj.bias",
        TensorRole::AttnK => "self_attn.k_proj.weight",
        TensorRole::AttnKBias => "self_attn.k_proj.bias",
        TensorRole::AttnV => "self_attn.v_proj.weight",
        TensorRole::AttnVBias => "self_attn.v_proj.bias",
        TensorRole::AttnQNorm => "self_attn.q_norm.weight",
        TensorRole::AttnKNorm => "self_attn.k_norm.weight",
        TensorRole::AttnOutput => "self_attn.o_proj.weight",
        TensorRole::AttnOutputBias => "self_attn.o_proj.bias",
        TensorRole::PostAttnNorm => "post_attention_layernorm.weight",
        // Where there is only one norm between attention and feed-forward, it has the name of that after attention.
        TensorRole::FfnNorm if has_both_norms => "pre_feedforward_layernorm.weight",
        TensorRole::FfnNorm => "post_attention_layernorm.weight",
        TensorRole::FfnGate => "mlp.gate_proj.weight",
        TensorRole::FfnGateBias => "mlp.gate_proj.bias",
        TensorRole::FfnUp if gate_up_fused => "mlp.gate_up_proj.weight",
        TensorRole::FfnUp => "mlp.up_proj.weight",
        TensorRole::FfnUpBias => "mlp.up_proj.bias",
        TensorRole::FfnDown => "mlp.down_proj.weight",
        TensorRole::FfnDownBias => "mlp.down_proj.bias",
        TensorRole::PostFfnNorm => "post_feedforward_layernorm.weight",
        _ => return None,
    })
}

/// What gives a tensor the numbers that `transformers` expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    /// They are the same.
    Nothing,
    /// One is taken away from each.
    LessOne,
    /// The rows of each head of this many are put from neighbours to halves.
    Halves(usize),
}

/// What is to be undone in a tensor.
pub(super) fn undo(config: &ModelConfig, spec: &TensorSpec) -> Undo {
    let is_gemma = matches!(config.arch, Architecture::Gemma2 | Architecture::Gemma3);
    match spec.role {
        TensorRole::AttnQ | TensorRole::AttnQBias | TensorRole::AttnK | TensorRole::AttnKBias
            if config.rope.as_ref().is_some_and(|rope| rope.pairing == RopePairing::Norm) =>
        {
            let layer_idx = spec.layer_idx.expect("a projection belongs to a layer");
            Undo::Halves(config.layers[layer_idx].head_dim_k)
        }
        TensorRole::AttnNorm
        | TensorRole::AttnQNorm
        | TensorRole::AttnKNorm
        | TensorRole::PostAttnNorm
        | TensorRole::FfnNorm
        | TensorRole::PostFfnNorm
        | TensorRole::OutputNorm
            if is_gemma =>
        {
            Undo::LessOne
        }
        _ => Undo::Nothing,
    }
}

/// Numbers that are converted at a time: 4 MB.
const SLAB_LEN: usize = 1 << 20;

impl Undo {
    /// Calls `write` with the numbers of a tensor in their order there, a few megabytes at a time.
    ///
    /// values: `[n_rows, n_cols]`, of a vector with one column.
    pub(super) fn for_each_slab<E>(
        self,
        values: &[f32],
        n_cols: usize,
        mut write: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut slab = Vec::new();
        let slab_len = match self {
            Undo::Nothing | Undo::LessOne => SLAB_LEN,
            Undo::Halves(head_dim) => head_dim * n_cols,
        };
        assert!(self == Undo::Nothing || values.len().is_multiple_of(n_cols), "values must be whole rows");
        for part in values.chunks(slab_len) {
            match self {
                Undo::Nothing => write(part)?,
                Undo::LessOne => {
                    slab.clear();
                    slab.extend(part.iter().map(|x| x - 1.0));
                    write(&slab)?;
                }
                Undo::Halves(head_dim) => {
                    assert_eq!(part.len(), slab_len, "values must be whole heads");
                    slab.clear();
                    for row in 0..head_dim {
                        let (half, pair) = (row / (head_dim / 2), row % (head_dim / 2));
                        let from = (2 * pair + half) * n_cols;
                        slab.extend_from_slice(&part[from..from + n_cols]);
                    }
                    write(&slab)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use weights::{DecoderShape, tensor_specs};

    use super::*;

    fn config() -> ModelConfig {
        let shape = DecoderShape {
            n_layers: 4,
            n_embd: 16,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 6,
            n_ff: 24,
            vocab_size: 10,
            max_seq_len: 32,
            tied_output: false,
            rope_theta: 10_000.0,
            window: None,
        };
        shape.config()
    }

    fn all(undo: Undo, values: &[f32], n_cols: usize) -> Vec<f32> {
        let mut out = Vec::new();
        let done: Result<(), Infallible> = undo.for_each_slab(values, n_cols, |slab| {
            out.extend_from_slice(slab);
            Ok(())
        });
        done.unwrap();
        out
    }

    #[test]
    fn every_tensor_has_a_name_of_its_own() {
        let mut config = config();
        for (place, ffn_norm) in [
            (NormPlace::Pre, "model.layers.3.post_attention_layernorm.weight"),
            (NormPlace::PreAndPost, "model.layers.3.pre_feedforward_layernorm.weight"),
        ] {
            config.norm.place = place;
            (config.qkv_bias, config.attn_out_bias, config.ffn_bias) = (true, true, true);
            let specs = tensor_specs(&config);
            let name = |spec: &TensorSpec| hugging_face_name(&config, spec).unwrap();
            let names: BTreeSet<String> = specs.iter().map(name).collect();
            assert_eq!(names.len(), specs.len());
            let of = |role, layer_idx| {
                name(specs.iter().find(|spec| (spec.role, spec.layer_idx) == (role, layer_idx)).unwrap())
            };
            assert_eq!(of(TensorRole::AttnQ, Some(3)), "model.layers.3.self_attn.q_proj.weight");
            assert_eq!(of(TensorRole::FfnNorm, Some(3)), ffn_norm);
            assert_eq!(of(TensorRole::Output, None), "lm_head.weight");
        }
    }

    #[test]
    fn rows_of_a_head_go_from_neighbours_to_halves() {
        // Two heads of six rows of two columns; the number is the place in the model here.
        let values: Vec<f32> = (0..24).map(|x| x as f32).collect();
        let rows = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11];
        let expected: Vec<f32> =
            rows.iter().flat_map(|row| [2.0 * *row as f32, 2.0 * *row as f32 + 1.0]).collect();
        assert_eq!(all(Undo::Halves(6), &values, 2), expected);
        let bias: Vec<f32> = (0..12).map(|x| x as f32).collect();
        assert_eq!(all(Undo::Halves(6), &bias, 1), rows.map(|row| row as f32));
    }

    /// As llama.cpp's converter does it: `reshape(n_heads, 2, head_dim / 2, n_cols).swapaxes(1, 2)`.
    fn to_neighbours(values: &[f32], head_dim: usize, n_cols: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for head in values.chunks(head_dim * n_cols) {
            for pair in 0..head_dim / 2 {
                for half in 0..2 {
                    out.extend_from_slice(&head[(half * head_dim / 2 + pair) * n_cols..][..n_cols]);
                }
            }
        }
        out
    }

    #[test]
    fn what_a_converter_permuted_comes_back() {
        let values: Vec<f32> = (0..3 * 8 * 5).map(|x| x as f32).collect();
        assert_eq!(all(Undo::Halves(8), &to_neighbours(&values, 8, 5), 5), values);
    }

    #[test]
    fn only_what_the_architecture_changed_is_undone() {
        let mut config = config();
        let undone = |config: &ModelConfig| {
            let specs = tensor_specs(config);
            let undone = specs.iter().map(|spec| (spec.role, undo(config, spec)));
            undone.filter(|(_, undo)| *undo != Undo::Nothing).collect::<Vec<_>>()
        };
        assert_eq!(undone(&config), []);
        config.arch = Architecture::Gemma3;
        assert_eq!(undone(&config).len(), 4 * config.n_layers() + 1, "four norms a layer and the last");
        config.arch = Architecture::Llama;
        config.rope.as_mut().unwrap().pairing = RopePairing::Norm;
        let q_and_k = [(TensorRole::AttnQ, Undo::Halves(6)), (TensorRole::AttnK, Undo::Halves(6))];
        assert_eq!(undone(&config), q_and_k.repeat(config.n_layers()));
    }

    #[test]
    fn long_tensors_come_in_slabs() {
        let values = vec![2.0; SLAB_LEN + 3];
        let mut lens = Vec::new();
        let done: Result<(), Infallible> = Undo::LessOne.for_each_slab(&values, 1, |slab| {
            assert!(slab.iter().all(|&x| x == 1.0));
            lens.push(slab.len());
            Ok(())
        });
        done.unwrap();
        assert_eq!(lens, [SLAB_LEN, 3]);
    }
}
