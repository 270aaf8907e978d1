//! The form that an answer must have, in every spelling that OpenAI, vLLM, SGLang and llama-server know it by, as one
//! grammar.

use serde_json::Value;
use tokenizer::GrammarSource;

use super::wire::{ConstraintFields, ResponseFormat, StructuredOutputs};
use crate::error::ApiError;
use crate::params::means_something;

/// What one field asks for, under the name that errors tell.
type Asked = (&'static str, GrammarSource);

/// The one grammar that a request asks for, if it asks for any.
pub(crate) fn check(fields: &ConstraintFields) -> Result<Option<Asked>, ApiError> {
    let mut asked: Vec<Asked> = Vec::new();
    asked.extend(response_format(fields.response_format.as_ref())?);
    for (param, value) in [("json_schema", &fields.json_schema), ("guided_json", &fields.guided_json)] {
        asked.extend(schema(param, value.as_ref())?);
    }
    for (param, pattern) in [("regex", &fields.regex), ("guided_regex", &fields.guided_regex)] {
        asked.extend(text(param, pattern.as_ref(), GrammarSource::Regex));
    }
    for (param, choices) in [("choice", &fields.choice), ("guided_choice", &fields.guided_choice)] {
        asked.extend(choices.clone().map(|choices| (param, GrammarSource::Choice(choices))));
    }
    let grammars =
        [("grammar", &fields.grammar), ("guided_grammar", &fields.guided_grammar), ("ebnf", &fields.ebnf)];
    for (param, grammar) in grammars {
        asked.extend(text(param, grammar.as_ref(), GrammarSource::Grammar));
    }
    if fields.guided_json_object == Some(true) {
        asked.push(("guided_json_object", GrammarSource::JsonObject));
    }
    if let Some(structured) = &fields.structured_outputs {
        asked.extend(structured_outputs(structured)?);
    }
    if let [(first, _), (second, _), ..] = asked[..] {
        return Err(ApiError::bad_value(second, format!("{first} is there already; send one of them")));
    }
    Ok(asked.pop())
}

fn response_format(format: Option<&ResponseFormat>) -> Result<Option<Asked>, ApiError> {
    const SCHEMA: &str = "response_format.json_schema.schema";
    let Some(format) = format else { return Ok(None) };
    if let Some(ignored) = format.unknown.iter().find(|(_, value)| means_something(value)) {
        let param = format!("response_format.{}", ignored.0);
        return Err(ApiError::unsupported(param, "this field is not known; leave it out"));
    }
    let not_here = |field: &str, type_name: &str| {
        Err(ApiError::bad_value(
            format!("response_format.{field}"),
            format!("expected only with \"type\": {type_name:?}"),
        ))
    };
    let Some(kind) = format.kind.as_deref() else {
        return match (&format.json_schema, &format.schema) {
            (None, None) => Ok(None),
            _ => Err(ApiError::bad_value("response_format.type", "expected \"json_schema\" beside a schema")),
        };
    };
    match kind {
        "text" if format.json_schema.is_some() => not_here("json_schema", "json_schema"),
        "text" if format.schema.is_some() => not_here("schema", "json_object"),
        "text" => Ok(None),
        "json_object" if format.json_schema.is_some() => not_here("json_schema", "json_schema"),
        // llama-server's way to give a schema.
        "json_object" => match schema("response_format.schema", format.schema.as_ref())? {
            Some(asked) => Ok(Some(asked)),
            None => Ok(Some(("response_format", GrammarSource::JsonObject))),
        },
        "json_schema" => {
            let named = format.json_schema.as_ref();
            let given = named.and_then(|named| named.schema.as_ref()).or(format.schema.as_ref());
            match schema(SCHEMA, given)? {
                Some(asked) => Ok(Some(asked)),
                None => Err(ApiError::Missing { param: SCHEMA.to_string() }),
            }
        }
        other => Err(ApiError::unsupported(
            "response_format.type",
            format!("expected \"text\", \"json_object\" or \"json_schema\", found {other:?}"),
        )),
    }
}

fn structured_outputs(fields: &StructuredOutputs) -> Result<Vec<Asked>, ApiError> {
    if let Some((name, _)) = fields.unknown.iter().find(|(_, value)| means_something(value)) {
        let reason = "expected json, json_object, regex, choice or grammar; leave it out";
        return Err(ApiError::unsupported(format!("structured_outputs.{name}"), reason));
    }
    let mut asked = Vec::new();
    asked.extend(schema("structured_outputs.json", fields.json.as_ref())?);
    asked.extend(text("structured_outputs.regex", fields.regex.as_ref(), GrammarSource::Regex));
    let choices = fields.choice.clone();
    asked.extend(choices.map(|choices| ("structured_outputs.choice", GrammarSource::Choice(choices))));
    asked.extend(text("structured_outputs.grammar", fields.grammar.as_ref(), GrammarSource::Grammar));
    if fields.json_object == Some(true) {
        asked.push(("structured_outputs.json_object", GrammarSource::JsonObject));
    }
    Ok(asked)
}

/// A schema: an object, or one written as text.
fn schema(param: &'static str, value: Option<&Value>) -> Result<Option<Asked>, ApiError> {
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|error| {
            ApiError::bad_value(param, format!("expected a JSON Schema, as an object or as text: {error}"))
        })?,
        Some(value) => value.clone(),
    };
    Ok(Some((param, GrammarSource::JsonSchema(value))))
}

