//! Guesses of what an answer says next, taken from what already stands in it or in its prompt.
//!
//! Prompt lookup (Saxena 2023; Yang et al. 2023, "Inference with reference"): where the last tokens
//! occurred before, what followed them there is proposed. The proposed tokens join the answer's own
//! as further rows of the step; each is drawn as if it stood alone, and the first that differs from
//! its guess ends the matter. So the answer is the same with and without guesses, row for row.
//!
//! A row costs time whether or not its guess is right. How often guesses come true is learned
//! without computing any, because every guess can be held against the token that was drawn; how long
//! a row takes is told by the scheduler (`StepCosts`). Guesses are computed only where the tokens
//! that they are expected to give outweigh their time.

use std::collections::HashMap;

use crate::request::TokenId;

/// The most guesses of one sequence in one step.
pub(crate) const MAX_DRAFT: usize = 15;
/// Tokens that must agree with an earlier place for what follows there to be a guess.
const KEY_LEN: usize = 3;
/// Longer agreements than this are not told apart.
const MAX_AGREEMENT: usize = 32;
/// Lengths of agreement from which the next class begins; a longer one makes a better guess.
const CLASS_STARTS: [usize; 3] = [5, 9, 17];
/// How often guesses of each class come true before anything was seen.
const FIRST_RATES: [f64; 4] = [0.3, 0.45, 0.6, 0.8];
/// Weight of the newest outcome.
const SMOOTHING: f64 = 0.1;
/// Guesses must be expected to gain at least this share: the costs are estimates.
const MARGIN: f64 = 1.08;

/// When tokens are guessed from what stands in prompt and answer. The answers are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptLookup {
    /// Never.
    Off,
    /// Where the guesses are expected to give more tokens than their time costs.
    #[default]
    Auto,
    /// Wherever something can be guessed, whatever it costs: for tests and measurements.
    Always,
}

/// What one sequence's earlier tokens say about its next ones.
#[derive(Default)]
pub(crate) struct Drafter {
    /// Where each run of `KEY_LEN` tokens ended last: the position behind it.
    last_seen: HashMap<[TokenId; KEY_LEN], u32>,
    /// Tokens that `last_seen` covers.
    n_indexed: usize,
    /// How often guesses came true, by class of agreement.
    rates: Option<[f64; 4]>,
    /// The place that the running copy is taken from, one for each token drawn since.
    source: Option<Source>,
}

#[derive(Clone, Copy)]
struct Source {
    /// The earlier position whose token is the next guess.
    next: usize,
    /// Tokens before it that agree with the sequence's last ones.
    agreement: usize,
}

impl Drafter {
    /// Takes note of the tokens that came since, the guess for the first of them among the outcomes.
    pub(crate) fn observe(&mut self, tokens: &[TokenId]) {
        while self.n_indexed < tokens.len() {
            let position = self.n_indexed;
            if position > 0 {
                self.judge(tokens, position);
            }
            self.n_indexed += 1;
            self.find_source(&tokens[..self.n_indexed]);
            if self.n_indexed >= KEY_LEN {
                self.last_seen.insert(key(&tokens[..self.n_indexed]), self.n_indexed as u32);
            }
        }
    }

    /// What is expected to follow `tokens`, best guess first and as many as `max`.
    ///
    /// A guess may read on into the tokens that are themselves guessed, as in a repeated line.
    pub(crate) fn guess(&self, tokens: &[TokenId], max: usize, draft: &mut Vec<TokenId>) {
        debug_assert_eq!(self.n_indexed, tokens.len());
        draft.clear();
        let Some(source) = self.source else {
            return;
        };
        for i in 0..max.min(MAX_DRAFT) {
            let position = source.next + i;
            let guessed = match position.checked_sub(tokens.len()) {
                None => tokens[position],
                Some(ahead) => draft[ahead],
            };
            draft.push(guessed);
        }
    }

    /// How likely the next guess is to come true.
    pub(crate) fn hit_rate(&self) -> f64 {
        match self.source {
            Some(source) => self.rates.unwrap_or(FIRST_RATES)[class(source.agreement)],
            None => 0.0,
        }
    }

    /// Holds the guess for `position` against the token that stands there.
    fn judge(&mut self, tokens: &[TokenId], position: usize) {
        let Some(source) = self.source else {
            return;
        };
        let is_hit = tokens[source.next] == tokens[position];
        let rates = self.rates.get_or_insert(FIRST_RATES);
        let rate = &mut rates[class(source.agreement)];
        *rate += SMOOTHING * (f64::from(u8::from(is_hit)) - *rate);
    }

    /// The place to copy from behind `tokens`: the same as before while it agrees, else the latest
    /// place where the last tokens occurred.
    fn find_source(&mut self, tokens: &[TokenId]) {
        if let Some(source) = &mut self.source {
            if tokens[source.next] == tokens[tokens.len() - 1] {
                source.next += 1;
                source.agreement = (source.agreement + 1).min(MAX_AGREEMENT);
                return;
            }
            self.source = None;
        }
        if tokens.len() < KEY_LEN {
            return;
        }
        let Some(&next) = self.last_seen.get(&key(tokens)) else {
            return;
        };
        let next = next as usize;
        let earlier = tokens[..next].iter().rev();
        let agreement =
            earlier.zip(tokens.iter().rev()).take(MAX_AGREEMENT).take_while(|(a, b)| a == b).count();
        self.source = Some(Source { next, agreement });
    }
}

/// The last tokens, by which earlier places are found.
fn key(tokens: &[TokenId]) -> [TokenId; KEY_LEN] {
    let last = tokens.last_chunk::<KEY_LEN>();
    *last.expect("only sequences of KEY_LEN tokens and more have a key")
}

