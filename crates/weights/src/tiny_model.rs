//! A model of a few hundred weights for tests: complete, valid, and easy to spoil.

#![allow(clippy::unwrap_used)]

use crate::gguf::{Array, Gguf, GgufWriter, Value};
use crate::tensor_type::TensorType;

/// Keys and tensors of a file, to be changed before it is built.
#[derive(Clone)]
pub(crate) struct TinyModel {
    pub(crate) keys: Vec<(String, Value<'static>)>,
    pub(crate) tensors: Vec<TinyTensor>,
}

#[derive(Clone)]
pub(crate) struct TinyTensor {
    pub(crate) name: String,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) ty: TensorType,
}

impl TinyModel {
    /// Two layers of a tied llama: n_embd 32, 4 heads of 16, 2 key/value heads, n_ff 64, 10 tokens.
    pub(crate) fn llama() -> TinyModel {
        let mut model = TinyModel { keys: vec![], tensors: vec![] };
        model.set("general.architecture", Value::from_text("llama"));
        for (key, value) in [
            ("context_length", 256),
            ("embedding_length", 32),
            ("block_count", 2),
            ("feed_forward_length", 64),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 16),
            ("attention.value_length", 16),
        ] {
            model.set(&format!("llama.{key}"), Value::U32(value));
        }
        model.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        let tokens = (0..10).map(|i| format!("t{i}"));
        model.set("tokenizer.ggml.tokens", Value::Array(Array::from_strings(tokens)));
        model.add("token_embd.weight", &[10, 32]);
        for layer_idx in 0..2 {
            for (name, shape) in [
                ("attn_norm", &[32][..]),
                ("attn_q", &[64, 32]),
                ("attn_k", &[32, 32]),
                ("attn_v", &[32, 32]),
                ("attn_output", &[32, 64]),
                ("ffn_norm", &[32]),
                ("ffn_gate", &[64, 32]),
                ("ffn_up", &[64, 32]),
                ("ffn_down", &[32, 64]),
            ] {
                model.add(&format!("blk.{layer_idx}.{name}.weight"), shape);
            }
        }
        model.add("output_norm.weight", &[32]);
        model
    }

    pub(crate) fn set(&mut self, key: &str, value: Value<'static>) {
        self.unset(key);
        self.keys.push((key.to_owned(), value));
    }

    pub(crate) fn unset(&mut self, key: &str) {
        self.keys.retain(|(name, _)| name != key);
    }

    /// An f32 tensor.
    pub(crate) fn add(&mut self, name: &str, shape: &[u64]) {
        self.tensors.push(TinyTensor { name: name.to_owned(), shape: shape.to_vec(), ty: TensorType::F32 });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut TinyTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new(32).unwrap();
        for (key, value) in &self.keys {
            writer.set(key, value.clone()).unwrap();
        }
        for tensor in &self.tensors {
            let dims: Vec<u64> = tensor.shape.iter().rev().copied().collect();
            let row = tensor.ty.row_bytes(dims[0] as usize).unwrap() as u64;
            let n_bytes = dims[1..].iter().product::<u64>() * row;
            // 1.0 in every f32, so that frequency factors are valid
            let bytes: Vec<u8> = 1f32.to_le_bytes().into_iter().cycle().take(n_bytes as usize).collect();
            writer.add_tensor(&tensor.name, &dims, tensor.ty, bytes).unwrap();
        }
        writer.to_bytes()
    }

    pub(crate) fn build(&self) -> Gguf {
        Gguf::from_bytes(self.to_bytes()).unwrap()
    }
}
