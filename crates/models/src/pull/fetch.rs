//! A file from a web address: ranges, interruptions, digests.
//!
//! A transfer that breaks off is taken up where it broke, as long as it gets anywhere. The first contact is
//! different: a source that cannot be reached at all is given up at once, because the next one may be better.

use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::error::{PullError, SourceError, Stop};
use super::job::{Fetched, Job};
use super::part::{PartFile, PartIdentity, PartPaths};
use super::report::Phase;
use crate::hub::{Hub, check_status};
use crate::web::{Token, host_of, innermost};

/// First pause before a broken transfer is taken up; doubles each time without progress.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Retries when the source itself says that it is overloaded.
const MAX_STATUS_RETRIES: u32 = 2;
/// Chunks between the network and the disk (each some 16 kB).
const QUEUE_LEN: usize = 64;

/// A file to fetch.
pub(super) struct Remote {
    pub(super) url: Url,
    pub(super) token: Option<Token>,
    /// Whose repository it is in, for what its statuses mean.
    pub(super) hub: Option<(Hub, String)>,
    /// Exact length, when known.
    pub(super) size: Option<u64>,
    /// Digest, when known.
    pub(super) sha256: Option<String>,
}

/// How one request ended.
enum Transfer {
    /// All bytes are in the part.
    Complete,
    /// Broken off; worth another try.
    Broken(String),
    /// The source is overloaded.
    Busy(u16),
}

