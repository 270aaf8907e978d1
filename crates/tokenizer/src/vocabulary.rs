//! A vocabulary as plain data: what a model file says about its tokens, borrowed from wherever it lies.
//!
//! Nothing here is trusted: texts may be any bytes, ids may point nowhere, lists may differ in length.
//! [`Tokenizer::new`](crate::Tokenizer::new) checks all of it.

/// A token's number, its row in the embedding matrix.
pub type TokenId = u32;

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VocabularyKind {
    /// Byte-level BPE (`tokenizer.ggml.model` = `gpt2`): ranked merges inside pre-tokenized words.
    Bpe,
    /// SentencePiece BPE (`llama`): merges by score over the whole text, spaces written as `▁`.
    Spm,
}

/// What a token is for; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// 1: text like any other.
    Normal = 1,
    /// 2: stands for text that the vocabulary cannot say.
    Unknown = 2,
    /// 3: structure (begin, end, turn): never produced from a user's text.
    Control = 3,
    /// 4: added later; found in the text before anything else is.
    UserDefined = 4,
    /// 5: a reserved row.
    Unused = 5,
    /// 6: one raw byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number in `tokenizer.ggml.token_type`; what is not listed there counts as normal.
    #[must_use]
    pub fn from_ggml_id(id: i32) -> TokenKind {
        match id {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }
}

/// Everything a tokenizer is made of. Borrowed: no text is copied before the tokenizer packs it.
#[derive(Debug, Clone)]
pub struct Vocabulary<'a> {
    /// How text becomes tokens.
    pub kind: VocabularyKind,
    /// BPE: name of the pre-tokenizer, as `tokenizer.ggml.pre` has it, for example `llama-bpe`.
    pub pre: Option<String>,
    /// Texts in the file's own spelling: byte-level characters (`Ġthe`) in BPE, `▁the` in SentencePiece.
    pub tokens: Vec<&'a [u8]>,
    /// One kind for each token; empty means that all are normal.
    pub kinds: Vec<TokenKind>,
    /// SentencePiece: one score for each token, higher merges first.
    pub scores: Vec<f32>,
    /// BPE: `left right` in order of rank.
    pub merges: Vec<&'a [u8]>,
    /// Begin of text.
    pub bos: Option<TokenId>,
    /// End of text.
    pub eos: Option<TokenId>,
    /// End of turn.
    pub eot: Option<TokenId>,
    /// End of message: the model waits for a tool.
    pub eom: Option<TokenId>,
    /// Stands for what cannot be said.
    pub unk: Option<TokenId>,
    /// Filler of batches.
    pub pad: Option<TokenId>,
    /// More ids that end a generation, where a model's own configuration names them.
    pub more_eog: Vec<TokenId>,
    /// `tokenizer.ggml.add_bos_token`; `None` follows the kind's custom (SentencePiece, llama-bpe and tekken: yes).
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; `None` means no.
    pub add_eos: Option<bool>,
    /// SentencePiece, `tokenizer.ggml.add_space_prefix`: a space before the text; `None` means yes.
    pub add_space_prefix: Option<bool>,
}

impl<'a> Vocabulary<'a> {
    /// A vocabulary of these tokens that leaves everything else to the kind's custom.
    #[must_use]
    pub fn new(kind: VocabularyKind, tokens: Vec<&'a [u8]>) -> Vocabulary<'a> {
        Vocabulary {
            kind,
            pre: None,
            tokens,
            kinds: Vec::new(),
            scores: Vec::new(),
            merges: Vec::new(),
            bos: None,
            eos: None,
            eot: None,
            eom: None,
            unk: None,
            pad: None,
            more_eog: Vec::new(),
            add_bos: None,
            add_eos: None,
            add_space_prefix: None,
        }
    }
}
