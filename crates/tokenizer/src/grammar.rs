//! Which text may come next: schemas, regular expressions, choices and grammars as masks over the vocabulary.
//!
//! source ([`GrammarSource`]) → checked (`grammar/schema.rs`, `grammar/lark.rs`, `grammar/gbnf.rs`) → compiled by
//! llguidance against the vocabulary's trie (`grammar/trie.rs`) → [`Grammar`] → one [`GrammarState`] an answer, which
//! says after each token what may follow.
//!
//! Sources come from strangers: their size, depth and count are bounded before llguidance sees them, its work by
//! [`LIMITS`], its stack by a thread of its own. Whatever cannot be honoured is an error; nothing is left out.

mod answer;
mod gbnf;
mod lark;
mod schema;
mod trie;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::{GrammarInit, ParserLimits, StopReason, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, SimpleVob};
use llguidance::{Logger, Matcher, ParserFactory, TokenParser};
use serde_json::Value;

pub use answer::GrammarAnswer;

use crate::stack::with_stack;
use crate::{TokenId, Tokenizer};

/// Bytes of a source, a schema counted as compact JSON: larger than any schema seen in practice.
pub const MAX_GRAMMAR_BYTES: usize = 256 << 10;

/// Texts of a choice.
pub const MAX_CHOICES: usize = 4096;

/// What llguidance may spend. Fuel counts steps of its lexer, some 50,000 (compiling) and 14,000 (masks) a
/// millisecond; a state of the lexer takes one or two kilobytes.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: 50_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

/// Compiled grammars that are kept: programs ask in one form again and again.
const N_KEPT: usize = 8;

/// Stack of the thread that compiles: it recurses as deep as the source is nested, which the checks bound.
const COMPILE_STACK_BYTES: usize = 64 << 20;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum GrammarSource {
    /// Any JSON object.
    JsonObject,
    /// JSON that a JSON Schema accepts.
    JsonSchema(Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in Lark's notation, or in llama.cpp's GBNF, told apart by its `::=`.
    Grammar(String),
}

impl GrammarSource {
    /// Tells one source from another; schemas that differ in the order of their members do, which is the order of the
    /// answer's.
    fn key(&self) -> String {
        match self {
            GrammarSource::JsonObject => "object".to_owned(),
            GrammarSource::JsonSchema(schema) => format!("schema {schema}"),
            GrammarSource::Regex(pattern) => format!("regex {pattern}"),
            GrammarSource::Choice(texts) => format!("choice {texts:?}"),
            GrammarSource::Grammar(text) => format!("grammar {text}"),
        }
    }
}

/// Why a source is no grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Larger than its limit.
    #[error("{what} is {found}, expected at most {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// It breaks off or goes wrong at a position.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// Part of a schema that cannot be enforced.
    #[error("{path}: {reason}")]
    Schema {
        /// Where, as a JSON pointer (`#/properties/name`).
        path: String,
        /// What is not supported, or wrong.
        reason: String,
    },
    /// What is wrong has no position.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// The model's vocabulary cannot be constrained.
    #[error("this model's vocabulary cannot be constrained: {reason}")]
    Vocabulary {
        /// What is wrong with it.
        reason: String,
    },
    /// An answer came to a state that is beyond the limits, or took a token that was not allowed.
    #[error("the grammar could not go on: {reason}")]
    Stuck {
        /// What llguidance says.
        reason: String,
    },
}

/// Compiles grammars for one vocabulary. The vocabulary's trie is built with the first of them and kept, as are the
/// grammars asked for last. Clones are handles to the same one.
#[derive(Clone)]
pub struct GrammarCompiler {
    tokenizer: Arc<Tokenizer>,
    factory: Arc<OnceLock<Result<ParserFactory, GrammarError>>>,
    /// Newest last.
    kept: Arc<Mutex<VecDeque<(String, Arc<Grammar>)>>>,
}