impl Job<'_> {
    /// Fetches `remote` into its place.
    pub(super) async fn fetch(&self, remote: &Remote, paths: &PartPaths) -> Result<Fetched, Stop> {
        let io = |error| self.io(&paths.part, error);
        let wanted = PartIdentity::new(remote.sha256.clone(), remote.url.as_str());
        let mut identity = paths.identity_for(wanted).map_err(io)?;
        let mut part = self.open_part(paths, remote.size.unwrap_or(u64::MAX)).await?;
        let mut was_here = part.len() > 0;
        loop {
            part = self.fill(remote, paths, &mut identity, part).await?;
            if was_here && remote.sha256.as_ref().is_some_and(|expected| *expected != part.sha256()) {
                // What was here from before may be to blame: once more from the start.
                was_here = false;
                part.restart().map_err(io)?;
                continue;
            }
            return self.finish(part, paths, remote.sha256.as_deref()).await;
        }
    }

    /// Requests until the part is complete or the source has to be given up.
    async fn fill(
        &self,
        remote: &Remote,
        paths: &PartPaths,
        identity: &mut PartIdentity,
        mut part: PartFile,
    ) -> Result<PartFile, Stop> {
        let host = host_of(&remote.url);
        let mut n_tries = 0;
        let mut any_bytes = false;
        while remote.size.is_none_or(|size| part.len() < size) {
            self.report.at(Phase::Connecting, part.len());
            let before = part.len();
            let (back, transfer) = match self.request(remote, paths, identity, &mut part).await {
                Ok(Ok((response, total))) => self.stream(response, total, paths, part).await?,
                Ok(Err(transfer)) => (part, transfer),
                Err(Stop::Source(SourceError::Unreachable { detail, .. })) if any_bytes => {
                    (part, Transfer::Broken(detail))
                }
                Err(Stop::Source(SourceError::NoAnswer { .. })) if any_bytes => {
                    (part, Transfer::Broken("no answer".to_string()))
                }
                Err(stop) => return Err(stop),
            };
            part = back;
            if part.len() > before {
                any_bytes = true;
                n_tries = 0;
            }
            n_tries += 1;
            let limit = self.settings.max_retries;
            match transfer {
                Transfer::Complete => break,
                Transfer::Busy(status) if n_tries > limit.min(MAX_STATUS_RETRIES) => {
                    return Err(SourceError::Status { host, status }.into());
                }
                Transfer::Broken(detail) if n_tries > limit => {
                    return Err(SourceError::Interrupted { host, done: part.len(), detail }.into());
                }
                Transfer::Busy(_) | Transfer::Broken(_) => {
                    tokio::time::sleep(FIRST_PAUSE * (1 << (n_tries - 1).min(5))).await;
                }
            }
        }
        Ok(part)
    }

    /// One request for what is missing. The answer's body continues the part, which is emptied when the source
    /// sends the whole file. With it comes the length of the whole file, when it is told.
    #[allow(clippy::type_complexity)]
    async fn request(
        &self,
        remote: &Remote,
        paths: &PartPaths,
        identity: &mut PartIdentity,
        part: &mut PartFile,
    ) -> Result<Result<(Response, Option<u64>), Transfer>, Stop> {
        let io = |error| self.io(&paths.part, error);
        let mut headers = HeaderMap::new();
        if part.len() > 0 {
            let range = format!("bytes={}-", part.len());
            headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits are a header value"));
            let etag = identity.etag.as_deref().filter(|_| remote.sha256.is_none());
            if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
                headers.insert(IF_RANGE, etag);
            }
        }
        let response = self.web.get(&remote.url, remote.token.as_ref(), &headers).await?;
        let host = host_of(response.url());
        let status = response.status();
        let total = match status {
            StatusCode::OK => {
                part.restart().map_err(io)?;
                content_length(&response)
            }
            StatusCode::PARTIAL_CONTENT => match content_range(&response) {
                Some((first, total)) if first == part.len() => {
                    total.or_else(|| content_length(&response).map(|len| first + len))
                }
                _ => {
                    part.restart().map_err(io)?;
                    return Ok(Err(Transfer::Broken("an answer for another range".to_string())));
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE if part.len() > 0 => {
                part.restart().map_err(io)?;
                return Ok(Err(Transfer::Broken("the part here is longer than the file there".to_string())));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                return Ok(Err(Transfer::Busy(status.as_u16())));
            }
            _ if status.is_server_error() => return Ok(Err(Transfer::Busy(status.as_u16()))),
            // A status of the host that we were sent to says nothing about access to the repository.
            _ => match &remote.hub {
                Some((hub, repo)) if response.url().origin() == remote.url.origin() => {
                    check_status(&response, self.settings, *hub, repo, &host)?;
                    return Err(SourceError::Status { host, status: status.as_u16() }.into());
                }
                _ if status == StatusCode::NOT_FOUND => {
                    return Err(SourceError::NotFound { what: remote.url.to_string() }.into());
                }
                _ => return Err(SourceError::Status { host, status: status.as_u16() }.into()),
            },
        };
        if let (Some(expected), Some(found)) = (remote.size, total)
            && expected != found
        {
            paths.drop_part().map_err(io)?;
            return Err(SourceError::WrongSize { expected, found }.into());
        }
        let total = total.or(remote.size);
        if !self.report.has_total() {
            self.report.set_total(total);
        }
        self.check_room(paths, total.unwrap_or(0).saturating_sub(part.len()))?;
        identity.etag = strong_etag(&response);
        paths.write_identity(identity).map_err(|error| self.write_failed(paths, error))?;
        Ok(Ok((response, total)))
    }

    /// The body of an answer into the part, hashed and written on a thread of its own.
    async fn stream(
        &self,
        mut response: Response,
        total: Option<u64>,
        paths: &PartPaths,
        part: PartFile,
    ) -> Result<(PartFile, Transfer), Stop> {
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        let mut here = part.len();
        let writer = tokio::task::spawn_blocking(move || write_chunks(receiver, part));
        let transfer = loop {
            match tokio::time::timeout(self.settings.stall_limit, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    here += chunk.len() as u64;
                    if total.is_some_and(|total| here > total) {
                        break Transfer::Broken("more bytes than were announced".to_string());
                    }
                    if sender.send(chunk).await.is_err() {
                        break Transfer::Broken("the disk refused".to_string()); // the writer says why
                    }
                    self.report.at(Phase::Downloading, here);
                }
                Ok(Ok(None)) if total.is_none_or(|total| here == total) => break Transfer::Complete,
                Ok(Ok(None)) => break Transfer::Broken("the transfer ended early".to_string()),
                Ok(Err(error)) => break Transfer::Broken(innermost(&error)),
                Err(_) => {
                    let seconds = self.settings.stall_limit.as_secs_f32();
                    break Transfer::Broken(format!("nothing came for {seconds:.0} s"));
                }
            }
        };
        drop(sender);
        let (part, written) = writer.await.map_err(|error| PullError::Io {
            path: paths.part.clone(),
            source: std::io::Error::other(error),
        })?;
        written.map_err(|error| self.write_failed(paths, error))?;
        Ok((part, transfer))
    }
}

/// Writes what comes until the sender is gone.
fn write_chunks<B: AsRef<[u8]>>(
    mut receiver: mpsc::Receiver<B>,
    mut part: PartFile,
) -> (PartFile, std::io::Result<()>) {
    while let Some(chunk) = receiver.blocking_recv() {
        if let Err(error) = part.write(chunk.as_ref()) {
            return (part, Err(error));
        }
    }
    (part, Ok(()))
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `bytes FIRST-LAST/TOTAL` → (first, total).
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// An etag that promises the same bytes.
fn strong_etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(ETAG)?.to_str().ok()?;
    (etag.starts_with('"') && etag.len() > 2).then(|| etag.to_string())
}
