//! The loop's one step, whatever is learnt: batches → loss and gradient → a look at both → the optimiser.

use kernels::{Pool, Precision};
use serde::{Deserialize, Serialize};
use tokenizer::TokenId;
use weights::ModelConfig;

use crate::checkpoint::{Checkpoint, CheckpointError, LoopState};
use crate::model::Model;
use crate::objective::Objective;
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::parameters::Parameters;
use crate::rows::Rows;
use crate::schedule::Schedule;

/// What products are computed in; masters and sums are single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// Single precision.
    F32,
    /// Brain floats of 16 bits.
    Bf16,
}

impl Products {
    /// What the kernels call it.
    #[must_use]
    pub fn precision(self) -> Precision {
        match self {
            Products::F32 => Precision::F32,
            Products::Bf16 => Precision::Bf16,
        }
    }
}

/// What a run is told once and keeps for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopSettings {
    /// Decides the first weights and the order of the data.
    pub seed: u64,
    /// Longest sequence that is learnt.
    pub seq_len: usize,
    /// Tokens of a batch, that go through the model together.
    pub batch_rows: usize,
    /// Batches of a step, whose gradients are added up.
    pub n_batches: u64,
    /// Steps of the run.
    pub n_steps: u64,
    /// What products are computed in.
    pub products: Products,
    /// How weights follow their gradient.
    pub optimizer: OptimizerSettings,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// The largest length of a gradient; longer ones are shortened to it. None: no limit.
    pub clip: Option<f64>,
    /// Steps between two evaluations.
    pub eval_every: u64,
    /// Held-out tokens that an evaluation reads.
    pub eval_rows: usize,
    /// Evaluations without a better loss after which the run ends.
    pub patience: Option<u32>,
    /// Seconds between two checkpoints.
    pub checkpoint_seconds: f64,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss of the tokens that count, in nats.
    pub loss: f64,
    /// The gradient's length before it is shortened.
    pub grad_norm: f64,
    /// Factor of the learning rates.
    pub rate: f64,
    /// Tokens that went through.
    pub n_rows: usize,
    /// Why the weights were left as they are.
    pub left_out: Option<Anomaly>,
}

/// What was found in held-out rows.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Sum of the losses.
    pub loss: f64,
    /// What it is a sum over: tokens that count, or pairs.
    pub weight: f64,
    /// Choices that are as they should be.
    pub n_right: u64,
    /// Of how many; 0 where there is nothing to choose.
    pub n_choices: u64,
}

/// What makes a step worthless.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anomaly {
    /// Loss or gradient is infinite or no number.
    NotFinite,
    /// The loss is far above what it was.
    Spike {
        /// What it was in the mean.
        usual: f64,
    },
}

/// How far above its mean a loss is a spike, in standard deviations, and at least, in nats.
const SPIKE_DEVIATIONS: f64 = 8.0;
const SPIKE_LEAST: f64 = 0.5;
/// How fast the running mean of the loss forgets, and the steps before it is trusted.
const MEMORY: f64 = 0.95;
const MEMORY_STEPS: u64 = 40;

/// A model that is being trained.
pub struct Training<'a> {
    pool: &'a Pool,
    settings: LoopSettings,
    objective: Box<dyn Objective + 'a>,
    model: Model,
    parameters: Parameters,
    gradient: Parameters,
    optimizer: Optimizer,
    state: LoopState,
    rows: Rows,
}

