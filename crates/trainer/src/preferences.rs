//! What is learnt from preferences: of two answers to one question, the chosen one becomes likelier than the rejected one
//! (direct preference optimisation; Rafailov et al. 2023, arXiv:2305.18290).
//!
//! With the sums of log-probabilities π of the model and r of the frozen model it began as, over the tokens of an answer,
//! a pair's loss is −ln σ(β ((π − r of the chosen) − (π − r of the rejected))). The frozen model is asked once.

use std::fs;
use std::io::Write;
use std::path::Path;

use kernels::Pool;
use weights::AtomicFile;

use crate::data::DataError;
use crate::lessons::{FineTuning, Lessons};
use crate::model::Model;
use crate::objective::{Objective, Weighed};
use crate::parameters::Parameters;
use crate::rows::Rows;

/// How strongly the model is held to what it was, where nobody says otherwise; as in the paper's dialogues.
pub const DEFAULT_BETA: f64 = 0.1;
const REFERENCE: &str = "reference.json";

/// The log-probabilities of every answer under the frozen model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reference {
    /// Of the lessons to learn from.
    train: Vec<f64>,
    /// Of those held out.
    held_out: Vec<f64>,
}

impl Reference {
    /// Asks the model, `batch_rows` tokens at a time. `progress` hears how many answers of how many were asked for.
    #[must_use]
    pub fn of(
        pool: &Pool,
        model: &mut Model,
        parameters: &Parameters,
        lessons: &Lessons,
        batch_rows: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Reference {
        let of = lessons.len() + lessons.n_held_out();
        let mut n_done = 0;
        let mut ask = |is_held_out: bool| {
            let n = if is_held_out { lessons.n_held_out() } else { lessons.len() };
            let mut sums = Vec::with_capacity(n);
            let mut rows = Rows::default();
            for idx in 0..n {
                lessons.push(is_held_out, idx, &mut rows);
                if rows.len() >= batch_rows || idx + 1 == n {
                    model.loss(pool, parameters, &rows.batch());
                    sums.extend(answer_sums(model.losses(), &rows));
                    n_done += rows.n_sequences();
                    progress(n_done, of);
                    rows.clear();
                }
            }
            sums
        };
        Reference { train: ask(false), held_out: ask(true) }
    }

    /// Reads what [`Reference::write`] wrote for these lessons.
    ///
    /// # Errors
    /// Where the file is missing or belongs to other lessons.
    pub fn read(folder: &Path, lessons: &Lessons) -> Result<Reference, DataError> {
        let path = folder.join(REFERENCE);
        let text = fs::read(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        let reference: Reference = serde_json::from_slice(&text)
            .map_err(|error| DataError::Description { path: path.clone(), what: error.to_string() })?;
        if reference.train.len() != lessons.len() || reference.held_out.len() != lessons.n_held_out() {
            let what = "it belongs to other lessons; begin the run anew".to_owned();
            return Err(DataError::Description { path, what });
        }
        Ok(reference)
    }

    /// Keeps the figures beside the lessons.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<(), DataError> {
        let path = folder.join(REFERENCE);
        let text = serde_json::to_vec(self).expect("plain numbers");
        let write = || {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(&text)?;
            file.finish()
        };
        write().map_err(|source| DataError::Io { path: path.clone(), source })
    }
}

/// The log-probability of each sequence's answer, from the loss of each row.
fn answer_sums<'a>(losses: &'a [f32], rows: &'a Rows) -> impl Iterator<Item = f64> + 'a {
    let batch = rows.batch();
    batch.sequences.iter().map(move |sequence| {
        let of = sequence.clone().filter(|&row| batch.weights[row] != 0.0);
        of.map(|row| -f64::from(losses[row])).sum()
    })
}

/// Pairs of lessons, the chosen answer before the rejected one.
pub struct Preferences<'a> {
    lessons: &'a Lessons,
    order: FineTuning<'a>,
    reference: Reference,
    beta: f64,
    /// The frozen model's sums for the batch at hand.
    of_batch: Vec<f64>,
}

impl<'a> Preferences<'a> {
    /// With at most `batch_rows` tokens in a batch, and at least one pair.
    #[must_use]
    pub fn new(
        lessons: &'a Lessons,
        reference: Reference,
        beta: f64,
        batch_rows: usize,
        seed: u64,
    ) -> Preferences<'a> {
        let order = FineTuning::new(lessons, 2, batch_rows, seed);
        Preferences { lessons, order, reference, beta, of_batch: Vec::new() }
    }

    fn of_pairs(&self, sums: impl Iterator<Item = f64>, reference: &[f64]) -> Vec<(f64, f64, bool)> {
        of_pairs(self.beta, sums, reference)
    }
}

