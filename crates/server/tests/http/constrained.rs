//! Answers that must have a form: whatever the model would rather say, at any temperature, they have it.

use serde_json::{Map, Value, json};

use crate::client::{post, stream};
use crate::world::shared;

const CHAT: &str = "/v1/chat/completions";
const RAW: &str = "/v1/completions";

/// Every kind of field, each bounded, so that every answer comes to its end.
fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "城市": {"enum": ["北京", "上海", "Paris \"P\""]},
            "height": {"type": "number", "minimum": 0.5, "maximum": 2.5, "multipleOf": 0.25},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
            "home": {
                "type": "object",
                "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "owned": {"type": "boolean"}},
                "required": ["zip", "owned"],
                "additionalProperties": false,
            },
            "born": {"type": "string", "format": "date"},
            "notes": {"anyOf": [{"type": "null"}, {"const": "none"}, {"$ref": "#/$defs/note"}]},
        },
        "required": ["name", "age", "城市", "height", "tags", "home", "born", "notes"],
        "additionalProperties": false,
        "$defs": {"note": {"type": "integer", "exclusiveMinimum": 7, "maximum": 9}},
    })
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |idx: usize| parts.get(idx).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    parts.len() == 3 && parts[0].len() == 4 && (1..=12).contains(&number(1)) && (1..=31).contains(&number(2))
}

/// Why a text is no person, if it is none.
fn fault(text: &str) -> Option<&'static str> {
    let Ok(Value::Object(person)) = serde_json::from_str::<Value>(text) else { return Some("no object") };
    let expected = ["name", "age", "城市", "height", "tags", "home", "born", "notes"];
    let names: Vec<&str> = person.keys().map(String::as_str).collect();
    let home = person["home"].as_object().cloned().unwrap_or_else(Map::new);
    let zip = home.get("zip").and_then(Value::as_str).unwrap_or_default();
    let tags = person["tags"].as_array().map_or(&[][..], Vec::as_slice);
    let notes = &person["notes"];
    let checks = [
        ("names", names == expected),
        ("name", person["name"].as_str().is_some_and(|name| (1..=12).contains(&name.chars().count()))),
        ("age", person["age"].as_u64().is_some_and(|age| age <= 150)),
        ("城市", ["北京", "上海", "Paris \"P\""].contains(&person["城市"].as_str().unwrap_or_default())),
        (
            "height",
            person["height"].as_f64().is_some_and(|h| (0.5..=2.5).contains(&h) && (h * 4.0).fract() == 0.0),
        ),
        ("tags", (1..=3).contains(&tags.len()) && tags.iter().all(|tag| tag == "a" || tag == "b")),
        ("home", home.len() == 2 && home["owned"].is_boolean()),
        ("zip", zip.len() == 5 && zip.bytes().all(|byte| byte.is_ascii_digit())),
        ("born", person["born"].as_str().is_some_and(is_date)),
        ("notes", notes.is_null() || notes == "none" || notes == 8 || notes == 9),
    ];
    checks.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name)
}

