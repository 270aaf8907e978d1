//! Which conversations have their keys and values on disk, in the data directory's folder `kv`.
//!
//! A conversation that was computed goes on after a restart, or once its model was unloaded, without being read again.
//! What is kept goes with the conversation, with any message that is deleted from it, and when the room is needed.

use engine::{Keep, SavedPrefixes};
use store::{ConversationId, OwnerId, Store, StoreError};

use crate::config::ServerConfig;
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// Opens the folder and deletes what belongs to no conversation. Without it the server does its work, only slower.
pub(crate) async fn open(config: &ServerConfig, store: &Store) -> Result<Option<SavedPrefixes>, StoreError> {
    let (folder, max_bytes) = (config.data_dir.join("kv"), config.kv_disk_bytes);
    let names: std::collections::HashSet<String> =
        store.conversation_ids().await?.iter().map(ToString::to_string).collect();
    let opened = tokio::task::spawn_blocking(move || {
        let saved = SavedPrefixes::open(&folder, max_bytes).inspect_err(|error| {
            tracing::warn!("{}: {error}; no conversation is kept there", folder.display())
        });
        saved.inspect(|saved| saved.retain(|name| names.contains(name))).ok()
    });
    Ok(opened.await.ok().flatten().filter(|_| max_bytes > 0))
}

/// Where a conversation with this model is kept; nowhere as long as the digest of the model's file is not known.
pub(crate) fn keep(state: &AppState, model: &LoadedModel, id: ConversationId) -> Option<Keep> {
    let saved = state.saved.clone()?;
    // The digest of a split model is that of its first file.
    if model.open.gguf.paths().len() > 1 {
        return None;
    }
    Some(Keep { saved, name: id.to_string(), model: model.sha256()? })
}

/// Deletes what is kept of a conversation; if answers are running in it, again when they have ended: one that was just
/// beginning may have asked to be kept.
pub(crate) async fn forget(state: &AppState, owner: OwnerId, id: ConversationId) {
    let Some(saved) = state.saved.clone() else { return };
    let running = state.runs.of_conversation(owner, id);
    delete(saved.clone(), id).await;
    if !running.is_empty() {
        tokio::spawn(async move {
            for run in running {
                run.ended().await;
            }
            delete(saved, id).await;
        });
    }
}

async fn delete(saved: SavedPrefixes, id: ConversationId) {
    // A panic in there has been told, and the next start deletes what was left.
    let _ = tokio::task::spawn_blocking(move || saved.forget(&id.to_string())).await;
}
