//! From the wire's numbers to checked ones. Every limit of a request stands here, with its name in the error.

use engine::TokenId;

use crate::error::ApiError;
use crate::generation::Params;
use crate::openai::wire::{OneOrMany, RefusedFields, SharedFields};

/// Answers to one request, over all its prompts.
pub(crate) const MAX_ANSWERS: usize = 128;
/// Stop strings, and bytes of each.
const MAX_STOPS: usize = 32;
const MAX_STOP_BYTES: usize = 1024;
/// Alternatives of each token.
const MAX_LOGPROBS: i64 = 20;

/// Checks what both endpoints share. `max_tokens` is decided by the caller, `vocab_size` bounds the ids.
pub(crate) fn check(fields: &SharedFields, vocab_size: usize) -> Result<Params, ApiError> {
    let mut params = Params::openai();
    set_f32(&mut params.temperature, "temperature", fields.temperature, 0.0, 2.0)?;
    set_f32(&mut params.top_p, "top_p", fields.top_p, 0.0, 1.0)?;
    set_f32(&mut params.min_p, "min_p", fields.min_p, 0.0, 1.0)?;
    set_f32(&mut params.typical_p, "typical_p", fields.typical_p, 0.0, 1.0)?;
    set_f32(&mut params.presence_penalty, "presence_penalty", fields.presence_penalty, -2.0, 2.0)?;
    set_f32(&mut params.frequency_penalty, "frequency_penalty", fields.frequency_penalty, -2.0, 2.0)?;
    // Logits are divided by it: far below 0.01 they would leave the numbers.
    set_f32(&mut params.repeat_penalty, "repeat_penalty", fields.repeat_penalty, 0.01, 10.0)?;
    if let Some(top_k) = fields.top_k {
        params.top_k = count("top_k", top_k, -1, i64::MAX)?;
    }
    if let Some(n) = fields.repeat_last_n {
        let window = count("repeat_last_n", n, -1, i64::MAX)?;
        params.repeat_last_n = if n == -1 { usize::MAX } else { window };
    }
    if let Some(n) = fields.min_tokens {
        params.min_tokens = count("min_tokens", n, 0, i64::MAX)?;
    }
    for (id, bias) in fields.logit_bias.iter().flatten() {
        params.logit_bias.push(check_bias(id, *bias, vocab_size)?);
    }
    // A negative seed is a seed like any other.
    params.seed = fields.seed.map(|seed| seed as u64);
    params.stop = check_stops(fields.stop.as_ref())?;
    params.ignore_eos = fields.ignore_eos.unwrap_or(false);
    Ok(params)
}

/// `max_tokens` of a request: at least `least`; -1 is no limit.
pub(crate) fn check_max_tokens(
    param: &str,
    value: Option<i64>,
    least: i64,
) -> Result<Option<usize>, ApiError> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => count(param, n, least, i64::MAX).map(Some),
    }
}

/// Answers to each prompt.
pub(crate) fn check_n(n: Option<i64>) -> Result<usize, ApiError> {
    count("n", n.unwrap_or(1), 1, MAX_ANSWERS as i64)
}

/// Alternatives of each token.
pub(crate) fn check_logprobs(param: &str, n: i64) -> Result<u8, ApiError> {
    let n = count(param, n, 0, MAX_LOGPROBS)?;
    Ok(u8::try_from(n).expect("at most 20"))
}

/// Fields that are not supported and would change the answer.
pub(crate) fn check_refused(fields: &RefusedFields) -> Result<(), ApiError> {
    let table = [
        (
            "guided_whitespace_pattern",
            &fields.guided_whitespace_pattern,
            "white space in JSON has its own bounds; leave the field out",
        ),
        ("use_beam_search", &fields.use_beam_search, "beam search is not supported; leave the field out"),
        ("lora", &fields.lora, "adapters are not supported yet; leave the field out"),
        ("audio", &fields.audio, "audio is not supported; leave the field out"),
        (
            "web_search_options",
            &fields.web_search_options,
            "web search is not supported yet; leave the field out",
        ),
        (
            "continue_final_message",
            &fields.continue_final_message,
            "going on with a message is not supported; send the text to /v1/completions",
        ),
        ("chat_template", &fields.chat_template, "templates are chosen with `serve --chat-template FILE`"),
        ("suffix", &fields.suffix, "filling in the middle is not supported; leave the field out"),
    ];
    for (param, value, reason) in table {
        if value.as_ref().is_some_and(means_something) {
            return Err(ApiError::unsupported(param, reason));
        }
    }
    Ok(())
}

/// Whether a value asks for anything: null, false, "", [] and {} do not.
pub(crate) fn means_something(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) => true,
    }
}

fn check_bias(id: &str, bias: f64, vocab_size: usize) -> Result<(TokenId, f32), ApiError> {
    let param = || format!("logit_bias.{id}");
    let token = id.parse::<TokenId>().ok().filter(|id| (*id as usize) < vocab_size);
    let Some(token) = token else {
        let reason = format!("expected a token id below {vocab_size}, found {id:?}");
        return Err(ApiError::bad_value(param(), reason));
    };
    match (-100.0..=100.0).contains(&bias) {
        true => Ok((token, bias as f32)),
        false => {
            Err(ApiError::bad_value(param(), format!("expected a number from -100 to 100, found {bias}")))
        }
    }
}

