//! How an answer begins: the prompt is made and checked, the message and its answer are saved, and the answer runs.
//!
//! Where the model is in memory, everything that can be refused is refused before anything is saved. Where it has to be
//! loaded first, the answer is saved at once and tells how the loading goes; then a conversation that does not fit is an
//! error of the answer.

use std::sync::Arc;
use std::time::Instant;

use store::{ConversationId, Message, MessageId, NewAnswer, NewTurn, OwnerId, Part, Role, SavedTurn, Status};
use tokenizer::ChatMessage;
use uuid::Uuid;

use super::drive::{Begun, Job};
use super::history::{chat_messages, user_message, words_of};
use super::run::Run;
use super::runs::Slot;
use super::settings::Settings;
use super::title;
use crate::error::ApiError;
use crate::generation::{ChatInput, Overflow, PreparedPrompt, generate, prepare_chat};
use crate::kept;
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// What a person says.
pub(crate) struct Said {
    pub(crate) client_id: Option<Uuid>,
    pub(crate) parent_id: Option<MessageId>,
    pub(crate) parts: Vec<Part>,
    /// None: the conversation's, else the server's default.
    pub(crate) model: Option<String>,
    pub(crate) overflow: Overflow,
    /// Whether the model may write a title for the conversation after its first answer.
    pub(crate) write_title: bool,
}

/// A prompt that waits for its model.
pub(crate) struct Plan {
    pub(crate) owner: OwnerId,
    /// Where it belongs to one.
    pub(crate) conversation_id: Option<ConversationId>,
    pub(crate) messages: Vec<ChatMessage>,
    pub(crate) settings: Settings,
    pub(crate) overflow: Overflow,
    /// The beginning of the answer, when one goes on.
    pub(crate) answer_so_far: Option<String>,
}

/// Saves what a person says and lets the answer run.
pub(crate) async fn begin_turn(
    state: &AppState,
    owner: OwnerId,
    id: ConversationId,
    said: Said,
) -> Result<SavedTurn, ApiError> {
    if let Some(client_id) = said.client_id
        && let Some(saved) = state.store.turn_of_client_id(owner, id, client_id).await?
    {
        return Ok(saved);
    }
    let (conversation, mut branch) = match said.parent_id {
        Some(parent_id) => {
            let wrong_parent =
                |_| ApiError::bad_value("parent_id", "expected a message of this conversation");
            let (found, branch) = match state.store.branch(owner, parent_id).await {
                Err(store::StoreError::NotFound { what: "message" }) => {
                    state.store.conversation(owner, id).await?;
                    return Err(wrong_parent(()));
                }
                other => other?,
            };
            if found.id != id {
                state.store.conversation(owner, id).await?;
                return Err(wrong_parent(()));
            }
            (found, branch)
        }
        None => (state.store.conversation(owner, id).await?, Vec::new()),
    };
    check_last(branch.last())?;
    let settings = Settings::of(&conversation)?;
    let model = model_name(state, [said.model.as_deref(), conversation.model.as_deref()]).await?;
    let mut messages = chat_messages(settings.system_prompt.as_deref(), &std::mem::take(&mut branch));
    messages.push(user_message(&said.parts));
    let overflow = said.overflow;
    let plan = Plan { owner, conversation_id: Some(id), messages, settings, overflow, answer_so_far: None };
    let starter = Starter::new(state, owner, model, plan).await?;

    let title = title::from_message(&said.parts);
    let new_title = title.clone().filter(|_| conversation.title.is_empty() && conversation.title_is_auto);
    let question = (said.write_title && new_title.is_some()).then(|| words_of(&said.parts));
    let turn = NewTurn {
        client_id: said.client_id,
        parent_id: said.parent_id,
        parts: said.parts,
        model: starter.model.clone(),
        title,
    };
    let saved = state.store.begin_turn(owner, id, turn).await?;
    if !saved.repeated {
        starter.run(state, &saved.answer, new_title, question);
    }
    Ok(saved)
}