impl<'a> Training<'a> {
    /// A run before its first step. The model is one with the settings' products.
    #[must_use]
    pub fn new(
        pool: &'a Pool,
        settings: LoopSettings,
        objective: Box<dyn Objective + 'a>,
        model: Model,
        parameters: Parameters,
        data_digest: String,
    ) -> Training<'a> {
        let gradient = parameters.zeros_like();
        let optimizer = Optimizer::new(settings.optimizer, &parameters);
        let state = LoopState::new(data_digest);
        Training {
            pool,
            settings,
            objective,
            model,
            parameters,
            gradient,
            optimizer,
            state,
            rows: Rows::default(),
        }
    }

    /// Goes on where a checkpoint was made.
    ///
    /// # Errors
    /// Where the checkpoint lacks something.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        checkpoint.fill(&mut self.parameters)?;
        checkpoint.restore(&mut self.optimizer)?;
        self.objective.skip(checkpoint.state().n_batches - self.state.n_batches);
        self.state = checkpoint.state().clone();
        Ok(())
    }

    /// Goes back to a checkpoint of this run, but not to its data: what follows is new. The learning rate is halved.
    ///
    /// # Errors
    /// Where the checkpoint lacks something.
    pub fn roll_back(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        checkpoint.fill(&mut self.parameters)?;
        checkpoint.restore(&mut self.optimizer)?;
        let LoopState { n_batches, n_rollbacks, rate_factor, seconds, .. } = self.state;
        let LoopState { best_loss, best_step, n_since_best, .. } = self.state;
        self.state = LoopState {
            n_batches,
            n_rollbacks: n_rollbacks + 1,
            rate_factor: rate_factor / 2.0,
            seconds,
            n_left_out: 0,
            // The weights that were best are kept beside the checkpoints, whatever became of the course.
            best_loss,
            best_step,
            n_since_best,
            ..checkpoint.state().clone()
        };
        Ok(())
    }

    /// Takes one step.
    pub fn step(&mut self) -> StepReport {
        self.gradient.clear(self.pool);
        let (mut loss, mut weight, mut n_rows) = (0.0, 0.0, 0);
        for _ in 0..self.settings.n_batches {
            self.objective.next(&mut self.rows);
            let weighs = self.objective.weighs_answers();
            if weighs {
                self.model.loss(self.pool, &self.parameters, &self.rows.batch());
                let weighed = self.objective.weigh(self.model.losses(), &mut self.rows);
                loss += weighed.loss;
                weight += weighed.n as f64;
            }
            let batch = self.rows.batch();
            let own = self.model.loss_and_gradient(self.pool, &self.parameters, &batch, &mut self.gradient);
            if !weighs {
                loss += own;
                weight += self.rows.weight();
            }
            n_rows += self.rows.len();
        }
        let weight = weight.max(f64::MIN_POSITIVE);
        let loss = loss / weight;
        let squares: f64 =
            self.gradient.iter().map(|(_, values)| kernels::sum_of_squares(self.pool, values)).sum();
        let grad_norm = squares.sqrt() / weight;
        let rate =
            self.settings.schedule.rate(self.state.step, self.settings.n_steps) * self.state.rate_factor;
        let left_out = self.anomaly(loss, grad_norm);
        if left_out.is_none() {
            let shorter = self.settings.clip.map_or(1.0, |most| (most / grad_norm.max(1e-12)).min(1.0));
            let scale = (shorter / weight) as f32;
            self.optimizer.step(self.pool, &mut self.parameters, &self.gradient, rate as f32, scale);
            self.remember(loss);
            self.state.n_updates += 1;
        }
        self.state.n_left_out = if left_out.is_some() { self.state.n_left_out + 1 } else { 0 };
        self.state.step += 1;
        self.state.n_batches += self.settings.n_batches;
        self.state.n_tokens += n_rows as f64;
        StepReport { loss, grad_norm, rate, n_rows, left_out }
    }

    fn anomaly(&self, loss: f64, grad_norm: f64) -> Option<Anomaly> {
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Some(Anomaly::NotFinite);
        }
        let LoopState { step, loss_mean, loss_variance, .. } = self.state;
        let far = (SPIKE_DEVIATIONS * loss_variance.sqrt()).max(SPIKE_LEAST);
        (step >= MEMORY_STEPS && loss > loss_mean + far).then_some(Anomaly::Spike { usual: loss_mean })
    }

    fn remember(&mut self, loss: f64) {
        let state = &mut self.state;
        if state.n_updates == 0 {
            state.loss_mean = loss;
        }
        let distance = loss - state.loss_mean;
        state.loss_mean += (1.0 - MEMORY) * distance;
        state.loss_variance = MEMORY * (state.loss_variance + (1.0 - MEMORY) * distance * distance);
    }

    /// Loss of what is held out.
    pub fn evaluate(&mut self, held_out: &[Rows]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        let mut n_before = 0;
        for rows in held_out {
            let loss = self.model.loss(self.pool, &self.parameters, &rows.batch());
            if self.objective.weighs_answers() {
                let weighed = self.objective.weigh_held_out(n_before, self.model.losses(), rows);
                evaluation.loss += weighed.loss;
                evaluation.weight += weighed.n as f64;
                evaluation.n_right += weighed.n_right;
                evaluation.n_choices += weighed.n;
            } else {
                evaluation.loss += loss;
                evaluation.weight += rows.weight();
            }
            n_before += rows.n_sequences();
        }
        evaluation
    }

    /// Continues each prompt by up to `n` tokens, each drawn at `temperature`, until one of `ends`. All go through the
    /// model together.
    pub fn sample(
        &mut self,
        prompts: &[&[TokenId]],
        n: usize,
        temperature: f32,
        ends: &[TokenId],
    ) -> Vec<Vec<TokenId>> {
        let mut random = fastrand::Rng::with_seed(self.settings.seed);
        let mut texts: Vec<Vec<TokenId>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        let mut open: Vec<usize> = (0..texts.len()).filter(|&idx| !texts[idx].is_empty()).collect();
        let mut rows = Rows::default();
        for _ in 0..n {
            if open.is_empty() {
                break;
            }
            rows.clear();
            for &idx in &open {
                let from = texts[idx].len().saturating_sub(self.settings.seq_len);
                rows.push(texts[idx][from..].iter().map(|&token| (token, 0, 0.0)));
            }
            let logits = self.model.next_logits(self.pool, &self.parameters, &rows.batch());
            let of_each = logits.chunks_exact(self.model.config().vocab_size);
            let drawn: Vec<TokenId> = of_each.map(|logits| draw(logits, temperature, &mut random)).collect();
            let mut drawn = drawn.into_iter();
            open.retain(|&idx| {
                let token = drawn.next().expect("one for each that is open");
                let goes_on = !ends.contains(&token);
                if goes_on {
                    texts[idx].push(token);
                }
                goes_on
            });
        }
        texts.into_iter().zip(prompts).map(|(mut text, prompt)| text.split_off(prompt.len())).collect()
    }

    /// Where the run is.
    #[must_use]
    pub fn state(&self) -> &LoopState {
        &self.state
    }

    /// As [`Training::state`], for what the loop around the steps counts.
    pub fn state_mut(&mut self) -> &mut LoopState {
        &mut self.state
    }

    /// What the run was told.
    #[must_use]
    pub fn settings(&self) -> &LoopSettings {
        &self.settings
    }

    /// The model's numbers.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The model's facts.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// The optimiser's numbers.
    #[must_use]
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// How often all of the data was seen.
    #[must_use]
    pub fn n_epochs(&self) -> f64 {
        self.objective.n_epochs()
    }
}

/// A token by its probability; the likeliest at temperature 0.
fn draw(logits: &[f32], temperature: f32, random: &mut fastrand::Rng) -> TokenId {
    let likeliest =
        || logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(token, _)| token);
    if temperature <= 0.0 {
        return likeliest() as TokenId;
    }
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    let weight = |x: f32| f64::from((x - max) / temperature).exp();
    let mut left = random.f64() * logits.iter().map(|&x| weight(x)).sum::<f64>();
    for (token, &x) in logits.iter().enumerate() {
        left -= weight(x);
        if left < 0.0 {
            return token as TokenId;
        }
    }
    likeliest() as TokenId
}
