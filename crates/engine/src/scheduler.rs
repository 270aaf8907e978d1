//! Who goes next, and how much of a prompt fits into a step.
//!
//! Every step computes one token of each running answer and, with what is left, a slice of the
//! prompts. Two questions are answered here without looking at the model: whose turn it is
//! (`FairShares`), and how long a slice may be so that running answers keep their pace (`Pace`).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use crate::drafting::StepCosts;
use crate::sequence::Sequence;

/// How much each fair key was served: the key with the least goes first.
///
/// A virtual token counter (Sheng et al. 2024, "Fairness in serving large language models"): a key
/// that comes (back) starts level with the least served of those present, so that absence earns no
/// credit and newcomers do not wait for others' past.
#[derive(Default)]
pub(crate) struct FairShares {
    shares: HashMap<u64, Share>,
}

#[derive(Default)]
struct Share {
    n_served: u64,
    n_sequences: usize,
}

impl FairShares {
    /// A sequence of this key is present now.
    pub(crate) fn enter(&mut self, fair_key: u64) {
        let level = self.shares.values().map(|share| share.n_served).min().unwrap_or(0);
        let share = self.shares.entry(fair_key).or_insert(Share { n_served: level, n_sequences: 0 });
        share.n_sequences += 1;
    }

    /// A sequence of this key has ended.
    pub(crate) fn leave(&mut self, fair_key: u64) {
        if let Some(share) = self.shares.get_mut(&fair_key) {
            share.n_sequences -= 1;
            if share.n_sequences == 0 {
                self.shares.remove(&fair_key);
            }
        }
    }

    /// Tokens were computed for this key.
    pub(crate) fn charge(&mut self, fair_key: u64, n_tokens: usize) {
        if let Some(share) = self.shares.get_mut(&fair_key) {
            share.n_served = share.n_served.saturating_add(n_tokens as u64);
        }
    }

    /// The order in which sequences are started and prompts read: by priority, then by service
    /// received, then by arrival.
    pub(crate) fn order(&self, sequence: &Sequence) -> impl Ord + use<> {
        let share = self.shares.get(&sequence.fair_key);
        let n_served = share.map_or(0, |share| share.n_served);
        (Reverse(sequence.priority), n_served, sequence.arrival)
    }
}

/// The order in which running sequences keep their pages: the last is preempted first.
pub(crate) fn seniority(sequence: &Sequence) -> (Reverse<i8>, u64) {
    (Reverse(sequence.priority), sequence.arrival)
}

/// How long steps take, to size the slice of prompt that joins the running answers, and to tell
/// whether guesses are worth their rows.
///
/// A slice takes a part of the answers' own step, so that nearly every token comes within twice its
/// usual time, and the prompt within three times its time alone.
#[derive(Default)]
pub(crate) struct Pace {
    /// Seconds of a step with one row for each running answer, smoothed.
    decode_step_s: Option<f64>,
    /// Seconds that each prompt token adds, smoothed.
    prompt_token_s: Option<f64>,
    /// Seconds that each guessed token adds, smoothed.
    draft_row_s: Option<f64>,
}

/// What a step computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StepRows {
    /// Answers that drew at least one token.
    pub(crate) n_decoding: usize,
    /// Guessed tokens of these answers.
    pub(crate) n_draft: usize,
    /// Tokens of prompts.
    pub(crate) n_prompt: usize,
}

/// The smallest slice that joins running answers. The weights are read for them anyway; behind a
/// long context a few tokens of prompt take as long as a step.
const MIN_SLICE: usize = 4;
/// What a slice takes of a step's time.
const SLICE_SHARE: f64 = 0.6;
/// The slice before anything was measured.
const FIRST_SLICE: usize = 64;
/// Weight of the newest measurement.
const SMOOTHING: f64 = 0.2;
/// A row among few costs more than one of a long prompt; before any was measured, so much more.
const FEW_ROWS_FACTOR: f64 = 1.5;

impl Pace {
    /// Prompt tokens that may join a step with `n_decoding` running answers.
    pub(crate) fn slice(&self, n_decoding: usize, max_batch_tokens: usize) -> usize {
        let room = max_batch_tokens.saturating_sub(n_decoding);
        if n_decoding == 0 {
            return room;
        }
        let wanted = match (self.decode_step_s, self.prompt_token_s) {
            (Some(step), Some(token)) if token > 0.0 => (SLICE_SHARE * step / token) as usize,
            _ => FIRST_SLICE,
        };
        wanted.max(MIN_SLICE).min(room)
    }

    /// What a step and a further row in it take, once a step was measured.
    pub(crate) fn costs(&self) -> Option<StepCosts> {
        let step_s = self.decode_step_s?;
        let unmeasured = self.prompt_token_s.map_or(step_s * 0.5, |token| token * FEW_ROWS_FACTOR);
        Some(StepCosts { step_s, row_s: self.draft_row_s.unwrap_or(unmeasured) })
    }

    /// Notes how long a step took.
    pub(crate) fn note(&mut self, rows: StepRows, took: Duration) {
        let took = took.as_secs_f64();
        match rows {
            StepRows { n_prompt: 0, n_draft: 0, .. } => smooth(&mut self.decode_step_s, took),
            StepRows { n_prompt: 0, n_draft, .. } => self.note_draft(n_draft, took),
            StepRows { n_decoding, n_prompt, .. } => {
                let own = match n_decoding {
                    0 => 0.0,
                    _ => self.decode_step_s.unwrap_or(0.0),
                };
                let each = (took - own).max(took * 0.1) / n_prompt as f64;
                // A handful of tokens says nothing about the cost of many.
                if n_prompt >= MIN_SLICE {
                    smooth(&mut self.prompt_token_s, each);
                }
            }
        }
    }

