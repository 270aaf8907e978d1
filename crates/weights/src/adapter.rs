//! A LoRA adapter: for some matrices of a base model two thin ones, A and B, that change it by `alpha/rank · B · A`.
//!
//! The file is llama.cpp's GGUF adapter:
//! ```text
//! general.type = "adapter"   general.architecture = the base's   adapter.type = "lora"   adapter.lora.alpha f32
//! NAME.lora_a  [rank, n_in]    NAME.lora_b  [n_out, rank]        NAME is the base's tensor, [n_out, n_in]
//! token_embd.weight.lora_a  [vocab_size, rank]    .lora_b  [n_embd, rank]      rows are looked up, so A is turned
//! ```
//! The rank is in the shapes and may differ from tensor to tensor. An alpha of 0, or none, means a factor of 1, as in
//! llama.cpp. What we write says besides which file it was made for (`daybreak.base.fingerprint`).

mod error;
mod fingerprint;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

pub use error::AdapterError;

use crate::config::ModelConfig;
use crate::gguf::{Gguf, TensorInfo, Value, quote};
use crate::tensor_type::TensorType;
use crate::tensors::{TensorRole, TensorSpec, tensor_specs};

/// The largest rank that is read. Trained adapters have 4 to 256; those cut out of a full model some hundreds.
pub const MAX_RANK: u64 = 4096;

const KEY_TYPE: &str = "general.type";
const KEY_ARCHITECTURE: &str = "general.architecture";
const KEY_NAME: &str = "general.name";
const KEY_ADAPTER_TYPE: &str = "adapter.type";
const KEY_ALPHA: &str = "adapter.lora.alpha";
/// Tokens that switch an "activated" adapter on from there; such adapters are not supported.
const KEY_INVOCATION: &str = "adapter.alora.invocation_tokens";
const KEY_FINGERPRINT: &str = "daybreak.base.fingerprint";

const SUFFIX_A: &str = ".lora_a";
const SUFFIX_B: &str = ".lora_b";

/// An adapter that is well formed; whether it fits a base, [`Adapter::fit`] says.
#[derive(Debug)]
pub struct Adapter {
    gguf: Gguf,
    /// `general.architecture`.
    pub arch: String,
    /// `general.name`, when it is there and text.
    pub name: Option<String>,
    /// `adapter.lora.alpha`; 0 means a factor of 1.
    pub alpha: f32,
    /// [`Gguf::fingerprint`] of the base that it was made for, if the file says so.
    pub base_fingerprint: Option<String>,
    /// The pairs, ordered by name.
    pub pairs: Vec<LoraPair>,
}

/// The two thin matrices for one matrix of the base.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPair {
    /// The base's tensor, e.g. `blk.0.attn_q.weight`.
    pub tensor: String,
    /// Rows of A, columns of B.
    pub rank: usize,
    /// A as the file has it: `[rank, n_in]`; of the token embeddings `[vocab_size, rank]`.
    pub a: TensorInfo,
    /// B as the file has it: `[n_out, rank]`; of the token embeddings `[n_embd, rank]`.
    pub b: TensorInfo,
}

/// A pair with its place in the base.
#[derive(Clone, Debug)]
pub struct FittedPair<'a> {
    /// The matrix that is changed.
    pub spec: TensorSpec,
    /// By what.
    pub pair: &'a LoraPair,
}

/// An adapter as it is used.
#[derive(Clone, Debug)]
pub struct ScaledAdapter {
    /// Which.
    pub adapter: Arc<Adapter>,
    /// How much of it: 1 for what was trained, 0 for none.
    pub scale: f32,
}

impl Adapter {
    /// Opens and checks an adapter's file.
    pub fn open(path: &Path) -> Result<Adapter, AdapterError> {
        Adapter::read(Gguf::open(path)?)
    }

    /// Whether an open file says that it is an adapter.
    pub fn is_adapter(gguf: &Gguf) -> bool {
        matches!(gguf.get_bytes(KEY_TYPE), Ok(Some(b"adapter")))
    }

    /// Checks all that needs no base: the keys, and that the tensors come in pairs of one rank.
    pub fn read(gguf: Gguf) -> Result<Adapter, AdapterError> {
        let path = path_of(&gguf);
        let text = |key: &str| -> Result<String, AdapterError> {
            Ok(gguf.get_str(key)?.map(str::to_owned).unwrap_or_default())
        };
        let is = |key: &str, expected: &str, found: &str, hint: &str| {
            if found == expected {
                return Ok(());
            }
            let found = if found.is_empty() { "nothing".to_owned() } else { quote(found.as_bytes()) };
            let what = format!("metadata key \"{key}\"");
            Err(AdapterError::invalid(path, what, format!("\"{expected}\""), format!("{found}{hint}")))
        };
        is(KEY_TYPE, "adapter", &text(KEY_TYPE)?, " (is this the file of a model?)")?;
        is(KEY_ADAPTER_TYPE, "lora", &text(KEY_ADAPTER_TYPE)?, "")?;
        let arch = text(KEY_ARCHITECTURE)?;
        let alpha = gguf.get_f32(KEY_ALPHA)?.unwrap_or(0.0);
        if !alpha.is_finite() {
            let what = format!("metadata key \"{KEY_ALPHA}\"");
            return Err(AdapterError::invalid(path, what, "a finite number".into(), alpha.to_string()));
        }
        if gguf.get(KEY_INVOCATION).is_some() {
            let what = format!("metadata key \"{KEY_INVOCATION}\"");
            let expected = "an adapter that is always on (activated LoRA is not supported)";
            return Err(AdapterError::invalid(path, what, expected.into(), "the key".into()));
        }
        let pairs = read_pairs(path, &gguf)?;
        let name = gguf.get_str(KEY_NAME).ok().flatten().map(str::to_owned);
        let base_fingerprint = gguf.get_str(KEY_FINGERPRINT).ok().flatten().map(str::to_owned);
        Ok(Adapter { arch, name, alpha, base_fingerprint, pairs, gguf })
    }

