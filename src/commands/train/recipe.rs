//! `daybreak train recipe`: all stages of a worked example, one after the other, each as the command that a person would
//! type. What is done already is not done again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use trainer::recipe::FirstLight;

use super::train;
use crate::cli::{self, Cli, Command};

/// The folder with the lessons.
const LESSONS: &str = "lessons";

/// A stage: its folder, the file that it ends with, and its command but for the folder.
struct Stage {
    folder: &'static str,
    outcome: &'static str,
    command: &'static [&'static str],
}

/// Paths begin with the recipe's folder where a word begins with `@`.
const FIRST_LIGHT: [Stage; 3] = [
    Stage {
        folder: "tokenizer",
        outcome: "tokenizer.gguf",
        command: &[
            "train",
            "tokenizer",
            "@lessons/texts.jsonl",
            "@lessons/chats.jsonl",
            "--vocab-size",
            "2048",
        ],
    },
    Stage {
        folder: "pretrained",
        outcome: "model.gguf",
        command: &[
            "train",
            "pretrain",
            "@lessons/texts.jsonl",
            "--tokenizer",
            "@tokenizer",
            "--depth",
            "4",
            "--seq-len",
            "256",
            "--sample",
            "47 + 38 =",
            "--sample",
            "The symbol Fe stands for",
            "--sample",
            "符号 Fe 代表",
        ],
    },
    Stage {
        folder: "model",
        outcome: "model.gguf",
        command: &[
            "train",
            "sft",
            "@lessons/chats.jsonl",
            "--model",
            "@pretrained/model.gguf",
            "--epochs",
            "2",
            "--seq-len",
            "256",
            "--lr",
            "0.001",
            "--sample",
            "What is 47 + 38?",
            "--sample",
            "Which element has the symbol Fe?",
            "--sample",
            "铁是第几号元素？",
        ],
    },
];

pub(super) fn recipe(args: &cli::TrainRecipe) -> Result<()> {
    let cli::Recipe::FirstLight = args.name;
    let home = args.output.clone().unwrap_or_else(|| PathBuf::from("first-light"));
    let lessons = home.join(LESSONS);
    if !FirstLight::TESTS.iter().all(|test| lessons.join(test).exists()) {
        println!("writing lessons and tests to {}", lessons.display());
        FirstLight::default().write(&lessons).with_context(|| format!("{}", lessons.display()))?;
    }
    for stage in &FIRST_LIGHT {
        let folder = home.join(stage.folder);
        if folder.join(stage.outcome).exists() {
            println!("{} is there", folder.join(stage.outcome).display());
            continue;
        }
        let has_begun = trainer::RunFile::is_in(&folder);
        let words = if has_begun {
            vec!["train".into(), "resume".into(), text(&folder)?]
        } else {
            words(stage, &home)?
        };
        step(args, words)?;
    }
    let model = home.join("model/model.gguf");
    examine(args, &home)?;
    println!("\ntalk with it: daybreak serve --model {}", model.display());
    Ok(())
}

/// Asks the model what it was never taught in these words.
fn examine(args: &cli::TrainRecipe, home: &Path) -> Result<()> {
    let mut words = vec!["train".to_owned(), "eval".to_owned(), text(&home.join("model/model.gguf"))?];
    for test in FirstLight::TESTS {
        words.push(text(&home.join(LESSONS).join(test))?);
    }
    step(args, words)
}

/// The words of a stage's command.
fn words(stage: &Stage, home: &Path) -> Result<Vec<String>> {
    let word = |word: &&str| match word.strip_prefix('@') {
        Some(path) => text(&home.join(path)),
        None => Ok((*word).to_owned()),
    };
    let mut words: Vec<String> = stage.command.iter().map(word).collect::<Result<_>>()?;
    words.extend(["--out".to_owned(), text(&home.join(stage.folder))?]);
    Ok(words)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{}: the name is no Unicode", path.display()))
}

/// Shows a command and does what it says.
fn step(args: &cli::TrainRecipe, mut words: Vec<String>) -> Result<()> {
    if let Some(threads) = args.watch.threads {
        words.extend(["--threads".to_owned(), threads.to_string()]);
    }
    if args.watch.json {
        words.push("--json".to_owned());
    }
    println!("\n$ daybreak {}", shlex::try_join(words.iter().map(String::as_str))?);
    let cli = Cli::try_parse_from(std::iter::once("daybreak".to_owned()).chain(words))?;
    let Command::Train(of) = cli.command else { unreachable!("every stage is one of `daybreak train`") };
    train(of)
}