/// Another answer to the message that this answer answers.
pub(crate) async fn regenerate(
    state: &AppState,
    owner: OwnerId,
    id: MessageId,
    model: Option<&str>,
    overflow: Overflow,
) -> Result<Message, ApiError> {
    let answer = state.store.message(owner, id).await?;
    let parent_id = match (answer.role, answer.parent_id) {
        (Role::Assistant, Some(parent_id)) => parent_id,
        // A message whose answer was deleted can be answered anew.
        _ => id,
    };
    let (conversation, branch) = state.store.branch(owner, parent_id).await?;
    let settings = Settings::of(&conversation)?;
    let wanted = [model, answer.model.as_deref(), conversation.model.as_deref()];
    let model = model_name(state, wanted).await?;
    let messages = chat_messages(settings.system_prompt.as_deref(), &branch);
    let conversation_id = Some(conversation.id);
    let plan = Plan { owner, conversation_id, messages, settings, overflow, answer_so_far: None };
    let starter = Starter::new(state, owner, model, plan).await?;
    let new = NewAnswer { parent_id, model: starter.model.clone() };
    let answer = state.store.begin_answer(owner, new).await?;
    starter.run(state, &answer, None, None);
    Ok(answer)
}

/// Lets an answer that ended early go on where it stopped.
pub(crate) async fn continue_answer(
    state: &AppState,
    owner: OwnerId,
    id: MessageId,
    model: Option<&str>,
) -> Result<Message, ApiError> {
    let (conversation, mut branch) = state.store.branch(owner, id).await?;
    let answer = branch.pop().ok_or(ApiError::NotFound { what: "message" })?;
    if answer.role != Role::Assistant {
        return Err(ApiError::bad_value("id", "expected an answer, found a message by the user"));
    }
    check_last(Some(&answer))?;
    let settings = Settings::of(&conversation)?;
    let wanted = [model, answer.model.as_deref(), conversation.model.as_deref()];
    let model = model_name(state, wanted).await?;
    let messages = chat_messages(settings.system_prompt.as_deref(), &branch);
    let so_far = Some(words_of(&answer.parts)).filter(|text| !text.is_empty());
    let plan = Plan {
        owner,
        conversation_id: Some(conversation.id),
        messages,
        settings,
        overflow: Overflow::Refuse,
        answer_so_far: so_far,
    };
    let starter = Starter::new(state, owner, model, plan).await?;
    let answer = state.store.continue_answer(owner, id).await?;
    starter.run(state, &answer, None, None);
    Ok(answer)
}

