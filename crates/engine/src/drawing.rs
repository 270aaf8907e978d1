//! What is done with the logits of one sequence in a step: a token is drawn, or all rows are shown.

use kernels::Isa;

use crate::error::EngineError;
use crate::masking::Masked;
use crate::request::{BitMask, TokenId};
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
    pub(crate) fn run(&mut self, scratch: &mut DrawScratch) {
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
                self.drawn = Some(draw(answer, row, n_generated, position, scratch));
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
) -> Drawn {
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
pub(crate) fn accept(answer: &mut Answer, id: TokenId) -> Result<bool, String> {
    match &answer.constraint {
        Some(constraint) => constraint.lock().accept(id),
        None => Ok(false),
    }
}
