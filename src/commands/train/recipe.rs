//! `daybreak train recipe`: all stages of a worked example, one after the other, each as the command that a person would
//! type. What is done already is not done again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value as Json, json};
use tokenizer::ChatTemplate;
use trainer::recipe::FirstLight;
use trainer::{Corpus, LessonKind, OnBroken, PrepareLessons};
use weights::AtomicFile;

use super::{eval, pretrain, train};
use crate::cli::{self, Cli, Command, TrainStage};
use crate::terminal::{human_count, human_duration};

/// Says which recipe a folder is of; the first thing that is written.
const RECIPE_FILE: &str = "recipe.json";
/// The folder with the lessons.
const LESSONS: &str = "lessons";
/// Tokens that the model reads at once.
const SEQ_LEN: &str = "512";

/// A stage: its folder and the file that it ends with.
struct Stage {
    name: &'static str,
    folder: &'static str,
    outcome: &'static str,
}

const TOKENIZER: Stage = Stage { name: "tokenizer", folder: "tokenizer", outcome: "tokenizer.gguf" };
const PRETRAIN: Stage = Stage { name: "pretrain", folder: "pretrained", outcome: trainer::MODEL_FILE };
const TEACH: Stage = Stage { name: "sft", folder: "model", outcome: trainer::MODEL_FILE };

/// How large everything is.
struct Size {
    lessons: FirstLight,
    depth: &'static str,
    /// Tokens to learn to write from.
    tokens: &'static str,
    /// How often the conversations are learnt.
    epochs: u64,
    /// Questions of each test.
    limit: Option<&'static str>,
}

impl Size {
    fn of(is_quick: bool) -> Size {
        let lessons = FirstLight::default();
        match is_quick {
            false => Size { lessons, depth: "4", tokens: "5M", epochs: 2, limit: None },
            true => Size {
                lessons: FirstLight {
                    n_texts: lessons.n_texts / 10,
                    n_chats: lessons.n_chats / 10,
                    ..lessons
                },
                depth: "1",
                tokens: "400K",
                epochs: 1,
                limit: Some("10"),
            },
        }
    }
}

/// The stages with steps of the recipe in a folder: their names and their folders. None where it is no recipe's.
pub(crate) fn stages_in(home: &Path) -> Option<[(&'static str, PathBuf); 2]> {
    let is_recipe = home.join(RECIPE_FILE).exists();
    is_recipe.then(|| [PRETRAIN, TEACH].map(|stage| (stage.name, home.join(stage.folder))))
}

/// The results of the tests of the recipe in a folder.
pub(crate) fn results_in(home: &Path) -> PathBuf {
    home.join("results.json")
}

pub(super) fn recipe(args: &cli::TrainRecipe) -> Result<()> {
    let cli::Recipe::FirstLight = args.name;
    let cooking = |home: &Path| Cooking { args, size: Size::of(args.quick), home: home.to_path_buf() };
    if args.dry_run {
        let home = tempfile::tempdir().context("no folder for a trial")?;
        return cooking(home.path()).plan();
    }
    cooking(args.output.as_deref().unwrap_or(Path::new("first-light"))).all()
}

/// A recipe in the folder that everything of it lies in.
struct Cooking<'a> {
    args: &'a cli::TrainRecipe,
    size: Size,
    home: PathBuf,
}

