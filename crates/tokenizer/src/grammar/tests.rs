//! Grammars over a small vocabulary: every byte, some words, two control tokens.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::{Reasoning, TokenKind, Vocabulary, VocabularyKind};

/// Ids: 0 ends an answer, 1 is structure, from 2 on bytes and words.
fn compiler() -> GrammarCompiler {
    let byte_spelling = |byte: u8| -> Vec<u8> { format!("<0x{byte:02X}>").into_bytes() };
    let mut texts: Vec<Vec<u8>> = vec![b"<end>".to_vec(), b"<turn>".to_vec()];
    texts.extend((0..=255).map(byte_spelling));
    texts.extend(
        ["true", "{\"", "\":", "\", \"", "中文", "yes", "yesterday", "\u{2581}a"]
            .map(|w| w.as_bytes().to_vec()),
    );
    let mut kinds = vec![TokenKind::Control; 2];
    kinds.extend([TokenKind::Byte; 256]);
    kinds.resize(texts.len(), TokenKind::Normal);
    let mut vocabulary = Vocabulary::new(VocabularyKind::Spm, texts.iter().map(Vec::as_slice).collect());
    vocabulary.scores = vec![0.0; texts.len()];
    vocabulary.kinds = kinds;
    vocabulary.eos = Some(0);
    GrammarCompiler::new(Arc::new(Tokenizer::new(&vocabulary).unwrap()))
}

/// Whether the text can be written byte by byte, and ended there.
fn accepts(compiler: &GrammarCompiler, source: &GrammarSource, text: &str) -> bool {
    let mut state = compiler.compile(source).unwrap_or_else(|error| panic!("{source:?}: {error}")).begin();
    for byte in text.bytes() {
        let id = 2 + u32::from(byte);
        if !state.allowed().unwrap().contains(id) {
            return false;
        }
        state.accept(id).unwrap();
    }
    state.allowed().unwrap().contains(0)
}

fn refused(compiler: &GrammarCompiler, source: &GrammarSource) -> GrammarError {
    compiler.compile(source).err().unwrap_or_else(|| panic!("{source:?} was taken"))
}

fn grammar(text: &str) -> GrammarSource {
    GrammarSource::Grammar(text.to_owned())
}

