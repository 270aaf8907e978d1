//! What a run learns from: batch after batch, without an end.

use crate::batches::Batches;
use crate::rows::Rows;

/// Where a run's batches come from.
pub trait Objective {
    /// The next batch.
    fn next(&mut self, rows: &mut Rows);

    /// As if so many batches had been taken.
    fn skip(&mut self, n_batches: u64);

    /// How often all of the data was seen.
    fn n_epochs(&self) -> f64;

    /// Whether what each answer counts depends on how likely it is: [`Objective::weigh`] is asked then.
    fn weighs_answers(&self) -> bool {
        false
    }

    /// Sets what each row of the batch at hand counts, from the loss of each: `[n_rows]`
    fn weigh(&self, _losses: &[f32], _rows: &mut Rows) -> Weighed {
        Weighed::default()
    }

    /// As [`Objective::weigh`] for held-out rows, of which `n_before` sequences came before; nothing is set.
    fn weigh_held_out(&self, _n_before: usize, _losses: &[f32], _rows: &Rows) -> Weighed {
        Weighed::default()
    }
}

/// What an objective made of the losses of some rows.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Weighed {
    /// Its own loss, summed up.
    pub loss: f64,
    /// How many choices are as they should be.
    pub n_right: u64,
    /// Of how many.
    pub n: u64,
}

/// Every token from those before it.
#[derive(Debug)]
pub struct Pretraining<'a> {
    batches: Batches<'a>,
    batch_rows: usize,
}

impl<'a> Pretraining<'a> {
    /// With `batch_rows` tokens in a batch.
    #[must_use]
    pub fn new(batches: Batches<'a>, batch_rows: usize) -> Pretraining<'a> {
        Pretraining { batches, batch_rows }
    }
}

impl Objective for Pretraining<'_> {
    fn next(&mut self, rows: &mut Rows) {
        self.batches.next(self.batch_rows, rows);
    }

    fn skip(&mut self, n_batches: u64) {
        self.batches.skip(n_batches * self.batch_rows as u64);
    }

    fn n_epochs(&self) -> f64 {
        self.batches.n_epochs()
    }
}
