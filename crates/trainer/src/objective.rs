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
