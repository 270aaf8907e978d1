//! `GET /api/messages/{id}/events`: an answer's events from any place, then live, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use store::{Message, MessageId, Part, Status};

use super::extract::{PathId, QueryOf};
use super::wire::{EventsRequest, message_json};
use super::{messages, owner};
use crate::error::ApiError;
use crate::state::AppState;
use crate::turn::events::TurnEvent;
use crate::turn::run::Follower;

/// A comment after so much silence keeps proxies from closing the stream, and finds clients that went away.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Everything after the event with the number `after` (or the header `Last-Event-ID`), then what comes, up to the end.
pub(crate) async fn follow(
    State(state): State<AppState>,
    PathId(id): PathId<MessageId>,
    QueryOf(request): QueryOf<EventsRequest>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = request.after.into_iter().chain(last_seen).max().unwrap_or(0);
    let events: BoxStream<'static, (u64, String)> = match state.runs.get(owner(&state), id) {
        Some(run) => live(run.follow(after)).boxed(),
        None => stream::iter(ended(&state, id, after).await?).boxed(),
    };
    let events =
        events.map(|(seq, json)| Ok::<_, Infallible>(Event::default().id(seq.to_string()).data(json)));
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold the events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn live(follower: Follower) -> impl futures::Stream<Item = (u64, String)> + Send {
    stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some(((event.seq, event.json.to_string()), follower))
    })
}

/// The events of an answer that ended some time ago: what it said, to who has seen nothing of it, and its end.
async fn ended(state: &AppState, id: MessageId, after: u64) -> Result<Vec<(u64, String)>, ApiError> {
    let mut message = state.store.message(owner(state), id).await?;
    if message.status == Status::Running {
        messages::end_orphan(state, id).await?;
        message = state.store.message(owner(state), id).await?;
    }
    let mut events = Vec::new();
    if after == 0 {
        for (part, seq) in message.parts.iter().zip(1..) {
            match part {
                Part::Text { text } => events.push((seq, TurnEvent::Text(text.clone()))),
                Part::Reasoning { text, .. } => events.push((seq, TurnEvent::Reasoning(text.clone()))),
                Part::File { .. } => {}
            }
        }
    }
    let last_seq = message.last_seq.max(events.len() as u64 + 1);
    events.push((last_seq, end_of(&message)));
    Ok(events.into_iter().map(|(seq, event)| (seq, event.to_json(seq).to_string())).collect())
}

fn end_of(message: &Message) -> TurnEvent {
    let told = message_json(message);
    match (&message.error, message.status) {
        (Some(error), Status::Failed) => TurnEvent::Error { error: error.clone(), message: told },
        _ => TurnEvent::Done(told),
    }
}
