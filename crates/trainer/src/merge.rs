//! Adapters and the weights they change → the weights with the change in them: W + scale · alpha/rank · B · A.

use std::collections::HashMap;

use kernels::{Matrix, Pool, Precision, Store, dequantize, matmul};
use weights::{Adapter, AdapterError, ModelConfig, ScaledAdapter, TensorInfo, TensorRole};

use crate::parameters::type_of;

/// What adapters add to a model's matrices.
pub struct Merge {
    by_tensor: HashMap<String, Vec<Product>>,
}

/// One adapter's share: left · right.
struct Product {
    rank: usize,
    /// [n_rows, rank], with all factors in it.
    left: Vec<f32>,
    /// [rank, n_cols]
    right: Vec<f32>,
    /// Whether `right` is stored as [n_cols, rank].
    is_right_turned: bool,
}

impl Merge {
    /// Holds the adapters against their base and reads them; those of scale 0 add nothing.
    ///
    /// # Errors
    /// When one of them was made for another model.
    pub fn new(adapters: &[ScaledAdapter], base: &ModelConfig) -> Result<Merge, AdapterError> {
        let mut by_tensor: HashMap<String, Vec<Product>> = HashMap::new();
        for ScaledAdapter { adapter, scale } in adapters {
            for fitted in adapter.fit(base)?.into_iter().filter(|_| *scale != 0.0) {
                let factor = scale * adapter.factor(fitted.pair);
                let (a, b) = (floats(adapter, &fitted.pair.a), floats(adapter, &fitted.pair.b));
                // The embeddings' A holds a row for each token, as W does.
                let is_right_turned = fitted.spec.role == TensorRole::TokenEmbd;
                let (mut left, right) = if is_right_turned { (a, b) } else { (b, a) };
                left.iter_mut().for_each(|x| *x *= factor);
                let product = Product { rank: fitted.pair.rank, left, right, is_right_turned };
                by_tensor.entry(fitted.spec.name).or_default().push(product);
            }
        }
        Ok(Merge { by_tensor })
    }

    /// Whether a tensor is changed.
    pub fn changes(&self, tensor: &str) -> bool {
        self.by_tensor.contains_key(tensor)
    }

    /// Number of tensors that are changed.
    pub fn n_changed(&self) -> usize {
        self.by_tensor.len()
    }

    /// Adds what is to be added to the rows of a tensor from `first_row` on.
    ///
    /// rows: [n_rows, n_cols]
    ///
    /// # Panics
    /// When the tensor has no such rows.
    pub fn add_to(&self, pool: &Pool, tensor: &str, first_row: usize, n_cols: usize, rows: &mut [f32]) {
        assert!(rows.len().is_multiple_of(n_cols), "rows must be whole");
        let n_rows = rows.len() / n_cols;
        for product in self.by_tensor.get(tensor).into_iter().flatten() {
            let rank = product.rank;
            let left = Matrix::new(&product.left[first_row * rank..][..n_rows * rank], n_rows, rank);
            let right = match product.is_right_turned {
                true => Matrix::new(&product.right, n_cols, rank).transposed(),
                false => Matrix::new(&product.right, rank, n_cols),
            };
            matmul(pool, Precision::F32, left, right, rows, Store::Add);
        }
    }
}

fn floats(adapter: &Adapter, info: &TensorInfo) -> Vec<f32> {
    let mut values = vec![0.0; info.n_elements() as usize];
    dequantize(type_of(info), adapter.gguf().bytes(info), &mut values);
    values
}
