//! What is done with every fuzzed answer of a reasoning model, shared by the fuzz target and the corpus test of
//! `crates/tokenizer`.
//!
//! The first line is the end of the prompt, its first letter chooses the tags; the second holds stop strings with
//! tabs between them; all the rest is the answer.

use tokenizer::{Delta, Reasoning, ReasoningParser, StopStrings};

/// The tags in use among models.
const TAGS: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
];

/// Reasoning and text of an answer that comes in these pieces.
fn split<'a>(reasoning: &Reasoning, prompt: &str, pieces: impl Iterator<Item = &'a str>) -> (String, String) {
    let mut parser = ReasoningParser::new(reasoning, prompt);
    let mut deltas: Vec<Delta> = pieces.flat_map(|piece| parser.push(piece)).collect();
    deltas.extend(parser.finish());
    let (mut thought, mut said) = (String::new(), String::new());
    for delta in deltas {
        match delta {
            Delta::Reasoning(piece) => {
                assert!(!piece.is_empty() && said.is_empty(), "reasoning after the answer: {piece:?}");
                thought.push_str(&piece);
            }
            Delta::Text(piece) => {
                assert!(!piece.is_empty(), "an empty piece");
                said.push_str(&piece);
            }
        }
    }
    (thought, said)
}

/// What is shown of an answer in these pieces before a stop, and the stop.
fn until_stop<'a>(stops: &[String], pieces: impl Iterator<Item = &'a str>) -> (String, Option<String>) {
    let mut watcher = StopStrings::new(stops);
    let mut shown: String = pieces.map(|piece| watcher.push(piece)).collect();
    shown.push_str(&watcher.finish());
    (shown, watcher.stopped().map(str::to_owned))
}

/// The text in pieces of so many characters: 1 to 8, drawn from `seed`.
fn cut(text: &str, mut seed: u64) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let n_chars = 1 + (seed >> 61) as usize;
        let end = rest.char_indices().nth(n_chars).map_or(rest.len(), |(end, _)| end);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Parses the answer whole and in pieces. Panics if it matters how an answer was cut.
pub(crate) fn exercise(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let prompt = lines.next().unwrap_or_default();
    let stops: Vec<String> = lines.next().unwrap_or_default().split('\t').map(str::to_owned).collect();
    let answer = lines.next().unwrap_or_default();
    let tags = TAGS[prompt.bytes().next().map_or(0, usize::from) % TAGS.len()];
    let reasoning = Reasoning { supported: true, tags, ..Reasoning::default() };

    let whole = split(&reasoning, prompt, [answer].into_iter());
    let stopped = until_stop(&stops, [answer].into_iter());
    for seed in 0..3 {
        let pieces = if seed == 0 { answer.split_inclusive(|_| true).collect() } else { cut(answer, seed) };
        assert_eq!(split(&reasoning, prompt, pieces.iter().copied()), whole, "cut as {pieces:?}");
        assert_eq!(until_stop(&stops, pieces.iter().copied()), stopped, "cut as {pieces:?}");
    }
    let nothing_known = Reasoning::default();
    assert_eq!(split(&nothing_known, prompt, [answer].into_iter()), (String::new(), answer.to_owned()));
    assert!(answer.ends_with(reasoning.answer_in(answer)), "past thoughts are cut from the beginning only");
    let (shown, stop) = stopped;
    assert!(answer.starts_with(&shown));
    assert!(stop.is_none_or(|stop| answer[shown.len()..].starts_with(&stop)));
}
