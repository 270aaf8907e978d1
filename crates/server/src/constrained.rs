//! A grammar as the engine's constraint: text's rules on one side, a mask over token ids on the other.

use engine::{BitMask, Constraint, TokenId};
use tokenizer::GrammarAnswer;

/// Lets the engine draw only what a grammar allows.
#[derive(Debug)]
pub struct Constrained(pub GrammarAnswer);

impl Constraint for Constrained {
    fn mask(&mut self, allowed: &mut BitMask) -> Result<(), String> {
        self.0.allowed(allowed.words_mut()).map_err(|error| error.to_string())
    }

    fn accept(&mut self, id: TokenId) -> Result<bool, String> {
        self.0.accept(id).map_err(|error| error.to_string())
    }
}