impl std::fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarCompiler").field("is_ready", &self.factory.get().is_some()).finish()
    }
}

impl GrammarCompiler {
    /// A compiler that has built nothing yet.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> GrammarCompiler {
        GrammarCompiler { tokenizer, factory: Arc::default(), kept: Arc::default() }
    }

    /// Checks and compiles a source. Takes milliseconds, the first one for a vocabulary some hundred: not for a
    /// thread that others wait for.
    ///
    /// # Errors
    /// Where the source is too large, broken, or asks for something that cannot be enforced.
    pub fn compile(&self, source: &GrammarSource) -> Result<Arc<Grammar>, GrammarError> {
        let key = source.key();
        if let Some(grammar) = self.recall(&key) {
            return Ok(grammar);
        }
        let checked = check(source)?;
        let invalid = |reason: &str| GrammarError::Invalid { reason: reason.to_owned() };
        let compile = || {
            let compile = AssertUnwindSafe(|| self.compile_here(checked, source));
            catch_unwind(compile).unwrap_or_else(|_| Err(invalid("compiling it failed; simplify it")))
        };
        let compiled = with_stack(COMPILE_STACK_BYTES, compile)
            .ok_or_else(|| invalid("no thread could be started to compile it"))?;
        let grammar = Arc::new(compiled?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == N_KEPT {
            kept.pop_front();
        }
        kept.push_back((key, Arc::clone(&grammar)));
        Ok(grammar)
    }

    /// A grammar that was compiled before.
    fn recall(&self, key: &str) -> Option<Arc<Grammar>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| other == key)?;
        let found = kept.remove(at)?;
        let grammar = Arc::clone(&found.1);
        kept.push_back(found);
        Some(grammar)
    }

    fn compile_here(
        &self,
        checked: TopLevelGrammar,
        source: &GrammarSource,
    ) -> Result<Grammar, GrammarError> {
        let factory = self.factory.get_or_init(|| trie::factory(&self.tokenizer, LIMITS));
        let factory = factory.as_ref().map_err(Clone::clone)?;
        let parser = parser(factory, checked).map_err(|error| explain(&error, source))?;
        let mut matcher = Matcher::new(Ok(parser));
        // The first mask finds what compiling alone does not: a grammar that accepts no text at all.
        matcher.compute_mask_or_eos().map_err(|error| GrammarError::Invalid {
            reason: match matcher.stop_reason() {
                StopReason::NoExtension | StopReason::NoExtensionBias => "it accepts no text".to_owned(),
                _ => first_line(&error.to_string()),
            },
        })?;
        Ok(Grammar { matcher: Mutex::new(matcher), tokenizer: Arc::clone(&self.tokenizer) })
    }
}

fn parser(factory: &ParserFactory, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
    let logger = Logger::new(0, 0);
    let init = GrammarInit::Serialized(grammar);
    let parser = factory.create_parser_from_init_ext(init, logger, InferenceCapabilities::default(), LIMITS);
    parser.map_err(|error| format!("{error:#}"))
}

/// Bounds a source, refuses what cannot be enforced, and puts it in llguidance's words.
fn check(source: &GrammarSource) -> Result<TopLevelGrammar, GrammarError> {
    Ok(match source {
        GrammarSource::JsonObject => TopLevelGrammar::from_json_schema(schema::any_object()),
        GrammarSource::JsonSchema(value) => TopLevelGrammar::from_json_schema(schema::check(value)?),
        GrammarSource::Regex(pattern) => {
            TopLevelGrammar::from_lark(lark::of_regex(bounded("the regular expression", pattern)?)?)
        }
        GrammarSource::Choice(texts) => TopLevelGrammar::from_lark(lark::of_choice(texts)?),
        GrammarSource::Grammar(text) => {
            let text = bounded("the grammar", text)?;
            match lark::is_gbnf(text) {
                true => TopLevelGrammar::from_lark(gbnf::to_lark(text)?),
                false => TopLevelGrammar::from_lark(lark::check(text)?),
            }
        }
    })
}

