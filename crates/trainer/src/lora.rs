//! Adapters of low rank (Hu et al. 2021, arXiv:2106.09685): to a matrix W of a frozen model alpha/rank · B · A is added, and
//! only A `[rank, n_in]` and B `[n_out, rank]` are learnt.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weights::{
    Gguf, GgufWriter, ModelConfig, TensorRole, TensorSpec, TensorType, adapter_metadata, lora_tensors,
    tensor_specs,
};

use crate::checkpoint::{CheckpointError, dims};
use crate::parameters::{Parameters, Part};

/// The matrices of a layer, in the order of the forward pass.
pub(crate) const MATRICES: [TensorRole; 7] = [
    TensorRole::AttnQ,
    TensorRole::AttnK,
    TensorRole::AttnV,
    TensorRole::AttnOutput,
    TensorRole::FfnGate,
    TensorRole::FfnUp,
    TensorRole::FfnDown,
];
/// What people call them.
const NAMES: [&str; 7] = ["q", "k", "v", "o", "gate", "up", "down"];

/// What an adapter is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// `alpha / rank` is the factor of B · A.
    pub alpha: f32,
    /// The matrices of every layer that have one: `q`, `k`, `v`, `o`, `gate`, `up`, `down`.
    pub targets: Vec<String>,
    /// The model's file.
    pub base: PathBuf,
    /// Its `weights::Gguf::fingerprint`.
    pub fingerprint: String,
}

/// What is no matrix of a layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no matrix of a layer: expected some of q, k, v, o, gate, up, down, or attention, ffn, all")]
pub struct UnknownTarget(String);

/// The names of the matrices that a list speaks of, in order: each by its own name, or `attention`, `ffn`, `all`.
///
/// # Errors
/// Where a name is none.
pub fn lora_targets(list: &str) -> Result<Vec<String>, UnknownTarget> {
    let mut chosen = [false; NAMES.len()];
    for name in list.split(',').map(str::trim) {
        let of = match name {
            "all" => 0..NAMES.len(),
            "attention" => 0..4,
            "ffn" => 4..NAMES.len(),
            _ => {
                let at = NAMES.iter().position(|known| *known == name);
                let at = at.ok_or_else(|| UnknownTarget(name.to_owned()))?;
                at..at + 1
            }
        };
        chosen[of].fill(true);
    }
    Ok(NAMES.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(name, _)| (*name).to_owned()).collect())
}

/// An adapter's alpha where nobody says otherwise, in ranks.
const ALPHA: f32 = 2.0;

impl LoraSettings {
    /// An adapter for a model file. Without an alpha that is twice the rank.
    #[must_use]
    pub fn new(
        rank: usize,
        alpha: Option<f32>,
        targets: Vec<String>,
        base: PathBuf,
        model: &Gguf,
    ) -> LoraSettings {
        let alpha = alpha.unwrap_or(ALPHA * rank as f32);
        LoraSettings { rank, alpha, targets, base, fingerprint: model.fingerprint() }
    }

    /// What B · A is multiplied by.
    #[must_use]
    pub fn factor(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// Zeros in the shapes of this adapter.
    #[must_use]
    pub fn zeros(&self, config: &ModelConfig) -> Parameters {
        let is_target = |spec: &TensorSpec| {
            let at = MATRICES.iter().position(|role| *role == spec.role);
            at.is_some_and(|at| self.targets.iter().any(|target| target == NAMES[at]))
        };
        let mut parts = Vec::new();
        for spec in tensor_specs(config).into_iter().filter(is_target) {
            let pair = lora_tensors(&spec, self.rank).expect("the matrices of a layer may have adapters");
            for (part, tensor) in [Part::LoraA, Part::LoraB].into_iter().zip(pair) {
                let [n_cols, n_rows] = tensor.dims.map(|n| n as usize);
                let shape = vec![n_rows, n_cols];
                parts.push((part, TensorSpec { name: tensor.name, shape, ..spec }));
            }
        }
        Parameters::of(parts)
    }

    /// An adapter that changes nothing yet: B is 0, A is uniform within 1/√n_in, as `peft` begins.
    #[must_use]
    pub fn initial(&self, config: &ModelConfig, seed: u64) -> Parameters {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut parameters = self.zeros(config);
        let roles: Vec<_> = parameters.iter().map(|(spec, _)| (spec.role, spec.layer_idx)).collect();
        for (role, layer_idx) in roles.into_iter().step_by(2) {
            let [a] = parameters.parts_mut([(role, Part::LoraA)], layer_idx);
            let a = a.expect("A and B in turn");
            let bound = 1.0 / ((a.len() / self.rank) as f32).sqrt();
            a.iter_mut().for_each(|x| *x = bound * (2.0 * random.f32() - 1.0));
        }
        parameters
    }

    /// Writes the adapter as other programs read it.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(
        &self,
        path: &Path,
        name: &str,
        config: &ModelConfig,
        parameters: &Parameters,
    ) -> Result<(), CheckpointError> {
        let mut writer = GgufWriter::new(32)?;
        for (key, value) in adapter_metadata(config, &self.fingerprint, Some(name), self.alpha) {
            writer.set(&key, value)?;
        }
        for (spec, _) in parameters.iter() {
            writer.declare_tensor(&spec.name, &dims(spec), TensorType::F32)?;
        }
        let mut stream = writer.stream_to(path)?;
        for (_, values) in parameters.iter() {
            stream.write(bytemuck::cast_slice(values))?;
        }
        Ok(stream.finish()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_named_one_by_one_or_together() {
        assert_eq!(lora_targets("all").unwrap(), NAMES);
        assert_eq!(lora_targets("v, q").unwrap(), ["q", "v"]);
        assert_eq!(lora_targets("ffn,o").unwrap(), ["o", "gate", "up", "down"]);
        let error = lora_targets("q,lm_head").unwrap_err().to_string();
        assert!(error.starts_with("\"lm_head\" is no matrix of a layer"), "{error}");
    }
}
