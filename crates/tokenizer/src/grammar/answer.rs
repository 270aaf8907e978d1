//! One answer under a grammar: the model may think first, then every token is the grammar's.
//!
//! Where the prompt has opened the tag of a reasoning, or the model may open it itself, all text is allowed up to the
//! closing tag, only not the end of the answer: without the part that the grammar is about there is no answer.

use std::sync::Arc;

use super::{AllowedTokens, Grammar, GrammarError, GrammarState};
use crate::{Reasoning, Specials, TokenId, Tokenizer};

/// Where an answer stands.
#[derive(Debug)]
enum Place {
    /// Before the first token: the opening tag may come, too.
    Start,
    /// Inside an opening tag of several tokens, so many of them taken.
    Opening(usize),
    /// Before the closing tag.
    Reasoning,
    /// In what the grammar is about.
    Answer,
}

/// The state of one answer.
#[derive(Debug)]
pub struct GrammarAnswer {
    state: GrammarState,
    tokenizer: Arc<Tokenizer>,
    place: Place,
    /// The opening tag's tokens.
    open: Vec<TokenId>,
    close: &'static str,
    /// The end of the reasoning so far, shorter than the closing tag.
    tail: Vec<u8>,
    /// The grammar itself allows the opening tag's first token.
    open_is_answer: bool,
}

impl GrammarAnswer {
    /// An answer that is the grammar's from its first token.
    #[must_use]
    pub fn new(grammar: &Grammar) -> GrammarAnswer {
        GrammarAnswer {
            state: grammar.begin(),
            tokenizer: Arc::clone(&grammar.tokenizer),
            place: Place::Answer,
            open: Vec::new(),
            close: "",
            tail: Vec::new(),
            open_is_answer: false,
        }
    }

    /// An answer to a prompt that ends with `prompt`, of a model that may think before it answers. `thinks` tells
    /// whether its reasoning is on.
    #[must_use]
    pub fn after_reasoning(
        grammar: &Grammar,
        reasoning: &Reasoning,
        prompt: &str,
        thinks: bool,
    ) -> GrammarAnswer {
        let mut answer = GrammarAnswer::new(grammar);
        let (open, close) = reasoning.tags;
        let prompt = prompt.trim_end();
        if !reasoning.supported || prompt.ends_with(close) {
            return answer;
        }
        answer.close = close;
        if prompt.ends_with(open) {
            answer.place = Place::Reasoning;
        } else if thinks {
            answer.open = answer.tokenizer.encode(open.as_bytes(), Specials::Parse);
            answer.place = Place::Start;
        }
        answer
    }

    /// Sets the bits of the tokens that may come next and clears all others: 64 tokens a word, lowest id in the lowest
    /// bit.
    ///
    /// # Errors
    /// Where the grammar's next state is beyond the limits.
    pub fn allowed(&mut self, words: &mut [u64]) -> Result<(), GrammarError> {
        match self.place {
            Place::Answer => write(&self.state.allowed()?, words),
            Place::Start => {
                let allowed = self.state.allowed()?;
                write(&allowed, words);
                if let Some(&first) = self.open.first() {
                    self.open_is_answer = allowed.contains(first);
                    set(words, first, true);
                }
            }
            Place::Opening(n) => {
                words.fill(0);
                self.open.get(n).iter().for_each(|id| set(words, **id, true));
            }
            Place::Reasoning => {
                words.fill(u64::MAX);
                for &id in self.tokenizer.end_of_generation_ids() {
                    set(words, id, false);
                }
            }
        }
        Ok(())
    }

    /// Takes a token and tells whether the answer is complete.
    ///
    /// # Errors
    /// Where the token was not allowed.
    pub fn accept(&mut self, id: TokenId) -> Result<bool, GrammarError> {
        match self.place {
            Place::Answer => self.state.accept(id),
            Place::Start if self.open.first() == Some(&id) && !self.open_is_answer => {
                self.opened(1);
                Ok(false)
            }
            Place::Start => {
                self.place = Place::Answer;
                self.state.accept(id)
            }
            Place::Opening(n) if self.open.get(n) == Some(&id) => {
                self.opened(n + 1);
                Ok(false)
            }
            Place::Opening(_) => {
                Err(GrammarError::Stuck { reason: "the opening tag of the reasoning broke off".to_owned() })
            }
            Place::Reasoning => self.reason(id),
        }
    }

    fn opened(&mut self, n: usize) {
        self.place = if n == self.open.len() { Place::Reasoning } else { Place::Opening(n) };
    }

    fn reason(&mut self, id: TokenId) -> Result<bool, GrammarError> {
        if self.tokenizer.is_hidden(id) {
            return Ok(false);
        }
        self.tail.extend_from_slice(self.tokenizer.piece(id));
        let close = self.close.as_bytes();
        let Some(at) = self.tail.windows(close.len()).position(|window| window == close) else {
            let n_past = self.tail.len().saturating_sub(close.len() - 1);
            self.tail.drain(..n_past);
            return Ok(false);
        };
        self.place = Place::Answer;
        // A token may hold the tag's end and the answer's beginning, which is the grammar's already.
        let rest = String::from_utf8_lossy(&self.tail[at + close.len()..]).into_owned();
        match rest.trim_start() {
            "" => Ok(false),
            begun => self.state.accept_text(begun),
        }
    }
}

fn write(allowed: &AllowedTokens, words: &mut [u64]) {
    let (pairs, last) = allowed.words().as_chunks::<2>();
    let pairs = pairs.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32);
    let mut allowed = pairs.chain(last.iter().map(|low| u64::from(*low)));
    words.iter_mut().for_each(|word| *word = allowed.next().unwrap_or(0));
}

fn set(words: &mut [u64], id: TokenId, allowed: bool) {
    if let Some(word) = words.get_mut(id as usize / 64) {
        let bit = 1 << (id % 64);
        *word = if allowed { *word | bit } else { *word & !bit };
    }
}