/// Sources with texts that they accept and texts that they do not.
#[test]
fn a_source_accepts_what_it_says_and_nothing_else() {
    let schema = |schema: Value| GrammarSource::JsonSchema(schema);
    let choice = |texts: &[&str]| GrammarSource::Choice(texts.iter().map(|&text| text.to_owned()).collect());
    let regex = |pattern: &str| GrammarSource::Regex(pattern.to_owned());
    let two = schema(json!({
        "type": "object",
        "properties": {"城市": {"enum": ["北京", "上海"]}, "n": {"type": "integer", "minimum": 1, "maximum": 12}},
        "required": ["城市", "n"],
        "additionalProperties": false,
    }));
    let tree = schema(json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {
            "type": "object",
            "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
            "required": ["v", "next"], "additionalProperties": false,
        }},
    }));
    let expression = "start: sum\nsum: product (\"+\" product)*\nproduct: atom (\"*\" atom)*\n\
                      atom: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]+/ // digits\n";
    let recursive =
        "# sums\nroot ::= sum\nsum ::= term ( \"+\" term )* # any\nterm ::= [0-9]+ | \"(\" sum \")\"\n";
    let flat = "root ::= greeting \", \" name \"!\"\ngreeting ::= \"Hi\" | \"你好\" |\n  \"Hey\"\n\
                name ::= [A-Z] [a-z]{1,3} | [^\\x00-\\x7F]+ | \"\\u4e2d\\n\\\"\"\n";
    let cases: Vec<(GrammarSource, &[&str], &[&str])> = vec![
        (
            regex(r"^\d{4}-(0[1-9]|1[0-2])$"),
            &["2024-01", "1999-12"],
            &["2024-13", "٢٠٢٤-01", "2024-1", " 2024-01"],
        ),
        (regex("a/b\\$"), &["a/b$"], &["a/b", "a/b\\"]),
        (regex("中+|"), &["", "中", "中中"], &["文"]),
        (regex("^$"), &[""], &["a"]),
        (
            choice(&["yes", "yesterday", "C:\\a/[b]*\"", "不"]),
            &["yes", "yesterday", "C:\\a/[b]*\"", "不"],
            &["", "y", "yesa"],
        ),
        (choice(&[""]), &[""], &["a"]),
        (
            GrammarSource::JsonObject,
            &["{}", "{\"a\": [1, {\"b\": null}]}", "{\n  \"中\": \"\\n\"}"],
            &["[]", "{", "1", " {}", "{\"a\":1,}"],
        ),
        (
            two.clone(),
            &["{\"城市\": \"北京\", \"n\": 12}", "{\"城市\":\"上海\",\"n\":1}"],
            &[
                "{\"城市\": \"东京\", \"n\": 1}",
                "{\"城市\": \"北京\", \"n\": 13}",
                "{\"城市\": \"北京\"}",
                "{\"城市\": \"北京\", \"n\": 1, \"x\": 2}",
            ],
        ),
        (
            schema(json!({"type": "string", "pattern": "^[a-c]+$", "maxLength": 3})),
            &["\"abc\""],
            &["\"abcd\"", "\"d\"", "abc"],
        ),
        (
            schema(
                json!({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 2, "uniqueItems": false}),
            ),
            &["[1]", "[1.5, -2e3]"],
            &["[]", "[1,2,3]", "[01]"],
        ),
        (schema(json!({"type": ["null", "boolean"]})), &["null", "true"], &["1", "\"null\""]),
        (
            schema(json!({"allOf": [{"type": "integer", "multipleOf": 5}, {"minimum": 7}]})),
            &["10", "15"],
            &["5", "11", "10.5"],
        ),
        (
            tree,
            &["{\"v\":true,\"next\":null}", "{\"v\":true,\"next\":{\"v\":false,\"next\":null}}"],
            &["{\"v\":true,\"next\":1}"],
        ),
        (
            schema(json!({"type": "string", "format": "date"})),
            &["\"2024-02-29\""],
            &["\"2024-02-30\"", "\"24-01-01\""],
        ),
        (grammar(expression), &["1+2*(3+4)", "7"], &["1+", "()", "a"]),
        (grammar(recursive), &["1+(2+3)", "42", "((1))"], &["(1", "+", ""]),
        (
            grammar(flat),
            &["Hi, Bob!", "你好, 中文!", "Hey, 中\n\"!"],
            &["Hi, bob!", "Hi, Bobbys!", "Ho, Bob!"],
        ),
        (grammar("root ::= ((\"a\" | [x-z])? .){2} \"\""), &["ab", "axaz", "中文", "x\n"], &["", "abcde"]),
    ];
    let compiler = compiler();
    for (source, good, bad) in cases {
        for text in good {
            assert!(accepts(&compiler, &source, text), "{source:?} refuses {text:?}");
        }
        for text in bad {
            assert!(!accepts(&compiler, &source, text), "{source:?} takes {text:?}");
        }
    }
}

#[test]
fn white_space_between_the_parts_of_json_is_bounded() {
    let compiler = compiler();
    let object = GrammarSource::JsonObject;
    assert!(accepts(&compiler, &object, "{\n\n    \"a\" : 1\n}"));
    for text in ["{  \"a\":1}", "{\n\n\n\"a\":1}", &format!("{{\n{}\"a\":1}}", " ".repeat(21)), "{\r\n}"] {
        assert!(!accepts(&compiler, &object, text), "{text:?}");
    }
}

#[test]
fn an_answer_is_complete_where_nothing_can_follow() {
    let compiler = compiler();
    let begin = |source: &GrammarSource| compiler.compile(source).unwrap().begin();
    let mut state = begin(&GrammarSource::Choice(vec!["yes".to_owned(), "yesterday".to_owned()]));
    let id_of = |text: &str| compiler.tokenizer.token_id(text.as_bytes()).unwrap();
    let (yes, yesterday, structure) = (id_of("yes"), id_of("yesterday"), 1);
    let allowed = state.allowed().unwrap();
    assert!(allowed.contains(yes) && allowed.contains(yesterday) && !allowed.contains(0));
    assert!(!allowed.contains(structure) && !allowed.contains(u32::MAX));
    assert!(!state.accept(yes).unwrap(), "more may follow");
    assert!(state.allowed().unwrap().contains(0), "and the answer may end");
    let mut state = begin(&GrammarSource::Choice(vec!["yes".to_owned(), "yesterday".to_owned()]));
    assert!(state.accept(yesterday).unwrap());
    assert!(state.accept(yesterday).is_err(), "nothing fits behind the end");
}

