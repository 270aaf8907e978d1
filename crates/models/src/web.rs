//! HTTP for downloads: one client with our proxies and the system's certificates, redirects followed by hand so
//! that a token is only ever sent to the address it belongs to, and a limit on every wait for an answer.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Proxy, Response, StatusCode, Url};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::pull::SourceError;
use crate::settings::Settings;

/// Longest chain of redirects; the hub needs two.
const MAX_REDIRECTS: usize = 8;
/// Longest answer of a listing that we read: a repository of thousands of files.
const MAX_LISTING_LEN: usize = 32 << 20;

/// A token and the only origin that may see it.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) origin: reqwest::Url,
}

/// The client.
pub(crate) struct Web {
    client: Client,
    reach_limit: Duration,
    /// Why https cannot work here, if it cannot.
    tls_problem: Option<String>,
}

impl Web {
    pub(crate) fn new(settings: &Settings) -> Result<Web, SourceError> {
        let (tls, tls_problem) = tls_config()?;
        let mut builder = Client::builder()
            .no_proxy() // only what the settings say
            .tls_backend_preconfigured(tls)
            .dns_resolver(std::sync::Arc::new(crate::resolver::SystemResolver))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.reach_limit)
            .user_agent(concat!("daybreak/", env!("CARGO_PKG_VERSION")));
        let no_proxy = settings.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        let proxies = [
            settings.http_proxy.as_deref().map(Proxy::http),
            settings.https_proxy.as_deref().map(Proxy::https),
        ];
        for proxy in proxies.into_iter().flatten() {
            let proxy = proxy
                .map_err(|error| SourceError::Setup { detail: format!("proxy: {}", innermost(&error)) })?;
            builder = builder.proxy(proxy.no_proxy(no_proxy.clone()));
        }
        let client = builder.build().map_err(|error| SourceError::Setup { detail: innermost(&error) })?;
        Ok(Web { client, reach_limit: settings.reach_limit, tls_problem })
    }

    /// GET, through redirects, until the headers of the last answer; its status is left to the caller.
    pub(crate) async fn get(
        &self,
        url: &Url,
        token: Option<&Token>,
        headers: &HeaderMap,
    ) -> Result<Response, SourceError> {
        let mut url = url.clone();
        for n_redirects in 0..=MAX_REDIRECTS {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            request = request.header(ACCEPT_ENCODING, "identity");
            if let Some(token) = token.filter(|token| same_origin(&token.origin, &url)) {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.value)).map_err(|_| {
                    SourceError::Setup {
                        detail: "HF_TOKEN: expected plain ASCII, found other characters".into(),
                    }
                })?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            // The source itself must answer within the limit; the host it sends us to may take a little longer.
            let limit = if n_redirects == 0 { self.reach_limit } else { 3 * self.reach_limit };
            let response = match tokio::time::timeout(limit, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(self.unreachable(&url, &error, limit)),
                Err(_) => {
                    return Err(SourceError::NoAnswer { host: host_of(&url), seconds: limit.as_secs_f32() });
                }
            };
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = target.and_then(|target| url.join(target).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            let Some(next) = next else {
                return Err(SourceError::Redirect {
                    host: host_of(&url),
                    detail: "no usable address".into(),
                });
            };
            if url.scheme() == "https" && next.scheme() == "http" {
                let detail = format!("from https to plain http at {}", host_of(&next));
                return Err(SourceError::Redirect { host: host_of(&url), detail });
            }
            url = next;
        }
        Err(SourceError::Redirect { host: host_of(&url), detail: format!("more than {MAX_REDIRECTS} times") })
    }

    /// The whole body of a listing.
    pub(crate) async fn body(&self, mut response: Response) -> Result<Vec<u8>, SourceError> {
        let url = response.url().clone();
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(3 * self.reach_limit, response.chunk()).await {
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= MAX_LISTING_LEN => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Ok(Some(_))) => {
                    let detail = format!("expected at most {MAX_LISTING_LEN} bytes");
                    return Err(SourceError::Listing { host: host_of(&url), detail });
                }
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(self.unreachable(&url, &error, 3 * self.reach_limit)),
                Err(_) => {
                    let seconds = 3.0 * self.reach_limit.as_secs_f32();
                    return Err(SourceError::NoAnswer { host: host_of(&url), seconds });
                }
            }
        }
    }

    fn unreachable(&self, url: &Url, error: &reqwest::Error, limit: Duration) -> SourceError {
        if error.is_timeout() {
            return SourceError::NoAnswer { host: host_of(url), seconds: limit.as_secs_f32() };
        }
        let detail = match &self.tls_problem {
            Some(problem) if url.scheme() == "https" => problem.clone(),
            _ => innermost(error),
        };
        SourceError::Unreachable { host: host_of(url), detail }
    }
}

/// TLS through ring with the system's certificates (and `SSL_CERT_FILE`). On a machine without any, https cannot
/// work, but plain http to one's own machines can.
fn tls_config() -> Result<(rustls::ClientConfig, Option<String>), SourceError> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| SourceError::Setup { detail: error.to_string() })
    };
    match builder()?.with_platform_verifier() {
        Ok(builder) => Ok((builder.with_no_client_auth(), None)),
        Err(error) => {
            let none = rustls::RootCertStore::empty();
            let problem = format!(
                "no certificates on this machine ({error}): install ca-certificates or set SSL_CERT_FILE"
            );
            Ok((builder()?.with_root_certificates(none).with_no_client_auth(), Some(problem)))
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// `host` or `host:port`.
pub(crate) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_string(),
        (None, _) => url.to_string(),
    }
}

/// The cause at the bottom of an error: what the system or the other side said.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    if text.is_empty() { error.to_string() } else { text }
}

/// An address below an endpoint, its path escaped.
pub(crate) fn address(endpoint: &str, path: &[&str], query: &[(&str, &str)]) -> Result<Url, SourceError> {
    let bad = |detail: String| SourceError::Setup { detail: format!("address {endpoint:?}: {detail}") };
    let mut url = Url::parse(endpoint).map_err(|error| bad(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("expected https://HOST".to_string()));
    }
    {
        let mut segments = url.path_segments_mut().map_err(|()| bad("expected https://HOST".to_string()))?;
        segments.pop_if_empty();
        path.iter().flat_map(|part| part.split('/')).for_each(|segment| {
            segments.push(segment);
        });
    }
    query.iter().for_each(|(key, value)| {
        url.query_pairs_mut().append_pair(key, value);
    });
    Ok(url)
}
