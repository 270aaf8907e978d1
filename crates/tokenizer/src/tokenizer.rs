//! Text to ids and back, for either kind of vocabulary.
//!
//! Encoding: the spelling of special tokens is found where it is trusted, then the text between them is cut into
//! words and merged. Decoding: the bytes of the pieces, one after the other.

use std::ops::Range;
use std::str::Utf8Chunk;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::bpe::{Bpe, BpeCall};
use crate::char_class::{char_at, decode};
use crate::chat::{Rendered, SpecialTexts};
use crate::piece_table::Pieces;
use crate::pre_tokenizer::PreTokenizer;
use crate::sentence_piece::{SentencePiece, SentencePieceCall};
use crate::special_tokens::{Admits, SpecialTokens};
use crate::vocabulary::{TokenId, TokenKind, Vocabulary};

mod build;

pub use build::{TokenizerError, TokenizerWarning};

/// What happens to text that spells a special token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// It stays text: the way for everything that people and tools say.
    AsText,
    /// It becomes the token: the way for templates and raw completions.
    Parse,
}

/// Text to ids and back. Built once for a model and shared.
#[derive(Debug)]
pub struct Tokenizer {
    pieces: Pieces,
    kinds: Vec<TokenKind>,
    model: Model,
    specials: SpecialTokens,
    /// White space after a special token is swallowed (Phi-3).
    strip_after_special: bool,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    add_bos: bool,
    add_eos: bool,
    /// Ascending.
    end_of_generation: Vec<TokenId>,
    /// Control tokens that are shown nevertheless: the tags around reasoning.
    shown: Vec<TokenId>,
    unk: Option<TokenId>,
    pad: Option<TokenId>,
    warnings: Vec<TokenizerWarning>,
}

/// How the text between special tokens becomes ids.
#[derive(Debug)]
enum Model {
    Bpe { bpe: Bpe, pre: PreTokenizer, nfc: bool, spaces_marked: bool },
    SentencePiece(SentencePiece),
}

impl Tokenizer {
    /// Checks a vocabulary and packs it.
    ///
    /// # Errors
    /// Where the vocabulary contradicts itself: lists of different lengths, special ids out of range, no tokens.
    pub fn new(vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
        build::build(vocabulary)
    }