#[test]
fn control_tokens_are_never_allowed() {
    let compiler = compiler();
    let any = GrammarSource::Regex("(?s:.*)".to_owned());
    let allowed = compiler.compile(&any).unwrap().begin().allowed().unwrap();
    assert!(!allowed.contains(1), "structure, though its spelling is text");
    assert!(allowed.contains(0) && allowed.contains(2 + u32::from(b'a')));
    assert!(!allowed.contains(2 + 0xFF), "no character begins with this byte");
}

#[test]
fn what_a_schema_cannot_have_is_named_with_its_place() {
    let at = |path: &str, schema: Value| {
        let error = refused(&compiler(), &GrammarSource::JsonSchema(schema));
        let GrammarError::Schema { path: found, reason } = &error else { panic!("{error:?}") };
        assert_eq!(found, path, "{reason}");
        assert!(!reason.is_empty() && !reason.contains('\n') && !reason.contains("verbose"), "{reason:?}");
    };
    let inside =
        |inner: Value| json!({"type": "object", "properties": {"a/b": {"type": "array", "items": inner}}});
    let path = |end: &str| format!("#/properties/a~1b/items{end}");
    for key in schema::UNSUPPORTED {
        at(&path(&format!("/{key}")), inside(json!({key: {"type": "string"}})));
    }
    at(&path("/uniqueItems"), inside(json!({"type": "array", "uniqueItems": true})));
    at(&path("/format"), inside(json!({"type": "string", "format": "idn-email"})));
    at(&path("/pattern"), inside(json!({"type": "string", "pattern": "a(?=b)"})));
    at(&path("/pattern"), inside(json!({"type": "string", "pattern": "(a"})));
    at(&path("/$ref"), inside(json!({"$ref": "https://example.com/schema.json"})));
    at(&path(""), inside(json!({"$ref": "#/$defs/nowhere"})));
    at(&path(""), inside(json!({"type": "strin"})));
    at(&path(""), inside(json!(7)));
    at(&path(""), inside(json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]})));
    at("#", json!({"type": "integer", "minimum": 5, "maximum": 4}));
    at("#/x-guidance", json!({"type": "string", "x-guidance": {"lenient": true}}));
    at("#", json!("string"));
    at("#", json!({"type": "object", "required": "a"}));
}

#[test]
fn disjoint_alternatives_of_one_of_are_taken() {
    let kind = |name: &str| json!({"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"], "additionalProperties": false});
    let source = GrammarSource::JsonSchema(json!({"oneOf": [kind("a"), kind("b")]}));
    assert!(accepts(&compiler(), &source, "{\"kind\": \"b\"}"));
}

#[test]
fn broken_grammars_are_told_with_their_position() {
    let at = |line: usize, column: usize, source: GrammarSource| {
        let error = refused(&compiler(), &source);
        let GrammarError::Syntax { line: l, column: c, reason } = &error else {
            panic!("{source:?}: {error:?}")
        };
        assert_eq!((*l, *c), (line, column), "{source:?}: {reason}");
    };
    at(1, 3, GrammarSource::Regex("ab(c".to_owned()));
    at(1, 1, GrammarSource::Regex("*a".to_owned()));
    at(1, 2, GrammarSource::Regex("中(?!a)".to_owned()));
    at(2, 8, grammar("start: a\na: \"b\" ^\n"));
    at(2, 4, grammar("start: a\na: <|im_end|>\n"));
    at(1, 8, grammar("start: <[1-9]>"));
    at(2, 3, grammar("start: a\na[stop=\"x\"]: /b+/"));
    at(1, 4, grammar("a: ~/b/\nstart: a"));
    at(1, 14, grammar("%llguidance {\"allow_invalid_utf8\": true}\nstart: \"a\""));
    at(2, 11, grammar("root ::= a\na ::= \"x\" b\n"));
    at(1, 11, grammar("root ::= \"\\q\""));
    at(1, 11, grammar("root ::= [b-a]"));
    at(1, 10, grammar("root ::= <think>"));
    at(1, 14, grammar("root ::= (\"a\""));
    at(2, 1, grammar("root ::= \"a\"\nroot ::= \"b\""));
}

