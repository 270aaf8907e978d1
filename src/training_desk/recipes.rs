//! What can be trained from the page, and what can be set. A setting's key is its flag's name, with `_` for `-`.

use serde_json::{Value as Json, json};
use server::{DataKind, Recipe, Setting, SettingKind};

const MAX_TOKENS: i64 = 1 << 50;

pub(super) fn all() -> Vec<Recipe> {
    vec![
        Recipe {
            id: "first-light",
            stage: "recipe",
            needs_base: false,
            data: None,
            settings: vec![boolean("quick"), threads()],
        },
        Recipe {
            id: "pretrain",
            stage: "pretrain",
            needs_base: false,
            data: Some(DataKind::Text),
            settings: pretrain(),
        },
        Recipe {
            id: "sft",
            stage: "sft",
            needs_base: true,
            data: Some(DataKind::Conversations),
            settings: tune(3.0, vec![]),
        },
        Recipe {
            id: "dpo",
            stage: "dpo",
            needs_base: true,
            data: Some(DataKind::Pairs),
            settings: tune(1.0, vec![float("beta", json!(trainer::DEFAULT_BETA), 0.0001, 100.0)]),
        },
    ]
}

fn pretrain() -> Vec<Setting> {
    let mut settings = vec![
        int("depth", Json::Null, 1, trainer::MAX_DEPTH as i64),
        duration("budget", Json::Null),
        int("tokens", Json::Null, 1, MAX_TOKENS),
        int("vocab_size", Json::Null, 300, 1 << 20),
        int("seq_len", json!(512), 8, 131_072),
        int("window", Json::Null, 1, 131_071),
        int("step_tokens", Json::Null, 8, 1 << 26),
        int("batch_tokens", json!(4096), 8, 1 << 20),
        choice("optimizer", "muon", &["muon", "adamw"]),
        float("lr_scale", json!(1.0), 1e-6, 1e6),
        choice("decay", "wsd", &["wsd", "cosine", "linear", "constant"]),
        boolean("tied"),
        float("held_out", json!(0.02), 0.0, 0.5),
    ];
    settings.extend(of_all());
    settings
}

fn tune(epochs: f64, further: Vec<Setting>) -> Vec<Setting> {
    let mut settings = vec![
        int("lora", json!(0), 0, 1024),
        float("epochs", json!(epochs), 0.01, 10_000.0),
        float("lr", Json::Null, 1e-9, 10.0),
        choice("decay", "linear", &["wsd", "cosine", "linear", "constant"]),
        int("seq_len", json!(1024), 8, 131_072),
        int("step_tokens", json!(4096), 8, 1 << 26),
        int("batch_tokens", json!(2048), 8, 1 << 20),
        float("held_out", json!(0.05), 0.0, 0.5),
    ];
    settings.splice(0..0, further);
    settings.extend(of_all());
    settings
}

fn of_all() -> Vec<Setting> {
    vec![
        int("eval_every", Json::Null, 1, 1 << 40),
        int("patience", Json::Null, 1, 1 << 20),
        duration("checkpoint_every", json!("5m")),
        choice("type", "f16", &["f16", "bf16", "f32"]),
        int("seed", json!(42), 0, i64::MAX),
        boolean("skip_broken"),
        boolean("recompute"),
        threads(),
    ]
}

fn threads() -> Setting {
    int("threads", Json::Null, 1, 1024)
}

fn int(key: &'static str, default: Json, min: i64, max: i64) -> Setting {
    Setting { key, kind: SettingKind::Int { min, max }, default }
}

fn float(key: &'static str, default: Json, min: f64, max: f64) -> Setting {
    Setting { key, kind: SettingKind::Float { min, max }, default }
}

fn choice(key: &'static str, default: &'static str, choices: &'static [&'static str]) -> Setting {
    Setting { key, kind: SettingKind::Choice(choices), default: json!(default) }
}

fn boolean(key: &'static str) -> Setting {
    Setting { key, kind: SettingKind::Bool, default: json!(false) }
}

fn duration(key: &'static str, default: Json) -> Setting {
    Setting { key, kind: SettingKind::Duration, default }
}