    /// The pairs with their places in a base; an error names what is not as in the base.
    pub fn fit(&self, base: &ModelConfig) -> Result<Vec<FittedPair<'_>>, AdapterError> {
        let other = |what: String, expected: String, found: String| {
            Err(AdapterError::OtherBase { path: self.path().to_owned(), what, expected, found })
        };
        if self.arch != base.arch.name() {
            let found = quote(self.arch.as_bytes());
            return other("architecture".into(), format!("\"{}\"", base.arch.name()), found);
        }
        let specs = tensor_specs(base);
        let specs: HashMap<&str, &TensorSpec> = specs.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        let mut fitted = Vec::with_capacity(self.pairs.len());
        for pair in &self.pairs {
            let quoted = format!("tensor {}", quote(pair.tensor.as_bytes()));
            let Some(&spec) = specs.get(pair.tensor.as_str()) else {
                let layers = base.n_layers();
                let expected = format!("a tensor of the base ({}, {layers} layers)", base.arch.name());
                return other(quoted, expected, "none of this name".into());
            };
            let &[n_out, n_in] = spec.shape.as_slice() else {
                return other(quoted, "a matrix".into(), "a vector".into());
            };
            if spec.role == TensorRole::PositionEmbd {
                return other(quoted, "a matrix that is multiplied".into(), "a table of positions".into());
            }
            if spec.role == TensorRole::TokenEmbd && base.tied_output {
                let expected = "a model whose output has a matrix of its own";
                return other(quoted, expected.into(), "one that shares it with the embeddings".into());
            }
            let (a, b) = lora_shapes(spec.role, n_out, n_in, pair.rank);
            for (name, info, expected) in [("lora_a", &pair.a, a), ("lora_b", &pair.b, b)] {
                if rows_cols(info) != expected.map(|n| n as u64) {
                    return other(
                        format!("{quoted}, {name}"),
                        format!("shape {expected:?}"),
                        format!("{:?}", info.shape()),
                    );
                }
            }
            fitted.push(FittedPair { spec: spec.clone(), pair });
        }
        Ok(fitted)
    }

    /// Why the answers may be wrong although everything fits: the adapter says that it was made for another file.
    pub fn base_warning(&self, base: &Gguf) -> Option<String> {
        let made_for = self.base_fingerprint.as_ref()?;
        let found = base.fingerprint();
        (*made_for != found).then(|| {
            format!(
                "adapter {} was made for another file of the same shape (its base has the fingerprint {}, {} has \
                 {found}); if that is not the same model in another number format, the answers will be wrong",
                self.path().display(),
                quote(made_for.as_bytes()).trim_matches('"'),
                path_of(base).display(),
            )
        })
    }

    /// The factor of `B · A`, before the caller's own scale.
    pub fn factor(&self, pair: &LoraPair) -> f32 {
        if self.alpha == 0.0 { 1.0 } else { self.alpha / pair.rank as f32 }
    }

    /// Bytes that its matrices take as f32.
    pub fn memory_bytes(&self) -> u64 {
        let elements = self.pairs.iter().map(|pair| pair.a.n_elements().saturating_add(pair.b.n_elements()));
        elements.fold(0, |sum: u64, n| sum.saturating_add(n.saturating_mul(4)))
    }

    /// The (first) file's name.
    pub fn path(&self) -> &Path {
        path_of(&self.gguf)
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }
}

fn path_of(gguf: &Gguf) -> &Path {
    gguf.paths().next().unwrap_or(Path::new(""))
}

