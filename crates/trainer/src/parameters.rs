//! The numbers that are learnt, or one number beside each of them: a gradient, an optimiser's mean.

use std::collections::HashMap;

use kernels::{KernelError, Pool, WeightType};
use weights::{
    Gguf, GgufError, ModelConfig, TensorInfo, TensorRole, TensorSpec, check_tensors, tensor_specs,
};

/// Why a file gave no parameters.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    /// A tensor is missing or has another shape.
    #[error(transparent)]
    Config(#[from] weights::ConfigError),
    /// The file is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A tensor's numbers cannot be used.
    #[error("tensor {name}: {source}")]
    Numbers {
        /// The tensor.
        name: String,
        /// What is wrong.
        source: KernelError,
    },
}

/// What is learnt of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The factor of an adapter that reads: `[rank, n_in]`
    LoraA,
    /// The factor of an adapter that writes: `[n_out, rank]`
    LoraB,
}

/// Tensors by their role, in single precision: of a whole model in the order of `weights::tensor_specs`, of an adapter
/// A and B in turn.
#[derive(Debug, Clone)]
pub struct Parameters {
    specs: Vec<TensorSpec>,
    index: HashMap<(TensorRole, Option<usize>, Part), usize>,
    values: Vec<Vec<f32>>,
}

impl Parameters {
    /// Zeros in the shapes that a model of this configuration has.
    #[must_use]
    pub fn zeros(config: &ModelConfig) -> Parameters {
        Parameters::of(tensor_specs(config).into_iter().map(|spec| (Part::Whole, spec)).collect())
    }

    /// Zeros for these tensors.
    pub(crate) fn of(parts: Vec<(Part, TensorSpec)>) -> Parameters {
        let keys = parts.iter().map(|(part, spec)| (spec.role, spec.layer_idx, *part));
        let index = keys.enumerate().map(|(i, key)| (key, i)).collect();
        let specs: Vec<TensorSpec> = parts.into_iter().map(|(_, spec)| spec).collect();
        let values = specs.iter().map(|spec| vec![0.0; spec.shape.iter().product()]).collect();
        Parameters { specs, index, values }
    }

    /// The weights of a file, as single precision whatever they are in.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape or number format, or holds what is not finite.
    pub fn from_gguf(pool: &Pool, gguf: &Gguf, config: &ModelConfig) -> Result<Parameters, ParametersError> {
        check_tensors(gguf, config)?;
        let mut parameters = Parameters::zeros(config);
        for (spec, values) in parameters.specs.iter().zip(&mut parameters.values) {
            let info = gguf.tensor(&spec.name).expect("checked");
            kernels::dequantize(checked_type(pool, gguf, info)?, gguf.bytes(info), values);
        }
        Ok(parameters)
    }

    /// Zeros in the same shapes.
    #[must_use]
    pub fn zeros_like(&self) -> Parameters {
        let values = self.values.iter().map(|values| vec![0.0; values.len()]).collect();
        Parameters { specs: self.specs.clone(), index: self.index.clone(), values }
    }

    /// Every number becomes 0.
    pub fn clear(&mut self, pool: &Pool) {
        self.values.iter_mut().for_each(|values| kernels::clear(pool, values));
    }

    /// A tensor, if the model has it and all of it is learnt.
    #[must_use]
    pub fn get(&self, role: TensorRole, layer_idx: Option<usize>) -> Option<&[f32]> {
        self.part(role, layer_idx, Part::Whole)
    }

    /// As [`Parameters::get`], to be written.
    pub fn get_mut(&mut self, role: TensorRole, layer_idx: Option<usize>) -> Option<&mut [f32]> {
        self.index.get(&(role, layer_idx, Part::Whole)).map(|&i| &mut self.values[i][..])
    }

    /// A and B of a tensor, if an adapter of it is learnt.
    #[must_use]
    pub fn lora(&self, role: TensorRole, layer_idx: Option<usize>) -> Option<[&[f32]; 2]> {
        let part = |part| self.part(role, layer_idx, part);
        Some([part(Part::LoraA)?, part(Part::LoraB)?])
    }

    /// Parts of tensors of one layer, or of none, to be written together; those that are not learnt are missing.
    pub(crate) fn parts_mut<const N: usize>(
        &mut self,
        parts: [(TensorRole, Part); N],
        layer_idx: Option<usize>,
    ) -> [Option<&mut [f32]>; N] {
        let places = parts.map(|(role, part)| self.index.get(&(role, layer_idx, part)));
        let mut found = [const { None }; N];
        for (i, values) in self.values.iter_mut().enumerate() {
            if let Some(which) = places.iter().position(|place| *place == Some(&i)) {
                found[which] = Some(values.as_mut_slice());
            }
        }
        found
    }

    fn part(&self, role: TensorRole, layer_idx: Option<usize>, part: Part) -> Option<&[f32]> {
        self.index.get(&(role, layer_idx, part)).map(|&i| &self.values[i][..])
    }

    /// All tensors with what they are.
    pub fn iter(&self) -> impl Iterator<Item = (&TensorSpec, &[f32])> {
        self.specs.iter().zip(self.values.iter().map(Vec::as_slice))
    }

    /// As [`Parameters::iter`], to be written.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&TensorSpec, &mut [f32])> {
        self.specs.iter().zip(self.values.iter_mut().map(Vec::as_mut_slice))
    }

    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The number format of a tensor of which `weights::check_tensors` thinks well, when all its numbers are finite.
pub(crate) fn checked_type(
    pool: &Pool,
    gguf: &Gguf,
    info: &TensorInfo,
) -> Result<WeightType, ParametersError> {
    let ty = type_of(info);
    let numbers = |source| ParametersError::Numbers { name: info.name.clone(), source };
    kernels::check_finite(pool, ty, gguf.bytes(info)).map_err(numbers)?;
    Ok(ty)
}

/// The number format of a tensor, which must be one that can be loaded.
pub(crate) fn type_of(info: &TensorInfo) -> WeightType {
    let ty = info.kind.loadable().expect("checked when the file was opened");
    let ty = WeightType::ALL.into_iter().find(|known| known.name() == ty.name());
    ty.expect("the kernels know every type that can be loaded")
}