#[test]
fn grammars_that_accept_nothing_or_lack_a_beginning_are_refused() {
    let compiler = compiler();
    for source in [
        grammar("a: \"b\""),
        grammar("a ::= \"b\""),
        grammar("root ::= root \"a\""),
        grammar("start: start \"a\""),
        grammar(""),
        GrammarSource::Regex(String::new()),
        GrammarSource::Regex("[^\\x00-\\x{10FFFF}]".to_owned()),
        GrammarSource::Choice(Vec::new()),
        GrammarSource::JsonSchema(json!({"enum": []})),
    ] {
        refused(&compiler, &source);
    }
}

/// Sources made to be expensive: they are refused, or compiled in a moment; none ends the process.
#[test]
fn hostile_sources_are_bounded() {
    let compiler = compiler();
    let nested = |n: usize, open: &str, inner: &str, close: &str| open.repeat(n) + inner + &close.repeat(n);
    let deep_schema =
        (0..100).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let chain = |n: usize, head: &str, link: &dyn Fn(usize) -> String| {
        head.to_owned() + &(0..n).map(link).collect::<String>()
    };
    let refs: serde_json::Map<String, Value> =
        (0..9_000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
    let sources = [
        GrammarSource::JsonSchema(deep_schema),
        GrammarSource::JsonSchema(json!({"enum": (0..20_000).collect::<Vec<u32>>()})),
        GrammarSource::JsonSchema(json!({"type": "string", "description": "x".repeat(300_000)})),
        GrammarSource::JsonSchema(json!({"$ref": "#/$defs/d0", "$defs": refs})),
        GrammarSource::JsonSchema(json!({"$ref": "#"})),
        GrammarSource::JsonSchema(json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})),
        GrammarSource::JsonSchema(json!({"type": "string", "minLength": 1_000_000_000u64})),
        GrammarSource::JsonSchema(
            json!({"type": "array", "minItems": 1_000_000_000u64, "items": {"type": "null"}}),
        ),
        GrammarSource::JsonSchema(json!({"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"})),
        GrammarSource::JsonSchema(json!({"type": "integer", "multipleOf": 1e-300})),
        GrammarSource::Regex("((x{1,1000}y){1,1000}z){1,1000}".to_owned()),
        GrammarSource::Regex(nested(1_000, "(", "a", ")?")),
        GrammarSource::Regex("a".repeat(MAX_GRAMMAR_BYTES + 1)),
        GrammarSource::Regex(".*a.{30}b".to_owned()),
        GrammarSource::Choice(vec!["a".to_owned(); MAX_CHOICES + 1]),
        grammar(&format!("start: {}", nested(50_000, "(", "\"a\"", ")"))),
        grammar(&format!("root ::= {}", nested(50_000, "(", "\"a\"", ")"))),
        grammar(&format!("root ::= \"a\"{}", "?".repeat(50_000))),
        grammar("root ::= (((\"a\"{1,9999}){1,9999}){1,9999}){1,9999}"),
        grammar("root ::= \"x\" root? ((([a-z]{1,9999}){1,9999}){1,9999} root){1,9999}"),
        grammar("start: ((a{1,9999}){1,9999}){1,9999}\na: \"x\" | \"(\" a \")\""),
        grammar(
            &chain(4_000, "start: r0\n", &|i| format!("r{i}: \"a\" r{}\n", i + 1))
                .replace("r4000\n", "\"z\"\n"),
        ),
        grammar(
            &chain(4_000, "start: T0\n", &|i| format!("T{i}: \"a\" T{}\n", i + 1))
                .replace("T4000\n", "\"z\"\n"),
        ),
        grammar(
            &chain(4_000, "root ::= r0\n", &|i| format!("r{i} ::= \"a\" r{}?\n", i + 1))
                .replace("r4000?\n", "r0\n"),
        ),
        grammar(&chain(30_000, "start: \"a\"\n", &|i| format!("r{i}: \"a\"\n"))),
        grammar(&format!("start: %json {}", nested(3_000, "[", "1", "]"))),
    ];
    for source in sources {
        let text: String = format!("{source:?}").chars().take(120).collect();
        let began = std::time::Instant::now();
        if let Ok(grammar) = compiler.compile(&source) {
            let mut state = grammar.begin();
            for _ in 0..20 {
                // A state beyond the limits is an error, too.
                let Ok(allowed) = state.allowed() else { break };
                let Some(id) = (2..266).find(|&id| allowed.contains(id)) else { break };
                if !matches!(state.accept(id), Ok(false)) {
                    break;
                }
            }
        }
        println!("{:?} {text}", began.elapsed());
    }
}

