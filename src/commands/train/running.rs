//! A run at work: the steps that are left, shown as they happen.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use kernels::Pool;
use tokenizer::{ChatMessage, ChatTemplate, RenderInput, Specials, TokenId, Tokenizer};
use trainer::{
    Checkpoint, Ending, Event, Frozen, Header, LoraSettings, Model, Outcome, Parameters, Products, Prompt,
    Run, RunData, RunFile, Stage, Training,
};
use weights::{Gguf, ModelConfig, TensorType};

use super::NewFolder;
use crate::cli;
use crate::progress::CountBar;
use crate::terminal::{Interrupted, stop_on_ctrl_c, without_control_characters};

/// The model that a run begins or goes on with.
pub(super) struct Base<'a> {
    /// Keys of every model file of the run.
    pub(super) header: Header<'a>,
    pub(super) config: ModelConfig,
    /// What is learnt.
    pub(super) parameters: Parameters,
    /// The model that stays as it is, where that is an adapter.
    pub(super) frozen: Option<Arc<Frozen>>,
}

impl Base<'_> {
    /// The model that goes forward and backward.
    pub(super) fn model(
        &self,
        products: Products,
        lora: Option<&LoraSettings>,
        recompute: bool,
    ) -> Result<Model> {
        let mut model = Model::new(self.config.clone(), products.precision())?;
        if let (Some(frozen), Some(lora)) = (&self.frozen, lora) {
            model = model.with_base(Arc::clone(frozen), lora.factor());
        }
        Ok(if recompute { model.with_recomputation() } else { model })
    }
}

/// Where a run's course begins.
pub(super) enum Start<'a> {
    /// With the first step, in a new folder.
    New(NewFolder<'a>),
    /// Where a checkpoint was made.
    From(&'a Checkpoint),
}

/// Takes the steps of a run that are left.
pub(super) fn take_steps(
    pool: &Pool,
    folder: &Path,
    file: &RunFile,
    data: &RunData,
    base: Base<'_>,
    watch: &cli::WatchArgs,
    start: Start<'_>,
) -> Result<()> {
    let vocabulary = folder.join("tokenizer.gguf");
    let tokenizer = models::open_tokenizer(&vocabulary)?;
    let model = base.model(file.settings.products, file.lora.as_ref(), watch.recompute)?;
    let Base { header, parameters, .. } = base;
    let digest = data.digest().to_owned();
    let settings = file.settings.clone();
    let mut training = Training::new(pool, settings, data.objective(file), model, parameters, digest);
    let run = Run {
        folder,
        header,
        tokenizer: &tokenizer,
        held_out: data.held_out(file, &tokenizer),
        prompts: prompts(file, &tokenizer, &vocabulary)?,
        ends: vec![file.end_token],
        outcome: match &file.lora {
            Some(lora) => Outcome::Adapter(lora),
            None => Outcome::Model(model_type(&file.model_type)?),
        },
    };
    match start {
        Start::From(checkpoint) => training.restore(checkpoint)?,
        Start::New(new) => {
            // From here on the run can go on, whatever happens.
            run.begin(&training)?;
            file.write(folder)?;
            new.keep();
        }
    }
    go(&run, &mut training, watch.json)
}

/// What the model goes on with at every evaluation: the beginning of a text, or a question.
fn prompts(file: &RunFile, tokenizer: &Tokenizer, vocabulary: &Path) -> Result<Vec<Prompt>> {
    let template = match file.stage {
        Stage::Pretrain => None,
        Stage::Sft | Stage::Dpo => Some(template_of(&Gguf::open(vocabulary)?, tokenizer)?),
    };
    let tokens = |text: &str| -> Result<Vec<TokenId>> {
        let Some(template) = &template else {
            let text = tokenizer.encode(text.as_bytes(), Specials::AsText);
            return Ok([&[file.document_token], &text[..]].concat());
        };
        let messages = [ChatMessage::new("user", text)];
        Ok(tokenizer.encode_rendered(&template.render(&RenderInput::prompt(&messages, 0))?))
    };
    file.prompts.iter().map(|text| Ok(Prompt { text: text.clone(), tokens: tokens(text)? })).collect()
}

/// The chat template of a model file, else ChatML.
fn template_of(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    let specials = tokenizer.special_texts();
    Ok(match gguf.get_str("tokenizer.chat_template")? {
        Some(source) => ChatTemplate::new(source, specials)?,
        None => ChatTemplate::chatml(specials),
    })
}

/// Number format of a finished model.
fn model_type(name: &str) -> Result<TensorType> {
    let types = [TensorType::F32, TensorType::F16, TensorType::BF16];
    let found = types.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name));
    found.with_context(|| {
        format!("{name:?} is no number format of a finished model: expected f32, f16 or bf16")
    })
}

