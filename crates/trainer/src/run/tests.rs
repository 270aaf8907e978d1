#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;

use kernels::{Isa, Pool};
use weights::{Array, DecoderShape, Value};

use super::*;
use crate::batches::{Batches, held_out_rows};
use crate::corpus::{Corpus, OnBroken};
use crate::data::{Data, DataSource, PrepareData, prepare_data};
use crate::initial::initial_parameters;
use crate::model::Model;
use crate::objective::Pretraining;
use crate::optimizer::{MatrixOptimizer, OptimizerSettings};
use crate::parameters::Parameters;
use crate::schedule::{Decay, Schedule};
use crate::test_support::byte_tokenizer;
use crate::training::{LoopSettings, Products};

const DOCUMENT: TokenId = 0;

fn shape() -> DecoderShape {
    DecoderShape {
        n_layers: 2,
        n_embd: 32,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 16,
        n_ff: 64,
        vocab_size: 258,
        max_seq_len: 64,
        tied_output: false,
        rope_theta: 10_000.0,
        window: None,
    }
}

fn settings() -> LoopSettings {
    LoopSettings {
        seed: 5,
        seq_len: 32,
        batch_rows: 100,
        n_batches: 2,
        n_steps: 12,
        products: Products::Bf16,
        optimizer: OptimizerSettings { matrices: MatrixOptimizer::Muon, ..OptimizerSettings::adamw(3e-3) },
        schedule: Schedule { n_warmup: 2, decay: Decay::Wsd, decay_share: 0.5, end: 0.0 },
        clip: Some(1.0),
        eval_every: 5,
        eval_rows: 200,
        patience: None,
        checkpoint_seconds: 1e9,
    }
}

/// A folder with data.
struct Place {
    folder: tempfile::TempDir,
    data: Data,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..200)
            .map(|i| {
                serde_json::json!({ "text": format!("{i} and {} are {}", i % 7, i + i % 7) }).to_string()
            })
            .collect();
        let texts = folder.path().join("texts.jsonl");
        std::fs::write(&texts, lines.join("\n")).unwrap();
        let task = PrepareData {
            sources: &[DataSource { corpus: Corpus::find(&[texts]).unwrap(), weight: None }],
            on_broken: OnBroken::Stop,
            languages: &[],
            held_out_share: 0.1,
            tokenizer: &byte_tokenizer(),
            document_token: DOCUMENT,
            n_threads: NonZeroUsize::MIN,
        };
        let data =
            prepare_data(&task, &folder.path().join("data"), &mut |_| ControlFlow::Continue(())).unwrap();
        Place { folder, data }
    }

    /// Begins a run in a folder of this name, or goes on with it.
    fn go(
        &self,
        name: &str,
        settings: &LoopSettings,
        n_threads: usize,
        watch: &mut dyn FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<Ending, RunError> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let tokenizer = byte_tokenizer();
        let pool = Pool::new(n_threads, Isa::detect()).unwrap();
        let batches = Batches::new(&self.data, DOCUMENT, settings.seq_len, settings.seed);
        let objective = Box::new(Pretraining::new(batches, settings.batch_rows));
        let config = shape().config();
        let parameters = initial_parameters(&config, settings.seed);
        let model = Model::new(config, settings.products.precision()).unwrap();
        let digest = self.data.summary.digest.clone();
        let mut training = Training::new(&pool, settings.clone(), objective, model, parameters, digest);
        let has_begun = folder.join("checkpoints").exists();
        if has_begun {
            let (checkpoint, _) = Checkpoint::open_latest(&folder.join("checkpoints"))?;
            training.restore(&checkpoint)?;
        }
        let mut header: Header<'_> = shape().metadata();
        let tokens = (0..258).map(|id| tokenizer.piece(id));
        header.push(("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::from_strings(tokens))));
        let counts = |token| token != DOCUMENT;
        let run = Run {
            folder: &folder,
            header,
            tokenizer: &tokenizer,
            held_out: held_out_rows(&self.data, DOCUMENT, settings.seq_len, settings.eval_rows, &counts),
            prompts: vec![Prompt { text: "1".to_owned(), tokens: vec![DOCUMENT, 20] }],
            ends: vec![DOCUMENT],
            outcome: Outcome::Model(TensorType::F32),
        };
        if !has_begun {
            run.begin(&training)?;
        }
        run.go(&mut training, watch)
    }

    fn read(&self, name: &str, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name).join(file)).unwrap()
    }

    fn checkpoints(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).join("checkpoints")
    }

    /// The losses in a run's log, step by step.
    fn losses(&self, name: &str) -> Vec<(u64, f64)> {
        let log = String::from_utf8(self.read(name, "log.jsonl")).unwrap();
        log.lines()
            .filter_map(|line| match serde_json::from_str(line).unwrap() {
                Event::Step { step, loss, .. } => Some((step, loss)),
                _ => None,
            })
            .collect()
    }
}