/// Joins A and B of each name.
fn read_pairs(path: &Path, gguf: &Gguf) -> Result<Vec<LoraPair>, AdapterError> {
    let invalid = |tensor: &str, expected: String, found: String| {
        let what = format!("tensor {}", quote(tensor.as_bytes()));
        Err(AdapterError::invalid(path, what, expected, found))
    };
    let mut halves: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for info in gguf.tensors() {
        let (base, half) = match (info.name.strip_suffix(SUFFIX_A), info.name.strip_suffix(SUFFIX_B)) {
            (Some(base), _) => (base, 0),
            (_, Some(base)) => (base, 1),
            _ => {
                let expected = format!("a name that ends with {SUFFIX_A} or {SUFFIX_B}");
                return invalid(
                    &info.name,
                    expected,
                    "another (adapters that change more are not supported)".into(),
                );
            }
        };
        if info.kind.loadable().is_none() {
            let expected = TensorType::ALL.map(TensorType::name).join(", ");
            return invalid(&info.name, format!("type {expected}"), info.kind.name().into());
        }
        if info.dims.iter().skip(2).any(|&dim| dim != 1) {
            return invalid(&info.name, "a matrix".into(), format!("shape {:?}", info.shape()));
        }
        halves.entry(base).or_default()[half] = Some(info);
    }
    if halves.is_empty() {
        return Err(AdapterError::invalid(
            path,
            "content".into(),
            "at least one pair".into(),
            "no tensors".into(),
        ));
    }
    let mut pairs = Vec::with_capacity(halves.len());
    for (tensor, halves) in halves {
        let (a, b) = match halves {
            [Some(a), Some(b)] => (a, b),
            [None, _] => {
                return invalid(tensor, format!("{SUFFIX_A} and {SUFFIX_B}"), format!("no {SUFFIX_A}"));
            }
            [_, None] => {
                return invalid(tensor, format!("{SUFFIX_A} and {SUFFIX_B}"), format!("no {SUFFIX_B}"));
            }
        };
        let rank = b.n_cols();
        let other_rank = if is_looked_up(tensor) { a.n_cols() } else { a.n_rows() };
        if rank != other_rank {
            let expected = format!("one rank in {SUFFIX_A} and {SUFFIX_B}");
            return invalid(tensor, expected, format!("shapes {:?} and {:?}", rows_cols(a), rows_cols(b)));
        }
        if rank > MAX_RANK {
            return invalid(tensor, format!("a rank of at most {MAX_RANK}"), rank.to_string());
        }
        pairs.push(LoraPair { tensor: tensor.to_owned(), rank: rank as usize, a: a.clone(), b: b.clone() });
    }
    Ok(pairs)
}

/// Whether rows of the matrix are looked up by token, so that its A is turned.
fn is_looked_up(tensor: &str) -> bool {
    tensor == TensorRole::TokenEmbd.tensor_name(None)
}

/// `[n_rows, n_cols]`, also of a file's matrix with one row.
fn rows_cols(info: &TensorInfo) -> [u64; 2] {
    [info.n_rows(), info.n_cols()]
}

/// `[n_rows, n_cols]` of A and of B for a matrix `[n_out, n_in]`.
fn lora_shapes(role: TensorRole, n_out: usize, n_in: usize, rank: usize) -> ([usize; 2], [usize; 2]) {
    match role {
        TensorRole::TokenEmbd => ([n_out, rank], [n_in, rank]),
        _ => ([rank, n_in], [n_out, rank]),
    }
}

/// For who writes an adapter: what its file says, besides the tensors.
///
/// `base_fingerprint` is [`Gguf::fingerprint`] of the file that was trained on.
pub fn adapter_metadata(
    base: &ModelConfig,
    base_fingerprint: &str,
    name: Option<&str>,
    alpha: f32,
) -> Vec<(String, Value<'static>)> {
    let text = |text: &str| Value::String(text.as_bytes().to_vec().into());
    let mut keys = vec![
        (KEY_ARCHITECTURE.to_owned(), text(base.arch.name())),
        (KEY_TYPE.to_owned(), text("adapter")),
        (KEY_ADAPTER_TYPE.to_owned(), text("lora")),
        (KEY_ALPHA.to_owned(), Value::F32(alpha)),
        (KEY_FINGERPRINT.to_owned(), text(base_fingerprint)),
    ];
    keys.extend(name.map(|name| (KEY_NAME.to_owned(), text(name))));
    if let Some(base_name) = &base.name {
        keys.push(("general.base_model.count".to_owned(), Value::U32(1)));
        keys.push(("general.base_model.0.name".to_owned(), text(base_name)));
    }
    keys
}

/// A tensor of an adapter to be written: its name, and its sizes as `GgufWriter` takes them (row length first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraTensor {
    /// E.g. `blk.0.attn_q.weight.lora_a`.
    pub name: String,
    /// `[n_in, rank]` of A, `[rank, n_out]` of B.
    pub dims: [u64; 2],
}

/// For who writes an adapter: A and B for a matrix of the base. `None` for what is no matrix or is not multiplied.
pub fn lora_tensors(spec: &TensorSpec, rank: usize) -> Option<[LoraTensor; 2]> {
    let &[n_out, n_in] = spec.shape.as_slice() else { return None };
    if spec.role == TensorRole::PositionEmbd {
        return None;
    }
    let (a, b) = lora_shapes(spec.role, n_out, n_in, rank);
    let tensor = |suffix: &str, [n_rows, n_cols]: [usize; 2]| LoraTensor {
        name: format!("{}{suffix}", spec.name),
        dims: [n_cols as u64, n_rows as u64],
    };
    Some([tensor(SUFFIX_A, a), tensor(SUFFIX_B, b)])
}

#[cfg(test)]
mod tests;
