//! The whole way from a task to figures, with a model that is defined here: it likes what it has seen before.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use tokenizer::{BpeTraining, ChatTemplate, SpecialTexts, TokenId, Tokenizer, WordCounts};

use super::asking::n_words;
use super::prompts::{chat_messages, examples_for, plain_context};
use super::records::Records;
use super::rolling::{encode_pair, fitted, windows};
use super::task::digest;
use super::*;

/// Learns nothing: a token is the likelier the more often it stands in the context, and it says the last word again.
struct Repeater {
    vocab_size: usize,
}

impl EvalModel for Repeater {
    fn log_likelihood(&self, tokens: &[TokenId], first: usize) -> Result<f64, EvalError> {
        let of = |at: usize| {
            let n_seen = tokens[..at].iter().filter(|token| **token == tokens[at]).count();
            ((n_seen as f64 + 0.1) / (at as f64 + 0.1 * self.vocab_size as f64)).ln()
        };
        Ok((first..tokens.len()).map(of).sum())
    }

    fn generate(
        &self,
        prompt: &[TokenId],
        max_tokens: usize,
        until: &[String],
    ) -> Result<Written, EvalError> {
        assert!(!prompt.is_empty() && max_tokens > 0);
        Ok(Written { text: format!(" {}", until.len()), has_ended: false })
    }
}

fn tokenizer() -> Tokenizer {
    let mut counts = WordCounts::new("qwen2").unwrap();
    counts.add("what is it? it is what it is, and the sky is blue. 天空是蓝色的。".as_bytes());
    let special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    let training = BpeTraining { vocab_size: 300, special_tokens, min_count: 2 };
    let bpe = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let mut vocabulary = bpe.vocabulary();
    vocabulary.eos = Some(0);
    vocabulary.eot = Some(2);
    Tokenizer::new(&vocabulary).unwrap()
}

fn task(records: &[Value]) -> Task {
    let mut read = Records::default();
    for record in records {
        read.add(record).unwrap();
    }
    read.finish("test").unwrap()
}

fn settings(wording: Wording) -> EvalSettings {
    EvalSettings {
        n_few_shot: None,
        limit: None,
        seed: 1,
        wording,
        n_parallel: NonZeroUsize::new(3).unwrap(),
    }
}

fn ask(task: &Task, settings: &EvalSettings, max_len: usize) -> (TaskResult, Vec<Sample>) {
    let tokenizer = tokenizer();
    let template = ChatTemplate::chatml(SpecialTexts::default());
    let model = Repeater { vocab_size: tokenizer.vocab_size() };
    let examinee = Examinee { model: &model, tokenizer: &tokenizer, template: &template, max_len };
    evaluate(task, examinee, settings, &|_| ()).unwrap()
}

#[test]
fn the_likeliest_choice_counts_in_text_and_in_chat() {
    let records = [
        json!({ "question": "sky sky sky", "choices": ["moon", "sky"], "answer": "sky" }),
        json!({ "question": "moon moon moon", "choices": ["moon", "sky"], "answer": "sky" }),
    ];
    for wording in [Wording::Plain, Wording::Chat] {
        let (result, samples) = ask(&task(&records), &settings(wording), 4096);
        let acc = &result.metrics[0];
        assert_eq!((acc.metric.as_str(), &acc.values[..]), ("acc", &[1.0, 0.0][..]), "{samples:?}");
        assert_eq!(acc.figure.value, 0.5);
        assert_eq!(samples[0].prompt.contains("<|im_start|>"), wording == Wording::Chat);
    }
}

#[test]
fn a_text_is_predicted_byte_by_byte_whatever_the_windows() {
    let text = "the sky is blue. ".repeat(20);
    let task = task(&[json!({ "text": text }), json!({ "text": "it is what it is" })]);
    let (whole, _) = ask(&task, &settings(Wording::Plain), 4096);
    let (parts, _) = ask(&task, &settings(Wording::Plain), 16);
    for result in [&whole, &parts] {
        let bits = &result.metrics[0];
        assert_eq!((bits.metric.as_str(), bits.weights[0]), ("bits_per_byte", text.len() as f64));
        let ratio = bits.values.iter().sum::<f64>() / bits.weights.iter().sum::<f64>();
        assert!((bits.figure.value - ratio).abs() < 1e-12 && bits.figure.stderr.is_some());
    }
    assert!(parts.metrics[0].figure.value > whole.metrics[0].figure.value, "less context, more surprise");
}

