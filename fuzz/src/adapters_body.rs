//! What is done with every fuzzed adapter, shared by the fuzz target and the corpus test of `crates/weights`.

use weights::{Adapter, Gguf, GgufWriter, ModelConfig, TensorType, Value, tensor_specs};

/// Reads the bytes as an adapter, holds it against a small llama and uses everything that reading promises.
///
/// Returns the first error's text, or `None` for an adapter that fits. Panics only if a promise is broken.
pub(crate) fn exercise(bytes: &[u8]) -> Option<String> {
    let adapter = match Gguf::from_bytes(bytes.to_vec()) {
        Ok(gguf) => Adapter::read(gguf),
        Err(error) => return Some(one_line(error)),
    };
    let adapter = match adapter {
        Ok(adapter) => adapter,
        Err(error) => return Some(one_line(error)),
    };
    assert!(Adapter::is_adapter(adapter.gguf()) && !adapter.pairs.is_empty());
    assert!(adapter.pairs.windows(2).all(|two| two[0].tensor < two[1].tensor), "a name twice");
    for pair in &adapter.pairs {
        assert!((1..=weights::MAX_RANK as usize).contains(&pair.rank) && adapter.factor(pair).is_finite());
        for info in [&pair.a, &pair.b] {
            let ty = info.kind.loadable().expect("every tensor of an adapter can be loaded");
            assert_eq!(adapter.gguf().bytes(info).len() as u64, info.n_bytes());
            assert_eq!(ty.row_bytes(info.n_elements() as usize), Some(info.n_bytes() as usize));
        }
    }
    let _ = adapter.memory_bytes();
    let base = base();
    if let Some(warning) = adapter.base_warning(&base) {
        one_line(warning);
    }
    let config = ModelConfig::from_gguf(&base).expect("the base is a model");
    let fitted = match adapter.fit(&config) {
        Ok(fitted) => fitted,
        Err(error) => return Some(one_line(error)),
    };
    for pair in fitted {
        let [n_out, n_in] = pair.spec.shape[..] else { panic!("{:?} is no matrix", pair.spec) };
        let elements = pair.pair.a.n_elements() + pair.pair.b.n_elements();
        assert_eq!(elements, (pair.pair.rank * (n_out + n_in)) as u64);
    }
    None
}

/// A llama of one layer: n_embd 32, two heads of 16, one key and value head, n_ff 64, 10 tokens.
fn base() -> Gguf {
    let file = |tensors: &[(String, Vec<u64>)]| {
        let mut writer = GgufWriter::new(32).expect("32 is a power of two");
        let mut set = |key: &str, value: Value<'static>| writer.set(key, value).expect("the key is short");
        set("general.architecture", Value::from_text("llama"));
        set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        for (key, value) in [
            ("block_count", 1),
            ("embedding_length", 32),
            ("context_length", 64),
            ("feed_forward_length", 64),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("vocab_size", 10),
        ] {
            set(&format!("llama.{key}"), Value::U32(value));
        }
        for (name, dims) in tensors {
            let n_bytes = 4 * dims.iter().product::<u64>() as usize;
            writer
                .add_tensor(name, dims, TensorType::F32, vec![0; n_bytes])
                .expect("names and sizes are right");
        }
        Gguf::from_bytes(writer.to_bytes()).expect("it was written right")
    };
    // The table of tensors follows from the keys; the output has a matrix of its own.
    let output = [("output.weight".to_owned(), vec![32, 10])];
    let config = ModelConfig::from_gguf(&file(&output)).expect("the keys are those of a llama");
    let specs = tensor_specs(&config);
    let dims = |shape: &[usize]| shape.iter().rev().map(|&n| n as u64).collect();
    file(&specs.iter().map(|spec| (spec.name.clone(), dims(&spec.shape))).collect::<Vec<_>>())
}

/// The text, which must be one line of bounded length whatever the file holds.
fn one_line(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
    assert!(text.len() < 1200, "{} bytes of text: {text}", text.len());
    text
}