    /// Ids of `text`, without BOS and EOS.
    ///
    /// Any bytes are taken. Byte-level BPE gives them back as they are; SentencePiece, like its reference, reads a
    /// stray byte as U+FFFD.
    #[must_use]
    pub fn encode(&self, text: &[u8], specials: Specials) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.encoder_for(text.len()).append(text, specials, &mut ids);
        ids
    }

    /// One that encodes many texts, faster than [`Tokenizer::encode`] does each. A thread has its own.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        self.encoder_for(usize::MAX)
    }

    /// Ids of `text` with BOS and EOS by the model's rule; a BOS that the text itself begins with is not doubled.
    #[must_use]
    pub fn encode_with_bos(&self, text: &[u8], specials: Specials) -> Vec<TokenId> {
        let mut ids = self.encode(text, specials);
        self.set_bos(&mut ids);
        if self.add_eos {
            ids.extend(self.eos);
        }
        ids
    }

    /// Ids of a rendered chat: special tokens are read in the template's own words only, and a BOS stands at the
    /// beginning once, whether the template or the model's rule asks for it.
    #[must_use]
    pub fn encode_rendered(&self, rendered: &Rendered) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(rendered.text().len() / 4);
        self.encode_rendered_part(rendered, 0..rendered.text().len(), &mut ids);
        ids
    }

    /// Appends the ids of a part of a rendered chat, cut off from what stands around it; before the first part there
    /// stands a BOS as in [`Tokenizer::encode_rendered`].
    pub(crate) fn encode_rendered_part(
        &self,
        rendered: &Rendered,
        part: Range<usize>,
        ids: &mut Vec<TokenId>,
    ) {
        let start = part.start;
        let spelled = |at: usize| rendered.spelled.binary_search(&at);
        let within = spelled(start).unwrap_or_else(|at| at)..spelled(part.end).unwrap_or_else(|at| at);
        let within: Vec<usize> = rendered.spelled[within].iter().map(|at| at - start).collect();
        let admits = |range: Range<usize>, control: bool| {
            let range = range.start + start..range.end + start;
            if control { !overlaps(&rendered.data, &range) } else { spelled(range.start).is_err() }
        };
        let text = &rendered.text().as_bytes()[part];
        self.encoder_for(text.len()).append_where(text, &admits, &within, start == 0, ids);
        if start == 0 {
            self.set_bos(ids);
        }
    }

    fn set_bos(&self, ids: &mut Vec<TokenId>) {
        if let Some(bos) = self.bos
            && self.add_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
    }

    /// An encoder for texts of about `text_len` bytes together.
    fn encoder_for(&self, text_len: usize) -> Encoder<'_> {
        let call = match &self.model {
            Model::Bpe { bpe, pre, nfc, spaces_marked } => Call::Bpe {
                call: BpeCall::new(bpe, &self.pieces, text_len),
                pre,
                nfc: *nfc,
                spaces_marked: *spaces_marked,
            },
            Model::SentencePiece(model) => {
                Call::SentencePiece(SentencePieceCall::new(model, &self.pieces, text_len))
            }
        };
        Encoder { tokenizer: self, call }
    }

    /// Phi-3's special tokens take the white space after them, but for the three of the original vocabulary.
    fn swallows_space(&self, id: TokenId) -> bool {
        !matches!(self.pieces.get(id), b"<unk>" | b"<s>" | b"<|endoftext|>")
    }

    /// Bytes of these ids; control tokens give none.
    ///
    /// A SentencePiece text that began a prompt begins with the space that was set before it.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId]) -> Vec<u8> {
        ids.iter().filter(|&&id| !self.is_control(id)).flat_map(|&id| self.piece(id)).copied().collect()
    }

    /// Bytes of these ids, control tokens spelled out.
    #[must_use]
    pub fn decode_with_specials(&self, ids: &[TokenId]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.piece(id)).copied().collect()
    }

    /// Bytes of one token (of a control token: its spelling); empty for an id out of range.
    #[must_use]
    pub fn piece(&self, id: TokenId) -> &[u8] {
        self.pieces.get(id)
    }

    /// Whether the token is structure and not text. True for an id out of range.
    #[must_use]
    pub fn is_control(&self, id: TokenId) -> bool {
        self.kinds.get(id as usize).is_none_or(|kind| matches!(kind, TokenKind::Control | TokenKind::Unknown))
    }

    /// What the token is for; none for an id out of range.
    pub(crate) fn kind(&self, id: TokenId) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// Whether a text in the middle of another has the tokens that it has alone: no space is set before it.
    pub(crate) fn keeps_beginnings(&self) -> bool {
        matches!(self.model, Model::Bpe { .. })
    }

    /// Whether the token gives no text in an answer: control tokens, but for the tags around reasoning, which
    /// [`ReasoningParser`](crate::ReasoningParser) must see.
    #[must_use]
    pub fn is_hidden(&self, id: TokenId) -> bool {
        self.is_control(id) && !self.shown.contains(&id)
    }

    /// Whether the token ends an answer.
    #[must_use]
    pub fn is_end_of_generation(&self, id: TokenId) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    /// All ids that end an answer, ascending.
    #[must_use]
    pub fn end_of_generation_ids(&self) -> &[TokenId] {
        &self.end_of_generation
    }

    /// Number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// Begin of text.
    #[must_use]
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// End of text.
    #[must_use]
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// Whether a text is begun with BOS by the model's rule.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// The id of the token with exactly this text, special ones first.
    #[must_use]
    pub fn token_id(&self, text: &[u8]) -> Option<TokenId> {
        self.specials.get(text).or_else(|| match &self.model {
            Model::Bpe { bpe, .. } => bpe.token(&self.pieces, text),
            Model::SentencePiece(model) => model.token(&self.pieces, text),
        })
    }

    /// The texts of special tokens, for [`ChatTemplate`](crate::ChatTemplate).
    #[must_use]
    pub fn special_texts(&self) -> SpecialTexts {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let of = |id: Option<TokenId>| id.map_or_else(String::new, |id| text(self.piece(id)));
        SpecialTexts {
            bos: of(self.bos),
            eos: of(self.eos),
            unk: of(self.unk),
            pad: of(self.pad),
            control: self
                .specials
                .texts()
                .filter(|(_, control)| *control)
                .map(|(bytes, _)| text(bytes))
                .collect(),
            added: match &self.model {
                Model::Bpe { .. } => self
                    .specials
                    .texts()
                    .filter(|(_, control)| !control)
                    .map(|(bytes, _)| text(bytes))
                    .collect(),
                Model::SentencePiece(model) => model.user_defined().map(text).collect(),
            },
        }
    }

    /// What is worth telling about the vocabulary.
    #[must_use]
    pub fn warnings(&self) -> &[TokenizerWarning] {
        &self.warnings
    }
}

