//! The vocabulary as llguidance walks it: a trie of the bytes of every token that is text.
//!
//! Tokens that are structure are not in it, so that no grammar, however it is written, lets one into an answer; those
//! that end an answer are named apart. llguidance reads a first byte of 0xFF as its own mark of a special token: a
//! token that begins so (no UTF-8 does) is left out, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{
    INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId as TrieTokenId, TokenizerEnv,
};

use super::GrammarError;
use crate::vocabulary::TokenKind;
use crate::{Specials, TokenId, Tokenizer};

/// Longest token in the trie: its nodes count their depth in ten bits.
const MAX_TOKEN_BYTES: usize = 1000;

/// Sets of tokens that are allowed or not as a whole, where a state of the grammar allows: the inside of a JSON
/// string, short enough for a bounded one, or any. Each set costs a trie; these are the ones that pay.
const SLICES: [&str; 2] = [r#"[^"\\\x00-\x1F\x7F]{1,10}"#, r#"[^"\\\x00-\x1F\x7F]+"#];

/// What compiles grammars for a vocabulary.
pub(super) fn factory(
    tokenizer: &Arc<Tokenizer>,
    limits: ParserLimits,
) -> Result<ParserFactory, GrammarError> {
    let build = || {
        let env: TokEnv = Arc::new(VocabularyEnv::new(Arc::clone(tokenizer)));
        let slices = SLICES.map(str::to_owned);
        ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
    };
    // A vocabulary beyond the trie's own limits (millions of tokens) panics there.
    let built = catch_unwind(AssertUnwindSafe(build));
    let reason = match built {
        Ok(Ok(mut factory)) => {
            factory.quiet();
            *factory.limits_mut() = limits;
            return Ok(factory);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it has too many tokens or too long ones".to_owned(),
    };
    Err(GrammarError::Vocabulary { reason })
}

struct VocabularyEnv {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl VocabularyEnv {
    fn new(tokenizer: Arc<Tokenizer>) -> VocabularyEnv {
        let n_tokens = u32::try_from(tokenizer.vocab_size()).expect("ids are 32 bits wide");
        let piece =
            |id: TokenId| if is_text(&tokenizer, id) { tokenizer.piece(id).to_vec() } else { Vec::new() };
        let pieces: Vec<Vec<u8>> = (0..n_tokens).map(piece).collect();
        let ends = tokenizer.end_of_generation_ids();
        let info = TokRxInfo::new(n_tokens, ends.first().copied().unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &pieces);
        if ends.len() > 1 {
            trie = trie.with_eos_tokens(ends);
        }
        VocabularyEnv { tokenizer, trie }
    }
}

/// Whether a grammar may let this token into an answer.
fn is_text(tokenizer: &Tokenizer, id: TokenId) -> bool {
    let piece = tokenizer.piece(id);
    !tokenizer.is_control(id)
        && !tokenizer.is_end_of_generation(id)
        && tokenizer.kind(id) != Some(TokenKind::Unused)
        && piece.len() <= MAX_TOKEN_BYTES
        && piece.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER)
}

impl TokenizerEnv for VocabularyEnv {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TrieTokenId> {
        let ids = self.tokenizer.encode(text, Specials::AsText);
        // Normalisation may change the text; what a grammar forces must come out as it stands.
        let is_exact = self.trie.decode_ext(&ids, false) == text;
        if is_exact { ids } else { self.trie.greedy_tokenize(text) }
    }

    /// Where a grammar leaves no choice of text, the tokens are those that the text would have in a prompt: what the
    /// model has learnt to read. SentencePiece sets a space before every text that it is given, so that there the
    /// model chooses.
    fn tokenize_is_canonical(&self) -> bool {
        self.tokenizer.keeps_beginnings()
    }
}