#[test]
fn what_the_model_writes_is_judged_and_too_long_prompts_are_told() {
    let answer = json!({ "question": "how many stops?", "answer": 1 });
    let (result, samples) = ask(&task(std::slice::from_ref(&answer)), &settings(Wording::Plain), 4096);
    assert_eq!(result.metrics[0].metric, "exact_match");
    assert_eq!((result.metrics[0].figure.value, samples[0].output.as_deref()), (1.0, Some(" 1")));
    let (result, _) = ask(&task(std::slice::from_ref(&answer)), &settings(Wording::Plain), 260);
    assert_eq!(result.n_cut, 1);
    let checked = json!({ "question": "how many?", "checks": [{ "kind": "words", "exactly": 1 }, { "kind": "lowercase" }] });
    let (result, _) = ask(&task(&[checked]), &settings(Wording::Plain), 4096);
    assert_eq!(result.metrics[0].metric, "prompt_level_strict_acc");
    assert_eq!(result.metrics[0].figure.value, 0.0, "a number has no letter in lower case");

    let (tokenizer, template) = (tokenizer(), ChatTemplate::chatml(SpecialTexts::default()));
    let model = Repeater { vocab_size: 300 };
    let examinee = Examinee { model: &model, tokenizer: &tokenizer, template: &template, max_len: 256 };
    let error = evaluate(&task(&[answer]), examinee, &settings(Wording::Plain), &|_| ()).unwrap_err();
    assert!(error.to_string().contains("no room for the question in 256"), "{error}");
}

#[test]
fn examples_are_never_the_question_itself_and_always_the_same() {
    let question = |n: u32| json!({ "question": format!("q{n}"), "answer": n });
    let task = task(&(0..5).map(question).collect::<Vec<Value>>());
    for idx in 0..5 {
        let examples = examples_for(&task, idx, 4, 9).unwrap();
        assert_eq!(examples.len(), 4);
        assert!(!examples.contains(&&task.documents[idx]));
        assert_eq!(examples, examples_for(&task, idx, 4, 9).unwrap());
    }
    let orders: Vec<_> = (0..8).map(|seed| examples_for(&task, 0, 4, seed).unwrap()).collect();
    assert!(orders.iter().any(|order| *order != orders[0]));
    let error = examples_for(&task, 0, 5, 9).unwrap_err().to_string();
    assert!(error.contains("5 examples are wanted before each question, there are 4"), "{error}");
}

#[test]
fn the_built_in_tasks_are_what_they_always_were() {
    let tasks = built_in_tasks();
    let told: Vec<String> = tasks
        .iter()
        .map(|task| {
            format!(
                "{} {} {} {}",
                task.name,
                task.documents.len(),
                task.examples.len(),
                digest(&task.documents)
            )
        })
        .collect();
    for task in &tasks {
        let questions: std::collections::BTreeSet<&str> =
            task.documents.iter().map(|d| d.question()).collect();
        assert!(questions.len() == task.documents.len(), "{}: a question stands twice", task.name);
        assert!(task.documents.len() >= 60, "{}", task.name);
        let has = |question: &str| questions.contains(question);
        assert!(!task.examples.iter().any(|example| has(example.question())), "{}", task.name);
    }
    // Whoever changes what is asked makes older results useless for comparison: not without need.
    assert_eq!(told, BUILT_IN, "{told:#?}");
}

const BUILT_IN: [&str; 10] = [
    "arithmetic-en 100 12 59ad146e86cc7403",
    "spelling-en 100 12 9794feb7b6a09813",
    "copying-en 100 12 642cc20241a6939c",
    "idioms-en 66 0 bc5011fea6192fec",
    "instructions-en 100 0 311ed23d8badb76e",
    "arithmetic-zh 100 12 660fac3c128b8b7e",
    "spelling-zh 100 12 f30a6866ed1772c1",
    "copying-zh 100 12 8ebf5e6998259511",
    "idioms-zh 80 0 ab5edce08d822850",
    "instructions-zh 100 0 fc20a8b3d344c526",
];

