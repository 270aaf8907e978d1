//! Which expressions each name of `tokenizer.ggml.pre` stands for, and what else goes with the name.
//!
//! Sources: llama.cpp's `llama-vocab.cpp` (the names) and the `tokenizer.json` of the models (normalisation, which
//! GGUF does not record).

use super::pattern::{CharSet, Pattern, Words};
use crate::char_class::{LETTER, MARK, NUMBER, PUNCTUATION};

/// What a name stands for.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) names: &'static [&'static str],
    stages: fn() -> Vec<Pattern>,
    /// A whole word that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// BOS before a text where the file does not say.
    pub(crate) add_bos: bool,
    /// Text is composed (NFC) first.
    pub(crate) nfc: bool,
    /// The pieces are plain UTF-8 with `▁` for spaces and `<0x0A>` bytes, not byte-level characters.
    pub(crate) plain_utf8: bool,
}

impl Recipe {
    /// The expressions, in order.
    pub(crate) fn stages(&self) -> Vec<Pattern> {
        (self.stages)()
    }
}

/// The recipe with this name.
pub(crate) fn recipe(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.names.contains(&name))
}

/// What a file without a name, or with an unknown one, gets (the same as llama.cpp's `default`).
pub(crate) const DEFAULT: &str = "default";

const PLAIN: Recipe = Recipe {
    names: &[],
    stages: Vec::new,
    ignore_merges: false,
    add_bos: false,
    nfc: false,
    plain_utf8: false,
};

