//! From a vocabulary as a file states it to a packed tokenizer: what is checked, what is corrected, what is packed.

use crate::bpe::{Bpe, BpeParts, Unit};
use crate::byte_level;
use crate::piece_table::{PieceMap, Pieces};
use crate::pre_tokenizer::{DEFAULT, PreTokenizer, Recipe, recipe};
use crate::reasoning::TAGS;
use crate::sentence_piece::{SentencePiece, SentencePieceParts, unmark_spaces};
use crate::special_tokens::SpecialTokens;
use crate::vocabulary::{TokenId, TokenKind, Vocabulary, VocabularyKind};

use super::{Model, Tokenizer};

/// Most bytes that all token texts may have together: the largest vocabularies have 3 MB.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// Longest text of a token that is looked for as a special one: real ones have some 30 bytes.
const MAX_SPECIAL_LEN: usize = 1024;

/// Why a vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// There is nothing in it.
    #[error("vocabulary holds no tokens")]
    Empty,
    /// Its texts are far longer than any real vocabulary's.
    #[error("vocabulary holds {found} bytes of text, more than the {limit} allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A list does not fit the list of tokens.
    #[error("vocabulary has {n_tokens} tokens but {found} {list}")]
    LengthMismatch {
        /// Which list.
        list: &'static str,
        /// Number of tokens.
        n_tokens: usize,
        /// Length of the list.
        found: usize,
    },
    /// A special id points nowhere.
    #[error("{name} token {id} is outside the vocabulary of {n_tokens} tokens")]
    SpecialOutOfRange {
        /// Which one, for example `bos`.
        name: &'static str,
        /// The id.
        id: TokenId,
        /// Number of tokens.
        n_tokens: usize,
    },
    /// BPE without merges could say nothing but bytes.
    #[error("byte-level vocabulary of {n_tokens} tokens has no merges; the file lacks tokenizer.ggml.merges")]
    NoMerges {
        /// Number of tokens.
        n_tokens: usize,
    },
}

/// What is worth telling about a vocabulary that works nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerWarning {
    /// The file does not name its pre-tokenizer.
    #[error("the file names no pre-tokenizer, {used:?} is used: answers may be worse than this model can")]
    NoPreTokenizer {
        /// The one used instead.
        used: &'static str,
    },
    /// The file names a pre-tokenizer that is not known.
    #[error(
        "pre-tokenizer {name:?} is not known, {used:?} is used: answers may be worse than this model can"
    )]
    UnknownPreTokenizer {
        /// The name in the file.
        name: String,
        /// The one used instead.
        used: &'static str,
    },
    /// Some merges name tokens that are not there.
    #[error("{n} merges name no tokens of the vocabulary and are left out")]
    LostMerges {
        /// How many.
        n: usize,
    },
    /// No token ends an answer.
    #[error("no token of the vocabulary ends an answer: answers end at their length limit only")]
    NoEndOfGeneration,
}

/// Texts of tokens that end an answer wherever they occur, whatever the file says of them.
///
/// From llama.cpp's list, without `</s>`, which is a plain HTML tag in some vocabularies.
const ENDS: &[&[u8]] = &[
    b"<|eot_id|>",
    b"<|eom_id|>",
    b"<|im_end|>",
    b"<|end|>",
    b"<|return|>",
    b"<|call|>",
    b"<|calls|>",
    b"<|flush|>",
    b"<end_of_turn>",
    b"<|end_of_turn|>",
    b"<|endofturn|>",
    b"<|END_OF_TURN_TOKEN|>",
    b"<|endoftext|>",
    b"<|end_of_text|>",
    b"<EOT>",
    b"_<EOT>",
    b"[EOT]",
    b"[EOS]",
    b"<|EOT|>",
    b"<eos>",
    b"<turn|>",
    b"<|tool_response>",
    b"<end_of_utterance>",
    "<｜end▁of▁sentence｜>".as_bytes(),
    b"[e~[",
    b"<|fim_pad|>",
    b"<|fim_repo|>",
    b"<|repo_name|>",
    b"<|file_sep|>",
];

