//! A title that the model itself writes, in the background, when the first answer of a conversation is complete.
//!
//! It waits behind everything that somebody waits for, is thrown away when it is no title, and never replaces one that
//! a person has chosen. Until then, and where the model is too small to write one, the first words of the question
//! stand (`title.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokenizer::ChatMessage;

use super::events::TurnEvent;
use super::run::Run;
use super::settings::Settings;
use crate::error::ApiError;
use crate::generation::{ChatInput, FinishReason, TextEvent, generate, prepare_chat};
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// Models below this write worse titles than the first words of the question are.
const MIN_PARAMETERS: u64 = 300_000_000;
/// Behind every answer that somebody waits for.
const PRIORITY: i8 = -10;
/// A title that has not come by then is not worth waiting for; the stream of the answer stays open so long.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Tokens of a title: six words, or twelve characters of an old Chinese vocabulary, with room for quotes.
const MAX_TOKENS: usize = 40;
/// Characters of question and answer that the model sees.
const MAX_QUESTION: usize = 1200;
const MAX_ANSWER: usize = 300;
/// Words that a title may have, asked for are six; for scripts without spaces its characters are counted instead.
const MAX_WORDS: usize = 9;
const MAX_HAN: usize = 16;
const MAX_CHARS: usize = 64;

/// What a title is made of.
pub(super) struct NewTitle {
    pub(super) model: String,
    pub(super) question: String,
    pub(super) answer: String,
    /// The title that stands until then.
    pub(super) first_words: String,
}

impl NewTitle {
    /// Writes the title, saves it and tells it. Whatever goes wrong, the title that stands is good enough.
    pub(super) async fn write(self, state: &AppState, run: &Run) {
        if is_title_already(&self.question) {
            return;
        }
        let Some(model) = state.models.loaded(&self.model).filter(|model| can_write(model)) else { return };
        let title = tokio::select! {
            biased;
            _ = run.stopped() => return,
            () = state.runs.closing() => return,
            title = tokio::time::timeout(TIME_LIMIT, self.ask(state, &model, run)) => title,
        };
        match title {
            Ok(Ok(Some(title))) => {
                match state.store.set_automatic_title(run.owner, run.conversation_id, &title).await {
                    Ok(true) => _ = run.publish(&TurnEvent::Title(title)),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(answer = %run.id, "a title could not be saved: {error}"),
                }
            }
            Ok(Ok(None)) => tracing::debug!(answer = %run.id, "the model wrote no title"),
            Ok(Err(error)) => tracing::debug!(answer = %run.id, "no title was written: {error}"),
            Err(_) => tracing::debug!(answer = %run.id, "a title took too long"),
        }
    }

