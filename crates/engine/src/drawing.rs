//! What is done with the logits of one sequence in a step: a token is drawn, or all rows are shown.

use kernels::Isa;

use crate::error::EngineError;
use crate::masking::Masked;
use crate::request::{BitMask, FinishReason, TokenId};
use crate::sampler::{Allowed, Choice, NoChoice, Scratch};
use crate::sequence::{Answer, Sequence, Work};

/// Buffers for drawing one row's token.
pub(crate) struct DrawScratch {
    candidates: Scratch,
    forbidden: Vec<u32>,
}

impl DrawScratch {
    /// Empty buffers; sums over the vocabulary use `isa`.
    pub(crate) fn new(isa: Isa) -> DrawScratch {
        DrawScratch { candidates: Scratch::new(isa), forbidden: Vec::new() }
    }
}

/// The rows of one sequence in a slice of logits.
pub(crate) struct Job<'a> {
    pub(crate) running_idx: usize,
    /// The position of the first row in its sequence.
    pub(crate) first_pos: usize,
    pub(crate) rows: Vec<&'a mut [f32]>,
    pub(crate) sequence: &'a mut Sequence,
    /// The tokens that were drawn, in order; they stand in the sequence already.
    pub(crate) drawn: Vec<Choice>,
}

impl Job<'_> {
    /// Draws from the rows, or shows them.
    pub(crate) fn run(&mut self, scratch: &mut DrawScratch, max_seq_len: usize) {
        let Sequence { tokens, work, n_prompt, n_computed, .. } = &mut *self.sequence;
        match work {
            Work::Score(score) => {
                for (position, row) in (self.first_pos..).zip(&self.rows) {
                    if position == score.n_shown {
                        (score.on_row)(position, row);
                        score.n_shown += 1;
                    }
                }
            }
            Work::Answer(answer) if answer.max_tokens == 0 => {}
            Work::Answer(answer) => {
                for (position, row) in (self.first_pos..).zip(&mut self.rows) {
                    if answer.outcome.is_some() || position + 1 != tokens.len() {
                        break;
                    }
                    // The row of a guess counts if the guess came true; those before it did, or none were drawn.
                    let guess = position.checked_sub(*n_computed).map(|i| answer.draft[i]);
                    if guess.is_some_and(|guess| guess != tokens[position]) {
                        break;
                    }
                    let n_generated = tokens.len() - *n_prompt;
                    match draw(answer, row, n_generated, tokens.len(), scratch) {
                        Ok(choice) if answer.stop_ids.contains(&choice.id) => {
                            answer.outcome = Some(Ok(FinishReason::Stop));
                        }
                        Ok(choice) => {
                            take(answer, tokens, &choice, n_generated, max_seq_len);
                            self.drawn.push(choice);
                        }
                        Err(error) => answer.outcome = Some(Err(error)),
                    }
                }
            }
        }
    }
}

/// Appends a drawn token to its sequence and notes whether that ends the answer.
fn take(
    answer: &mut Answer,
    tokens: &mut Vec<TokenId>,
    choice: &Choice,
    n_generated: usize,
    max_seq_len: usize,
) {
    let position = tokens.len();
    tokens.push(choice.id);
    answer.sampler.accept(tokens);
    let is_full = n_generated + 1 >= answer.max_tokens || tokens.len() >= max_seq_len;
    answer.outcome = match accept(answer, choice.id) {
        Err(reason) => Some(Err(EngineError::ConstraintFailed { position, reason })),
        Ok(true) => Some(Ok(FinishReason::Stop)),
        Ok(false) if is_full => Some(Ok(FinishReason::Length)),
        Ok(false) => None,
    };
}

/// Draws the token at `position` of an answer.
fn draw(
    answer: &mut Answer,
    logits: &mut [f32],
    n_generated: usize,
    position: usize,
    scratch: &mut DrawScratch,
) -> Result<Choice, EngineError> {
    scratch.forbidden.clear();
    if answer.ignore_eos || n_generated < answer.min_tokens {
        scratch.forbidden.extend_from_slice(&answer.stop_ids);
    }
    let mut slot = answer.constraint.as_ref().map(Masked::lock);
    let mask = match &mut slot {
        Some(slot) => {
            let mask = slot.mask().map_err(|reason| EngineError::ConstraintFailed { position, reason })?;
            if !leaves_some(mask, &scratch.forbidden) {
                scratch.forbidden.clear();
            }
            Some(mask)
        }
        None => None,
    };
    let allowed = Allowed { forbidden: &scratch.forbidden, mask };
    let drawn = answer.sampler.draw(logits, position, &allowed, &mut scratch.candidates);
    drawn.map_err(|why| match why {
        NoChoice::NonFinite => EngineError::NonFiniteLogits { position },
        NoChoice::NothingAllowed => EngineError::NothingAllowed { position },
    })
}

/// Whether some token of the mask is not forbidden.
fn leaves_some(mask: &BitMask, forbidden: &[TokenId]) -> bool {
    forbidden.is_empty() || mask.n_set() > forbidden.iter().filter(|id| mask.get(**id)).count()
}

/// Tells the constraint, if there is one; whether the answer is complete.
fn accept(answer: &mut Answer, id: TokenId) -> Result<bool, String> {
    match &answer.constraint {
        Some(constraint) => constraint.lock().accept(id),
        None => Ok(false),
    }
}