fn asked(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Describe a person you know, and where they live."}],
        "max_tokens": 500,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// (text, finish_reason) of every choice.
fn answers(answer: &Value) -> Vec<(String, String)> {
    let choices = answer["choices"].as_array().unwrap().iter();
    choices
        .map(|choice| {
            let text = choice["message"]["content"].as_str().or_else(|| choice["text"].as_str()).unwrap();
            (text.to_string(), choice["finish_reason"].as_str().unwrap().to_string())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_fits_its_schema_at_any_temperature() {
    let address = shared().await;
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": person()}});
    for (temperature, n, seed) in [(0.0, 1, 1), (1.0, 8, 20), (2.0, 8, 300)] {
        let body =
            asked(json!({"response_format": format, "temperature": temperature, "n": n, "seed": seed}));
        let answer = post(address, CHAT, &body).await.ok();
        for (text, reason) in answers(&answer) {
            assert_eq!(reason, "stop", "{text}");
            assert_eq!(fault(&text), None, "temperature {temperature}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_choices_and_grammars_hold_at_any_temperature() {
    let address = shared().await;
    let lark = "start: sum\nsum: term (\" + \" term){0,3}\nterm: DIGIT | \"(\" DIGIT \")\"\nDIGIT: /[0-9]/\n";
    let gbnf = "root ::= list\nlist ::= \"[\" ( item ( \", \" item ){0,2} )? \"]\"\n\
                item ::= \"中\" | [a-c]{2} | \"<\" item \">\"\n";
    let is_term = |term: &str| {
        let term = term.strip_prefix('(').and_then(|term| term.strip_suffix(')')).unwrap_or(term);
        term.len() == 1 && term.as_bytes()[0].is_ascii_digit()
    };
    let is_item = |item: &str| {
        let inner = item.trim_start_matches('<').trim_end_matches('>');
        let is_balanced = item.matches('<').count() == item.matches('>').count();
        let is_pair = inner.len() == 2 && inner.bytes().all(|byte| (b'a'..=b'c').contains(&byte));
        is_balanced && (inner == "中" || is_pair)
    };
    let is_list = |text: &str| {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        inner.is_some_and(|inner| inner.is_empty() || inner.split(", ").all(is_item))
    };
    let is_month = |text: &str| {
        let (year, month) = text.split_once('-').unwrap_or_default();
        year.len() == 4
            && year.parse::<u16>().is_ok()
            && month.parse::<u8>().is_ok_and(|m| (1..=12).contains(&m))
    };
    type Check<'a> = &'a dyn Fn(&str) -> bool;
    let cases: [(Value, Check<'_>); 6] = [
        (json!({"guided_regex": "\\d{4}-(0[1-9]|1[0-2])"}), &is_month),
        (json!({"structured_outputs": {"choice": ["yes", "yesterday", "不知道", "no\n"]}}), &|text| {
            ["yes", "yesterday", "不知道", "no\n"].contains(&text)
        }),
        (json!({"grammar": lark}), &|text| text.split(" + ").all(is_term)),
        (json!({"structured_outputs": {"grammar": gbnf}}), &is_list),
        (json!({"json_schema": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}}), &|text| {
            serde_json::from_str::<Vec<bool>>(text).is_ok_and(|list| list.len() <= 2)
        }),
        // No token is wanted more than one that is not allowed.
        (json!({"regex": "a{1,3}", "logit_bias": {"66": 100, "0": 100, "2": 100}}), &|text| {
            ["a", "aa", "aaa"].contains(&text)
        }),
    ];
    for (form, holds) in cases {
        for (path, temperature, seed) in [(CHAT, 0.0, 1), (RAW, 1.0, 2), (CHAT, 2.0, 3), (RAW, 2.0, 4)] {
            let mut body = asked(form.clone());
            (body["temperature"], body["seed"], body["n"]) = (json!(temperature), json!(seed), json!(2));
            if path == RAW {
                body["prompt"] = json!("The answer is ");
                body.as_object_mut().unwrap().remove("messages");
            }
            let answer = post(address, path, &body).await.ok();
            for (text, reason) in answers(&answer) {
                assert!(reason == "length" || holds(&text), "{form}, temperature {temperature}: {text:?}");
                assert!(reason == "stop" || text.contains("<<<<"), "{form}: {text:?} never ends");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_the_same_and_a_cut_answer_ends_by_length() {
    let address = shared().await;
    let body = asked(json!({"json_schema": person(), "temperature": 1.0, "seed": 5}));
    let whole = answers(&post(address, CHAT, &body).await.ok()).remove(0);
    assert_eq!((whole.1.as_str(), fault(&whole.0)), ("stop", None), "{}", whole.0);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = stream(address, CHAT, &streamed).await.all().await;
    let choice = |event: &Value| event["choices"].get(0).cloned().unwrap_or_default();
    let pieces = events.iter().map(choice);
    let text: String =
        pieces.clone().filter_map(|c| c["delta"]["content"].as_str().map(str::to_string)).collect();
    assert_eq!(text, whole.0);
    let reasons: Vec<Value> = pieces.map(|c| c["finish_reason"].clone()).filter(|r| !r.is_null()).collect();
    assert_eq!(reasons, ["stop"]);

    let mut cut = body.clone();
    cut["max_tokens"] = json!(7);
    let answer = post(address, CHAT, &cut).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    let (text, reason) = answers(&answer).remove(0);
    assert_eq!(reason, "length");
    assert!(whole.0.starts_with(&text), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_object_is_an_object_and_the_end_comes_where_it_must() {
    let address = shared().await;
    for seed in 0..4 {
        let body = json!({
            "prompt": "An empty JSON object: {}\nAnother one: ", "max_tokens": 120, "temperature": 1, "seed": seed,
            "response_format": {"type": "json_object"},
        });
        let (text, reason) = answers(&post(address, RAW, &body).await.ok()).remove(0);
        assert!(text.starts_with('{'), "{text}");
        assert!(reason == "length" || serde_json::from_str::<Map<String, Value>>(&text).is_ok(), "{text}");
    }
    // Neither of these can go on behind the end of the grammar.
    for more in
        [json!({"ignore_eos": true}), json!({"min_tokens": 50}), json!({"logprobs": true, "top_logprobs": 2})]
    {
        let mut body = asked(json!({"choice": ["red", "green"], "temperature": 0}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (text, reason) = answers(&post(address, CHAT, &body).await.ok()).remove(0);
        assert!(text == "red" || text == "green", "{text}");
        assert_eq!(reason, "stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_enforced_is_an_error_that_names_it() {
    let address = shared().await;
    let inside = |inner: Value| json!({"type": "object", "properties": {"a": inner}});
    let named = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let schema = "response_format.json_schema.schema";
    let cases = [
        (named(inside(json!({"not": {"type": "string"}}))), schema, "#/properties/a/not"),
        (named(inside(json!({"type": "array", "uniqueItems": true}))), schema, "#/properties/a/uniqueItems"),
        (named(inside(json!({"type": "string", "format": "iri"}))), schema, "#/properties/a/format"),
        (named(inside(json!({"type": "string", "pattern": "(?<=a)b"}))), schema, "line 1, column 1"),
        (named(inside(json!({"oneOf": [{"type": "number"}, {"minimum": 3}]}))), schema, "#/properties/a"),
        (named(json!({"type": "object", "x-guidance": {"lenient": true}})), schema, "x-guidance"),
        (json!({"regex": "ab("}), "regex", "line 1, column 3"),
        (json!({"guided_grammar": "root ::= [a"}), "guided_grammar", "line 1, column 12"),
        (json!({"grammar": "start: b"}), "grammar", "unknown name"),
        (json!({"choice": []}), "choice", "1 to 4096"),
        (json!({"response_format": {"type": "json_object"}, "choice": ["a"]}), "choice", "response_format"),
        (json!({"response_format": {"type": "structural_tag"}}), "response_format.type", "structural_tag"),
    ];
    for (form, param, words) in cases {
        let answer = post(address, CHAT, &asked(form.clone())).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!(param)), "{form}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{form}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_beside_a_constrained_one_stay_what_they_are() {
    let address = shared().await;
    let free =
        |seed: u64| asked(json!({"temperature": 1.0, "seed": seed, "max_tokens": 60, "logprobs": true}));
    let mut alone = Vec::new();
    for seed in 0..7 {
        alone.push(post(address, CHAT, &free(seed)).await.ok()["choices"].clone());
    }
    let constrained = asked(json!({"json_schema": person(), "temperature": 1.0, "seed": 5}));
    let before = answers(&post(address, CHAT, &constrained).await.ok());
    let together: Vec<_> =
        (0..7).map(|seed| tokio::spawn(async move { post(address, CHAT, &free(seed)).await.ok() })).collect();
    let beside = answers(&post(address, CHAT, &constrained).await.ok());
    assert_eq!(beside, before, "and the constrained one, too");
    for (seed, answer) in together.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap()["choices"], alone[seed], "seed {seed}");
    }
}
