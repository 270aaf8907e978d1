//! The numbers of a model, or one number beside each of them: a gradient, an optimiser's mean.

use std::collections::HashMap;

use kernels::{KernelError, Pool, WeightType};
use weights::{Gguf, GgufError, ModelConfig, TensorRole, TensorSpec, check_tensors, tensor_specs};

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

/// Tensors by their role, in single precision, in the order of `weights::tensor_specs`.
#[derive(Debug, Clone)]
pub struct Parameters {
    specs: Vec<TensorSpec>,
    index: HashMap<(TensorRole, Option<usize>), usize>,
    values: Vec<Vec<f32>>,
}

impl Parameters {
    /// Zeros in the shapes that a model of this configuration has.
    #[must_use]
    pub fn zeros(config: &ModelConfig) -> Parameters {
        let specs = tensor_specs(config);
        let index = specs.iter().enumerate().map(|(i, spec)| ((spec.role, spec.layer_idx), i)).collect();
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
            let ty = info.kind.loadable().expect("checked");
            let ty = WeightType::ALL.into_iter().find(|known| known.name() == ty.name());
            let ty = ty.expect("the kernels know every type that can be loaded");
            let numbers = |source| ParametersError::Numbers { name: spec.name.clone(), source };
            kernels::check_finite(pool, ty, gguf.bytes(info)).map_err(numbers)?;
            kernels::dequantize(ty, gguf.bytes(info), values);
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
    pub fn clear(&mut self) {
        self.values.iter_mut().for_each(|values| values.fill(0.0));
    }

    /// A tensor, if the model has it.
    #[must_use]
    pub fn get(&self, role: TensorRole, layer_idx: Option<usize>) -> Option<&[f32]> {
        self.index.get(&(role, layer_idx)).map(|&i| &self.values[i][..])
    }

    /// As [`Parameters::get`], to be written.
    pub fn get_mut(&mut self, role: TensorRole, layer_idx: Option<usize>) -> Option<&mut [f32]> {
        self.index.get(&(role, layer_idx)).map(|&i| &mut self.values[i][..])
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
