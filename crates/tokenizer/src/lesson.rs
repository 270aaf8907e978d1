//! A conversation to learn from: its tokens, and which of them an assistant said.
//!
//! An answer is cut off where the prompt before it ends, as when it was asked for, so a model learns the very tokens that
//! it will have to say, up to the one that ends its turn.

use std::ops::Range;

use crate::{ChatMessage, ChatTemplate, RenderInput, Rendered, TemplateError, TokenId, Tokenizer};

/// Tokens of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// All of them.
    pub tokens: Vec<TokenId>,
    /// Whether each is to be learnt: as long as `tokens`.
    pub is_answer: Vec<bool>,
}

/// Why nothing can be learnt from a conversation.
#[derive(Debug, thiserror::Error)]
pub enum LessonError {
    /// The template refuses it.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Nobody answers in it.
    #[error("no message of an assistant, so there is nothing to learn")]
    NoAnswer,
    /// The template writes what was said differently once an answer stands behind it.
    #[error(
        "the chat template rewrites the conversation before message {0}, so its answer cannot be told from the rest"
    )]
    Rewritten(usize),
}

/// The tokens of a conversation. A template that writes earlier answers differently later on (without their reasoning,
/// for instance) gives a lesson for each answer.
///
/// # Errors
/// Where the template refuses the messages, or there is no answer in them.
pub fn lessons(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[ChatMessage],
) -> Result<Vec<Lesson>, LessonError> {
    let answers: Vec<usize> = (0..messages.len()).filter(|&idx| messages[idx].role == "assistant").collect();
    let Some(&last) = answers.last() else { return Err(LessonError::NoAnswer) };
    let render = |n: usize, add_generation_prompt: bool| {
        let input = RenderInput { add_generation_prompt, ..RenderInput::prompt(&messages[..n], 0) };
        template.render(&input)
    };
    let whole = render(last + 1, false)?;
    let mut spans = Vec::with_capacity(answers.len());
    for &idx in &answers {
        let (before, with) = (render(idx, true)?, render(idx + 1, false)?);
        let span = before.text().len()..with.text().len();
        let is_part = with.text().starts_with(before.text()) && whole.text().starts_with(with.text());
        if !is_part {
            return answers.into_iter().map(|idx| alone(tokenizer, &render, idx)).collect();
        }
        spans.push(span);
    }
    Ok(vec![cut(tokenizer, &whole, &spans)])
}

/// The lesson of one answer.
fn alone(
    tokenizer: &Tokenizer,
    render: &dyn Fn(usize, bool) -> Result<Rendered, TemplateError>,
    idx: usize,
) -> Result<Lesson, LessonError> {
    let (before, with) = (render(idx, true)?, render(idx + 1, false)?);
    if !with.text().starts_with(before.text()) {
        return Err(LessonError::Rewritten(idx));
    }
    let answer = before.text().len()..with.text().len();
    Ok(cut(tokenizer, &with, std::slice::from_ref(&answer)))
}

