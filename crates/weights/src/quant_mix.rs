//! Which format each tensor of a quantised file has: the mixes that llama.cpp's quantiser defines and other
//! programs know by the number in `general.file_type`.
//!
//! Vectors, norms and a few small matrices stay as they are. The output matrix (or the embeddings that double as
//! it) gets at least six bits. The `_M` mixes give six bits to the values' projection and to `ffn_down` in the
//! first and last eighth of the layers and in every third between; the `_S` mixes give five bits to some of the
//! first. A row that does not consist of whole blocks gets the next larger format of shorter blocks.
//!
//! Checked against llama.cpp (llama-cpp-python 0.3.36) by `scripts/golden_quantize.py`.

use std::fmt;

use crate::gguf::Gguf;
use crate::tensor_type::TensorType;

/// A format of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types)] // the names are the formats' own
pub enum FileType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
}

impl FileType {
    /// Every one, smallest numbers of bits last.
    pub const ALL: [FileType; 13] = [
        FileType::F32,
        FileType::F16,
        FileType::BF16,
        FileType::Q8_0,
        FileType::Q6_K,
        FileType::Q5_K_M,
        FileType::Q5_K_S,
        FileType::Q5_1,
        FileType::Q5_0,
        FileType::Q4_K_M,
        FileType::Q4_K_S,
        FileType::Q4_1,
        FileType::Q4_0,
    ];

    /// (number in `general.file_type`, name, format of most tensors)
    const fn facts(self) -> (u32, &'static str, TensorType) {
        match self {
            FileType::F32 => (0, "F32", TensorType::F32),
            FileType::F16 => (1, "F16", TensorType::F16),
            FileType::BF16 => (32, "BF16", TensorType::BF16),
            FileType::Q4_0 => (2, "Q4_0", TensorType::Q4_0),
            FileType::Q4_1 => (3, "Q4_1", TensorType::Q4_1),
            FileType::Q5_0 => (8, "Q5_0", TensorType::Q5_0),
            FileType::Q5_1 => (9, "Q5_1", TensorType::Q5_1),
            FileType::Q8_0 => (7, "Q8_0", TensorType::Q8_0),
            FileType::Q4_K_S => (14, "Q4_K_S", TensorType::Q4K),
            FileType::Q4_K_M => (15, "Q4_K_M", TensorType::Q4K),
            FileType::Q5_K_S => (16, "Q5_K_S", TensorType::Q5K),
            FileType::Q5_K_M => (17, "Q5_K_M", TensorType::Q5K),
            FileType::Q6_K => (18, "Q6_K", TensorType::Q6K),
        }
    }

    /// The number in `general.file_type`.
    pub const fn id(self) -> u32 {
        self.facts().0
    }

    /// The name, e.g. `Q4_K_M`.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// The format of most tensors.
    pub const fn main_type(self) -> TensorType {
        self.facts().2
    }

    /// The one of this name, in any case; `Q4_K` and `Q5_K` mean the `_M` mixes.
    pub fn from_name(name: &str) -> Option<FileType> {
        let name = name.to_ascii_uppercase();
        let name = match name.as_str() {
            "Q4_K" => "Q4_K_M",
            "Q5_K" => "Q5_K_M",
            other => other,
        };
        FileType::ALL.into_iter().find(|ty| ty.name() == name)
    }

    /// The format of each tensor, given as name and sizes in ggml's order; `None` for one that stays as it is.
    pub fn tensor_types(self, tensors: &[(&str, &[u64])], facts: &MixFacts) -> Vec<Option<TensorType>> {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        // The first layer's first, as the layers are counted.
        order.sort_by_key(|&i| layer_of(tensors[i].0));
        let n_values = tensors.iter().filter(|(name, _)| Role::of(name) == Role::Values).count();
        let is_tied = !tensors.iter().any(|(name, _)| Role::of(name) == Role::Output);
        let mut mix = Mix { file_type: self, facts, n_values, is_tied, values_idx: 0, ffn_down_idx: 0 };
        let mut types = vec![None; tensors.len()];
        for i in order {
            let (name, dims) = tensors[i];
            types[i] = is_quantised(name, dims).then(|| fitting(mix.next(name, dims[0]), dims[0]));
        }
        types
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a mix depends on beside the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixFacts {
    /// Layers of the model.
    pub n_layers: usize,
    /// Experts; 0 or 1 without.
    pub n_experts: usize,
    /// Llama's and Qwen's models of 80 layers whose values are few, which are therefore kept finer.
    pub is_70b: bool,
    /// Whether an importance matrix steers the quantisation.
    pub has_importance: bool,
    /// Every matrix in the file's main format, without the mix.
    pub pure: bool,
}

impl MixFacts {
    /// The facts that a model's metadata states.
    pub fn of(gguf: &Gguf, has_importance: bool, pure: bool) -> MixFacts {
        let arch = gguf.get_str("general.architecture").ok().flatten().unwrap_or_default();
        let number = |key: &str| gguf.get_u32(&format!("{arch}.{key}")).ok().flatten().unwrap_or(0) as usize;
        let from_names = gguf
            .tensors()
            .iter()
            .filter_map(|tensor| layer_of(&tensor.name))
            .max()
            .map_or(0, |last| last + 1);
        let n_layers = Some(number("block_count")).filter(|n| *n > 0).unwrap_or(from_names);
        let has_grouped_values = number("attention.head_count") != number("attention.head_count_kv");
        let is_70b = n_layers == 80 && (arch == "qwen2" || arch == "llama" && has_grouped_values);
        MixFacts { n_layers, n_experts: number("expert_count"), is_70b, has_importance, pure }
    }
}

/// What a matrix does, as far as mixes tell matrices apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Embeddings,
    Output,
    /// The values' projection, or the one fused with it.
    Values,
    Keys,
    AttentionOutput,
    FfnDown,
    Other,
}

impl Role {
    fn of(name: &str) -> Role {
        let parts = [
            ("attn_qkv.weight", Role::Values),
            ("attn_kv_b.weight", Role::Values),
            ("attn_v.weight", Role::Values),
            ("attn_k.weight", Role::Keys),
            ("attn_output.weight", Role::AttentionOutput),
            ("ffn_down", Role::FfnDown),
        ];
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embeddings,
            _ => parts.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
        }
    }
}

