//! What is done with the logits of one sequence in a step: a token is drawn, or all rows are shown.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kernels::Isa;

use crate::error::EngineError;
use crate::request::BitMask;
use crate::sampler::{Allowed, Choice, NoChoice, Scratch};
use crate::sequence::{Answer, Sequence, Work};

/// Buffers for drawing one row's token.
pub(crate) struct DrawScratch {
    candidates: Scratch,
    mask: Option<BitMask>,
    forbidden: Vec<u32>,
}

impl DrawScratch {
    /// Empty buffers; sums over the vocabulary use `isa`.
    pub(crate) fn new(isa: Isa) -> DrawScratch {
        DrawScratch { candidates: Scratch::new(isa), mask: None, forbidden: Vec::new() }
    }
}

/// What drawing gave for one sequence.
pub(crate) type Drawn = Result<Choice, EngineError>;

/// The rows of one sequence in a slice of logits.
pub(crate) struct Job<'a> {
    pub(crate) running_idx: usize,
    /// The position of the first row in its sequence.
    pub(crate) first_pos: usize,
    pub(crate) rows: Vec<&'a mut [f32]>,
    pub(crate) sequence: &'a mut Sequence,
    pub(crate) drawn: Option<Drawn>,
}

impl Job<'_> {
    /// Draws, or shows the rows; a drawn token is left in `drawn`.
    pub(crate) fn run(&mut self, scratch: &mut DrawScratch, vocab_size: usize) {
        let n_generated = self.sequence.n_generated();
        let position = self.sequence.tokens.len();
        match &mut self.sequence.work {
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
                let row = &mut self.rows[0];
                self.drawn = Some(draw(answer, row, n_generated, position, scratch, vocab_size));
            }
        }
    }
}

/// Draws the token at `position` of an answer.
fn draw(
    answer: &mut Answer,
    logits: &mut [f32],
    n_generated: usize,
    position: usize,
    scratch: &mut DrawScratch,
    vocab_size: usize,
) -> Drawn {
    scratch.forbidden.clear();
    if answer.ignore_eos || n_generated < answer.min_tokens {
        scratch.forbidden.extend_from_slice(&answer.stop_ids);
    }
    let mask = match &mut answer.constraint {
        Some(constraint) => {
            let mask = scratch.mask.get_or_insert_with(|| BitMask::all_set(vocab_size));
            // A constraint comes from outside: its panic is this answer's, not the engine's.
            catch_unwind(AssertUnwindSafe(|| constraint.mask(mask)))
                .map_err(|_| EngineError::ConstraintFailed { position })?;
            Some(&*mask)
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

/// Tells the constraint, if there is one; `false` if it panicked.
pub(crate) fn accept(answer: &mut Answer, id: u32) -> bool {
    match &mut answer.constraint {
        Some(constraint) => catch_unwind(AssertUnwindSafe(|| constraint.accept(id))).is_ok(),
        None => true,
    }
}
