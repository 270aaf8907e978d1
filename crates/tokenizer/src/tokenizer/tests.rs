//! Rules that no golden file shows.
#![allow(clippy::unwrap_used)]

use unicode_normalization::UnicodeNormalization;

use super::*;

#[test]
fn composing_piece_by_piece_is_composing() {
    let mut state = 1u64;
    let mut next = |n: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % n
    };
    let blocks = [
        0x41, 0xC0, 0x300, 0x301, 0x323, 0x391, 0x5D0, 0x9C7, 0x9BE, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01,
        0x1E00, 0x212B, 0x3042, 0x3099, 0x304B, 0x4E2D, 0xF900, 0xFB1D, 0x1D15E, 0x2F800, 0x20,
    ];
    for _ in 0..2000 {
        let text: String = (0..next(12))
            .filter_map(|_| char::from_u32(blocks[next(blocks.len() as u32) as usize] + next(3)))
            .collect();
        let composed = compose(text.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
        assert_eq!(String::from_utf8(composed).unwrap(), text.nfc().collect::<String>(), "{text:?}");
    }
    for c in (0..0x11_0000).filter_map(char::from_u32).filter(|&c| !may_combine(c.into())) {
        let text = format!("{c}");
        assert_eq!(is_nfc_quick(text.chars()), IsNormalized::Yes, "{c:?}");
        assert_eq!(unicode_normalization::char::canonical_combining_class(c), 0, "{c:?}");
    }
    assert_eq!(compose("e\u{301}\u{FF}".as_bytes()), Some("é\u{FF}".into()));
    assert_eq!(compose(b"e\xCC\x81 \xFF\xCC"), Some(b"\xC3\xA9 \xFF\xCC".to_vec()));
}

/// Numbers that look random.
struct Draws(u64);

impl Draws {
    fn next(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.next(list.len())]
    }
}

/// What the texts of the test are made of: words of several scripts, parts of characters, marks, runs and special tokens.
const PARTS: &[&[u8]] = &[
    b"the",
    b" the",
    b" and",
    b"ing",
    b" wordier",
    b"don't",
    b"X",
    b"3",
    b"1234567",
    b" ",
    b"    ",
    b"\n",
    b" \r\n\n",
    b"\t",
    b",",
    b" (",
    b"...",
    b"<tool>",
    b"<|end|>",
    b"\0",
    b"\x1B",
    b"\xFF",
    b"\xE4\xB8",
    b"\xB8\xAD",
    b"\xF0\x9F",
    b"aaaaaaaaaaaaaaaaaaaaaaaa",
    "中".as_bytes(),
    "中国".as_bytes(),
    "人民".as_bytes(),
    "的时候".as_bytes(),
    "，".as_bytes(),
    "。".as_bytes(),
    "が".as_bytes(),
    "слово".as_bytes(),
    "é".as_bytes(),
    "e\u{301}".as_bytes(),
    "😀".as_bytes(),
    "한국어".as_bytes(),
    "\u{3000}".as_bytes(),
];

fn text(draws: &mut Draws, n_parts: usize) -> Vec<u8> {
    (0..n_parts).flat_map(|_| draws.pick(PARTS).to_vec()).collect()
}

/// The definition, with nothing remembered: words as they are cut, and in each the leftmost pair of the least rank.
struct Plain {
    pre: PreTokenizer,
    tokens: Vec<Vec<u8>>,
    merges: Vec<(Vec<u8>, Vec<u8>)>,
    whole_words: bool,
}

impl Plain {
    fn id(&self, bytes: &[u8]) -> Option<TokenId> {
        self.tokens.iter().position(|token| token == bytes).map(|id| id as TokenId)
    }

    fn encode(&self, text: &[u8]) -> Vec<TokenId> {
        let mut ids = Vec::new();
        self.pre.for_each(text, |word| {
            let word = &text[word];
            if self.whole_words
                && let Some(id) = self.id(word)
            {
                return ids.push(id);
            }
            let mut symbols: Vec<Vec<u8>> = word.iter().map(|&byte| vec![byte]).collect();
            symbols.retain(|symbol| self.id(symbol).is_some());
            while let Some((_, at)) = symbols
                .windows(2)
                .enumerate()
                .filter_map(|(at, two)| {
                    let rank =
                        self.merges.iter().position(|(left, right)| *left == two[0] && *right == two[1]);
                    rank.map(|rank| (rank, at))
                })
                .min()
            {
                let right = symbols.remove(at + 1);
                symbols[at].extend(right);
            }
            ids.extend(symbols.iter().map(|symbol| self.id(symbol).unwrap()));
        });
        ids
    }