/// Clients send an empty text for none.
fn text(
    param: &'static str,
    text: Option<&String>,
    source: impl Fn(String) -> GrammarSource,
) -> Option<Asked> {
    text.filter(|text| !text.is_empty()).map(|text| (param, source(text.clone())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn checked(sent: Value) -> Result<Option<Asked>, ApiError> {
        check(&serde_json::from_value(sent).unwrap())
    }

    #[test]
    fn every_spelling_is_the_same_grammar() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        let as_schema = GrammarSource::JsonSchema(schema.clone());
        let regex = GrammarSource::Regex("a+".to_string());
        let choice = GrammarSource::Choice(vec!["是".to_string(), "no".to_string()]);
        let grammar = GrammarSource::Grammar("root ::= \"a\"".to_string());
        let named = json!({"name": "x", "strict": true, "description": "d", "schema": schema});
        let cases = [
            (json!({"response_format": {"type": "json_object"}}), GrammarSource::JsonObject),
            (json!({"response_format": {"type": "json_schema", "json_schema": named}}), as_schema.clone()),
            (json!({"response_format": {"type": "json_object", "schema": schema}}), as_schema.clone()),
            (json!({"response_format": {"type": "json_schema", "schema": schema}}), as_schema.clone()),
            (json!({"json_schema": schema}), as_schema.clone()),
            (json!({"guided_json": schema.to_string()}), as_schema.clone()),
            (json!({"structured_outputs": {"json": schema}}), as_schema),
            (json!({"structured_outputs": {"json_object": true}}), GrammarSource::JsonObject),
            (json!({"guided_json_object": true}), GrammarSource::JsonObject),
            (json!({"regex": "a+"}), regex.clone()),
            (json!({"guided_regex": "a+"}), regex.clone()),
            (json!({"structured_outputs": {"regex": "a+", "choice": null}}), regex),
            (json!({"choice": ["是", "no"]}), choice.clone()),
            (json!({"guided_choice": ["是", "no"]}), choice.clone()),
            (json!({"structured_outputs": {"choice": ["是", "no"]}}), choice),
            (json!({"grammar": "root ::= \"a\""}), grammar.clone()),
            (json!({"guided_grammar": "root ::= \"a\""}), grammar.clone()),
            (json!({"ebnf": "root ::= \"a\"", "regex": ""}), grammar.clone()),
            (json!({"structured_outputs": {"grammar": "root ::= \"a\""}}), grammar),
        ];
        for (sent, expected) in cases {
            let (_, source) = checked(sent.clone()).unwrap().unwrap_or_else(|| panic!("{sent}"));
            assert_eq!(source, expected, "{sent}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_nothing() {
        let empty = [
            json!({}),
            json!({"response_format": null}),
            json!({"response_format": {}}),
            json!({"response_format": {"type": "text"}}),
            json!({"grammar": "", "json_schema": null, "structured_outputs": {}, "guided_json_object": false}),
        ];
        for sent in empty {
            assert!(checked(sent.clone()).unwrap().is_none(), "{sent}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"kind": "text"}}), "response_format.kind"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"response_format": {"json_schema": {"schema": {}}}}), "response_format.type"),
            (json!({"response_format": {"type": "text", "schema": {}}}), "response_format.schema"),
            (
                json!({"response_format": {"type": "json_object", "json_schema": {"schema": {}}}}),
                "response_format.json_schema",
            ),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"regex": "a", "choice": ["b"]}), "choice"),
            (json!({"response_format": {"type": "json_object"}, "grammar": "start: \"a\""}), "grammar"),
            (json!({"structured_outputs": {"structural_tag": "x"}}), "structured_outputs.structural_tag"),
            (json!({"structured_outputs": {"json": {}, "regex": "a"}}), "structured_outputs.regex"),
        ];
        for (sent, param) in cases {
            let error = checked(sent.clone()).expect_err(&sent.to_string());
            assert_eq!((error.param(), error.status().as_u16()), (Some(param), 400), "{sent}: {error}");
        }
    }
}
