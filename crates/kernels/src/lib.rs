//! How a number is computed, fast: block formats, packed matrices, attention over paged keys and values,
//! norms, rotary positions, gates, selection, dense products and the passes of training, and the thread pool that all of
//! it runs on.
//!
//! Every kernel has a scalar reference and is chosen by an [`Isa`], a value that the [`Pool`] carries. A row's
//! result is bit for bit the same whatever else is in the batch, however a prompt was cut, and however many
//! threads run: sums over columns go in one order in every tile, attention is split at fixed positions.

mod activations;
mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod blocks;
mod disjoint;
mod elementwise;
mod error;
mod isa;
mod kv;
mod machine;
mod matmul;
mod norm;
mod packed;
mod pool;
mod project;
mod quantize;
mod rope;
mod select;
mod simd;
#[cfg(test)]
mod test_data;
mod training;

pub use activations::{Activations, Gate};
pub use attention::{AttentionSpan, attention};
pub use blocks::{WeightType, check_finite, dequantize, dequantize_rows};
pub use elementwise::{add, add_bias, add_scaled, clear, gelu, gelu_mul, scale, silu, silu_mul, softcap};
pub use error::KernelError;
pub use isa::Isa;
pub use kv::{KvLayer, KvType, PAGE_LEN};
pub use machine::MachinePeaks;
pub use matmul::{
    FactorRoom, Factors, FactorsMut, Matrix, Precision, RightSide, Store, StoredMatrix, copy, matmul,
    matmul_each,
};
pub use norm::{layer_norm, rms_norm};
pub use packed::{Operand, PackedMatrix};
pub use pool::Pool;
pub use project::{MAX_MATRICES, project, project_add, project_gated};
pub use quantize::requantize;
pub use rope::{RopeKind, RopeTable, rope};
pub use select::{argmax, finite, log_softmax, log_sum_exp, max, top_k};
pub use training::{
    AdamW, CausalAttention, GateFunction, adamw, attention_backward, attention_forward, cross_entropy,
    gate_backward, gate_forward, rms_norm_backward, rms_norm_forward, sum_of_squares,
};