    /// A vocabulary of pairs drawn from words of the texts, in an order that no training gives.
    fn drawn(draws: &mut Draws, pre: &str, lacks: &[u8]) -> Plain {
        let recipe = crate::pre_tokenizer::recipe(pre).unwrap();
        let tokens = (0..=255).filter(|byte| !lacks.contains(byte)).map(|byte| vec![byte]).collect();
        let pre = PreTokenizer::new(recipe.stages());
        let mut plain = Plain { pre, tokens, merges: Vec::new(), whole_words: recipe.ignore_merges };
        for _ in 0..150 {
            let ids = plain.encode(draws.pick::<&[u8]>(PARTS));
            let ids = if ids.len() < 2 || draws.next(8) == 0 { plain.encode(&text(draws, 3)) } else { ids };
            let at = draws.next(ids.len().max(2) - 1);
            let [left, right] =
                [at, at + 1].map(|at| ids.get(at).map(|&id| plain.tokens[id as usize].clone()));
            let (Some(left), Some(right)) = (left, right) else { continue };
            let whole = [&left[..], &right].concat();
            if plain.id(&whole).is_none() {
                plain.tokens.push(whole);
                plain.merges.push((left, right));
            }
        }
        for _ in 0..20 {
            let (a, b) = (draws.next(plain.merges.len()), draws.next(plain.merges.len()));
            plain.merges.swap(a, b);
        }
        // A token that no merge makes.
        plain.tokens.push("中国人民".as_bytes().to_vec());
        plain
    }

    fn tokenizer(&self, pre: &str) -> Tokenizer {
        let spelled: Vec<Vec<u8>> =
            self.tokens.iter().map(|token| crate::byte_level::encode(token)).collect();
        let merges: Vec<Vec<u8>> = self
            .merges
            .iter()
            .map(|(left, right)| {
                [&crate::byte_level::encode(left)[..], b" ", &crate::byte_level::encode(right)].concat()
            })
            .collect();
        let mut tokens: Vec<&[u8]> = spelled.iter().map(|token| &token[..]).collect();
        tokens.extend([&b"<tool>"[..], b"<|end|>"]);
        let mut vocabulary = Vocabulary::new(crate::VocabularyKind::Bpe, tokens);
        vocabulary.kinds = vec![TokenKind::Normal; self.tokens.len()];
        vocabulary.kinds.extend([TokenKind::UserDefined, TokenKind::Control]);
        vocabulary.merges = merges.iter().map(|merge| &merge[..]).collect();
        vocabulary.pre = Some(pre.to_owned());
        Tokenizer::new(&vocabulary).unwrap()
    }
}

#[test]
fn ids_are_those_of_the_definition() {
    let mut draws = Draws(11);
    // One that keeps words that are tokens, one that cuts in two steps, and one that lacks bytes, so that others meet.
    let cases: [(&str, &[u8]); 5] = [
        ("deepseek-r1-qwen", &[]),
        ("gpt-2", &[]),
        ("llama-bpe", &[]),
        ("smollm", b"\0\x1B"),
        ("gpt-2", b"\xB8a"),
    ];
    for (pre, lacks) in cases.into_iter().cycle().take(30) {
        let plain = Plain::drawn(&mut draws, pre, lacks);
        let tokenizer = plain.tokenizer(pre);
        let tool = plain.tokens.len() as TokenId;
        let mut encoder = tokenizer.encoder();
        for n_parts in [1, 3, 10, 30, 100, 100] {
            let text = text(&mut draws, n_parts);
            let mut expected = Vec::new();
            let mut rest = &text[..];
            while let Some(at) = rest.windows(6).position(|part| part == b"<tool>") {
                expected.extend(plain.encode(&rest[..at]));
                expected.push(tool);
                rest = &rest[at + 6..];
            }
            expected.extend(plain.encode(rest));
            let shown = String::from_utf8_lossy(&text);
            assert_eq!(tokenizer.encode(&text, Specials::AsText), expected, "{pre}: {shown:?}");
            let mut ids = vec![7];
            encoder.append(&text, Specials::AsText, &mut ids);
            assert_eq!(ids[1..], expected, "{pre}, one encoder for many texts: {shown:?}");
        }
    }
}

#[test]
fn long_words_take_a_time_in_proportion() {
    let mut draws = Draws(5);
    let tokenizer = Plain::drawn(&mut draws, "deepseek-r1-qwen", &[]).tokenizer("deepseek-r1-qwen");
    for unit in ["a", "中国人民", " ", "é", "!", "\n", "ab"] {
        let text = unit.repeat(1_000_000 / unit.len());
        // One that compared each place with all before it would take hours.
        assert_eq!(tokenizer.decode(&tokenizer.encode(text.as_bytes(), Specials::AsText)), text.as_bytes());
    }
}
