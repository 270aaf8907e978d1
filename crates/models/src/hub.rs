//! The Hugging Face hub and ModelScope: which files does this repository have, how long are they, which sha256
//! does the hub itself state, and where is each of them to be had?

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokenizer::one_line;

use crate::pull::SourceError;
use crate::quant::RemoteFile;
use crate::settings::Settings;
use crate::web::{Token, Web, address, host_of};

/// Where a listing or a file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hub {
    HuggingFace,
    ModelScope,
}

/// The token of this hub, bound to its address.
pub(crate) fn token(settings: &Settings, hub: Hub) -> Option<Token> {
    match hub {
        Hub::HuggingFace => {
            let origin = Url::parse(&settings.hf_endpoint).ok()?;
            Some(Token { value: settings.hf_token.clone()?, origin })
        }
        Hub::ModelScope => None,
    }
}

/// Where a file of a repository is to be had.
pub(crate) fn file_url(
    settings: &Settings,
    hub: Hub,
    repo: &str,
    revision: &str,
    file: &str,
) -> Result<Url, SourceError> {
    match hub {
        Hub::HuggingFace => address(&settings.hf_endpoint, &[repo, "resolve", revision, file], &[]),
        Hub::ModelScope => {
            address(&settings.modelscope_endpoint, &["models", repo, "resolve", revision, file], &[])
        }
    }
}

/// All files of a repository.
pub(crate) async fn list_files(
    web: &Web,
    settings: &Settings,
    hub: Hub,
    repo: &str,
    revision: &str,
) -> Result<Vec<RemoteFile>, SourceError> {
    let url = match hub {
        Hub::HuggingFace => {
            address(&settings.hf_endpoint, &["api/models", repo, "revision", revision], &[("blobs", "true")])?
        }
        Hub::ModelScope => address(
            &settings.modelscope_endpoint,
            &["api/v1/models", repo, "repo/files"],
            &[("Revision", revision), ("Recursive", "true")],
        )?,
    };
    let token = token(settings, hub);
    let response = web.get(&url, token.as_ref(), &HeaderMap::new()).await?;
    let host = host_of(&url);
    check_status(&response, settings, hub, repo, &host)?;
    let body = web.body(response).await?;
    read_listing(hub, &body)
        .map_err(|error| SourceError::Listing { host, detail: one_line(&error.to_string()) })
}

/// The files in a hub's answer.
pub(crate) fn read_listing(hub: Hub, body: &[u8]) -> Result<Vec<RemoteFile>, serde_json::Error> {
    Ok(match hub {
        Hub::HuggingFace => {
            let model: HubModel = serde_json::from_slice(body)?;
            model.siblings.into_iter().filter_map(HubFile::into_remote).collect()
        }
        Hub::ModelScope => {
            let answer: ScopeAnswer = serde_json::from_slice(body)?;
            answer.data.files.into_iter().filter_map(ScopeFile::into_remote).collect()
        }
    })
}

#[derive(Deserialize)]
struct HubModel {
    #[serde(default)]
    siblings: Vec<HubFile>,
}

#[derive(Deserialize)]
struct HubFile {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<HubLfs>,
}

#[derive(Deserialize)]
struct HubLfs {
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

impl HubFile {
    /// Paths that could leave the repository and digests that are none are not taken.
    fn into_remote(self) -> Option<RemoteFile> {
        let (sha256, lfs_size) = match self.lfs {
            Some(lfs) => (lfs.sha256.or(lfs.oid), lfs.size),
            None => (None, None),
        };
        let sha256 = sha256.map(|digest| digest.trim_start_matches("sha256:").to_lowercase());
        Some(RemoteFile {
            size: lfs_size.or(self.size)?,
            path: Some(self.rfilename).filter(|path| crate::hub_name::is_repo_path(path))?,
            sha256: sha256.filter(|digest| crate::digest::is_sha256(digest)),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScopeAnswer {
    data: ScopeData,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScopeData {
    files: Vec<ScopeFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScopeFile {
    path: String,
    size: u64,
    #[serde(default)]
    sha256: Option<String>,
}

impl ScopeFile {
    fn into_remote(self) -> Option<RemoteFile> {
        let path = Some(self.path).filter(|path| crate::hub_name::is_repo_path(path))?;
        let sha256 = self.sha256.map(|digest| digest.to_lowercase());
        Some(RemoteFile {
            path,
            size: self.size,
            sha256: sha256.filter(|digest| crate::digest::is_sha256(digest)),
        })
    }
}

/// What a status that is no success means for this repository.
pub(crate) fn check_status(
    response: &Response,
    settings: &Settings,
    hub: Hub,
    repo: &str,
    host: &str,
) -> Result<(), SourceError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or("");
    let endpoint = match hub {
        Hub::HuggingFace => settings.hf_endpoint.clone(),
        Hub::ModelScope => format!("{}/models", settings.modelscope_endpoint),
    };
    let not_found = || SourceError::NotFound { what: format!("{repo} at {host}") };
    match (status, code) {
        (_, "RepoNotFound" | "EntryNotFound" | "RevisionNotFound") => Err(not_found()),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Err(SourceError::Gated {
            page: format!("{endpoint}/{repo}"),
            with_token: hub == Hub::HuggingFace && settings.hf_token.is_some(),
            // Without a code, 401 is also the answer for repositories that do not exist.
            maybe_missing: status == StatusCode::UNAUTHORIZED && code.is_empty(),
        }),
        (StatusCode::NOT_FOUND, _) => Err(not_found()),
        _ => Err(SourceError::Status { host: host.to_string(), status: status.as_u16() }),
    }
}
