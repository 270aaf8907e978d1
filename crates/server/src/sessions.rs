//! Who has signed in on the page: random tokens in cookies, their hashes in the store.
//!
//! A token is 32 random bytes. The store holds its SHA-256 and when it ends, bound to the hash of the API
//! key, so that a changed key ends all sessions. Attempts to sign in are limited by address and in all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::state::now_ms;

/// Name of the cookie.
pub(crate) const COOKIE: &str = "daybreak_session";
/// How long a session lasts: 30 days.
const LIFETIME_MS: i64 = 30 * 24 * 3600 * 1000;
/// Sessions at once; the oldest ends when one more is opened.
const MAX_SESSIONS: usize = 100;
/// Name of the value in the store.
const STORE_KEY: &str = "sessions";
/// Failed attempts from one address, and from all, within [`ATTEMPT_WINDOW`].
const MAX_ATTEMPTS_EACH: u32 = 10;
const MAX_ATTEMPTS_ALL: u32 = 100;
const ATTEMPT_WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered at once.
const MAX_ADDRESSES: usize = 1024;

/// Open sessions and failed attempts.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Random for each process, so that what is compared says nothing about the key.
    salt: [u8; 32],
    saved: Mutex<Saved>,
    attempts: Mutex<Attempts>,
}

/// What the store keeps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Saved {
    /// SHA-256 of the API key the sessions were opened with, hex.
    key_hash: String,
    sessions: Vec<Session>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    /// SHA-256 of the token, hex.
    token_hash: String,
    /// Milliseconds since the Unix epoch.
    ends_at: i64,
}

#[derive(Debug, Default)]
struct Attempts {
    by_address: HashMap<IpAddr, Window>,
    all: Window,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    n_failed: u32,
}

impl Default for Window {
    fn default() -> Window {
        Window { since: Instant::now(), n_failed: 0 }
    }
}

impl Window {
    /// Seconds to wait when `max` attempts have failed within the window.
    fn blocked_for(&self, max: u32) -> Option<u64> {
        let age = self.since.elapsed();
        (age < ATTEMPT_WINDOW && self.n_failed >= max).then(|| (ATTEMPT_WINDOW - age).as_secs() + 1)
    }

    fn count_failure(&mut self) {
        if self.since.elapsed() >= ATTEMPT_WINDOW {
            *self = Window::default();
        }
        self.n_failed += 1;
    }
}

impl Sessions {
    /// The sessions that the store remembers for this key.
    pub(crate) async fn open(
        store: &store::Store,
        api_key: Option<&str>,
    ) -> Result<Sessions, store::StoreError> {
        let key_hash = api_key.map_or(String::new(), |key| hex(&Sha256::digest(key.as_bytes())));
        let saved = store.value(STORE_KEY).await?;
        // What cannot be read is forgotten: everyone signs in again.
        let mut saved: Saved =
            saved.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        if saved.key_hash != key_hash {
            saved = Saved { key_hash, sessions: Vec::new() };
        }
        let salt = random_bytes();
        Ok(Sessions { salt, saved: Mutex::new(saved), attempts: Mutex::default() })
    }

