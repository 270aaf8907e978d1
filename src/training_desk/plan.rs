//! The figures that a dry run prints, as the page gets them.

use serde_json::Value as Json;
use server::Plan;

/// Figures of the plan and of its settings, in the order of their importance.
const FIGURES: [&str; 19] = [
    "n_parameters",
    "n_trainable",
    "n_layers",
    "n_embd",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "n_ff",
    "vocab_size",
    "tied_output",
    "window",
    "n_tokens",
    "epochs",
    "flops_per_token",
    "tokens_per_second",
    "first_loss",
    "seq_len",
    "batch_rows",
    "n_batches",
];
/// Figures of the data, of texts by source and of conversations.
const DATA_FIGURES: [&str; 14] = [
    "n_documents",
    "n_lessons",
    "n_held_out",
    "n_tokens",
    "n_answer_tokens",
    "n_bytes",
    "n_held_out_tokens",
    "n_duplicates",
    "n_other_language",
    "n_empty",
    "n_broken",
    "n_cut_off",
    "n_without_answer",
    "n_files",
];

/// What `--dry-run --json` printed: the events `data` and `plan`, where a model is taught `learnt`, and of a recipe `then`
/// for what follows the first stage.
pub(super) fn read(printed: &str) -> Option<Plan> {
    let events: Vec<Json> = printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let event = |name: &str| events.iter().find(|event| event["event"] == name);
    let plan = event("plan")?;
    let settings = &plan["settings"];
    let nothing = Json::Null;
    let learnt = event("learnt").unwrap_or(&nothing);
    let n_steps = settings["n_steps"].as_u64()?;
    let mut lines = Vec::new();
    for key in FIGURES {
        let found =
            [plan, settings, learnt].into_iter().map(|from| &from[key]).find(|value| !value.is_null());
        lines.extend(found.map(|value| (key.to_owned(), value.clone())));
    }
    let step_tokens = settings["batch_rows"].as_u64().zip(settings["n_batches"].as_u64());
    lines.extend(step_tokens.map(|(rows, n)| ("step_tokens".to_owned(), Json::from(rows * n))));
    // Rates are kept in single precision, of which more digits say nothing.
    let optimizer = &settings["optimizer"];
    let rate = |key: &str| (optimizer[key].as_f64()? as f32).to_string().parse::<f64>().ok();
    for key in ["lr", "muon_lr", "embedding_lr", "output_lr"] {
        let others = rate(key).filter(|&rate_of| key == "lr" || Some(rate_of) != rate("lr"));
        lines.extend(others.map(|rate| (key.to_owned(), Json::from(rate))));
    }
    lines.extend(event("data").map(data_lines).unwrap_or_default());
    let mut seconds = plan["seconds"].as_f64();
    let mut n_steps = Some(n_steps);
    if let Some(then) = event("then") {
        lines.push(("then_n_tokens".to_owned(), then["n_tokens"].clone()));
        seconds = seconds.zip(then["seconds"].as_f64()).map(|(first, then)| first + then);
        // Those of the first stage alone say little.
        n_steps = None;
    }
    Some(Plan {
        lines,
        n_steps,
        seconds,
        memory_bytes: plan["peak_memory_bytes"].as_u64().or(learnt["memory_bytes"].as_u64()),
    })
}

/// Sums over the sources of texts, or the figures of the conversations.
fn data_lines(data: &Json) -> Vec<(String, Json)> {
    let sources: Vec<&Json> = match data["data"]["sources"].as_array() {
        Some(sources) => sources.iter().collect(),
        None => vec![&data["lessons"]],
    };
    let mut lines = Vec::new();
    for key in DATA_FIGURES {
        let values: Vec<u64> = sources.iter().filter_map(|source| source[key].as_u64()).collect();
        if !values.is_empty() {
            lines.push((format!("data_{key}"), Json::from(values.iter().sum::<u64>())));
        }
    }
    lines
}