fn class(agreement: usize) -> usize {
    CLASS_STARTS.iter().filter(|start| agreement >= **start).count()
}

/// What steps take, as far as it matters for guesses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepCosts {
    /// Seconds of a step that computes one token of each running answer.
    pub(crate) step_s: f64,
    /// Seconds that each further row adds.
    pub(crate) row_s: f64,
}

/// Deals out guesses among the answers of one step so that the expected tokens per second grow.
pub(crate) struct Budget {
    costs: StepCosts,
    /// Tokens that the step is expected to give so far, and its expected seconds.
    tokens: f64,
    seconds: f64,
}

impl Budget {
    /// A step of `n_decoding` answers without guesses.
    pub(crate) fn new(costs: StepCosts, n_decoding: usize) -> Budget {
        Budget { costs, tokens: n_decoding as f64, seconds: costs.step_s }
    }

    /// A step in which guesses cost nothing.
    pub(crate) fn unlimited() -> Budget {
        Budget { costs: StepCosts { step_s: 1.0, row_s: 0.0 }, tokens: 0.0, seconds: 1.0 }
    }

    /// How many guesses, each coming true at `hit_rate` if those before it did, are worth computing;
    /// they are counted as taken.
    pub(crate) fn take(&mut self, hit_rate: f64, max: usize) -> usize {
        // The first guesses carry the best odds, but only the sum of a run can be judged: its cost
        // may be outweighed late.
        let mut best = (0, self.tokens / self.seconds * MARGIN, self.tokens, self.seconds);
        let (mut tokens, mut seconds, mut chance) = (self.tokens, self.seconds, 1.0);
        for n in 1..=max {
            chance *= hit_rate;
            tokens += chance;
            seconds += self.costs.row_s;
            if tokens / seconds > best.1 {
                best = (n, tokens / seconds, tokens, seconds);
            }
        }
        (self.tokens, self.seconds) = (best.2, best.3);
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(tokens: &[TokenId], max: usize) -> Vec<TokenId> {
        let mut drafter = Drafter::default();
        drafter.observe(tokens);
        let mut draft = Vec::new();
        drafter.guess(tokens, max, &mut draft);
        draft
    }

    #[test]
    fn what_followed_the_same_tokens_before_is_proposed() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 6, 1, 2, 3], 2), [4, 5]);
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3], 1), [9], "the latest place counts");
        assert_eq!(guess(&[1, 2, 3, 4, 5, 6, 7, 2, 3], 4), [0; 0], "two tokens are no evidence");
        assert_eq!(guess(&[1, 2], 4), [0; 0]);
        assert_eq!(guess(&[], 4), [0; 0]);
    }

    #[test]
    fn a_guess_reads_on_into_itself() {
        assert_eq!(guess(&[7, 7, 7, 7], 5), [7; 5]);
        assert_eq!(guess(&[1, 2, 3, 1, 2, 3], 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(guess(&[1, 2, 3, 1, 2, 3], 100).len(), MAX_DRAFT);
    }

    #[test]
    fn tokens_seen_one_by_one_or_at_once_give_the_same_guesses() {
        let tokens: Vec<TokenId> = (0..400u32).map(|i| (i * i) % 7 + (i / 50) % 2).collect();
        let mut one_by_one = Drafter::default();
        for n in 1..=tokens.len() {
            one_by_one.observe(&tokens[..n]);
        }
        let mut at_once = Drafter::default();
        at_once.observe(&tokens);
        assert_eq!(one_by_one.hit_rate(), at_once.hit_rate());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        one_by_one.guess(&tokens, 8, &mut a);
        at_once.guess(&tokens, 8, &mut b);
        assert_eq!(a, b);
        assert!(!a.is_empty());
    }

    #[test]
    fn guesses_that_keep_failing_lose_their_credit_and_those_that_hold_gain_it() {
        let mut failing = Drafter::default();
        let tokens: Vec<TokenId> = (0..600).flat_map(|i| [1, 2, 3, 1000 + i]).collect();
        failing.observe(&tokens[..tokens.len() - 1]);
        assert!(failing.hit_rate() < 0.05, "{}", failing.hit_rate());
        let mut holding = Drafter::default();
        let tokens: Vec<TokenId> = (0..600).map(|i| i % 50).collect();
        holding.observe(&tokens);
        assert!(holding.hit_rate() > 0.95, "{}", holding.hit_rate());
    }

    #[test]
    fn guesses_are_bought_only_where_they_pay() {
        let costs = StepCosts { step_s: 0.010, row_s: 0.004 };
        let take = |hit_rate, n_decoding| Budget::new(costs, n_decoding).take(hit_rate, MAX_DRAFT);
        assert_eq!(take(0.0, 1), 0);
        assert_eq!(take(0.3, 1), 0, "each row costs 0.4 of a step");
        assert!(take(0.7, 1) >= 1);
        assert!(take(0.95, 1) > take(0.7, 1));
        assert!(take(0.95, 8) < take(0.95, 1), "eight answers use the step well already");
        let free = StepCosts { step_s: 0.010, row_s: 0.0001 };
        assert!(Budget::new(free, 1).take(0.95, MAX_DRAFT) > 10);
    }

    #[test]
    fn the_budget_is_shared_by_the_answers_of_a_step() {
        let costs = StepCosts { step_s: 0.010, row_s: 0.003 };
        let mut budget = Budget::new(costs, 2);
        let first = budget.take(0.95, MAX_DRAFT);
        let second = budget.take(0.95, MAX_DRAFT);
        assert!(first > 0 && second <= first, "{first} {second}");
    }
}