    /// Compares in a time that does not depend on where the two differ.
    pub(crate) fn key_matches(&self, key: &str, shown: &str) -> bool {
        let digest =
            |text: &str| Sha256::new().chain_update(self.salt).chain_update(text.as_bytes()).finalize();
        let (expected, found) = (digest(key), digest(shown));
        expected.iter().zip(found.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// Opens a session for who shows the key: the token for the cookie.
    pub(crate) async fn sign_in(
        &self,
        store: &store::Store,
        key: &str,
        shown: &str,
        address: IpAddr,
    ) -> Result<String, ApiError> {
        self.check_attempts(address)?;
        if !self.key_matches(key, shown) {
            self.count_failure(address);
            return Err(ApiError::Unauthorized { reason: "the API key is wrong" });
        }
        let token = hex(&random_bytes());
        let bytes = {
            let mut saved = self.saved();
            let now = now_ms();
            saved.sessions.retain(|session| session.ends_at > now);
            if saved.sessions.len() >= MAX_SESSIONS {
                saved.sessions.remove(0);
            }
            saved.sessions.push(Session { token_hash: token_hash(&token), ends_at: now + LIFETIME_MS });
            to_bytes(&saved)
        };
        store.set_value(STORE_KEY, &bytes).await?;
        Ok(token)
    }

    /// Ends a session.
    pub(crate) async fn sign_out(&self, store: &store::Store, token: &str) -> Result<(), ApiError> {
        let bytes = {
            let mut saved = self.saved();
            let hash = token_hash(token);
            saved.sessions.retain(|session| session.token_hash != hash);
            to_bytes(&saved)
        };
        Ok(store.set_value(STORE_KEY, &bytes).await?)
    }

    /// Whether this token's session is open.
    pub(crate) fn is_valid(&self, token: &str) -> bool {
        let (hash, now) = (token_hash(token), now_ms());
        self.saved().sessions.iter().any(|session| session.token_hash == hash && session.ends_at > now)
    }

    fn check_attempts(&self, address: IpAddr) -> Result<(), ApiError> {
        let attempts = self.attempts();
        let each = attempts.by_address.get(&address).and_then(|window| window.blocked_for(MAX_ATTEMPTS_EACH));
        match each.or(attempts.all.blocked_for(MAX_ATTEMPTS_ALL)) {
            Some(retry_after_s) => Err(ApiError::TooManyAttempts { retry_after_s }),
            None => Ok(()),
        }
    }

    fn count_failure(&self, address: IpAddr) {
        let mut attempts = self.attempts();
        if attempts.by_address.len() >= MAX_ADDRESSES {
            attempts.by_address.retain(|_, window| window.since.elapsed() < ATTEMPT_WINDOW);
        }
        if attempts.by_address.len() < MAX_ADDRESSES {
            attempts.by_address.entry(address).or_default().count_failure();
        }
        attempts.all.count_failure();
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The session token among the cookies.
pub(crate) fn cookie_token(headers: &HeaderMap) -> Option<&str> {
    let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.find_map(|line| {
        line.split(';').find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE && value.len() == 64).then_some(value)
        })
    })
}

/// The `Set-Cookie` line that stores a token, or with an empty one removes it.
pub(crate) fn set_cookie(token: &str, secure: bool) -> String {
    let max_age = if token.is_empty() { 0 } else { LIFETIME_MS / 1000 };
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}

fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn to_bytes(saved: &Saved) -> Vec<u8> {
    serde_json::to_vec(saved).expect("strings and numbers always serialise")
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::http::HeaderValue;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn store(dir: &std::path::Path) -> store::Store {
        let config = store::StoreConfig { data_dir: dir.to_path_buf(), database_url: None };
        store::Store::open(config).await.unwrap()
    }

    #[tokio::test]
    async fn a_session_outlives_the_process_and_ends_with_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let sessions = Sessions::open(&store, Some("sesame")).await.unwrap();
        let token = sessions.sign_in(&store, "sesame", "sesame", HERE).await.unwrap();
        assert_eq!(token.len(), 64);
        assert!(sessions.is_valid(&token));
        let saved = store.value(STORE_KEY).await.unwrap().unwrap();
        assert!(!String::from_utf8(saved).unwrap().contains(&token), "only the hash is stored");

        let restarted = Sessions::open(&store, Some("sesame")).await.unwrap();
        assert!(restarted.is_valid(&token));
        restarted.sign_out(&store, &token).await.unwrap();
        assert!(!restarted.is_valid(&token));

        let token = restarted.sign_in(&store, "sesame", "sesame", HERE).await.unwrap();
        let other_key = Sessions::open(&store, Some("open sesame")).await.unwrap();
        assert!(!other_key.is_valid(&token));
    }

    #[tokio::test]
    async fn failed_attempts_are_limited_by_address() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let sessions = Sessions::open(&store, Some("sesame")).await.unwrap();
        for _ in 0..MAX_ATTEMPTS_EACH {
            let error = sessions.sign_in(&store, "sesame", "guess", HERE).await.unwrap_err();
            assert!(matches!(error, ApiError::Unauthorized { .. }));
        }
        let error = sessions.sign_in(&store, "sesame", "sesame", HERE).await.unwrap_err();
        assert!(matches!(error, ApiError::TooManyAttempts { retry_after_s: 1..=61 }), "{error:?}");
        let elsewhere = IpAddr::from([10, 0, 0, 1]);
        assert!(sessions.sign_in(&store, "sesame", "sesame", elsewhere).await.is_ok());
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let token = "a".repeat(64);
        let mut headers = HeaderMap::new();
        let line = format!("theme=dark; {COOKIE}={token}; x=y");
        headers.append(header::COOKIE, HeaderValue::from_str(&line).unwrap());
        assert_eq!(cookie_token(&headers), Some(token.as_str()));
        headers.insert(header::COOKIE, HeaderValue::from_static("daybreak_session=short"));
        assert_eq!(cookie_token(&headers), None);
    }

    #[test]
    fn the_cookie_is_hidden_from_scripts_and_other_sites() {
        let line = set_cookie("t", false);
        assert!(line.contains("HttpOnly") && line.contains("SameSite=Strict"), "{line}");
        assert!(set_cookie("", false).contains("Max-Age=0"));
        assert!(set_cookie("t", true).ends_with("; Secure"));
    }
}