/// Tokens of a text with answers in it, each cut off from what stands around it.
fn cut(tokenizer: &Tokenizer, whole: &Rendered, answers: &[Range<usize>]) -> Lesson {
    let mut lesson = Lesson { tokens: Vec::new(), is_answer: Vec::new() };
    let mut at = 0;
    for answer in answers {
        tokenizer.encode_rendered_part(whole, at..answer.start, &mut lesson.tokens);
        lesson.is_answer.resize(lesson.tokens.len(), false);
        let start = lesson.tokens.len();
        tokenizer.encode_rendered_part(whole, answer.clone(), &mut lesson.tokens);
        // What the template writes behind the end of a turn nobody has to say.
        let said = &lesson.tokens[start..];
        let end = said.iter().position(|&token| tokenizer.is_end_of_generation(token));
        lesson.is_answer.resize(start + end.map_or(said.len(), |end| end + 1), true);
        lesson.is_answer.resize(lesson.tokens.len(), false);
        at = answer.end;
    }
    lesson
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::ControlFlow;

    use super::*;
    use crate::{BpeTraining, WordCounts};

    fn tokenizer() -> Tokenizer {
        let mut counts = WordCounts::new("qwen2").unwrap();
        counts.add(b"what is it? it is what it is, assistant and user");
        let special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
        let training = BpeTraining { vocab_size: 290, special_tokens, min_count: 2 };
        let bpe = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let mut vocabulary = bpe.vocabulary();
        vocabulary.eot = Some(2);
        Tokenizer::new(&vocabulary).unwrap()
    }

    fn chat(turns: &[(&str, &str)]) -> Vec<ChatMessage> {
        turns.iter().map(|(role, content)| ChatMessage::new(role, content)).collect()
    }

    /// The text of what is learnt, one string a run.
    fn learnt(tokenizer: &Tokenizer, lesson: &Lesson) -> Vec<String> {
        assert_eq!(lesson.tokens.len(), lesson.is_answer.len());
        let mut runs: Vec<Vec<TokenId>> = Vec::new();
        let mut before = false;
        for (&token, &is_answer) in lesson.tokens.iter().zip(&lesson.is_answer) {
            if is_answer && !before {
                runs.push(Vec::new());
            }
            if is_answer {
                runs.last_mut().unwrap().push(token);
            }
            before = is_answer;
        }
        runs.iter().map(|run| String::from_utf8(tokenizer.decode_with_specials(run)).unwrap()).collect()
    }

    #[test]
    fn answers_are_learnt_up_to_the_end_of_their_turn() {
        let tokenizer = tokenizer();
        let template = ChatTemplate::chatml(tokenizer.special_texts());
        let messages = chat(&[
            ("system", "be <|im_end|> kind"),
            ("user", "what?"),
            ("assistant", "it is"),
            ("user", "is it?"),
            ("assistant", "it is what it is"),
            ("user", "and?"),
        ]);
        let lessons = lessons(&tokenizer, &template, &messages).unwrap();
        assert_eq!(lessons.len(), 1);
        assert_eq!(learnt(&tokenizer, &lessons[0]), ["it is<|im_end|>", "it is what it is<|im_end|>"]);
        // The text as the template writes it, without the question that nobody answered; the words of people spell no
        // token.
        let text = template
            .render(&RenderInput { add_generation_prompt: false, ..RenderInput::prompt(&messages[..5], 0) })
            .unwrap();
        assert_eq!(tokenizer.decode_with_specials(&lessons[0].tokens), text.text().as_bytes());
        let n_ends = lessons[0].tokens.iter().filter(|&&token| token == 2).count();
        assert_eq!(n_ends, 5);
    }

    #[test]
    fn the_prompt_has_the_tokens_that_a_server_sends() {
        let tokenizer = tokenizer();
        let template = ChatTemplate::chatml(tokenizer.special_texts());
        let messages = chat(&[("user", "what is it?"), ("assistant", "it")]);
        let lesson = &lessons(&tokenizer, &template, &messages).unwrap()[0];
        let prompt = template.render(&RenderInput::prompt(&messages[..1], 0)).unwrap();
        let prompt = tokenizer.encode_rendered(&prompt);
        assert_eq!(lesson.tokens[..prompt.len()], prompt);
        assert!(lesson.is_answer[prompt.len()] && !lesson.is_answer[prompt.len() - 1]);
    }

    #[test]
    fn a_template_that_forgets_gives_a_lesson_for_each_answer() {
        let tokenizer = tokenizer();
        // Earlier answers are shortened to a dot.
        let source = "{% for m in messages %}<|im_start|>{{ m.role }} {% if m.role == 'assistant' and not loop.last %}.\
                      {% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant {% endif %}";
        let template = ChatTemplate::new(source, tokenizer.special_texts()).unwrap();
        let messages = chat(&[("user", "a"), ("assistant", "it is"), ("user", "b"), ("assistant", "what")]);
        let lessons = lessons(&tokenizer, &template, &messages).unwrap();
        let all: Vec<_> = lessons.iter().map(|lesson| learnt(&tokenizer, lesson)).collect();
        assert_eq!(all, [["it is<|im_end|>"], ["what<|im_end|>"]]);
    }

    #[test]
    fn what_teaches_nothing_says_why() {
        let tokenizer = tokenizer();
        let template = ChatTemplate::chatml(tokenizer.special_texts());
        let error = lessons(&tokenizer, &template, &chat(&[("user", "a")])).unwrap_err();
        assert!(matches!(error, LessonError::NoAnswer));
        let source = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
        let counting = ChatTemplate::new(source, tokenizer.special_texts()).unwrap();
        let error = lessons(&tokenizer, &counting, &chat(&[("user", "a"), ("assistant", "b")])).unwrap_err();
        assert!(matches!(error, LessonError::Rewritten(1)), "{error}");
    }
}
