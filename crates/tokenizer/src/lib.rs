//! Which ids is this text, and what does a chat look like as text?
//!
//! A plain [`Vocabulary`] enters; [`Tokenizer`] turns bytes into ids and ids into bytes. A model's own Jinja source
//! enters; [`ChatTemplate`] turns messages into text that remembers which of its bytes are data, so that
//! [`Tokenizer::encode_rendered`] gives the template's words their special tokens and the user's words none.
//! [`Grammar`] says which token may come next in an answer that must have a form;
//! [`TokenStream`], [`StopStrings`] and [`ReasoningParser`] stand between an answer's ids and the screen.
//! [`BpeTraining`] learns a vocabulary from text.
//!
//! The crate knows no model files: whoever reads one fills the vocabulary.

mod vocabulary;

mod byte_level;
mod char_class;
mod piece_table;

mod pre_tokenizer;

mod bpe;
mod merging;
mod seams;
mod sentence_piece;
mod special_tokens;
mod word_cache;

mod tokenizer;

mod training;

mod stop_strings;
mod token_stream;

mod one_line;
mod stack;

mod grammar;

mod chat;
mod chat_template;
mod lesson;
mod reasoning;

pub use chat::{ChatMessage, RenderInput, Rendered, SpecialTexts, ToolCall};
pub use chat_template::{ChatTemplate, TemplateError};
pub use grammar::{
    AllowedTokens, Grammar, GrammarAnswer, GrammarCompiler, GrammarError, GrammarSource, GrammarState,
    MAX_CHOICES, MAX_GRAMMAR_BYTES,
};
pub use lesson::{Lesson, LessonError, lessons};
pub use one_line::one_line;
pub use pre_tokenizer::{PreTokenizerFacts, known_pre_tokenizers, pre_tokenizer_facts};
pub use reasoning::{Delta, Reasoning, ReasoningParser};
pub use stop_strings::StopStrings;
pub use token_stream::TokenStream;
pub use tokenizer::{Encoder, Specials, Tokenizer, TokenizerError, TokenizerWarning};
pub use training::{BpeTraining, TrainedBpe, TrainingError, WordCounts};
pub use vocabulary::{TokenId, TokenKind, Vocabulary, VocabularyKind};