/// All known names.
pub(crate) static RECIPES: &[Recipe] = &[
    Recipe { names: &[DEFAULT], stages: default_stages, ..PLAIN },
    Recipe {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "jais",
            "trillion",
            "granite-docling",
        ],
        stages: || vec![Pattern::Gpt2],
        ..PLAIN
    },
    Recipe { names: &["mpt", "olmo"], stages: || vec![Pattern::Gpt2], nfc: true, ..PLAIN },
    Recipe {
        names: &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        stages: || vec![digits(1), Pattern::Gpt2],
        ..PLAIN
    },
    Recipe { names: &["command-r"], stages: || vec![digits(1), Pattern::Gpt2], nfc: true, ..PLAIN },
    Recipe {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        stages: || vec![words(3)],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Recipe { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], stages: || vec![words(3)], ..PLAIN },
    Recipe { names: &["glm4", "glm5"], stages: || vec![words(3)], ignore_merges: true, ..PLAIN },
    Recipe { names: &["qwen2", "megrez", "stablelm2"], stages: || vec![words(1)], nfc: true, ..PLAIN },
    Recipe {
        names: &[
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        stages: || vec![words(1)],
        ..PLAIN
    },
    Recipe {
        names: &["ufakzeka"],
        stages: || vec![Pattern::Words(Words { contractions: false, ..CL100K })],
        ..PLAIN
    },
    Recipe {
        names: &["qwen35"],
        stages: || vec![Pattern::Words(Words { letters: LETTER | MARK, ..CL100K })],
        nfc: true,
        ..PLAIN
    },
    Recipe {
        names: &["seed-coder"],
        stages: || vec![Pattern::Words(Words { newline_tail: false, ..CL100K })],
        ..PLAIN
    },
    Recipe {
        names: &["minicpm5"],
        stages: || vec![digits(3), Pattern::Words(Words { max_digits: usize::MAX, ..CL100K })],
        ignore_merges: true,
        ..PLAIN
    },
    Recipe {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: || vec![Pattern::CasedWords { contractions: true, max_digits: 3 }],
        ..PLAIN
    },
    Recipe {
        names: &["tekken"],
        stages: || vec![Pattern::CasedWords { contractions: false, max_digits: 1 }],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Recipe { names: &["deepseek-llm"], stages: deepseek_llm, ..PLAIN },
    Recipe { names: &["deepseek-coder"], stages: deepseek_coder, ..PLAIN },
    Recipe {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        stages: || vec![digits(3), run(CharSet::ranges(HAN_AND_KANA)), Pattern::DeepSeekV3],
        ..PLAIN
    },
    Recipe { names: &["falcon"], stages: falcon, ..PLAIN },
    Recipe {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        stages: || vec![Pattern::NotSentenceMarks],
        ..PLAIN
    },
    Recipe { names: &["viking"], stages: || vec![Pattern::NotSentenceMarks, digits(1)], ..PLAIN },
    Recipe {
        names: &["gemma4"],
        stages: || vec![run(CharSet::ranges(&[(0x0A, 0x0A)]))],
        add_bos: true,
        plain_utf8: true,
        ..PLAIN
    },
];

/// cl100k with single digits, as Qwen2 has it.
const CL100K: Words = Words { contractions: true, max_digits: 1, letters: LETTER, newline_tail: true };

fn words(max_digits: usize) -> Pattern {
    Pattern::Words(Words { max_digits, ..CL100K })
}

fn digits(max: usize) -> Pattern {
    Pattern::Run { set: CharSet::classes(NUMBER), max }
}

fn run(set: CharSet) -> Pattern {
    Pattern::Run { set, max: usize::MAX }
}

fn newline() -> Pattern {
    Pattern::Run { set: CharSet::ranges(&[(0x0A, 0x0A), (0x0D, 0x0D)]), max: 1 }
}

/// ``[\p{P}$+<=>^~|]+``, GPT-2, digits in runs and then by three.
fn default_stages() -> Vec<Pattern> {
    let marks = CharSet {
        classes: PUNCTUATION,
        ranges: &[(0x24, 0x24), (0x2B, 0x2B), (0x3C, 0x3E), (0x5E, 0x5E), (0x7C, 0x7C), (0x7E, 0x7E)],
    };
    vec![run(marks), Pattern::Gpt2, run(CharSet::classes(NUMBER)), Pattern::ThreeDigits]
}

/// ``[\p{P}$+<=>^~|`]+``, GPT-2, `[0-9][0-9][0-9]`.
fn falcon() -> Vec<Pattern> {
    let marks = CharSet {
        classes: PUNCTUATION,
        ranges: &[
            (0x24, 0x24),
            (0x2B, 0x2B),
            (0x3C, 0x3E),
            (0x5E, 0x5E),
            (0x60, 0x60),
            (0x7C, 0x7C),
            (0x7E, 0x7E),
        ],
    };
    vec![run(marks), Pattern::Gpt2, Pattern::ThreeDigits]
}

fn deepseek_llm() -> Vec<Pattern> {
    vec![
        newline(),
        Pattern::SpacedRun(CharSet::ranges(CASED_LETTERS)),
        Pattern::SpacedRun(CharSet::ranges(WIDE_PUNCTUATION)),
        Pattern::TrailingSpace,
        run(CharSet::ranges(CJK)),
        run(CharSet::classes(NUMBER)),
    ]
}

fn deepseek_coder() -> Vec<Pattern> {
    vec![
        newline(),
        Pattern::SpacedRun(CharSet::classes(LETTER)),
        Pattern::SpacedRun(CharSet::classes(PUNCTUATION)),
        run(CharSet::ranges(CJK)),
        digits(1),
    ]
}

/// `[一-龥ࠀ-一가-\u{D7FF}]`
const CJK: &[(u32, u32)] = &[(0x800, 0x9FA5), (0xAC00, 0xD7FF)];

/// `[一-龥぀-ゟ゠-ヿ]`
const HAN_AND_KANA: &[(u32, u32)] = &[(0x3040, 0x30FF), (0x4E00, 0x9FA5)];

/// `[!-/:-~！-／：-～‘-‟\u{3000}-。]`
const WIDE_PUNCTUATION: &[(u32, u32)] =
    &[(0x21, 0x2F), (0x3A, 0x7E), (0x2018, 0x201F), (0x3000, 0x3002), (0xFF01, 0xFF0F), (0xFF1A, 0xFF5E)];

/// The letters that DeepSeek LLM's expression lists: those with case, as of its Unicode version.
#[rustfmt::skip]
const CASED_LETTERS: &[(u32, u32)] = &[
    (0x41, 0x5A), (0x61, 0x7A), (0xB5, 0xB5), (0xC0, 0xD6), (0xD8, 0xF6),
    (0xF8, 0x1BA), (0x1BC, 0x1BF), (0x1C4, 0x293), (0x295, 0x2AF), (0x370, 0x373),
    (0x376, 0x377), (0x37B, 0x37D), (0x37F, 0x37F), (0x386, 0x386), (0x388, 0x38A),
    (0x38C, 0x38C), (0x38E, 0x3A1), (0x3A3, 0x3F5), (0x3F7, 0x481), (0x48A, 0x52F),
    (0x531, 0x556), (0x10A0, 0x10C5), (0x13A0, 0x13F5), (0x13F8, 0x13FD), (0x1C90, 0x1CBA),
    (0x1CBD, 0x1CBF), (0x1D00, 0x1D2B), (0x1D6B, 0x1D77), (0x1D79, 0x1D9A), (0x1E00, 0x1F15),
    (0x1F18, 0x1F1D), (0x1F20, 0x1F45), (0x1F48, 0x1F4D), (0x1F50, 0x1F57), (0x1F59, 0x1F59),
    (0x1F5B, 0x1F5B), (0x1F5D, 0x1F5D), (0x1F5F, 0x1F7D), (0x1F80, 0x1FB4), (0x1FB6, 0x1FBC),
    (0x1FBE, 0x1FBE), (0x1FC2, 0x1FC4), (0x1FC6, 0x1FCC), (0x1FD0, 0x1FD3), (0x1FD6, 0x1FDB),
    (0x1FE0, 0x1FEC), (0x1FF2, 0x1FF4), (0x1FF6, 0x1FFC), (0x2102, 0x2102), (0x2107, 0x2107),
    (0x210A, 0x2113), (0x2115, 0x2115), (0x2119, 0x211D), (0x2124, 0x2124), (0x2126, 0x2126),
    (0x2128, 0x2128), (0x212A, 0x212D), (0x212F, 0x2134), (0x2139, 0x2139), (0x213C, 0x213F),
    (0x2145, 0x2149), (0x214E, 0x214E), (0x2183, 0x2184), (0x2C00, 0x2C7B), (0x2C7E, 0x2CE4),
    (0x2CEB, 0x2CEE), (0x2CF2, 0x2CF3), (0xA640, 0xA66D), (0xA680, 0xA69B), (0xA722, 0xA76F),
    (0xA771, 0xA787), (0xA78B, 0xA78E), (0xAB70, 0xABBF), (0xFB00, 0xFB06), (0xFB13, 0xFB17),
    (0xFF21, 0xFF3A), (0xFF41, 0xFF5A), (0x1_0400, 0x1_044F), (0x1_04B0, 0x1_04D3), (0x1_04D8, 0x1_04FB),
    (0x1_0C80, 0x1_0CB2), (0x1_0CC0, 0x1_0CF2), (0x1_18A0, 0x1_18DF), (0x1_E900, 0x1_E943),
];
