//! JSON Schemas before llguidance compiles them: bounded, and with every keyword that it cannot enforce named by its
//! place.
//!
//! llguidance refuses by itself what it does not know, but does not say where. It takes settings from a member
//! `x-guidance` of a schema (one of them makes it lenient): that name is kept for us.

use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{Map, Value, json};

use super::{GrammarError, LIMITS, MAX_GRAMMAR_BYTES, first_line, lark};

/// Subschemas inside each other.
const MAX_DEPTH: usize = 64;
/// Subschemas, and values of `enum` and `const`, together.
const MAX_NODES: usize = 10_000;
/// Subschemas that are tried alone to find the one that an error is about.
const MAX_SUSPECTS: usize = 64;

/// White space between the parts of an answer, as llama.cpp bounds it: none, a blank, or one or two line ends with an
/// indent. A small model that may write more goes on with it for ever.
const WHITE_SPACE: &str = r" |\n{1,2}[ \t]{0,20}";

/// Keywords of any draft that are not enforced.
pub(super) const UNSUPPORTED: [&str; 18] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
];

/// Values of `format` that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Keywords whose value maps names to subschemas, lists subschemas, or is one (or a list).
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
const LISTS: [&str; 4] = ["anyOf", "allOf", "oneOf", "prefixItems"];
const SINGLES: [&str; 3] = ["items", "additionalItems", "additionalProperties"];

/// Any JSON object.
pub(super) fn any_object() -> Value {
    with_settings(json!({"type": "object"}))
}

/// The schema as llguidance is given it.
pub(super) fn check(schema: &Value) -> Result<Value, GrammarError> {
    if !schema.is_object() {
        return Err(at("#", "a schema is expected to be an object"));
    }
    let n_bytes = schema.to_string().len();
    if n_bytes > MAX_GRAMMAR_BYTES {
        let what = "the schema's length in bytes";
        return Err(GrammarError::TooLarge { what, found: n_bytes, limit: MAX_GRAMMAR_BYTES });
    }
    let mut walk =
        Walk { n_nodes: 0, visit: |path: &str, fields: &Map<String, Value>| keywords(path, fields) };
    walk.schema(schema, "#", 0)?;
    let mut schema = schema.clone();
    drop_neutral(&mut schema);
    Ok(with_settings(schema))
}

fn with_settings(mut schema: Value) -> Value {
    schema["x-guidance"] = json!({"whitespace_pattern": WHITE_SPACE});
    schema
}

fn at(path: &str, reason: impl Into<String>) -> GrammarError {
    GrammarError::Schema { path: path.to_owned(), reason: reason.into() }
}

/// Goes through every subschema. `path` is a JSON pointer.
struct Walk<V> {
    n_nodes: usize,
    visit: V,
}