/// Whether `range` touches one of `ranges`, which are in order and do not overlap.
fn overlaps(ranges: &[Range<usize>], range: &Range<usize>) -> bool {
    let next = ranges.partition_point(|other| other.end <= range.start);
    ranges.get(next).is_some_and(|other| other.start < range.end)
}

/// Those of `spelled` that lie in `start..end`, counted from `start`.
fn spelled_within(spelled: &[usize], start: usize, end: usize) -> Vec<usize> {
    let from = spelled.partition_point(|&at| at < start);
    spelled[from..].iter().take_while(|&&at| at < end).map(|at| at - start).collect()
}

/// Encodes texts one after the other with the same buffers, and remembers their words.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    call: Call<'a>,
}

impl Encoder<'_> {
    /// Appends the ids of `text`: those of [`Tokenizer::encode`].
    pub fn append(&mut self, text: &[u8], specials: Specials, ids: &mut Vec<TokenId>) {
        self.append_where(text, &|_, control| !control || specials == Specials::Parse, &[], true, ids);
    }

    /// Appends the ids of `text`, which is `first` where nothing stands before it. A token's spelling counts where
    /// `admits` admits it; `spelled` is where the data spells one.
    fn append_where(
        &mut self,
        text: &[u8],
        admits: Admits<'_>,
        spelled: &[usize],
        mut first: bool,
        ids: &mut Vec<TokenId>,
    ) {
        let Encoder { tokenizer, call } = self;
        let start = ids.len();
        let mut at = 0;
        while at < text.len() {
            let found = tokenizer.specials.find(text, at, admits);
            let end = found.map_or(text.len(), |found| found.start);
            if end > at {
                call.fragment(&text[at..end], first, &spelled_within(spelled, at, end), ids);
            }
            let Some(found) = found else { break };
            ids.push(found.id);
            first = true;
            at = found.end;
            if tokenizer.strip_after_special && tokenizer.swallows_space(found.id) {
                at += text[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            }
        }
        if let Call::SentencePiece(call) = call {
            call.finish(ids, start);
        }
    }
}

/// The buffers of an encoder.
#[derive(Debug)]
enum Call<'a> {
    Bpe { call: BpeCall<'a>, pre: &'a PreTokenizer, nfc: bool, spaces_marked: bool },
    SentencePiece(SentencePieceCall<'a>),
}

