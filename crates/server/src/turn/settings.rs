//! What a conversation may choose: system prompt and sampling. From JSON to checked values, and to the engine's.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use store::OwnerId;

use crate::error::ApiError;
use crate::generation::Params;

/// The longest system prompt, in bytes: some ten pages.
const MAX_SYSTEM_PROMPT_BYTES: usize = 32 * 1024;
/// The page's own sampling, where a conversation chooses nothing: lively, without the unlikely tail (llama.cpp's
/// defaults with a slightly lower temperature).
const TEMPERATURE: f64 = 0.7;
const TOP_K: u32 = 40;
const TOP_P: f64 = 0.95;
const MIN_P: f64 = 0.05;

/// A conversation's settings; what is not there takes the page's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repeat_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frequency_penalty: Option<f64>,
    /// None draws one for each answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// None: as many as fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,
    /// Whether the model thinks first, where it can; None leaves it to the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<bool>,
}

impl Settings {
    /// Checked settings from what a client sent. Unknown fields are left out.
    pub(crate) fn from_client(json: &Json) -> Result<Settings, ApiError> {
        let settings: Settings = match json {
            Json::Null => Settings::default(),
            Json::Object(_) => serde_path_to_error::deserialize(json).map_err(|error| {
                let param = format!("settings.{}", error.path());
                ApiError::WrongType { param, reason: error.into_inner().to_string() }
            })?,
            _ => return Err(ApiError::bad_value("settings", "expected an object")),
        };
        settings.check()?;
        Ok(settings)
    }

    /// The settings that a conversation has stored; they were checked on their way in, or came by import and are not
    /// trusted more than a client.
    pub(crate) fn of(conversation: &store::Conversation) -> Result<Settings, ApiError> {
        Settings::from_client(&conversation.settings)
    }

    fn check(&self) -> Result<(), ApiError> {
        let n_bytes = self.system_prompt.as_deref().map_or(0, str::len);
        if n_bytes > MAX_SYSTEM_PROMPT_BYTES {
            let reason = format!("expected at most {MAX_SYSTEM_PROMPT_BYTES} bytes, found {n_bytes}");
            return Err(ApiError::bad_value("settings.system_prompt", reason));
        }
        range("temperature", self.temperature, 0.0, 2.0)?;
        range("top_p", self.top_p, 0.0, 1.0)?;
        range("min_p", self.min_p, 0.0, 1.0)?;
        range("repeat_penalty", self.repeat_penalty, 0.01, 10.0)?;
        range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        if self.max_tokens == Some(0) {
            return Err(ApiError::bad_value("settings.max_tokens", "expected at least 1, found 0"));
        }
        Ok(())
    }

    /// As JSON for the store: only what was chosen.
    pub(crate) fn to_json(&self) -> Json {
        serde_json::to_value(self).expect("plain numbers and strings are always JSON")
    }

    /// All that is in force, defaults included, with the seed that was drawn. For the receipt.
    pub(crate) fn in_force(&self, seed: u64) -> Settings {
        Settings {
            system_prompt: self.system_prompt.clone().filter(|prompt| !prompt.trim().is_empty()),
            temperature: self.temperature.or(Some(TEMPERATURE)),
            top_p: self.top_p.or(Some(TOP_P)),
            top_k: self.top_k.or(Some(TOP_K)),
            min_p: self.min_p.or(Some(MIN_P)),
            repeat_penalty: self.repeat_penalty.or(Some(1.0)),
            presence_penalty: self.presence_penalty.or(Some(0.0)),
            frequency_penalty: self.frequency_penalty.or(Some(0.0)),
            seed: Some(seed),
            max_tokens: self.max_tokens,
            reasoning: self.reasoning,
        }
    }

    /// What holds where nothing is chosen, so that the page shows it instead of having defaults of its own.
    pub(crate) fn defaults() -> Json {
        // A seed is drawn anew for each answer: there is none to tell.
        Settings { seed: None, ..Settings::default().in_force(0) }.to_json()
    }