    /// What the model says, if it is a title. Dropping it cancels the sequence.
    async fn ask(
        &self,
        state: &AppState,
        model: &Arc<LoadedModel>,
        run: &Run,
    ) -> Result<Option<String>, ApiError> {
        let mut input = ChatInput::new(vec![ChatMessage::new("user", &self.prompt())]);
        let reasoning = model.open.template.reasoning();
        if reasoning.supported {
            input.set_reasoning(reasoning, false);
        }
        input.reserve = MAX_TOKENS;
        let prompt = prepare_chat(model, input).await?;
        let mut params = Settings::default().params(run.owner);
        params.temperature = 0.0;
        params.max_tokens = Some(MAX_TOKENS);
        params.priority = PRIORITY;
        let mut generation = generate(state, model, &prompt, params)?;
        let mut said = String::new();
        while let Some(event) = generation.next().await {
            match event {
                TextEvent::Text(text) => said.push_str(&text),
                TextEvent::Done(finished) if finished.reason == FinishReason::Stop => {
                    return Ok(clean(&said, &self.question).filter(|title| self.is_new(title)));
                }
                TextEvent::Done(_) => return Ok(None),
                TextEvent::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Neither the title that stands nor the beginning of the answer.
    fn is_new(&self, title: &str) -> bool {
        *title != self.first_words && !letters(&self.answer).starts_with(&letters(title))
    }

    fn prompt(&self) -> String {
        let (question, answer) = (start_of(&self.question, MAX_QUESTION), start_of(&self.answer, MAX_ANSWER));
        if is_chinese(&self.question) {
            format!(
                "下面是一段对话的开头。请为这段对话起一个标题：用中文，不超过12个汉字，概括主题，不要引号和标点，只输出标题。\
                 \n\n问：{question}\n\n答：{answer}"
            )
        } else {
            format!(
                "Here is the beginning of a conversation. Write a title for it: three to six words that name its \
                 subject, in the language of the question, without quotes or a full stop. Say the title and nothing \
                 else.\n\nQuestion: {question}\n\nAnswer: {answer}"
            )
        }
    }
}

/// Whether this model's titles are better than the first words; one that must think first would take too long.
fn can_write(model: &LoadedModel) -> bool {
    let reasoning = model.open.template.reasoning();
    let n_parameters: u64 = model.open.gguf.tensors().iter().map(|tensor| tensor.n_elements()).sum();
    n_parameters >= MIN_PARAMETERS && (!reasoning.supported || reasoning.can_disable)
}

/// A question of a few words is its own best title: asked for another one, models greet or make things up.
fn is_title_already(question: &str) -> bool {
    let n_han = question.chars().filter(|c| is_han(*c)).count();
    n_han <= 6 && question.split_whitespace().count() <= 3
}

fn start_of(text: &str, max_chars: usize) -> &str {
    text.char_indices().nth(max_chars).map_or(text, |(at, _)| &text[..at])
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether most words are Chinese, two characters a word: a Chinese question may name English things.
fn is_chinese(text: &str) -> bool {
    let n_han = text.chars().filter(|c| is_han(*c)).count();
    n_han > 0 && n_han * 2 >= text.split_whitespace().count()
}

/// The title in what the model said; none if there is none.
fn clean(said: &str, question: &str) -> Option<String> {
    let line = said.lines().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric))?;
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || "#>*-_`".contains(c));
    let labels = ["title:", "标题：", "标题:"];
    let label = labels
        .iter()
        .find(|label| line.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label)));
    let line = &line[label.map_or(0, |label| label.len())..];
    let marks = |c: char| c.is_whitespace() || "\"'`*_#“”‘’「」『』《》".contains(c);
    let line = line.trim_matches(marks).trim_end_matches(['.', '。', '!', '！', ',', '，', ':', '：']);
    let title = line.trim_matches(marks).split_whitespace().collect::<Vec<_>>().join(" ");
    let n_han = title.chars().filter(|c| is_han(*c)).count();
    let fits = title.chars().count() <= MAX_CHARS
        && title.split(' ').count() <= MAX_WORDS
        && n_han <= MAX_HAN
        && (n_han > 0) == is_chinese(question);
    // A quotation that is not closed is the beginning of an answer.
    let whole = title.matches('"').count().is_multiple_of(2);
    let words =
        title.chars().any(char::is_alphanumeric) && !title.chars().any(|c| c.is_control() || c == '\u{fffd}');
    (fits && whole && words && letters(&title) != letters(question)).then_some(title)
}

/// A text without what does not make it another one.
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_taken_out_of_what_the_model_said() {
        let question = "Can you tell me how bread rises?";
        let cases = [
            ("How Bread Rises", Some("How Bread Rises")),
            ("\n**Title: \"How bread rises.\"**\nIt is about", Some("How bread rises")),
            ("# Bread and yeast", Some("Bread and yeast")),
            ("", None),
            ("\"\"", None),
            ("French: \"Pain\"", None),
            ("How \"bread\" rises", Some("How \"bread\" rises")),
            ("can you tell me how bread rises", None),
            ("This conversation is about the way in which bread dough rises in the oven", None),
            ("面包如何发酵", None),
            ("a\u{1b}[31mb", None),
        ];
        for (said, expected) in cases {
            assert_eq!(clean(said, question).as_deref(), expected, "{said:?}");
        }
    }

    #[test]
    fn a_chinese_question_has_a_short_chinese_title() {
        let question = "请用 Python 写一个快速排序，并解释一下它什么时候会变慢。";
        let cases = [
            ("快速排序的实现", Some("快速排序的实现")),
            ("标题：《Python 快速排序》。", Some("Python 快速排序")),
            ("Quicksort in Python", None),
            ("关于如何用编程语言来写一个快速排序以及它什么时候会变慢的说明", None),
        ];
        for (said, expected) in cases {
            assert_eq!(clean(said, question).as_deref(), expected, "{said:?}");
        }
    }

    #[test]
    fn short_questions_and_copied_answers_make_no_title() {
        for (question, expected) in [
            ("hi", true),
            ("Tell me more", true),
            ("你好", true),
            ("How does bread rise?", false),
            ("请介绍一下北京。", false),
            ("", true),
        ] {
            assert_eq!(is_title_already(question), expected, "{question:?}");
        }
        let title = NewTitle {
            model: String::new(),
            question: "How does bread rise?".to_owned(),
            answer: "Yeast makes gas, and so on.".to_owned(),
            first_words: "How does bread rise?".to_owned(),
        };
        assert!(!title.is_new("Yeast makes gas") && !title.is_new("How does bread rise?"));
        assert!(title.is_new("Bread and yeast"));
    }

    #[test]
    fn the_language_is_that_of_most_words() {
        assert!(is_chinese("什么是 HTTP？") && is_chinese("用 Rust 写一个 hello world"));
        assert!(!is_chinese("What does 道 mean in this old book?") && !is_chinese("hello"));
    }
}