impl<V: FnMut(&str, &Map<String, Value>) -> Result<(), GrammarError>> Walk<V> {
    fn schema(&mut self, schema: &Value, path: &str, depth: usize) -> Result<(), GrammarError> {
        self.count(1)?;
        if depth > MAX_DEPTH {
            let what = "the depth of the schema's nesting";
            return Err(GrammarError::TooLarge { what, found: depth, limit: MAX_DEPTH });
        }
        let fields = match schema {
            Value::Object(fields) => fields,
            Value::Bool(_) => return Ok(()),
            _ => return Err(at(path, "a schema is expected to be an object or a boolean")),
        };
        (self.visit)(path, fields)?;
        self.count(fields.get("enum").and_then(Value::as_array).map_or(0, Vec::len))?;
        for key in MAPS {
            for (name, inner) in fields.get(key).and_then(Value::as_object).into_iter().flatten() {
                self.schema(inner, &format!("{path}/{key}/{}", pointer_step(name)), depth + 1)?;
            }
        }
        for key in LISTS.iter().chain(&SINGLES) {
            match fields.get(*key) {
                Some(Value::Array(list)) => {
                    for (idx, inner) in list.iter().enumerate() {
                        self.schema(inner, &format!("{path}/{key}/{idx}"), depth + 1)?;
                    }
                }
                Some(inner) if SINGLES.contains(key) => {
                    self.schema(inner, &format!("{path}/{key}"), depth + 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self, n: usize) -> Result<(), GrammarError> {
        self.n_nodes += n;
        match self.n_nodes {
            0..=MAX_NODES => Ok(()),
            found => {
                let what = "the number of subschemas and enum values";
                Err(GrammarError::TooLarge { what, found, limit: MAX_NODES })
            }
        }
    }
}

/// A name as a step of a JSON pointer.
fn pointer_step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Refuses what one subschema asks for and cannot have.
fn keywords(path: &str, fields: &Map<String, Value>) -> Result<(), GrammarError> {
    if fields.contains_key("x-guidance") {
        return Err(at(&format!("{path}/x-guidance"), "this name is not for schemas; leave it out"));
    }
    for key in UNSUPPORTED {
        if fields.get(key).is_some_and(|value| !is_neutral(key, value)) {
            let reason = format!("the keyword {key:?} cannot be enforced; leave it out");
            return Err(at(&format!("{path}/{key}"), reason));
        }
    }
    if let Some(format) = fields.get("format").and_then(Value::as_str)
        && !FORMATS.contains(&format)
    {
        let reason = format!("the format {format:?} cannot be enforced, only {}", FORMATS.join(", "));
        return Err(at(&format!("{path}/format"), reason));
    }
    if let Some(pattern) = fields.get("pattern").and_then(Value::as_str) {
        lark::check_regex(pattern).map_err(|error| at(&format!("{path}/pattern"), error.to_string()))?;
    }
    for pattern in fields.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys)
    {
        let place = || format!("{path}/patternProperties/{}", pointer_step(pattern));
        lark::check_regex(pattern).map_err(|error| at(&place(), error.to_string()))?;
    }
    if let Some(reference) = fields.get("$ref").and_then(Value::as_str)
        && reference != "#"
        && !reference.starts_with("#/")
    {
        let reason = format!("{reference:?} leaves the schema; put what it names under \"$defs\"");
        return Err(at(&format!("{path}/$ref"), reason));
    }
    Ok(())
}

/// `"uniqueItems": false` asks for nothing.
fn is_neutral(key: &str, value: &Value) -> bool {
    key == "uniqueItems" && value == &Value::Bool(false)
}

/// Takes out keywords that ask for nothing, which llguidance would refuse.
fn drop_neutral(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|key, value| !is_neutral(key, value));
            fields.values_mut().for_each(drop_neutral);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_neutral),
        _ => {}
    }
}

/// llguidance's error with the deepest subschema that gives the same one by itself.
pub(super) fn explain(schema: &Value, error: &str) -> GrammarError {
    let mut suspects: Vec<(String, Map<String, Value>)> = Vec::new();
    let visit = |path: &str, fields: &Map<String, Value>| {
        suspects.push((path.to_owned(), fields.clone()));
        Ok(())
    };
    let mut walk = Walk { n_nodes: 0, visit };
    let place = match walk.schema(schema, "#", 0) {
        Ok(()) => {
            suspects.sort_by_key(|(path, _)| std::cmp::Reverse(path.matches('/').count()));
            let guilty = suspects.into_iter().take(MAX_SUSPECTS);
            guilty.into_iter().find(|(_, fields)| alone(schema, fields).is_some_and(|own| own == error))
        }
        Err(_) => None,
    };
    let reason = error.replace(
        "Enable 'coerce_one_of' option to approximate oneOf with anyOf",
        "the alternatives overlap; use anyOf, or make them differ in a required constant",
    );
    at(&place.map_or_else(|| "#".to_owned(), |(path, _)| path), reason)
}

/// The error of a subschema compiled by itself, beside the root's definitions.
fn alone(root: &Value, fields: &Map<String, Value>) -> Option<String> {
    let mut fields = fields.clone();
    for key in ["$defs", "definitions", "$schema"] {
        if let Some(value) = root.get(key) {
            fields.entry(key).or_insert_with(|| value.clone());
        }
    }
    let mut schema = Value::Object(fields);
    drop_neutral(&mut schema);
    let builder = GrammarBuilder::new(None, LIMITS);
    let compiled = JsonCompileOptions::default().json_to_llg(builder, schema);
    compiled.err().map(|error| first_line(&format!("{error:#}")))
}
