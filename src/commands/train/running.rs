//! A run at work: the steps that are left, shown as they happen.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use trainer::{Ending, Event, Run, Training};

use crate::commands::chat::stop_on_ctrl_c;
use crate::progress::CountBar;
use crate::terminal::{Interrupted, without_control_characters};

/// Takes the steps that are left.
pub(super) fn go(run: &Run<'_>, training: &mut Training<'_>, json: bool) -> Result<()> {
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
                report(run.folder);
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
        Event::Evaluated { step, loss, bits_per_byte, is_best } => bar.above(|| {
            let best = if *is_best { "" } else { "  (not the best)" };
            println!(
                "step {step:>6} of {n_steps}: held-out loss {loss:.4}, {bits_per_byte:.4} bits per byte{best}"
            );
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
        Event::StoppedEarly { step } => {
            bar.above(|| println!("step {step:>6} of {n_steps}: no better loss, so the run ends here"));
        }
        Event::Resumed { step } => bar.above(|| println!("going on from step {step} of {n_steps}")),
        Event::Saved { .. } | Event::Done { .. } => {}
    }
}

fn report(folder: &Path) {
    let model = folder.join("model.gguf");
    println!("\nthe model: {}", model.display());
    println!("  daybreak serve --model {}", model.display());
}