fn until(step: u64) -> impl FnMut(&Event) -> ControlFlow<()> {
    move |event| match event {
        Event::Step { step: done, .. } if *done >= step => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}

#[test]
fn a_run_that_was_interrupted_at_any_step_ends_with_the_same_bits() {
    let place = Place::new();
    assert_eq!(place.go("whole", &settings(), 1, &mut until(99)).unwrap(), Ending::Complete);
    let losses = place.losses("whole");
    assert_eq!(losses.len(), 12);
    assert!(losses[11].1 < losses[0].1 - 0.3, "it learns: {losses:?}");
    for step in 1..12 {
        let name = step.to_string();
        assert_eq!(place.go(&name, &settings(), 2, &mut until(step)).unwrap(), Ending::Interrupted);
        assert!(!place.folder.path().join(&name).join("model.gguf").exists());
        assert_eq!(place.go(&name, &settings(), 3, &mut until(99)).unwrap(), Ending::Complete);
        assert!(place.read(&name, "model.gguf") == place.read("whole", "model.gguf"), "cut at {step}");
        assert_eq!(place.losses(&name), losses);
    }
}

#[test]
fn what_a_kill_cuts_off_is_done_again() {
    let place = Place::new();
    place.go("whole", &settings(), 2, &mut until(99)).unwrap();
    place.go("killed", &settings(), 2, &mut until(7)).unwrap();
    // As a kill between the checkpoint of step 7 and the next would leave it, and in the middle of a line.
    let log = place.folder.path().join("killed/log.jsonl");
    let mut text = std::fs::read(&log).unwrap();
    let later = Event::Step {
        step: 8,
        loss: 99.0,
        rate: 1.0,
        grad_norm: 1.0,
        n_tokens: 1.0,
        epochs: 1.0,
        tokens_per_second: 1.0,
        seconds: 1.0,
    };
    text.extend(serde_json::to_vec(&later).unwrap());
    text.extend(b"\n{\"event\":\"st");
    std::fs::write(&log, text).unwrap();
    place.go("killed", &settings(), 2, &mut until(99)).unwrap();
    assert_eq!(place.losses("killed"), place.losses("whole"));
    assert!(place.read("killed", "model.gguf") == place.read("whole", "model.gguf"));
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let place = Place::new();
    let often = LoopSettings { checkpoint_seconds: 0.0, ..settings() };
    place.go("whole", &often, 2, &mut until(99)).unwrap();
    place.go("damaged", &often, 2, &mut until(6)).unwrap();
    let folder = place.checkpoints("damaged");
    let newest = checkpoint_path(&folder, 6);
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let (checkpoint, damaged) = Checkpoint::open_latest(&folder).unwrap();
    assert_eq!((checkpoint.state().step, damaged.len()), (5, 1));
    assert!(
        damaged[0].to_string().contains("damaged: its content is not what was written"),
        "{}",
        damaged[0]
    );
    place.go("damaged", &often, 2, &mut until(99)).unwrap();
    assert!(place.read("damaged", "model.gguf") == place.read("whole", "model.gguf"));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), N_KEPT);
}

#[test]
fn what_is_no_checkpoint_of_ours_is_refused() {
    let place = Place::new();
    place.go("run", &settings(), 2, &mut until(99)).unwrap();
    let refused = |path: &Path, what: &str| {
        let error = Checkpoint::open(path).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(&place.folder.path().join("run/model.gguf"), "a model, but no checkpoint of a run");
    let path = checkpoint_path(&place.checkpoints("run"), 12);
    let bytes = std::fs::read(&path).unwrap();
    let key = b"training.version";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let mut newer = bytes.clone();
    newer[at] = 9;
    std::fs::write(&path, newer).unwrap();
    refused(&path, "a checkpoint of version 9, this program writes 1");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Checkpoint::open_latest(empty.path()), Err(CheckpointError::None(_))));
}