fn bounded<'a>(what: &'static str, text: &'a str) -> Result<&'a str, GrammarError> {
    match text.len() {
        0 => {
            Err(GrammarError::Invalid { reason: format!("{what} is empty, expected at least one character") })
        }
        1..=MAX_GRAMMAR_BYTES => Ok(text),
        found => Err(GrammarError::TooLarge { what, found, limit: MAX_GRAMMAR_BYTES }),
    }
}

/// llguidance's error with the place that it is about, where that can be found.
fn explain(error: &str, source: &GrammarSource) -> GrammarError {
    match source {
        GrammarSource::JsonSchema(value) => schema::explain(value, &first_line(error)),
        GrammarSource::Grammar(text) if !lark::is_gbnf(text) => lark::explain(error),
        _ => GrammarError::Invalid { reason: first_line(error) },
    }
}

/// An error's first line, without what llguidance adds for its own developers.
fn first_line(error: &str) -> String {
    let line = error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it is not a grammar");
    line.trim_end_matches("<non-verbose/>").trim_end().chars().take(300).collect()
}

/// A compiled grammar, from which any number of answers begin.
pub struct Grammar {
    matcher: Mutex<Matcher>,
    tokenizer: Arc<Tokenizer>,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// The state before an answer's first token. States share nothing, so that answers do not wait for each other.
    #[must_use]
    pub fn begin(&self) -> GrammarState {
        let matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner);
        GrammarState { matcher: matcher.deep_clone(), tokenizer: Arc::clone(&self.tokenizer) }
    }
}

/// Where one answer stands in its grammar.
pub struct GrammarState {
    matcher: Matcher,
    tokenizer: Arc<Tokenizer>,
}

impl std::fmt::Debug for GrammarState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarState").finish_non_exhaustive()
    }
}

impl GrammarState {
    /// The tokens that may come next; those that end the answer are among them where it may end here.
    ///
    /// # Errors
    /// Where the next state is beyond the limits: then nothing may come.
    pub fn allowed(&mut self) -> Result<AllowedTokens, GrammarError> {
        let mask = self.matcher.compute_mask_or_eos();
        mask.map(AllowedTokens).map_err(|error| stuck(&error.to_string()))
    }

    /// Takes a token and tells whether the answer is complete: nothing more may come.
    ///
    /// # Errors
    /// Where the token was not allowed.
    pub fn accept(&mut self, id: TokenId) -> Result<bool, GrammarError> {
        self.matcher.consume_token(id).map_err(|error| stuck(&error.to_string()))?;
        Ok(self.matcher.is_stopped())
    }

    /// Takes text that came in other tokens, as [`GrammarState::accept`] does.
    ///
    /// # Errors
    /// Where the text was not allowed.
    pub fn accept_text(&mut self, text: &str) -> Result<bool, GrammarError> {
        let ids = self.tokenizer.encode(text.as_bytes(), crate::Specials::AsText);
        self.matcher.consume_tokens(&ids).map_err(|error| stuck(&error.to_string()))?;
        Ok(self.matcher.is_stopped())
    }
}

fn stuck(error: &str) -> GrammarError {
    GrammarError::Stuck { reason: first_line(error) }
}

/// A set of tokens.
#[derive(Clone)]
pub struct AllowedTokens(SimpleVob);

impl std::fmt::Debug for AllowedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AllowedTokens").field("n", &self.0.num_set()).finish()
    }
}

impl AllowedTokens {
    /// One bit for each token, 32 a word, lowest id in the lowest bit; the last word may hold a bit too many.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        self.0.as_slice()
    }

    /// Whether a token is in the set.
    #[must_use]
    pub fn contains(&self, id: TokenId) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }
}

#[cfg(test)]
mod tests;
