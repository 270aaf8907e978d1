//! What several tests need.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use tokenizer::{BpeTraining, Tokenizer, WordCounts};

/// A vocabulary of the 256 bytes behind a token that stands between documents; of merges, without which there is no
/// vocabulary, it has one that no text here wants.
pub(crate) fn byte_tokenizer() -> Tokenizer {
    tokenizer_of(b"~~ ~~", 258)
}

/// A vocabulary with the tokens that a chat is made of.
pub(crate) fn chat_tokenizer() -> Tokenizer {
    let mut counts = WordCounts::new("qwen2").unwrap();
    counts.add(b"what is it? it is what it is, assistant and user");
    let special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    let training = BpeTraining { vocab_size: 290, special_tokens, min_count: 2 };
    let bpe = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let mut vocabulary = bpe.vocabulary();
    vocabulary.eot = Some(2);
    Tokenizer::new(&vocabulary).unwrap()
}

/// A vocabulary learnt from a text, behind a token that stands between documents.
pub(crate) fn tokenizer_of(text: &[u8], vocab_size: usize) -> Tokenizer {
    let mut counts = WordCounts::new("qwen2").unwrap();
    counts.add(text);
    let special_tokens = vec!["<|endoftext|>".to_owned()];
    let training = BpeTraining { vocab_size, special_tokens, min_count: 2 };
    let bpe = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
    Tokenizer::new(&bpe.vocabulary()).unwrap()
}

/// Numbers in [-0.5, 0.5), seeded by a name: those of `scripts/golden_numbers.py`.
pub(crate) fn uniform(name: &str) -> impl Iterator<Item = f32> {
    let seed = |state: u64, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, seed);
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    })
}