impl Cooking<'_> {
    fn all(&self) -> Result<()> {
        self.begin()?;
        self.write_lessons()?;
        for stage in [TOKENIZER, PRETRAIN, TEACH] {
            let folder = self.home.join(stage.folder);
            if folder.join(stage.outcome).exists() {
                self.tell(&format!("{} is there", folder.join(stage.outcome).display()));
                continue;
            }
            let words = match trainer::RunFile::is_in(&folder) {
                true => vec!["resume".to_owned(), text(&folder)?],
                false => self.words(&stage)?,
            };
            train(self.parsed(words)?)?;
        }
        self.examine()?;
        let model = self.home.join(TEACH.folder).join(TEACH.outcome);
        self.tell(&format!("\ntalk with it: daybreak serve --model {}", model.display()));
        Ok(())
    }

    /// Takes the folder, or finds that it is this recipe's already.
    fn begin(&self) -> Result<()> {
        let place = self.home.join(RECIPE_FILE);
        let mine = json!({ "recipe": "first-light", "quick": self.args.quick });
        if let Ok(found) = std::fs::read(&place) {
            if serde_json::from_slice::<Json>(&found).ok().as_ref() != Some(&mine) {
                bail!(
                    "{} was begun {} --quick; go on in the same way, or name another folder with --out",
                    self.home.display(),
                    if self.args.quick { "without" } else { "with" }
                );
            }
            return Ok(());
        }
        super::check_new(&self.home)?;
        std::fs::create_dir_all(&self.home).with_context(|| format!("{}", self.home.display()))?;
        let written = AtomicFile::create(&place).and_then(|mut file| {
            serde_json::to_writer(&mut file, &mine)?;
            file.finish()
        });
        written.with_context(|| format!("{}", place.display()))
    }

    fn write_lessons(&self) -> Result<()> {
        let lessons = self.home.join(LESSONS);
        if !FirstLight::TESTS.iter().all(|test| lessons.join(test).exists()) {
            self.tell(&format!("writing lessons and tests to {}", lessons.display()));
            self.size.lessons.write(&lessons).with_context(|| format!("{}", lessons.display()))?;
        }
        Ok(())
    }

    /// Asks the model what it was never taught in these words.
    fn examine(&self) -> Result<()> {
        let results = results_in(&self.home);
        if results.exists() {
            return if self.args.json { Ok(()) } else { eval::show_results(&results) };
        }
        let model = self.home.join(TEACH.folder).join(TEACH.outcome);
        let mut words = vec!["eval".to_owned(), text(&model)?];
        for test in FirstLight::TESTS {
            words.push(text(&self.home.join(LESSONS).join(test))?);
        }
        if let Some(limit) = self.size.limit {
            words.extend(["--limit", limit].map(str::to_owned));
        }
        words.extend(["--out".to_owned(), text(&results)?]);
        train(self.parsed(words)?)
    }

    /// Makes the vocabulary, tries a few steps, and tells what all stages take together. Nothing is kept.
    fn plan(&self) -> Result<()> {
        self.write_lessons()?;
        train(self.parsed(self.words(&TOKENIZER)?)?)?;
        let mut trial = self.words(&PRETRAIN)?;
        trial.push("--dry-run".to_owned());
        let TrainStage::Pretrain(trial) = self.parsed(trial)?.stage else {
            unreachable!("the name of that stage is `pretrain`")
        };
        let tokens_per_second = pretrain::plan_and_train(&trial)?;

        let TrainStage::Sft(teaching) = self.parsed(self.words(&TEACH)?)?.stage else {
            unreachable!("the name of that stage is `sft`")
        };
        let teaching = teaching.tune;
        let tokenizer = models::open_tokenizer(&self.home.join(TOKENIZER.folder).join(TOKENIZER.outcome))?;
        let corpus = Corpus::find(&teaching.records)?;
        let task = PrepareLessons {
            corpus: &corpus,
            on_broken: OnBroken::Stop,
            tokenizer: &tokenizer,
            template: &ChatTemplate::chatml(tokenizer.special_texts()),
            seq_len: teaching.seq_len as usize,
            held_out_share: teaching.held_out,
            kind: LessonKind::Chats,
        };
        let lessons = trainer::prepare_lessons(&task, &self.home.join("conversations"))?;
        let epochs = self.size.epochs;
        let n_tokens = lessons.summary.n_tokens * epochs;
        let seconds = n_tokens as f64 / tokens_per_second;
        if self.args.json {
            let then =
                json!({ "event": "then", "stage": TEACH.name, "n_tokens": n_tokens, "seconds": seconds });
            println!("{then}");
        } else {
            let [n_tokens, seconds] = [human_count(n_tokens as f64), human_duration(seconds)];
            println!("then       {n_tokens} tokens of conversations ({epochs} times), {seconds}");
        }
        Ok(())
    }

    /// The words of a stage's command.
    fn words(&self, stage: &Stage) -> Result<Vec<String>> {
        let path = |name: &str| text(&self.home.join(name));
        let (texts, chats) = (path("lessons/texts.jsonl")?, path("lessons/chats.jsonl")?);
        let mut words = vec![stage.name.to_owned()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        let samples = match stage.name {
            "tokenizer" => {
                add(&[&texts, &chats, "--vocab-size", "2048"]);
                &[][..]
            }
            "pretrain" => {
                add(&[&texts, "--tokenizer", &path(TOKENIZER.folder)?, "--depth", self.size.depth]);
                add(&["--seq-len", SEQ_LEN, "--tokens", self.size.tokens, "--step-tokens", "8192"]);
                &["47 + 38 =", "The symbol Fe stands for", "符号 Fe 代表"]
            }
            _ => {
                add(&[&chats, "--model", &path("pretrained/model.gguf")?, "--lr", "0.001"]);
                add(&["--seq-len", SEQ_LEN, "--epochs", &self.size.epochs.to_string()]);
                &["What is 47 + 38?", "Which element has the symbol Fe?", "铁是第几号元素？"]
            }
        };
        samples.iter().for_each(|sample| add(&["--sample", sample]));
        add(&["--out", &path(stage.folder)?]);
        Ok(words)
    }

    /// Shows a command of `daybreak train` and reads it as if it had been typed.
    fn parsed(&self, mut words: Vec<String>) -> Result<cli::Train> {
        words.insert(0, "train".to_owned());
        if let Some(threads) = self.args.threads {
            words.extend(["--threads".to_owned(), threads.to_string()]);
        }
        if self.args.json {
            words.push("--json".to_owned());
        }
        self.tell(&format!("\n$ daybreak {}", shlex::try_join(words.iter().map(String::as_str))?));
        let cli = Cli::try_parse_from(std::iter::once("daybreak".to_owned()).chain(words))?;
        let Command::Train(of) = cli.command else { unreachable!("every stage is one of `daybreak train`") };
        Ok(of)
    }

    /// What is for people alone.
    fn tell(&self, line: &str) {
        if !self.args.json {
            println!("{line}");
        }
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{}: the name is no Unicode", path.display()))
}