/// Takes the steps that are left.
fn go(run: &Run<'_>, training: &mut Training<'_>, json: bool) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let n_steps = training.settings().n_steps;
    let bar = (!json).then(|| CountBar::new("steps", n_steps));
    let mut last_loss = None;
    let ending = run.go(training, &mut |event| {
        match &bar {
            None => println!("{}", serde_json::to_string(event).expect("plain numbers and texts")),
            Some(bar) => show(bar, event, n_steps, &mut last_loss),
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(bar) = &bar {
        bar.clear();
    }
    match ending? {
        Ending::Complete => {
            if !json {
                report(run);
            }
            Ok(())
        }
        Ending::Interrupted => {
            eprintln!(
                "daybreak: saved at step {} of {n_steps}; go on with: daybreak train resume {}",
                training.state().step,
                run.folder.display()
            );
            Err(Interrupted.into())
        }
    }
}

fn show(bar: &CountBar, event: &Event, n_steps: u64, last_loss: &mut Option<f64>) {
    match event {
        Event::Step { step, loss, grad_norm, tokens_per_second, .. } => {
            // Of single steps the eye sees nothing but noise.
            let smooth = last_loss.map_or(*loss, |last| 0.9 * last + 0.1 * loss);
            *last_loss = Some(smooth);
            bar.show(
                *step,
                &format!("loss {smooth:.3}  gradient {grad_norm:.2}  {tokens_per_second:.0} tokens/s"),
            );
        }
        Event::Evaluated { step, loss, bits_per_byte, accuracy, is_best } => bar.above(|| {
            let best = if *is_best { "" } else { "  (not the best)" };
            let bits = bits_per_byte.map_or(String::new(), |bits| format!(", {bits:.4} bits per byte"));
            let right = accuracy
                .map_or(String::new(), |share| format!(", {:.1} % of the pairs as chosen", 100.0 * share));
            println!("step {step:>6} of {n_steps}: held-out loss {loss:.4}{bits}{right}{best}");
        }),
        Event::Sample { prompt, text, .. } => bar.above(|| {
            let text = without_control_characters(text).replace('\n', " ");
            println!("    {}▸{text}", without_control_characters(prompt));
        }),
        Event::LeftOut { step, reason } => {
            bar.above(|| eprintln!("daybreak: step {step} left out: {reason}"));
        }
        Event::RolledBack { step, reason } => bar.above(|| {
            eprintln!(
                "daybreak: back to the checkpoint of step {step}, with half the learning rate: {reason}"
            );
        }),
        Event::StoppedEarly { step, best_step } => bar.above(|| {
            println!(
                "step {step:>6} of {n_steps}: no better loss, so the run ends here with the weights of step {best_step}"
            );
        }),
        Event::Resumed { step } => bar.above(|| println!("going on from step {step} of {n_steps}")),
        Event::Saved { .. } | Event::Done { .. } => {}
    }
}

fn report(run: &Run<'_>) {
    let path = run.folder.join(run.outcome.file_name());
    match run.outcome {
        Outcome::Model(_) => {
            println!("\nthe model: {}", path.display());
            println!("  daybreak serve --model {}", path.display());
        }
        Outcome::Adapter(lora) => {
            println!("\nthe adapter: {}", path.display());
            println!("  daybreak serve --model {} --adapter {}", lora.base.display(), path.display());
        }
    }
}