#[test]
fn schemas_in_another_order_are_other_grammars() {
    let compiler = compiler();
    let schema = |text: &str| GrammarSource::JsonSchema(serde_json::from_str(text).unwrap());
    let rest = r#""required": ["a", "b"], "type": "object", "additionalProperties": false"#;
    let one = schema(&format!(r#"{{"properties": {{"a": {{"const": 1}}, "b": {{"const": 2}}}}, {rest}}}"#));
    let other = schema(&format!(r#"{{"properties": {{"b": {{"const": 2}}, "a": {{"const": 1}}}}, {rest}}}"#));
    for _ in 0..2 {
        assert!(
            accepts(&compiler, &one, "{\"a\":1,\"b\":2}") && !accepts(&compiler, &one, "{\"b\":2,\"a\":1}")
        );
        assert!(
            accepts(&compiler, &other, "{\"b\":2,\"a\":1}")
                && !accepts(&compiler, &other, "{\"a\":1,\"b\":2}")
        );
    }
    assert!(Arc::ptr_eq(&compiler.compile(&one).unwrap(), &compiler.compile(&one).unwrap()), "kept");
}

#[test]
fn reasoning_is_free_up_to_its_end_and_must_end() {
    let compiler = compiler();
    let tokenizer = Arc::clone(&compiler.tokenizer);
    let grammar = compiler.compile(&GrammarSource::Choice(vec!["yes".to_owned()])).unwrap();
    let reasoning = Reasoning { supported: true, on_by_default: true, ..Reasoning::default() };
    let bytes = |text: &str| -> Vec<TokenId> { text.bytes().map(|byte| 2 + u32::from(byte)).collect() };
    let allowed = |answer: &mut GrammarAnswer, id: TokenId| {
        let mut words = vec![0u64; tokenizer.vocab_size().div_ceil(64)];
        answer.allowed(&mut words).unwrap();
        words[id as usize / 64] >> (id % 64) & 1 == 1
    };
    let (yes, end) = (tokenizer.token_id(b"yes").unwrap(), 0);

    // The prompt has opened the tag.
    let mut answer = GrammarAnswer::after_reasoning(&grammar, &reasoning, "<turn><think>\n", true);
    for id in bytes("no </thin</think>") {
        assert!(allowed(&mut answer, id) && !allowed(&mut answer, end));
        assert!(!answer.accept(id).unwrap());
    }
    assert!(!allowed(&mut answer, bytes("n")[0]) && allowed(&mut answer, yes));
    assert!(answer.accept(yes).unwrap());

    // The model opens it itself, or answers at once.
    let mut answer = GrammarAnswer::after_reasoning(&grammar, &reasoning, "<turn>", true);
    assert!(allowed(&mut answer, yes));
    for id in tokenizer.encode(b"<think>", crate::Specials::Parse) {
        assert!(allowed(&mut answer, id));
        answer.accept(id).unwrap();
    }
    assert!(allowed(&mut answer, bytes("n")[0]));
    let mut answer = GrammarAnswer::after_reasoning(&grammar, &reasoning, "<turn>", true);
    assert!(answer.accept(yes).unwrap());

    // It is over already, or switched off, or not known.
    for (prompt, thinks, reasoning) in [
        ("<think>\n\n</think>\n\n", true, &reasoning),
        ("<turn>", false, &reasoning),
        ("<think>", true, &Reasoning::default()),
    ] {
        let mut answer = GrammarAnswer::after_reasoning(&grammar, reasoning, prompt, thinks);
        assert!(allowed(&mut answer, yes) && !allowed(&mut answer, bytes("<")[0]), "{prompt}");
    }
}