/// Checks and packs.
pub(super) fn build(vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    check(vocabulary)?;
    let mut warnings = Vec::new();
    let recipe = match vocabulary.kind {
        VocabularyKind::Bpe => Some(find_recipe(vocabulary.pre.as_deref(), &mut warnings)),
        VocabularyKind::Spm => None,
    };
    let mut kinds = vocabulary.kinds.clone();
    kinds.resize(vocabulary.tokens.len(), TokenKind::Normal);
    let specials = default_specials(vocabulary);
    correct_kinds(vocabulary, &specials, &mut kinds);
    let end_of_generation = end_of_generation(vocabulary, &specials, &mut kinds);
    if end_of_generation.is_empty() {
        warnings.push(TokenizerWarning::NoEndOfGeneration);
    }
    let spelling = match recipe {
        None => Spelling::SpaceMarks,
        Some(recipe) if recipe.plain_utf8 => Spelling::SpaceMarks,
        Some(_) => Spelling::ByteLevel,
    };
    let pieces = pack_pieces(vocabulary, &mut kinds, spelling);
    let model = match recipe {
        Some(recipe) => bpe(vocabulary, recipe, &pieces, &kinds, specials.unk, &mut warnings),
        None => Model::SentencePiece(sentence_piece(vocabulary, &pieces, &kinds, specials.unk)),
    };
    // SentencePiece's own added words are part of its merging; all others are looked for first.
    let looked_for = |kind: TokenKind| match kind {
        TokenKind::Control | TokenKind::Unknown => true,
        TokenKind::UserDefined => recipe.is_some(),
        _ => false,
    };
    let special_tokens = SpecialTokens::new(
        (0..)
            .zip(&vocabulary.tokens)
            .zip(&kinds)
            .filter(|((_, text), kind)| looked_for(**kind) && text.len() <= MAX_SPECIAL_LEN)
            .map(|((id, text), kind)| (*text, id, *kind != TokenKind::UserDefined)),
    );
    let shown = TAGS.iter().flat_map(|(open, close)| [open, close]);
    let shown = shown.filter_map(|tag| special_tokens.get(tag.as_bytes())).collect();
    let strip_after_special =
        vocabulary.kind == VocabularyKind::Spm && special_tokens.get(b"<|placeholder1|>").is_some();
    Ok(Tokenizer {
        pieces,
        kinds,
        model,
        specials: special_tokens,
        strip_after_special,
        bos: specials.bos,
        eos: specials.eos,
        add_bos: vocabulary.add_bos.unwrap_or(recipe.is_none_or(|recipe| recipe.add_bos)),
        add_eos: vocabulary.add_eos.unwrap_or(false),
        end_of_generation,
        shown,
        unk: specials.unk,
        pad: vocabulary.pad,
        warnings,
    })
}

fn check(vocabulary: &Vocabulary<'_>) -> Result<(), TokenizerError> {
    let n_tokens = vocabulary.tokens.len();
    if n_tokens == 0 {
        return Err(TokenizerError::Empty);
    }
    let found = vocabulary.tokens.iter().map(|text| text.len()).sum();
    // Ids are 32 bits wide, and the last one means "none" here.
    if found > MAX_TEXT_BYTES || n_tokens > MAX_TEXT_BYTES {
        return Err(TokenizerError::TooLarge { found, limit: MAX_TEXT_BYTES });
    }
    let lists = [("kinds", vocabulary.kinds.len()), ("scores", vocabulary.scores.len())];
    for (list, found) in lists {
        if found != n_tokens && found != 0 {
            return Err(TokenizerError::LengthMismatch { list, n_tokens, found });
        }
    }
    if vocabulary.kind == VocabularyKind::Spm && vocabulary.scores.is_empty() {
        return Err(TokenizerError::LengthMismatch { list: "scores", n_tokens, found: 0 });
    }
    if vocabulary.kind == VocabularyKind::Bpe && vocabulary.merges.is_empty() {
        return Err(TokenizerError::NoMerges { n_tokens });
    }
    let named = [
        ("bos", vocabulary.bos),
        ("eos", vocabulary.eos),
        ("eot", vocabulary.eot),
        ("eom", vocabulary.eom),
        ("unknown", vocabulary.unk),
        ("padding", vocabulary.pad),
    ];
    let more = vocabulary.more_eog.iter().map(|&id| ("end of generation", Some(id)));
    for (name, id) in named.into_iter().chain(more) {
        if let Some(id) = id
            && id as usize >= n_tokens
        {
            return Err(TokenizerError::SpecialOutOfRange { name, id, n_tokens });
        }
    }
    Ok(())
}

