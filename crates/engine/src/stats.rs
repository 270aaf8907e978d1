//! Counters of an engine, for health pages and metrics.

/// How an engine is doing, as of its last step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStats {
    /// Sequences that are being computed.
    pub running: usize,
    /// Requests that wait.
    pub queued: usize,
    /// KV pages in all.
    pub kv_pages_total: usize,
    /// KV pages that hold something, cached ones included.
    pub kv_pages_used: usize,
    /// KV pages kept only for later requests with the same prefix.
    pub kv_pages_cached: usize,
    /// Tokens that a KV page holds.
    pub kv_page_len: usize,
    /// Prompt tokens of started requests.
    pub prompt_tokens_total: u64,
    /// Prompt tokens that came from cached pages.
    pub cached_tokens_total: u64,
    /// Prompt tokens among these that came from the disk.
    pub restored_tokens_total: u64,
    /// Tokens generated.
    pub generated_tokens_total: u64,
    /// Tokens guessed from what stands in prompt and answer, and computed beside the certain ones.
    pub drafted_tokens_total: u64,
    /// Guessed tokens that came true.
    pub accepted_tokens_total: u64,
    /// Steps computed.
    pub steps_total: u64,
    /// Requests that were answered to the end.
    pub finished_total: u64,
    /// Requests whose caller went away or cancelled.
    pub cancelled_total: u64,
    /// Requests that failed.
    pub failed_total: u64,
    /// Times that a sequence gave up its pages to an older one, to be computed again.
    pub preemptions_total: u64,
    /// Bytes held: weights, key and value pages, activations.
    pub memory_bytes: u64,
}
