//! Each scanner cuts as the expression it stands for, on random text of all classes.
#![allow(clippy::unwrap_used)]

use fancy_regex::Regex;

use super::*;

const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// What `regex` matches and what lies between, as `tokenizers` splits.
fn cut_by(regex: &Regex, text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for found in regex.find_iter(text) {
        let found = found.unwrap();
        if found.start() > done {
            pieces.push(text[done..found.start()].to_owned());
        }
        pieces.push(found.as_str().to_owned());
        done = found.end();
    }
    if done < text.len() {
        pieces.push(text[done..].to_owned());
    }
    pieces
}

/// The published expressions of the models that gave the families their names.
#[test]
fn expressions_are_the_published_ones() {
    let of = |name: &str| recipe(name).unwrap().stages().iter().map(Pattern::to_string).collect::<Vec<_>>();
    assert_eq!(of("llama-bpe"), [CL100K]);
    assert_eq!(of("gpt-2"), [GPT2]);
    assert_eq!(of("gpt-4o"), [GPT4O]);
    assert_eq!(of("deepseek-v3"), [r"[\p{N}]{1,3}", r"[\x{3040}-\x{30FF}\x{4E00}-\x{9FA5}]+", DEEPSEEK_V3]);
}

#[test]
fn scanners_cut_as_their_expressions() {
    let alphabet: Vec<char> =
        "aZsStTrReEvVmMlLdD' \t\n\r./!$|1٣½éßÉǅʰ中か\u{301}\u{903}—€😀\u{200D}\u{3000}\u{85}\u{A0}\0ſ"
            .chars()
            .collect();
    let recipes: Vec<_> = table::RECIPES
        .iter()
        .map(|recipe| {
            let stages = recipe.stages();
            let regexes: Vec<_> =
                stages.iter().map(|stage| Regex::new(&stage.to_string()).unwrap()).collect();
            (recipe.names[0], PreTokenizer::new(stages), regexes)
        })
        .collect();
    let mut state = 7u64;
    for _ in 0..1500 {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let n = next() % 14;
        let text: String = (0..n).map(|_| alphabet[next() % alphabet.len()]).collect();
        for (name, pre_tokenizer, regexes) in &recipes {
            let mut words = Vec::new();
            pre_tokenizer.for_each(text.as_bytes(), |word| words.push(text[word].to_owned()));
            let mut expected: Vec<String> = if text.is_empty() { Vec::new() } else { vec![text.clone()] };
            for regex in regexes {
                expected = expected.iter().flat_map(|piece| cut_by(regex, piece)).collect();
            }
            assert_eq!(words, expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn every_name_cuts_without_losing_a_byte() {
    let text = "a1\u{301} \n\n  x's 中文。½\u{0}\t".repeat(3).into_bytes();
    let text = [&text[..], b"\xFF\xE4\xB8 \x80"].concat();
    for name in known_pre_tokenizers() {
        let mut whole = Vec::new();
        PreTokenizer::new(recipe(name).unwrap().stages()).for_each(&text, |word| {
            assert!(!word.is_empty(), "{name}");
            whole.extend_from_slice(&text[word]);
        });
        assert_eq!(whole, text, "{name}");
    }
}