impl Call<'_> {
    /// Appends the ids of text between special tokens; `first` where it follows one or begins the text.
    fn fragment(&mut self, text: &[u8], first: bool, spelled: &[usize], ids: &mut Vec<TokenId>) {
        match self {
            Call::Bpe { call, pre, nfc, spaces_marked } => {
                let composed = if *nfc { compose(text) } else { None };
                let text = composed.as_deref().unwrap_or(text);
                let marked = if *spaces_marked { Some(mark_spaces(text)) } else { None };
                let text = marked.as_deref().unwrap_or(text);
                call.text(pre, text, ids);
            }
            // SentencePiece finds its added words itself: a cut inside their spelling hides it.
            Call::SentencePiece(call) => {
                let mut at = 0;
                for &start in spelled {
                    let cut = start + char_at(text, start).map_or(1, |c| c.len);
                    call.fragment(&text[at..cut], first && at == 0, ids);
                    at = cut;
                }
                if at < text.len() {
                    call.fragment(&text[at..], first && at == 0, ids);
                }
            }
        }
    }
}

/// NFC of the text, its invalid bytes kept as they are; `None` where nothing changes.
///
/// ASCII never joins what stands before it, so each ASCII character with what follows it is composed alone, and only
/// where it may matter.
pub(crate) fn compose(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // What comes before is in `out`, or was found to need no composing.
    let (mut copied, mut done) = (0, 0);
    while let Some(at) = next_that_may_combine(text, done) {
        let start = text[done..at].iter().rposition(u8::is_ascii).map_or(done, |idx| done + idx);
        let end = text[at..].iter().position(u8::is_ascii).map_or(text.len(), |idx| at + idx);
        done = end;
        let part = &text[start..end];
        let is_composed = |chunk: Utf8Chunk<'_>| is_nfc_quick(chunk.valid().chars()) == IsNormalized::Yes;
        if part.utf8_chunks().all(is_composed) {
            continue;
        }
        out.extend_from_slice(&text[copied..start]);
        for chunk in part.utf8_chunks() {
            chunk.valid().nfc().for_each(|c| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()));
            out.extend_from_slice(chunk.invalid());
        }
        copied = end;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&text[copied..]);
    Some(out)
}

/// Bytes of a text that are looked at together.
const BLOCK_LEN: usize = 64;

/// Where the next character at or after `at` begins that NFC may change or compose.
fn next_that_may_combine(text: &[u8], mut at: usize) -> Option<usize> {
    // Below U+0300 nothing combines: the UTF-8 of what does begins with 0xCC or more.
    let may_begin = |byte: u8| byte >= 0xCC;
    loop {
        while let Some(block) = text.get(at..at + BLOCK_LEN)
            && !block.iter().fold(false, |found, &byte| found | may_begin(byte))
        {
            at += BLOCK_LEN;
        }
        // Where one such character stands, others follow.
        let end = text.len().min(at + BLOCK_LEN);
        while at < end {
            if !may_begin(text[at]) {
                at += 1;
                continue;
            }
            let (code, len) = decode(&text[at..]);
            if may_combine(code) && len > 1 {
                return Some(at);
            }
            at += len;
        }
        if at >= text.len() {
            return None;
        }
    }
}

/// Whether NFC may change a text with this character. The common scripts that it never changes are passed over.
fn may_combine(code: u32) -> bool {
    !matches!(code,
        0..=0x2FF | 0x388..=0x482 | 0x48A..=0x52F | 0x2002..=0x20CF | 0x2190..=0x2328 | 0x232B..=0x2ADB
        | 0x3000..=0x3029 | 0x3041..=0x3098 | 0x309B..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7A3 | 0xFF00..=0xFFEF)
}

/// Vocabularies of plain UTF-8 pieces store a space as `▁`; their pieces are kept with the space itself, so both
/// spellings of the text become a space.
fn mark_spaces(text: &[u8]) -> Vec<u8> {
    let mark = crate::sentence_piece::SPACE_MARK;
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(mark) {
            out.push(b' ');
            at += mark.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests;