fn check_last(last: Option<&Message>) -> Result<(), ApiError> {
    match last {
        Some(message) if message.status == Status::Running => Err(ApiError::Conflict {
            code: "answer_running",
            reason: "the answer is still running; stop it or wait for its end".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The full name of the first model named, or of the default. Whether it can be had is checked, without loading it.
pub(crate) async fn model_name<const N: usize>(
    state: &AppState,
    wanted: [Option<&str>; N],
) -> Result<String, ApiError> {
    match wanted.into_iter().flatten().find(|name| !name.is_empty()) {
        Some(name) => state.models.full_name(name).await,
        None => state.models.full_name(&state.models.default_name()).await,
    }
}

/// An answer that may run as soon as it is saved.
struct Starter {
    model: String,
    begun: Begun,
    settings: Settings,
    slot: Slot,
    since: Instant,
    continued: bool,
}

impl Starter {
    async fn new(state: &AppState, owner: OwnerId, model: String, plan: Plan) -> Result<Starter, ApiError> {
        let since = Instant::now();
        let slot = state.runs.reserve(owner)?;
        let settings = plan.settings.clone();
        let continued = plan.answer_so_far.is_some();
        let begun = match state.models.loaded(&model) {
            Some(model) => {
                let generation = begin_generation(state, &model, &plan).await?;
                Begun::Generation(model, Box::new(generation))
            }
            None => Begun::Waiting(Box::new(plan)),
        };
        Ok(Starter { model, begun, settings, slot, since, continued })
    }

    fn run(self, state: &AppState, answer: &Message, title: Option<String>, question: Option<String>) {
        let owner = self.slot.owner();
        let run = state.runs.add(Run::new(owner, answer.conversation_id, answer.id, answer.last_seq));
        let job = Job {
            state: state.clone(),
            run,
            slot: self.slot,
            model: self.model,
            begun: self.begun,
            settings: self.settings,
            title,
            question,
            parts: answer.parts.clone(),
            since: self.since,
            continued: self.continued,
        };
        tokio::spawn(job.drive());
    }
}

/// Makes the prompt fit, or says why it does not, and hands it to the engine.
pub(crate) async fn begin_generation(
    state: &AppState,
    model: &Arc<LoadedModel>,
    plan: &Plan,
) -> Result<crate::generation::TextGeneration, ApiError> {
    let prompt = fit(model, plan).await?;
    let mut params = plan.settings.params(plan.owner);
    params.keep = plan.conversation_id.and_then(|id| kept::keep(state, model, id));
    generate(state, model, &prompt, params)
}

async fn fit(model: &Arc<LoadedModel>, plan: &Plan) -> Result<PreparedPrompt, ApiError> {
    let max = model.max_seq_len();
    let max_tokens = plan.settings.max_tokens.map_or(usize::MAX, |n| n as usize);
    // An answer of a few words is worse than being told that the conversation is full.
    let least = if plan.answer_so_far.is_some() { 1 } else { (max / 16).min(128).min(max_tokens) };
    let mut input = chat_input(model, plan);
    input.reserve = least;
    let (n_prompt, max_seq_len) = match prepare_chat(model, input.clone()).await {
        Err(ApiError::ContextLength { n_prompt, max_seq_len, .. }) => (n_prompt, max_seq_len),
        other => return other,
    };
    let n_turns = plan.messages.iter().filter(|message| message.role == "user").count();
    let too_long = || ApiError::ContextLength { param: "parts", n_prompt, max_seq_len };
    if n_turns < 2 {
        return Err(too_long());
    }
    if plan.overflow == Overflow::Refuse {
        return Err(ApiError::ContextFull { prompt_tokens: n_prompt, max_tokens: max_seq_len });
    }
    // Dropping makes room for a whole answer, so that it does not have to be done again with every turn.
    input.overflow = Overflow::DropOldest;
    let n_messages = input.messages.len();
    let n_bytes: usize = input.messages.iter().map(n_bytes).sum();
    // Twice what fits, by the bytes of a token in this conversation: the exact cut is found among these.
    input.messages = newest_turns(input.messages, n_bytes.saturating_mul(2 * max) / n_prompt.max(1));
    for reserve in [(max / 4).min(max_tokens), least] {
        input.reserve = reserve;
        match prepare_chat(model, input.clone()).await {
            Err(ApiError::ContextLength { .. }) => {}
            Err(error) => return Err(error),
            Ok(mut prompt) => {
                prompt.dropped.n_messages = n_messages.saturating_sub(prompt.n_kept_messages);
                prompt.dropped.n_tokens = n_prompt.saturating_sub(prompt.ids.len());
                return Ok(prompt);
            }
        }
    }
    Err(too_long())
}

/// The system messages and the newest turns, at least one, of at most so many bytes. A conversation that is far too long
/// is not rendered again and again to find out which of its turns fit.
fn newest_turns(messages: Vec<ChatMessage>, max_bytes: usize) -> Vec<ChatMessage> {
    let mut first = messages.len();
    let mut total = 0;
    for (idx, message) in messages.iter().enumerate().rev() {
        total += n_bytes(message);
        if total > max_bytes && first < messages.len() {
            break;
        }
        if message.role == "user" {
            first = idx;
        }
    }
    let kept = messages.into_iter().enumerate();
    kept.filter(|(idx, message)| *idx >= first || message.role == "system")
        .map(|(_, message)| message)
        .collect()
}

fn n_bytes(message: &ChatMessage) -> usize {
    message.content.as_deref().map_or(0, str::len)
}

/// The plan as this model's template is to see it.
pub(crate) fn chat_input(model: &LoadedModel, plan: &Plan) -> ChatInput {
    let mut input = ChatInput::new(plan.messages.clone());
    input.answer_so_far = plan.answer_so_far.clone();
    if let Some(on) = plan.settings.reasoning {
        input.set_reasoning(model.open.template.reasoning(), on);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_turns_are_whole_and_the_system_prompt_stays() {
        let roles = ["system", "user", "assistant", "user", "assistant", "user"];
        let messages: Vec<ChatMessage> =
            roles.iter().map(|role| ChatMessage::new(role, "ten bytes.")).collect();
        let kept = |max_bytes| -> Vec<String> {
            newest_turns(messages.clone(), max_bytes).into_iter().map(|message| message.role).collect()
        };
        assert_eq!(kept(30), ["system", "user", "assistant", "user"]);
        assert_eq!(kept(45), ["system", "user", "assistant", "user"], "no answer without its question");
        assert_eq!(kept(0), ["system", "user"], "the last turn stays, however long it is");
        assert_eq!(kept(1000), roles);
    }
}