#[test]
fn a_learning_rate_that_explodes_is_lowered_and_then_given_up_with_a_reason() {
    let place = Place::new();
    let mut wild = LoopSettings { n_steps: 400, checkpoint_seconds: 1e9, ..settings() };
    wild.optimizer = OptimizerSettings::adamw(1e30);
    let mut events = Vec::new();
    let error = place.go("wild", &wild, 2, &mut |event| {
        events.push(event.clone());
        ControlFlow::Continue(())
    });
    let error = error.unwrap_err();
    assert!(matches!(error, RunError::Diverged { n_rollbacks: MAX_ROLLBACKS, .. }), "{error}");
    let n_back = events.iter().filter(|event| matches!(event, Event::RolledBack { .. })).count();
    assert_eq!(n_back, MAX_ROLLBACKS as usize);
    let (checkpoint, damaged) = Checkpoint::open_latest(&place.checkpoints("wild")).unwrap();
    assert!(damaged.is_empty());
    let mut parameters = Parameters::zeros(&checkpoint.config().unwrap());
    checkpoint.fill(&mut parameters).unwrap();
    assert!(parameters.iter().all(|(_, values)| values.iter().all(|x| x.is_finite())));
    assert_eq!(checkpoint.state().rate_factor, 0.125);
}

#[test]
fn patience_ends_a_run_that_no_longer_gains() {
    let place = Place::new();
    let mut still = LoopSettings { n_steps: 1000, eval_every: 2, patience: Some(3), ..settings() };
    still.optimizer = OptimizerSettings::adamw(0.0);
    assert_eq!(place.go("still", &still, 2, &mut until(999)).unwrap(), Ending::Complete);
    // The evaluation before the first step is the best; three more are no better.
    assert_eq!(place.losses("still").len(), 6);
    let model = place.folder.path().join("still/model.gguf");
    std::fs::remove_file(&model).unwrap();
    assert_eq!(place.go("still", &still, 2, &mut until(999)).unwrap(), Ending::Complete);
    assert_eq!(place.losses("still").len(), 6, "what has ended is not taken up again");
    assert!(model.exists());
}

#[test]
fn a_run_that_ends_early_gives_its_best_weights() {
    let place = Place::new();
    let mut patient = LoopSettings { n_steps: 600, eval_every: 2, patience: Some(4), ..settings() };
    patient.schedule = Schedule { n_warmup: 0, decay: Decay::Constant, decay_share: 0.0, end: 1.0 };
    // So large a rate that what is held out is soon predicted worse again.
    patient.optimizer = OptimizerSettings::adamw(2e-2);
    assert_eq!(place.go("early", &patient, 2, &mut until(999)).unwrap(), Ending::Complete);
    let n_steps = place.losses("early").len() as u64;
    assert!(n_steps < 600, "it ends early");
    let best_step = n_steps - 2 * 4;
    assert!(best_step > 0, "something was learnt");
    let till_then = LoopSettings { n_steps: best_step, patience: None, ..patient };
    assert_eq!(place.go("till then", &till_then, 2, &mut until(999)).unwrap(), Ending::Complete);
    let model = |name: &str| std::fs::read(place.folder.path().join(name).join("model.gguf")).unwrap();
    assert!(model("early") == model("till then"), "the weights of step {best_step}");
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let best = place.checkpoints("early").join(BEST_FILE);
    assert!(size(&best) < size(&checkpoint_path(&place.checkpoints("early"), n_steps)) / 2, "weights alone");
}

#[test]
fn what_was_best_is_kept_when_a_run_goes_back() {
    let place = Place::new();
    // The first step ruins everything, and there is no checkpoint but that of the beginning.
    let mut wild = LoopSettings { n_steps: 400, eval_every: 1, patience: Some(1000), ..settings() };
    wild.optimizer = OptimizerSettings::adamw(1e30);
    let (mut best, mut n_back, mut n_worse) = (f64::INFINITY, 0, 0);
    let error = place.go("wild", &wild, 2, &mut |event| {
        match event {
            Event::Evaluated { step, loss, is_best, .. } => {
                assert_eq!(*is_best, *loss < best, "step {step}: {loss} where {best} was the best");
                if *is_best {
                    best = *loss;
                } else if n_back > 0 {
                    n_worse += 1;
                }
            }
            Event::RolledBack { .. } => n_back += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(error, Err(RunError::Diverged { .. })), "{error:?}");
    assert!(best.is_finite() && n_worse > 0, "{n_worse} evaluations after it went back, {best} at best");
    let kept = Checkpoint::open(&place.checkpoints("wild").join(BEST_FILE)).unwrap();
    assert_eq!((kept.state().best_step, kept.state().best_loss), (0, Some(best)));
}
