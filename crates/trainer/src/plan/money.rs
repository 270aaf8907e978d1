//! Money, with its currency.

/// An amount of one currency.
#[derive(Debug, Clone, PartialEq)]
pub struct Money {
    /// How much.
    pub amount: f64,
    /// Three capital letters, e.g. `USD`.
    pub currency: String,
}

impl Money {
    /// So many times as much.
    #[must_use]
    pub fn times(&self, factor: f64) -> Money {
        Money { amount: self.amount * factor, currency: self.currency.clone() }
    }
}