    /// For the engine.
    pub(crate) fn params(&self, owner: OwnerId) -> Params {
        let mut params = Params::openai();
        params.temperature = self.temperature.unwrap_or(TEMPERATURE) as f32;
        params.top_p = self.top_p.unwrap_or(TOP_P) as f32;
        params.top_k = self.top_k.unwrap_or(TOP_K) as usize;
        params.min_p = self.min_p.unwrap_or(MIN_P) as f32;
        params.repeat_penalty = self.repeat_penalty.unwrap_or(1.0) as f32;
        params.presence_penalty = self.presence_penalty.unwrap_or(0.0) as f32;
        params.frequency_penalty = self.frequency_penalty.unwrap_or(0.0) as f32;
        params.seed = self.seed;
        params.max_tokens = self.max_tokens.map(|n| n as usize);
        // The random half of the owner's id: caches are shared, and the machine divided, by owner.
        let (_, low) = owner.0.as_u64_pair();
        params.cache_scope = low;
        params.fair_key = low;
        params
    }
}

fn range(name: &str, value: Option<f64>, min: f64, max: f64) -> Result<(), ApiError> {
    match value {
        Some(value) if !(min..=max).contains(&value) => {
            let reason = format!("expected a number from {min} to {max}, found {value}");
            Err(ApiError::bad_value(format!("settings.{name}"), reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_chosen_comes_back_and_nothing_else() {
        let sent = json!({"system_prompt": "be brief", "temperature": 0.2, "seed": 9_007_199_254_740_991_u64,
                          "max_tokens": null, "reasoning": false, "unknown": [1]});
        let settings = Settings::from_client(&sent).unwrap();
        let kept = json!({"system_prompt": "be brief", "temperature": 0.2, "seed": 9_007_199_254_740_991_u64,
                          "reasoning": false});
        assert_eq!(settings.to_json(), kept);
        assert_eq!(Settings::from_client(&Json::Null).unwrap(), Settings::default());
    }

    #[test]
    fn values_outside_of_their_limits_are_named() {
        let cases = [
            ("settings", json!([1])),
            ("settings.temperature", json!({"temperature": 2.5})),
            ("settings.temperature", json!({"temperature": "hot"})),
            ("settings.top_p", json!({"top_p": -0.1})),
            ("settings.top_k", json!({"top_k": -1})),
            ("settings.min_p", json!({"min_p": 7})),
            ("settings.repeat_penalty", json!({"repeat_penalty": 0})),
            ("settings.presence_penalty", json!({"presence_penalty": 3})),
            ("settings.frequency_penalty", json!({"frequency_penalty": -3})),
            ("settings.seed", json!({"seed": -1})),
            ("settings.seed", json!({"seed": 1.5})),
            ("settings.max_tokens", json!({"max_tokens": 0})),
            ("settings.max_tokens", json!({"max_tokens": 1e18})),
            ("settings.reasoning", json!({"reasoning": "yes"})),
            ("settings.system_prompt", json!({"system_prompt": "x".repeat(40_000)})),
        ];
        for (param, sent) in cases {
            let error = Settings::from_client(&sent).unwrap_err();
            assert_eq!((error.param(), error.status().as_u16()), (Some(param), 400), "{sent}: {error}");
        }
    }

    #[test]
    fn a_receipt_has_every_default_and_the_seed_that_was_drawn() {
        let in_force = Settings::default().in_force(42).to_json();
        assert_eq!(in_force["seed"], 42);
        assert_eq!(in_force["temperature"], 0.7);
        assert!(in_force.get("system_prompt").is_none());
        let mut told = Settings::defaults();
        assert!(told.get("seed").is_none(), "{told}");
        told["seed"] = 42.into();
        assert_eq!(told, in_force, "what the page shows is what is in force");
    }
}
