//! What is done with every fuzzed GGUF, shared by the fuzz target and the corpus test of `crates/weights`.

use weights::{Gguf, ModelConfig, check_tensors, memory_need, tensor_specs, vocabulary_metadata};

/// Opens the bytes as a model and uses everything that opening promises to have checked.
///
/// Returns the first error's text, or `None` for a model that could be run. Panics only if a promise is broken.
pub(crate) fn exercise(bytes: &[u8]) -> Option<String> {
    let gguf = match Gguf::from_bytes(bytes.to_vec()) {
        Ok(gguf) => gguf,
        Err(error) => return Some(one_line(error)),
    };
    for (key, value) in gguf.metadata() {
        one_line(key);
        one_line(&value);
        let n_items = value.as_array().map(|array| (array.iter().count(), array.len()));
        assert!(n_items.is_none_or(|(walked, stated)| walked == stated));
    }
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for info in gguf.tensors() {
        let bytes = gguf.bytes(info);
        assert_eq!(bytes.len() as u64, info.n_bytes());
        assert_eq!(gguf.tensor(&info.name), Some(info));
        gguf.release(info);
        ranges.push((info.offset(), info.offset() + info.n_bytes()));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "tensors overlap: {ranges:?}");

    if let Err(error) = vocabulary_metadata(&gguf) {
        return Some(one_line(error));
    }
    let config = match ModelConfig::from_gguf(&gguf) {
        Ok(config) => config,
        Err(error) => return Some(one_line(error)),
    };
    for ctx in [0, 1, usize::MAX] {
        let _ = memory_need(&config, &gguf, ctx).total();
    }
    let specs = tensor_specs(&config);
    if let Err(error) = check_tensors(&gguf, &config) {
        return Some(one_line(error));
    }
    assert_eq!(specs.len(), gguf.tensors().len());
    None
}

/// The text, which must be one line of bounded length whatever the file holds.
fn one_line(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
    assert!(text.len() < 1200, "{} bytes of text: {text}", text.len());
    text
}