    /// Splits the time of a step with guesses between the step and the further rows. One number
    /// cannot tell both apart, so that a surprise goes mostly to the rows, and what long contexts
    /// add to every step reaches the step, too.
    fn note_draft(&mut self, n_draft: usize, took: f64) {
        let Some(StepCosts { step_s, row_s }) = self.costs() else {
            return;
        };
        let n_draft = n_draft as f64;
        let surprise = took / (step_s + row_s * n_draft);
        let row_s = ((took - step_s) / n_draft).clamp(row_s * 0.5, row_s * 2.0);
        smooth(&mut self.draft_row_s, row_s);
        self.decode_step_s = Some(step_s * (1.0 + 0.02 * (surprise.clamp(0.5, 2.0) - 1.0)));
    }
}

/// One surprise, as when the system lets another program run, moves a mean little: a step that seems ten times as long
/// would let ten times as long slices in, and nothing is learned of steps without a slice until the prompt is read.
fn smooth(mean: &mut Option<f64>, value: f64) {
    *mean = Some(match *mean {
        Some(old) => old + SMOOTHING * (value.clamp(old * 0.5, old * 2.0) - old),
        None => value,
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sequence::{Score, Work};

    fn sequence(fair_key: u64, priority: i8, arrival: u64) -> Sequence {
        let (done, _) = std::sync::mpsc::sync_channel(1);
        let work = Work::Score(Score { on_row: Box::new(|_, _| {}), first: 0, n_shown: 0, done });
        let mut sequence = Sequence::new(vec![1], work);
        sequence.fair_key = fair_key;
        sequence.priority = priority;
        sequence.arrival = arrival;
        sequence
    }

    fn order(shares: &FairShares, waiting: &[Sequence]) -> Vec<u64> {
        let mut sorted: Vec<&Sequence> = waiting.iter().collect();
        sorted.sort_by_key(|s| shares.order(s));
        sorted.iter().map(|s| s.arrival).collect()
    }

    #[test]
    fn the_least_served_goes_first_and_priority_before_all() {
        let waiting = [sequence(1, 0, 0), sequence(2, 0, 1), sequence(1, 1, 2)];
        let mut shares = FairShares::default();
        waiting.iter().for_each(|s| shares.enter(s.fair_key));
        assert_eq!(order(&shares, &waiting), [2, 0, 1]);
        shares.charge(1, 100);
        assert_eq!(order(&shares, &waiting), [2, 1, 0]);
        shares.charge(2, 101);
        assert_eq!(order(&shares, &waiting), [2, 0, 1]);
    }

    #[test]
    fn a_newcomer_starts_level_with_the_least_served() {
        let mut shares = FairShares::default();
        shares.enter(1);
        shares.charge(1, 1_000);
        shares.enter(2);
        let waiting = [sequence(1, 0, 0), sequence(2, 0, 1)];
        assert_eq!(order(&shares, &waiting), [0, 1], "level: arrival decides");
        shares.charge(2, 1);
        assert_eq!(order(&shares, &waiting), [0, 1]);
        shares.charge(1, 2);
        assert_eq!(order(&shares, &waiting), [1, 0]);
    }

    #[test]
    fn keys_that_left_are_forgotten() {
        let mut shares = FairShares::default();
        for key in 0..1_000 {
            shares.enter(key);
            shares.leave(key);
        }
        assert!(shares.shares.is_empty());
    }

    fn decode(n_decoding: usize, n_draft: usize) -> StepRows {
        StepRows { n_decoding, n_draft, n_prompt: 0 }
    }

    fn prompt(n_prompt: usize) -> StepRows {
        StepRows { n_prompt, ..StepRows::default() }
    }

    #[test]
    fn a_slice_takes_less_time_than_the_answers_beside_it() {
        let mut pace = Pace::default();
        assert_eq!(pace.slice(0, 512), 512);
        assert_eq!(pace.slice(2, 512), FIRST_SLICE);
        for _ in 0..50 {
            pace.note(prompt(500), Duration::from_millis(500));
            pace.note(decode(2, 0), Duration::from_millis(40));
        }
        let slice = pace.slice(2, 512);
        assert!((22..=26).contains(&slice), "{slice}");
        pace.note(decode(2, 0), Duration::from_secs(2));
        assert!(pace.slice(2, 512) <= slice * 5 / 4, "one step that the system interrupted");
        pace.note(decode(2, 0), Duration::from_millis(1));
        assert!(pace.slice(2, 512) >= slice * 4 / 5);
        assert_eq!(pace.slice(2, 20), 18);
        assert_eq!(pace.slice(512, 512), 0);
    }

    #[test]
    fn the_cost_of_a_guess_is_learned_from_steps_with_guesses() {
        let mut pace = Pace::default();
        assert_eq!(pace.costs(), None);
        pace.note(decode(1, 0), Duration::from_millis(10));
        assert!((pace.costs().unwrap().row_s - 0.005).abs() < 1e-9);
        pace.note(prompt(100), Duration::from_millis(200));
        assert!((pace.costs().unwrap().row_s - 0.003).abs() < 1e-9);
        for _ in 0..50 {
            pace.note(decode(1, 4), Duration::from_millis(14));
            pace.note(decode(1, 2), Duration::from_millis(12));
        }
        let costs = pace.costs().unwrap();
        assert!((costs.row_s - 0.001).abs() < 0.0002, "{costs:?}");
        assert!((costs.step_s - 0.010).abs() < 0.001, "{costs:?}");
    }
}
