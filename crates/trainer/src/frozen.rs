//! A model that stays as it is while an adapter of it is learnt: its matrices as they lie in the file.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::{Pool, StoredMatrix, WeightType};
use weights::{Gguf, ModelConfig, TensorInfo, TensorRole, check_tensors, tensor_specs};

use crate::parameters::{ParametersError, checked_type};

/// The tensors of a model file, by their role.
#[derive(Debug)]
pub struct Frozen {
    gguf: Arc<Gguf>,
    matrices: HashMap<(TensorRole, Option<usize>), Stored>,
    vectors: HashMap<(TensorRole, Option<usize>), Vec<f32>>,
}

#[derive(Debug)]
struct Stored {
    info: TensorInfo,
    ty: WeightType,
    n_rows: usize,
    n_cols: usize,
}

impl Frozen {
    /// The weights of a file, which stays open.
    ///
    /// # Errors
    /// As `Parameters::from_gguf`.
    pub fn new(pool: &Pool, gguf: Arc<Gguf>, config: &ModelConfig) -> Result<Frozen, ParametersError> {
        check_tensors(&gguf, config)?;
        let (mut matrices, mut vectors) = (HashMap::new(), HashMap::new());
        for spec in tensor_specs(config) {
            let info = gguf.tensor(&spec.name).expect("checked");
            let ty = checked_type(pool, &gguf, info)?;
            let key = (spec.role, spec.layer_idx);
            if let [n_rows, n_cols] = spec.shape[..] {
                matrices.insert(key, Stored { info: info.clone(), ty, n_rows, n_cols });
            } else {
                let mut numbers = vec![0.0; spec.shape.iter().product()];
                kernels::dequantize(ty, gguf.bytes(info), &mut numbers);
                vectors.insert(key, numbers);
            }
        }
        Ok(Frozen { gguf, matrices, vectors })
    }

    /// The file.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// A matrix: `[n_out, n_in]`
    pub(crate) fn matrix(&self, role: TensorRole, layer_idx: Option<usize>) -> Option<StoredMatrix<'_>> {
        let Stored { info, ty, n_rows, n_cols } = self.matrices.get(&(role, layer_idx))?;
        Some(StoredMatrix::new(*ty, self.gguf.bytes(info), *n_rows, *n_cols))
    }

    /// A norm or a bias.
    pub(crate) fn vector(&self, role: TensorRole, layer_idx: Option<usize>) -> Option<&[f32]> {
        self.vectors.get(&(role, layer_idx)).map(Vec::as_slice)
    }

    /// Rows of a matrix, by number; out: `[rows.len(), n_cols]`.
    pub(crate) fn rows(&self, pool: &Pool, role: TensorRole, rows: &[u32], out: &mut [f32]) {
        let Stored { info, ty, n_cols, .. } = &self.matrices[&(role, None)];
        kernels::dequantize_rows(pool, *ty, self.gguf.bytes(info), *n_cols, rows, out);
    }
}