fn check_stops(stop: Option<&OneOrMany>) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => return Ok(Vec::new()),
        Some(OneOrMany::One(stop)) => vec![stop.clone()],
        Some(OneOrMany::Many(stops)) => stops.clone(),
    };
    if stops.len() > MAX_STOPS {
        let reason = format!("expected at most {MAX_STOPS} strings, found {}", stops.len());
        return Err(ApiError::bad_value("stop", reason));
    }
    for (idx, stop) in stops.iter().enumerate() {
        if stop.is_empty() || stop.len() > MAX_STOP_BYTES {
            let reason = format!("expected 1 to {MAX_STOP_BYTES} bytes, found {}", stop.len());
            return Err(ApiError::bad_value(format!("stop[{idx}]"), reason));
        }
    }
    Ok(stops)
}

/// Sets `target` if the field is there and within its limits.
fn set_f32(target: &mut f32, param: &str, value: Option<f64>, min: f64, max: f64) -> Result<(), ApiError> {
    let Some(value) = value else { return Ok(()) };
    if !(min..=max).contains(&value) {
        return Err(ApiError::bad_value(
            param,
            format!("expected a number from {min} to {max}, found {value}"),
        ));
    }
    *target = value as f32;
    Ok(())
}

/// A whole number within its limits; -1, where it is allowed, counts as 0.
fn count(param: &str, value: i64, min: i64, max: i64) -> Result<usize, ApiError> {
    if value < min || value > max {
        let reason = match max {
            i64::MAX => format!("expected a whole number of at least {min}, found {value}"),
            _ => format!("expected a whole number from {min} to {max}, found {value}"),
        };
        return Err(ApiError::bad_value(param, reason));
    }
    Ok(usize::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn fields(value: Value) -> SharedFields {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn values_outside_of_their_limits_are_named() {
        struct Case {
            sent: Value,
            param: &'static str,
        }
        let cases = [
            Case { sent: json!({"temperature": 2.1}), param: "temperature" },
            Case { sent: json!({"temperature": -0.1}), param: "temperature" },
            Case { sent: json!({"top_p": 1.5}), param: "top_p" },
            Case { sent: json!({"min_p": -1}), param: "min_p" },
            Case { sent: json!({"typical_p": 2}), param: "typical_p" },
            Case { sent: json!({"presence_penalty": 3}), param: "presence_penalty" },
            Case { sent: json!({"frequency_penalty": -3}), param: "frequency_penalty" },
            Case { sent: json!({"repeat_penalty": 0}), param: "repeat_penalty" },
            Case { sent: json!({"top_k": -2}), param: "top_k" },
            Case { sent: json!({"min_tokens": -1}), param: "min_tokens" },
            Case { sent: json!({"stop": ["a", ""]}), param: "stop[1]" },
            Case { sent: json!({"stop": vec!["x"; 33]}), param: "stop" },
            Case { sent: json!({"logit_bias": {"abc": 1}}), param: "logit_bias.abc" },
            Case { sent: json!({"logit_bias": {"100": 1}}), param: "logit_bias.100" },
            Case { sent: json!({"logit_bias": {"5": 101}}), param: "logit_bias.5" },
        ];
        for Case { sent, param } in cases {
            let error = check(&fields(sent.clone()), 100).expect_err(&sent.to_string());
            assert_eq!(error.param(), Some(param), "{sent}");
            assert_eq!(error.status(), 400, "{sent}");
        }
    }

    #[test]
    fn values_at_their_limits_pass() {
        let sent = json!({
            "temperature": 2, "top_p": 0, "min_p": 1, "typical_p": 1, "presence_penalty": -2,
            "frequency_penalty": 2, "repetition_penalty": 1.1, "top_k": -1, "repeat_last_n": -1,
            "logit_bias": {"99": -100}, "stop": "x", "seed": -1,
        });
        let params = check(&fields(sent), 100).unwrap();
        assert_eq!(params.temperature, 2.0);
        assert_eq!(params.repeat_penalty, 1.1);
        assert_eq!(params.top_k, 0);
        assert_eq!(params.repeat_last_n, usize::MAX);
        assert_eq!(params.logit_bias, [(99, -100.0)]);
        assert_eq!(params.stop, ["x"]);
        assert_eq!(params.seed, Some(u64::MAX));
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let sent = json!({"temperature": null, "stop": null, "logit_bias": null, "n": null});
        let params = check(&fields(sent), 100).unwrap();
        assert_eq!(params.temperature, 1.0);
    }

    #[test]
    fn limits_of_tokens_take_minus_one_as_none() {
        assert_eq!(check_max_tokens("max_tokens", Some(-1), 1).unwrap(), None);
        assert_eq!(check_max_tokens("max_tokens", Some(7), 1).unwrap(), Some(7));
        let error = check_max_tokens("max_completion_tokens", Some(0), 1).unwrap_err();
        assert_eq!(error.param(), Some("max_completion_tokens"));
        assert!(check_n(Some(0)).is_err() && check_n(Some(129)).is_err());
        assert_eq!(check_n(None).unwrap(), 1);
        assert!(check_logprobs("top_logprobs", 21).is_err());
    }

    #[test]
    fn fields_that_would_change_the_answer_are_refused_unless_they_are_empty() {
        let refused: RefusedFields =
            serde_json::from_value(json!({"guided_whitespace_pattern": " "})).unwrap();
        assert_eq!(check_refused(&refused).unwrap_err().param(), Some("guided_whitespace_pattern"));
        let empty = json!({"suffix": null, "use_beam_search": false, "lora": {}});
        let empty: RefusedFields = serde_json::from_value(empty).unwrap();
        assert!(check_refused(&empty).is_ok());
    }
}