fn find_recipe(pre: Option<&str>, warnings: &mut Vec<TokenizerWarning>) -> &'static Recipe {
    let known = pre.and_then(recipe);
    if known.is_none() {
        warnings.push(match pre {
            Some(name) => TokenizerWarning::UnknownPreTokenizer { name: name.to_owned(), used: DEFAULT },
            None => TokenizerWarning::NoPreTokenizer { used: DEFAULT },
        });
    }
    known.or_else(|| recipe(DEFAULT)).expect("the table holds the default")
}

/// The special ids with the kind's custom where the file says nothing.
struct SpecialIds {
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    unk: Option<TokenId>,
}

fn default_specials(vocabulary: &Vocabulary<'_>) -> SpecialIds {
    let custom = |id: TokenId| {
        let is_there = (id as usize) < vocabulary.tokens.len();
        (vocabulary.kind == VocabularyKind::Spm && is_there).then_some(id)
    };
    SpecialIds {
        bos: vocabulary.bos.or(custom(1)),
        eos: vocabulary.eos.or(custom(2)),
        unk: vocabulary.unk.or(custom(0)),
    }
}

/// Files state some structural tokens as added words, or as normal ones; they are structure all the same.
fn correct_kinds(vocabulary: &Vocabulary<'_>, specials: &SpecialIds, kinds: &mut [TokenKind]) {
    for (text, kind) in vocabulary.tokens.iter().zip(kinds.iter_mut()) {
        if *kind == TokenKind::UserDefined && looks_structural(text) {
            *kind = TokenKind::Control;
        }
    }
    for id in [specials.bos, specials.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten() {
        kinds[id as usize] = TokenKind::Control;
    }
}

/// Whether an added word is written the way structure is.
fn looks_structural(text: &[u8]) -> bool {
    let between =
        |open: &str, close: &str| text.starts_with(open.as_bytes()) && text.ends_with(close.as_bytes());
    between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
        || matches!(
            text,
            b"<start_of_turn>"
                | b"<end_of_turn>"
                | b"<bos>"
                | b"<eos>"
                | b"<pad>"
                | b"<mask>"
                | b"<2mass>"
                | b"[@BOS@]"
        )
}

/// Collects what ends an answer and makes it structure.
fn end_of_generation(
    vocabulary: &Vocabulary<'_>,
    specials: &SpecialIds,
    kinds: &mut [TokenKind],
) -> Vec<TokenId> {
    let mut ids: Vec<TokenId> =
        [specials.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten().collect();
    ids.extend(&vocabulary.more_eog);
    let named = ids.len();
    ids.extend((0..).zip(&vocabulary.tokens).filter(|(_, text)| ENDS.contains(text)).map(|(id, _)| id));
    let has = |text: &[u8]| ids.iter().any(|&id| vocabulary.tokens[id as usize] == text);
    // Where a message may end without ending the answer (harmony, solar), `<|end|>` only closes a message.
    if (has(b"<|return|>") && has(b"<|call|>")) || (has(b"<|calls|>") && has(b"<|flush|>")) {
        let mut at = 0;
        ids.retain(|&id| {
            at += 1;
            at <= named || vocabulary.tokens[id as usize] != b"<|end|>"
        });
    }
    for &id in &ids {
        kinds[id as usize] = TokenKind::Control;
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// How normal tokens are written in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    ByteLevel,
    SpaceMarks,
}

/// Packs the pieces as the bytes they stand for. A byte-level token that is not written in the alphabet of bytes
/// cannot come from merges and is marked as unused, so that it does not hide the token that can.
fn pack_pieces(vocabulary: &Vocabulary<'_>, kinds: &mut [TokenKind], spelling: Spelling) -> Pieces {
    let n_bytes = vocabulary.tokens.iter().map(|text| text.len()).sum();
    let mut pieces = Pieces::with_capacity(vocabulary.tokens.len(), n_bytes);
    for (text, kind) in vocabulary.tokens.iter().zip(kinds) {
        pieces.push_with(|out| match (*kind, spelling) {
            (TokenKind::Byte, _) if byte_value(text).is_some() => out.extend(byte_value(text)),
            (TokenKind::Normal | TokenKind::Unused, Spelling::ByteLevel) => {
                if !byte_level::decode_into(text, out) {
                    *kind = TokenKind::Unused;
                }
            }
            (TokenKind::Control | TokenKind::Unknown, _) | (_, Spelling::ByteLevel) => {
                out.extend_from_slice(text)
            }
            (_, Spelling::SpaceMarks) => {
                unmark_spaces(text, out);
            }
        });
    }
    pieces
}

/// The byte that `<0x0A>` stands for.
fn byte_value(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The map from bytes to those tokens whose kind is among `wanted`, the ids in it, and the table of byte tokens.
fn word_map(
    pieces: &Pieces,
    kinds: &[TokenKind],
    wanted: &[TokenKind],
) -> (PieceMap, Vec<TokenId>, Box<[TokenId; 256]>) {
    let mut words = PieceMap::with_capacity(kinds.len());
    let mut ids = Vec::with_capacity(kinds.len());
    let mut byte_ids = Box::new([u32::MAX; 256]);
    for (id, kind) in (0..).zip(kinds) {
        let piece = pieces.get(id);
        if *kind == TokenKind::Byte && piece.len() == 1 {
            byte_ids[usize::from(piece[0])] = id;
        } else if wanted.contains(kind) && !piece.is_empty() && words.insert(pieces, id) {
            ids.push(id);
        }
    }
    (words, ids, byte_ids)
}

fn bpe(
    vocabulary: &Vocabulary<'_>,
    recipe: &Recipe,
    pieces: &Pieces,
    kinds: &[TokenKind],
    unk: Option<TokenId>,
    warnings: &mut Vec<TokenizerWarning>,
) -> Model {
    let (words, _, byte_ids) = word_map(pieces, kinds, &[TokenKind::Normal]);
    let unit = if recipe.plain_utf8 { Unit::Character } else { Unit::Byte };
    let parts = BpeParts {
        unit,
        merges: &vocabulary.merges,
        words,
        kinds,
        byte_ids,
        whole_words: recipe.ignore_merges,
        // A byte that a byte-level vocabulary lacks is left out, as both references do it: what files name as unknown
        // is structure there (SmolLM2 has no 0x1D, and `<|endoftext|>` in its place would end a prompt).
        unk: unk.filter(|_| recipe.plain_utf8),
    };
    let (bpe, n_lost) = Bpe::new(pieces, parts);
    if n_lost > 0 {
        warnings.push(TokenizerWarning::LostMerges { n: n_lost });
    }
    Model::Bpe {
        bpe,
        pre: PreTokenizer::new(recipe.stages()),
        nfc: recipe.nfc,
        spaces_marked: recipe.plain_utf8,
    }
}

fn sentence_piece(
    vocabulary: &Vocabulary<'_>,
    pieces: &Pieces,
    kinds: &[TokenKind],
    unk: Option<TokenId>,
) -> SentencePiece {
    let (words, word_ids, byte_ids) = word_map(pieces, kinds, &[TokenKind::Normal, TokenKind::Unused]);
    let has_unused = kinds.contains(&TokenKind::Unused);
    let user_defined = SpecialTokens::new(
        (0..)
            .zip(kinds)
            .filter(|(id, kind)| **kind == TokenKind::UserDefined && pieces.get(*id).len() <= MAX_SPECIAL_LEN)
            .map(|(id, _)| (pieces.get(id), id, false)),
    );
    SentencePiece::new(
        pieces,
        SentencePieceParts {
            words,
            word_ids,
            scores: &vocabulary.scores,
            user_defined,
            byte_ids,
            unk,
            add_space_prefix: vocabulary.add_space_prefix.unwrap_or(true),
            unused: if has_unused {
                kinds.iter().map(|kind| *kind == TokenKind::Unused).collect()
            } else {
                Vec::new()
            },
        },
    )
}
