//! A trainer whose runs are shell scripts.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use server::{
    DataKind, MadeModel, ModelKind, Order, Plan, PreviewOrder, Progress, Recipe, Series, Setting,
    SettingKind, Stage, TestResult, TrainingDesk,
};

/// Logs a step every 20 ms, from the number that follows what is logged already, in each of the logs that are named.
const COUNT: &str = "mkdir -p \"$0\"; trap 'echo saved; exit 130' INT; echo counting; \
    for name in $2; do log=\"$0/$name.jsonl\"; n=$(cat \"$log\" 2>/dev/null | wc -l); \
    while [ $n -lt $1 ]; do n=$((n+1)); echo \"{\\\"event\\\":\\\"step\\\",\\\"step\\\":$n}\" >> \"$log\"; sleep 0.02; done; done; \
    echo made > \"$0/model.gguf\"";
/// The logs of a run of several stages.
const STAGES: [&str; 2] = ["pretrain", "sft"];

#[derive(Debug)]
pub(crate) struct Shell {
    recipes: Vec<Recipe>,
}

impl Shell {
    pub(crate) fn new() -> Shell {
        let setting = |key, kind, default| Setting { key, kind, default };
        let settings = vec![
            setting("n", SettingKind::Int { min: 1, max: 100_000 }, json!(10)),
            setting("x", SettingKind::Float { min: 0.0, max: 1.0 }, Json::Null),
            setting("mode", SettingKind::Choice(&["well", "ill"]), json!("well")),
            setting("flag", SettingKind::Bool, json!(false)),
            setting("time", SettingKind::Duration, Json::Null),
        ];
        let count = Recipe {
            id: "count",
            stage: "pretrain",
            needs_base: false,
            data: Some(DataKind::Text),
            settings,
        };
        let both = Recipe { id: "both", stage: "recipe", data: None, ..count.clone() };
        let tune = Recipe { id: "tune", stage: "sft", needs_base: true, ..count.clone() };
        Shell { recipes: vec![count, tune, both] }
    }
}

fn shell(script: &str, args: &[String]) -> Vec<String> {
    let command = ["sh", "-c", script].map(str::to_owned);
    command.into_iter().chain(args.iter().cloned()).collect()
}

fn n(settings: &Map<String, Json>) -> String {
    settings.get("n").map_or("10".to_owned(), Json::to_string)
}

impl TrainingDesk for Shell {
    fn recipes(&self) -> &[Recipe] {
        &self.recipes
    }

    fn is_duration(&self, text: &str) -> bool {
        text.ends_with('m')
    }

    fn check(&self, command: &[String]) -> Result<(), String> {
        let is_too_much = command.iter().any(|n| n == "666");
        if is_too_much { Err("666 goes with nothing".to_owned()) } else { Ok(()) }
    }

    fn begin(&self, order: &Order<'_>) -> Vec<String> {
        let logs = if order.recipe.data.is_none() { STAGES.join(" ") } else { "log".to_owned() };
        shell(COUNT, &[order.folder.to_str().unwrap().to_owned(), n(order.settings), logs])
    }

    fn go_on(&self, folder: &Path, settings: &Map<String, Json>) -> Option<Vec<String>> {
        let there = folder.join("log.jsonl").exists();
        there.then(|| shell(COUNT, &[folder.to_str().unwrap().to_owned(), n(settings), "log".to_owned()]))
    }

    fn plan(&self, order: &Order<'_>) -> Vec<String> {
        let script = "mkdir -p \"$0\"; echo $$ > \"$2/plan.pid\"; \
            case $1 in 13) echo 'daybreak: 13 is unlucky' >&2; exit 1;; 14) exec sleep 60;; esac; echo $1";
        let place = order.dataset.unwrap_or(Path::new(".")).to_str().unwrap().to_owned();
        shell(script, &[order.folder.to_str().unwrap().to_owned(), n(order.settings), place])
    }

    fn read_plan(&self, printed: &str) -> Option<Plan> {
        let n_steps: u64 = printed.trim().parse().ok()?;
        let lines = vec![("n".to_owned(), json!(n_steps))];
        Some(Plan { lines, n_steps: Some(n_steps), seconds: None, memory_bytes: Some(7) })
    }

    fn preview(&self, order: &PreviewOrder<'_>) -> Vec<String> {
        // Twelve records in all.
        let script = "n=$0; while [ $n -lt $(($0+$1)) ] && [ $n -lt 12 ]; do \
            echo \"{\\\"record\\\":$n,\\\"source\\\":\\\"$n\\\",\\\"tokens\\\":[]}\"; n=$((n+1)); done";
        shell(script, &[order.offset.to_string(), order.n_records.to_string()])
    }

    fn progress(&self, folder: &Path) -> Progress {
        let log = std::fs::read_to_string(self.log_path(folder)).unwrap_or_default();
        Progress { has_begun: !log.is_empty(), step: log.lines().count() as u64, ..Progress::default() }
    }

    fn log_path(&self, folder: &Path) -> PathBuf {
        let begun = self.stages(folder).into_iter().rfind(|stage| stage.log.exists());
        begun.map_or_else(|| folder.join("log.jsonl"), |stage| stage.log)
    }

    fn stages(&self, folder: &Path) -> Vec<Stage> {
        let all = STAGES.map(|name| Stage { name, log: folder.join(name).with_extension("jsonl") });
        if all[0].log.exists() { all.to_vec() } else { Vec::new() }
    }

    fn series(&self, log: &Path, max: usize) -> io::Result<Series> {
        let n_lines = std::fs::read_to_string(log).unwrap_or_default().lines().count() as u64;
        Ok(Series { n_lines, steps: (1..=n_lines).take(max).collect(), ..Series::default() })
    }

    fn model(&self, folder: &Path) -> Option<MadeModel> {
        let path = folder.join("model.gguf");
        path.exists().then_some(MadeModel { path, kind: ModelKind::Model })
    }

    fn results(&self, _folder: &Path) -> Vec<TestResult> {
        Vec::new()
    }

    fn data_digest(&self, _folder: &Path) -> Option<String> {
        None
    }
}
