//! Against a plain recount of everything before each merge, and against `tokenizers`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::{Specials, Tokenizer, TokenizerWarning};

fn counts_of(pre: &str, texts: &[&str]) -> WordCounts {
    let mut counts = WordCounts::new(pre).unwrap();
    texts.iter().for_each(|text| counts.add(text.as_bytes()));
    counts
}

fn train(counts: &WordCounts, vocab_size: usize, min_count: u64) -> TrainedBpe {
    BpeTraining { vocab_size, special_tokens: vec!["<|end|>".to_owned()], min_count }
        .train(counts, &mut |_, _| ControlFlow::Continue(()))
        .unwrap()
}

/// The definition: count all pairs, merge the most frequent one of lowest ids everywhere, from left to right.
fn by_recounting(counts: &WordCounts, n_merges: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut byte_ids = [0; 256];
    let mut tokens = vec![b"<|end|>".to_vec()];
    for byte in byte_level::alphabet() {
        byte_ids[usize::from(byte)] = tokens.len();
        tokens.push(vec![byte]);
    }
    let mut words: Vec<(Vec<usize>, u64)> = counts
        .iter()
        .map(|(word, n)| (word.iter().map(|&byte| byte_ids[usize::from(byte)]).collect(), n))
        .collect();
    let mut merges = Vec::new();
    while merges.len() < n_merges {
        let mut pairs = BTreeMap::new();
        for (word, n) in &words {
            for two in word.windows(2) {
                *pairs.entry((two[0], two[1])).or_insert(0) += n;
            }
        }
        let Some((&pair, _)) = pairs.iter().max_by_key(|&(&pair, &n)| (n, Reverse(pair))) else { break };
        let bytes = [&tokens[pair.0][..], &tokens[pair.1]].concat();
        let id = tokens.iter().position(|token| *token == bytes).unwrap_or_else(|| {
            tokens.push(bytes);
            tokens.len() - 1
        });
        merges.push((tokens[pair.0].clone(), tokens[pair.1].clone()));
        for (word, _) in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == pair {
                    word.splice(at..at + 2, [id]);
                }
                at += 1;
            }
        }
    }
    merges
}

use std::cmp::Reverse;

#[test]
fn merges_are_those_of_a_plain_recount() {
    let mut state = 3u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..60 {
        let letters = ["a", "b", "ab", "é", "中", "aa", " ", "1"];
        let text: String = (0..150).map(|_| letters[next(letters.len())]).collect();
        let counts = counts_of("gpt-2", &[&text]);
        let trained = train(&counts, 257 + 40, 1);
        let expected: Vec<Vec<u8>> = by_recounting(&counts, trained.merges.len())
            .into_iter()
            .map(|(left, right)| [byte_level::encode(&left), byte_level::encode(&right)].join(&b' '))
            .collect();
        assert_eq!(trained.merges, expected, "{text}");
    }
}

#[test]
fn counting_in_parts_and_any_order_gives_the_same_vocabulary() {
    let texts = ["the cat sat on the mat", "the dog sat on the log", "那只猫坐在垫子上，那只狗也坐着"];
    let whole = train(&counts_of("qwen2", &texts), 320, 1);
    let mut parts = counts_of("qwen2", &[texts[2]]);
    parts.add_all(counts_of("qwen2", &[texts[1], texts[0]]));
    assert_eq!(train(&parts, 320, 1), whole);
}

#[test]
fn a_vocabulary_reads_back_as_a_tokenizer() {
    let text = "the cat sat on the mat, 那只猫坐在垫子上 2026 the cat";
    let trained = train(&counts_of("qwen2", &[text]), 280, 2);
    let tokenizer = Tokenizer::new(&trained.vocabulary()).unwrap();
    assert_eq!(tokenizer.warnings(), []);
    let ids = tokenizer.encode(text.as_bytes(), Specials::AsText);
    assert!(ids.len() < text.len());
    assert_eq!(tokenizer.decode(&ids), text.as_bytes());
    assert_eq!(tokenizer.encode(b"<|end|>", Specials::Parse), [0]);
    assert_ne!(tokenizer.encode(b"<|end|>", Specials::AsText), [0]);
}

#[test]
fn text_that_spells_a_special_token_stays_text() {
    let counts = counts_of("qwen2", &["stop\nstop\nstop\nwe stop"]);
    let training = BpeTraining { vocab_size: 400, special_tokens: vec!["stop".to_owned()], min_count: 1 };
    let trained = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let n_tokens = trained.tokens().len();
    assert_eq!(trained.tokens().iter().collect::<std::collections::HashSet<_>>().len(), n_tokens);
    let tokenizer = Tokenizer::new(&trained.vocabulary()).unwrap();
    // No merge is lost.
    assert_eq!(tokenizer.warnings(), [TokenizerWarning::NoEndOfGeneration]);
    let ids = tokenizer.encode(b"stop", Specials::AsText);
    assert!(ids.len() > 1 && !ids.contains(&0), "{ids:?}");
    assert_eq!(tokenizer.encode(b"stop", Specials::Parse), [0]);
}

#[test]
fn rare_pairs_are_not_merged() {
    let counts = counts_of("gpt-2", &["ab ab cd"]);
    let trained = train(&counts, 1000, 2);
    assert_eq!(trained.merges, [&b"a b"[..]]);
    assert_eq!(trained.tokens().len(), 258);
}

#[test]
fn what_cannot_be_learnt_is_refused() {
    let counts = counts_of("gpt-2", &["text"]);
    let refused = |vocab_size, special: &[&str], counts: &WordCounts| {
        let special_tokens = special.iter().map(|&text| text.to_owned()).collect();
        BpeTraining { vocab_size, special_tokens, min_count: 2 }
            .train(counts, &mut |_, _| ControlFlow::Continue(()))
            .unwrap_err()
    };
    assert_eq!(refused(256, &["<a>"], &counts), TrainingError::VocabSize { asked: 256, n_special: 1 });
    assert_eq!(refused(300, &["<a>", "<a>"], &counts), TrainingError::SpecialToken("<a>".to_owned()));
    for short in ["", "a", "Ġ"] {
        assert_eq!(refused(300, &[short], &counts), TrainingError::SpecialToken(short.to_owned()));
    }
    assert_eq!(refused(300, &[], &counts_of("gpt-2", &[""])), TrainingError::NoText);
    assert!(matches!(WordCounts::new("no such"), Err(TrainingError::UnknownPreTokenizer(_))));
    let stopped = BpeTraining { vocab_size: 300, special_tokens: Vec::new(), min_count: 1 }
        .train(&counts, &mut |_, _| ControlFlow::Break(()));
    assert_eq!(stopped, Err(TrainingError::Stopped));
}
