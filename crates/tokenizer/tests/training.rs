//! What is learnt from a text equals what `tokenizers` learnt from it, token by token and merge by merge.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use tokenizer::{BpeTraining, WordCounts, known_pre_tokenizers};

/// The reference's vocabularies have control and added tokens behind those that were learnt.
const N_LEARNT: usize = 900;

#[test]
fn vocabularies_are_those_of_tokenizers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenizers");
    let text = std::fs::read(folder.join("training.txt")).unwrap();
    let mut n_compared = 0;
    for pre in known_pre_tokenizers() {
        let Ok(golden) = std::fs::read(folder.join(format!("{pre}.json"))) else { continue };
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let expected = |key: &str| -> Vec<Vec<u8>> {
            let list = golden["vocabulary"][key].as_array().unwrap();
            list.iter().map(|text| text.as_str().unwrap().as_bytes().to_vec()).collect()
        };
        let mut counts = WordCounts::new(pre).unwrap();
        counts.add(&text);
        let training = BpeTraining { vocab_size: N_LEARNT, special_tokens: Vec::new(), min_count: 1 };
        let learnt = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let n_tokens = learnt.tokens().len();
        assert_eq!(learnt.tokens(), &expected("tokens")[..n_tokens], "{pre}");
        assert_eq!(learnt.merges(), expected("merges"), "{pre}");
        n_compared += 1;
    }
    assert!(n_compared >= 19, "only {n_compared} vocabularies to compare with");
}