/// Loss of each pair, how much it wants its chosen answer likelier (β σ(−z)), and whether it has become so.
fn of_pairs(beta: f64, sums: impl Iterator<Item = f64>, reference: &[f64]) -> Vec<(f64, f64, bool)> {
    let gains: Vec<f64> =
        sums.zip(reference).map(|(of_model, of_reference)| of_model - of_reference).collect();
    let of_pair = |gains: &[f64; 2]| {
        let z = beta * (gains[0] - gains[1]);
        // ln(1 + e^−z) without overflow.
        let loss = (-z).max(0.0) + (-z.abs()).exp().ln_1p();
        (loss, beta / (1.0 + z.exp()), z > 0.0)
    };
    gains.as_chunks::<2>().0.iter().map(of_pair).collect()
}

impl Objective for Preferences<'_> {
    fn next(&mut self, rows: &mut Rows) {
        rows.clear();
        let Preferences { lessons, order, reference, of_batch, .. } = self;
        of_batch.clear();
        order.take(&mut |idx| {
            lessons.push(false, idx, rows);
            of_batch.push(reference.train[idx]);
        });
    }

    fn skip(&mut self, n_batches: u64) {
        self.order.skip(n_batches);
    }

    fn n_epochs(&self) -> f64 {
        self.order.n_epochs()
    }

    fn weighs_answers(&self) -> bool {
        true
    }

    fn weigh(&self, losses: &[f32], rows: &mut Rows) -> Weighed {
        let of_pairs = self.of_pairs(answer_sums(losses, rows), &self.of_batch);
        for (pair, &(_, pull, _)) in of_pairs.iter().enumerate() {
            rows.scale_weights(2 * pair, pull as f32);
            rows.scale_weights(2 * pair + 1, -pull as f32);
        }
        told(&of_pairs)
    }

    fn weigh_held_out(&self, n_before: usize, losses: &[f32], rows: &Rows) -> Weighed {
        let reference = &self.reference.held_out[n_before..][..rows.n_sequences()];
        told(&self.of_pairs(answer_sums(losses, rows), reference))
    }
}

fn told(of_pairs: &[(f64, f64, bool)]) -> Weighed {
    Weighed {
        loss: of_pairs.iter().map(|(loss, ..)| loss).sum(),
        n_right: of_pairs.iter().filter(|(.., is_right)| *is_right).count() as u64,
        n: of_pairs.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Loss of one pair by the formula of the paper.
    fn loss(beta: f64, sums: [f64; 2], reference: [f64; 2]) -> f64 {
        let z = beta * ((sums[0] - reference[0]) - (sums[1] - reference[1]));
        -(1.0 / (1.0 + (-z).exp())).ln()
    }

    #[test]
    fn losses_are_the_papers_and_pulls_are_their_slopes() {
        let beta = 0.3;
        let reference = [-20.0, -25.0, -7.0, -3.0, -1.0, -1.0];
        let sums = [-18.0, -30.0, -9.0, -2.0, -1.0, -1.0];
        let found = of_pairs(beta, sums.into_iter(), &reference);
        for (pair, &(of_pair, pull, is_right)) in found.iter().enumerate() {
            let of = |by: f64| {
                let sums = [sums[2 * pair] + by, sums[2 * pair + 1]];
                loss(beta, sums, [reference[2 * pair], reference[2 * pair + 1]])
            };
            assert!((of_pair - of(0.0)).abs() < 1e-12);
            // A loss of β σ(−z) for each nat that the chosen answer gains.
            let slope = (of(1e-5) - of(-1e-5)) / 2e-5;
            assert!((pull + slope).abs() < 1e-8, "{pull} for {slope}");
            assert_eq!(is_right, of_pair < std::f64::consts::LN_2);
        }
        // Neither answer has gained yet.
        assert!((found[2].0 - std::f64::consts::LN_2).abs() < 1e-12 && !found[2].2);
        // Far away nothing overflows.
        let far = of_pairs(1.0, [-1e5, 0.0].into_iter(), &[0.0, 0.0]);
        assert_eq!((far[0].0, far[0].1), (1e5, 1.0));
    }
}

#[cfg(test)]
mod trl_tests;
