//! One file a command; each joins the crates and does nothing else.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod inspect;
pub(crate) mod job_wrapper;
pub(crate) mod models;
pub(crate) mod perplexity;
pub(crate) mod plan;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod tokenize;
pub(crate) mod train;