/// What lm-evaluation-harness makes of the same questions.
#[test]
fn everything_is_counted_as_the_harness_counts() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/eval/harness.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let numbers = |value: &Value| list(value).iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>();
    let ids =
        |value: &Value| list(value).iter().map(|x| x.as_u64().unwrap() as TokenId).collect::<Vec<TokenId>>();

    for case in list(&golden["contexts"]) {
        let records: Vec<Value> = list(&case["records"]);
        let task = task(&records);
        let (asked, examples) = task.documents.split_last().unwrap();
        let examples: Vec<&Document> = examples.iter().collect();
        assert_eq!(plain_context(&task, &examples, asked), case["plain"], "{case}");
        let messages = chat_messages(&examples, asked);
        let said =
            |message: &tokenizer::ChatMessage| json!({ "role": message.role, "content": message.content });
        assert_eq!(json!(messages.iter().map(said).collect::<Vec<Value>>()), case["chat"], "{case}");
    }
    for case in list(&golden["choices"]) {
        let choices: Vec<String> =
            list(&case["choices"]).iter().map(|x| x.as_str().unwrap().to_owned()).collect();
        let counts = super::asking::choice_counts(
            &choices,
            &numbers(&case["lls"]),
            case["gold"].as_u64().unwrap() as usize,
        );
        for count in counts {
            assert_eq!(json!(count.value), case[count.metric], "{}: {case}", count.metric);
        }
    }
    for case in list(&golden["exact_match"]) {
        let flag = |name: &str| case["options"][name].as_bool().unwrap_or(false);
        let matching = super::matching::Matching {
            trim: false,
            ignore_case: flag("ignore_case"),
            ignore_punctuation: flag("ignore_punctuation"),
            ignore_numbers: flag("ignore_numbers"),
            ignore: Vec::new(),
            last_number: false,
        };
        let answers: Vec<String> =
            list(&case["references"]).iter().map(|x| x.as_str().unwrap().to_owned()).collect();
        let found = matching.is_match(case["prediction"].as_str().unwrap(), &answers);
        assert_eq!(json!(f64::from(u8::from(found))), case["score"], "{case}");
    }
    for case in list(&golden["windows"]) {
        let max_len = case["max_len"].as_u64().unwrap() as usize;
        let found = windows(&ids(&case["tokens"]), 0, max_len);
        let found: Vec<Value> = found
            .iter()
            .map(|window| json!([window.tokens[..window.first], window.tokens[window.first..]]))
            .collect();
        assert_eq!(json!(found), case["windows"], "{case}");
    }
    for case in list(&golden["cut"]) {
        let (context, continuation) = (ids(&case["context"]), ids(&case["continuation"]));
        let pair = ([&context[..], &continuation].concat(), context.len());
        let scored = fitted(pair, case["max_len"].as_u64().unwrap() as usize);
        let input = &scored.tokens[..scored.tokens.len() - 1];
        assert_eq!(json!(input), case["input"], "{case}");
        assert_eq!(json!(scored.tokens[scored.first..]), case["scored"], "{case}");
    }
    for case in list(&golden["words"]) {
        assert_eq!(json!(n_words(case["text"].as_str().unwrap())), case["n"], "{case}");
    }
    for case in list(&golden["figures"]) {
        let counts: Vec<[f64; 2]> =
            list(&case["items"]).iter().map(|x| numbers(x).try_into().unwrap()).collect();
        let metric = MetricResult::new(case["metric"].as_str().unwrap(), counts);
        let near = |found: f64, expected: &Value| {
            let expected = expected.as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found}: {case}");
        };
        near(metric.figure.value, &case["value"]);
        if !case["stderr"].is_null() {
            near(metric.figure.stderr.unwrap(), &case["stderr"]);
        }
    }
    for case in list(&golden["paired"]) {
        let [before, after] = ["before", "after"].map(|name| numbers(&case[name]));
        let (difference, interval) = super::statistics::paired_shares(&before, &after);
        for (found, name) in [(difference, "difference"), (interval.low, "low"), (interval.high, "high")] {
            assert!((found - case[name].as_f64().unwrap()).abs() < 1e-9, "{name} {found}: {case}");
        }
    }
}

/// The harness's cut between context and continuation, with the tokenizer of a model that everyone has.
#[test]
fn a_pair_is_cut_where_the_harness_cuts_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/eval/harness.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tokenizer = tokenizer();
    for case in golden["pairs"].as_array().unwrap() {
        let [context, continuation] = ["context", "continuation"].map(|name| case[name].as_str().unwrap());
        let (tokens, first) = encode_pair(&tokenizer, context, continuation, 0);
        let text = |ids: &[TokenId]| String::from_utf8(tokenizer.decode(ids)).unwrap();
        let found = if context.is_empty() { 1 } else { 0 };
        assert_eq!(text(&tokens[found..first]), case["kept"], "{case}");
        assert_eq!(text(&tokens[first..]), case["scored"], "{case}");
    }
}
