//! What does it take to train a model, and what can be trained with what there is?
//!
//! ```text
//! model, tokens        → parameters, arithmetic, memory          (Plan)
//! arithmetic, machines → time, energy, money                     (Machines::cost)
//! time or money        → arithmetic → the best model for it      (Machines::flops_*, Optimum)
//! ```
//! What machines can do and cost is read from a file ([`Accelerators`]); how much of it a run gets is stated, never
//! hidden: the utilisation.

pub mod gpt3;

mod accelerators;
mod memory;
mod money;
mod optimum;
mod quantity;

use weights::ModelConfig;

pub use accelerators::{Accelerator, AcceleratorError, Accelerators, ExchangeRate, Price, THIS_MACHINE};
pub use memory::{NumberFormat, TrainingMemory};
pub use money::Money;
pub use optimum::{Optimum, TOKENS_PER_PARAMETER, affordable_tokens};
pub use quantity::{Amount, QuantityError, parse_amount, parse_count, parse_currency, parse_duration};

use crate::cost::{ParameterCount, training_flops_per_token, unmasked_flops_per_token};

/// The share of a machine's peak that training is taken to get where nobody says otherwise. Large runs report 0.46 (PaLM:
/// Chowdhery et al. 2022, arXiv:2204.02311) and 0.38–0.43 (Llama 3: arXiv:2407.21783).
pub const ASSUMED_MFU: f64 = 0.4;

/// What a run of training is, whatever it runs on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The model's numbers.
    pub parameters: ParameterCount,
    /// What it learns from.
    pub tokens: u64,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// 6 N D, with all parameters (Kaplan et al. 2020, arXiv:2001.08361).
    pub flops_6nd: f64,
    /// Counted: [`training_flops_per_token`].
    pub flops_exact: f64,
    /// Counted with what masks hide: [`unmasked_flops_per_token`].
    pub flops_unmasked: f64,
    /// On all machines together.
    pub memory: TrainingMemory,
    /// Tokens that are at work at a time.
    pub n_rows: u64,
}

impl Plan {
    /// For `tokens` in sequences of `seq_len`, of which `n_sequences` are at work at a time.
    #[must_use]
    pub fn of(
        config: &ModelConfig,
        tokens: u64,
        seq_len: usize,
        n_sequences: u64,
        format: NumberFormat,
    ) -> Plan {
        let parameters = ParameterCount::of(config);
        let n_rows = n_sequences * seq_len as u64;
        Plan {
            parameters,
            tokens,
            seq_len,
            flops_6nd: 6.0 * parameters.total as f64 * tokens as f64,
            flops_exact: training_flops_per_token(config, seq_len) * tokens as f64,
            flops_unmasked: unmasked_flops_per_token(config, seq_len) * tokens as f64,
            memory: TrainingMemory::of(config, n_rows, format),
            n_rows,
        }
    }

    /// Tokens for each parameter.
    #[must_use]
    pub fn tokens_per_parameter(&self) -> f64 {
        self.tokens as f64 / self.parameters.total as f64
    }
}

/// What a run runs on: a number of machines of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Machines {
    /// How many.
    pub count: u32,
    /// Floating-point operations a second of one, at most.
    pub peak_flops: f64,
    /// The share of the peak that the run gets, above 0 and at most 1, e.g. 0.4.
    pub mfu: f64,
    /// Bytes of one's memory.
    pub memory_bytes: u64,
    /// What it takes to run one.
    pub prices: Prices,
}

/// What an hour of one machine takes, as far as somebody said so.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    /// Power, where it is known.
    pub watts: Option<f64>,
    /// Rent for an hour, where there is one.
    pub rent_per_hour: Option<Money>,
    /// What a kilowatt hour costs, where it is not part of the rent.
    pub price_per_kwh: Option<Money>,
}

impl Prices {
    /// What so many machines take for so long.
    #[must_use]
    pub fn cost(&self, count: u32, seconds: f64) -> Cost {
        let kilowatt_hours = self.watts.map(|watts| watts * f64::from(count) * seconds / 3.6e6);
        let rent = self.rent_per_hour.as_ref().map(|rent| rent.times(f64::from(count) * seconds / 3600.0));
        let electricity =
            kilowatt_hours.zip(self.price_per_kwh.as_ref()).map(|(kwh, price)| price.times(kwh));
        Cost { seconds, kilowatt_hours, rent, electricity }
    }
}

/// What a run takes on given machines. Money that nobody stated a price for is missing, not zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// From the first step to the last.
    pub seconds: f64,
    /// Of the machines at their rated power; what stands around them is not known here.
    pub kilowatt_hours: Option<f64>,
    /// Rent.
    pub rent: Option<Money>,
    /// Electricity.
    pub electricity: Option<Money>,
}

impl Machines {
    /// Operations a second that the run gets.
    #[must_use]
    pub fn flops_per_second(&self) -> f64 {
        f64::from(self.count) * self.peak_flops * self.mfu
    }

    /// What this arithmetic takes.
    #[must_use]
    pub fn cost(&self, flops: f64) -> Cost {
        self.prices.cost(self.count, flops / self.flops_per_second())
    }

    /// Arithmetic of so many seconds.
    #[must_use]
    pub fn flops_for_time(&self, seconds: f64) -> f64 {
        self.flops_per_second() * seconds
    }