/// The matrices that stay as they are: small, and much depends on them.
const KEPT: [&str; 11] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "time_mix_",
    "attn_rel_b.weight",
];

fn is_quantised(name: &str, dims: &[u64]) -> bool {
    let is_matrix = dims.iter().skip(1).any(|&n| n > 1);
    is_matrix && name.ends_with("weight") && !KEPT.iter().any(|part| name.contains(part))
}

/// 7 of `blk.7.attn_q.weight`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Whether layer `i` of `n` is among those that an `_M` mix stores finer.
fn has_more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// Counts layers while it is asked for one tensor after the other.
struct Mix<'a> {
    file_type: FileType,
    facts: &'a MixFacts,
    n_values: usize,
    /// The embeddings are the output, too.
    is_tied: bool,
    values_idx: usize,
    ffn_down_idx: usize,
}

impl Mix<'_> {
    fn next(&mut self, name: &str, n_cols: u64) -> TensorType {
        use FileType::{Q4_0, Q4_K_M, Q4_K_S, Q5_0, Q5_K_M};
        let main = self.file_type.main_type();
        if main.is_float() || self.facts.pure {
            return main;
        }
        let has_eight_experts = self.facts.n_experts == 8;
        match Role::of(name) {
            Role::Embeddings if !self.is_tied => main,
            Role::Embeddings | Role::Output => match n_cols.is_multiple_of(main.block_len() as u64) {
                true if main != TensorType::Q8_0 => TensorType::Q6K,
                _ => TensorType::Q8_0,
            },
            Role::Values => {
                let i = self.values_idx;
                self.values_idx += 1;
                match self.file_type {
                    _ if has_eight_experts => TensorType::Q8_0,
                    Q4_K_M | Q5_K_M if has_more_bits(i, self.n_values) => TensorType::Q6K,
                    Q4_K_S if i < 4 => TensorType::Q5K,
                    _ if self.facts.is_70b && main == TensorType::Q4K => TensorType::Q5K,
                    _ => main,
                }
            }
            Role::Keys if has_eight_experts => TensorType::Q8_0,
            Role::FfnDown => {
                let counted = self.ffn_down_idx;
                self.ffn_down_idx += 1;
                // Experts of a layer may be several tensors.
                let i = if self.facts.n_experts > 1 { layer_of(name).unwrap_or(counted) } else { counted };
                let n = self.facts.n_layers;
                match self.file_type {
                    Q4_K_M | Q5_K_M if has_more_bits(i, n) => TensorType::Q6K,
                    Q4_K_S if i < n / 8 => TensorType::Q5K,
                    // With an importance matrix the first layers' go astray without a minimum.
                    Q4_0 if self.facts.has_importance && i < n / 8 => TensorType::Q4_1,
                    Q5_0 if self.facts.has_importance && i < n / 8 => TensorType::Q5_1,
                    _ => main,
                }
            }
            Role::AttentionOutput if has_eight_experts && matches!(self.file_type, Q4_K_S | Q4_K_M) => {
                TensorType::Q5K
            }
            _ => main,
        }
    }
}

/// `ty`, or the format that takes its place where rows do not consist of whole blocks of it.
fn fitting(ty: TensorType, n_cols: u64) -> TensorType {
    let fits = |ty: TensorType| n_cols.is_multiple_of(ty.block_len() as u64);
    let shorter = match ty {
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q5K => TensorType::Q5_1,
        TensorType::Q6K => TensorType::Q8_0,
        other => other,
    };
    [ty, shorter].into_iter().find(|ty| fits(*ty)).unwrap_or(TensorType::F16)
}

#[cfg(test)]
mod tests;
