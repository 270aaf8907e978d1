//! What training needs beside the products of [`crate::matmul`]: forward passes that keep what the backward pass
//! reads, and the backward passes. Sums over tokens are cut at fixed places, so that they come out alike with any
//! number of threads.

mod attention;
mod gate;
mod loss;
mod norm;
mod optimizer;

pub use attention::{CausalAttention, attention_backward, attention_forward};
pub use gate::{GateFunction, gate_backward, gate_forward};
pub use loss::cross_entropy;
pub use norm::{rms_norm_backward, rms_norm_forward};
pub use optimizer::{AdamW, adamw, sum_of_squares};