    /// Arithmetic that money pays for, with rent and electricity in its currency; `None` where neither is known.
    ///
    /// # Errors
    /// Where an exchange rate is missing.
    pub fn flops_for_money(
        &self,
        money: &Money,
        known: &Accelerators,
    ) -> Result<Option<f64>, AcceleratorError> {
        let of_an_hour = self.cost(self.flops_for_time(3600.0));
        let mut per_hour = 0.0;
        for part in of_an_hour.rent.iter().chain(&of_an_hour.electricity) {
            per_hour += known.convert(part, &money.currency)?.amount;
        }
        Ok((per_hour > 0.0).then(|| self.flops_for_time(3600.0 * money.amount / per_hour)))
    }

    /// How many of them hold a run whose memory can be shared out evenly: a lower bound.
    #[must_use]
    pub fn n_needed(&self, memory: &TrainingMemory) -> u64 {
        memory.total().div_ceil(self.memory_bytes.max(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machines() -> Machines {
        Machines {
            count: 8,
            peak_flops: 1e15,
            mfu: 0.5,
            memory_bytes: 80_000_000_000,
            prices: Prices {
                watts: Some(700.0),
                rent_per_hour: Some(Money { amount: 3.0, currency: "USD".into() }),
                price_per_kwh: None,
            },
        }
    }

    fn machines_at(change: impl Fn(&mut Prices)) -> Machines {
        let mut machines = machines();
        change(&mut machines.prices);
        machines
    }

    #[test]
    fn a_plan_counts_by_hand() {
        let config =
            crate::decoder_shape(2, 1000, 64, crate::DecoderOptions { tied_output: true, window: None })
                .config();
        // 2 layers of 3 · 128² + 3 · 128 · 384, embeddings of 1000 · 128, vectors of 2 · (2 · 128 + 2 · 64) + 128
        let (matrices, embeddings, vectors) = (2 * (49_152 + 147_456), 128_000, 896);
        let plan = Plan::of(&config, 1_000_000, 64, 4, NumberFormat::Single);
        let n = f64::from(matrices + embeddings + vectors);
        assert_eq!(plan.flops_6nd, 6e6 * n);
        // Tied embeddings are a product; 12 · 128 for each of 32 scores in 2 layers.
        let products = 6.0 * f64::from(matrices + embeddings);
        assert_eq!(plan.flops_exact, 1e6 * (products + 2.0 * 12.0 * 128.0 * 32.0));
        assert_eq!(plan.flops_unmasked, 1e6 * (products + 2.0 * 12.0 * 128.0 * 64.0));
        assert_eq!(plan.n_rows, 256);
        assert!((plan.tokens_per_parameter() - 1e6 / n).abs() < 1e-9);
    }

    #[test]
    fn time_energy_and_money_follow_from_arithmetic() {
        // 4e15 operations a second for an hour.
        let cost = machines().cost(4e15 * 3600.0);
        assert_eq!(cost.seconds, 3600.0);
        assert!((cost.kilowatt_hours.unwrap() - 5.6).abs() < 1e-12);
        assert_eq!(cost.rent.unwrap().amount, 24.0);
        assert_eq!(cost.electricity, None);
        let own = machines_at(|prices| {
            prices.rent_per_hour = None;
            prices.price_per_kwh = Some(Money { amount: 0.5, currency: "CNY".into() });
        });
        let cost = own.cost(4e15 * 7200.0);
        assert_eq!(cost.rent, None);
        assert!((cost.electricity.unwrap().amount - 5.6).abs() < 1e-12);
    }

    #[test]
    fn money_buys_what_it_would_cost() {
        let known = Accelerators::builtin();
        let yuan = |amount| Money { amount, currency: "CNY".into() };
        let flops = machines().flops_for_money(&yuan(200.0), &known).unwrap().unwrap();
        // 24 dollars an hour are 168.47 yuan.
        assert!((flops / (4e15 * 3600.0 * 200.0 / (24.0 * 7.0197)) - 1.0).abs() < 1e-12);
        let rent = machines().cost(flops).rent.unwrap();
        assert!((known.convert(&rent, "CNY").unwrap().amount - 200.0).abs() < 1e-9);
        // Rent and electricity together.
        let both = machines_at(|prices| prices.price_per_kwh = Some(yuan(1.0)));
        let flops = both.flops_for_money(&yuan(200.0), &known).unwrap().unwrap();
        let cost = both.cost(flops);
        let rent = known.convert(&cost.rent.unwrap(), "CNY").unwrap().amount;
        assert!((rent + cost.electricity.unwrap().amount - 200.0).abs() < 1e-9);
        let free = machines_at(|prices| prices.rent_per_hour = None);
        assert_eq!(free.flops_for_money(&yuan(200.0), &known), Ok(None));
    }

    #[test]
    fn as_many_machines_as_hold_the_memory() {
        let memory = TrainingMemory::of(&gpt3::config(), 2048, NumberFormat::Mixed);
        let n = machines().n_needed(&memory);
        assert!((n - 1) * 80_000_000_000 < memory.total() && memory.total() <= n * 80_000_000_000);
        assert_eq!(n, 36);
    }
}
