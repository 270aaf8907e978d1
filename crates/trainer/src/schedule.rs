//! How the learning rate goes up and down over a run, as a factor of its highest.

use serde::{Deserialize, Serialize};

/// The shape behind the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Level, then straight down over the last part of the run (warm-up, stable, decay; Hu et al. 2024,
    /// arXiv:2404.06395).
    Wsd,
    /// Half a cosine.
    Cosine,
    /// Straight down.
    Linear,
    /// Level to the end.
    Constant,
}

/// A run's factor of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Steps on which the rate goes up.
    pub n_warmup: u64,
    /// The shape behind them.
    pub decay: Decay,
    /// Share of the run on which [`Decay::Wsd`] goes down.
    pub decay_share: f64,
    /// Where it ends, as a share of the highest.
    pub end: f64,
}

impl Schedule {
    /// The factor of step `step` of `n_steps`, the first being 0.
    #[must_use]
    pub fn rate(&self, step: u64, n_steps: u64) -> f64 {
        if step < self.n_warmup {
            return (step + 1) as f64 / (self.n_warmup + 1) as f64;
        }
        let n_steps = n_steps.max(self.n_warmup + 1);
        let done = (step - self.n_warmup) as f64 / (n_steps - self.n_warmup) as f64;
        let left = (1.0 - done).max(0.0);
        let height = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => left,
            Decay::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * done.min(1.0)).cos(),
            Decay::Wsd => {
                let n_decay = (self.decay_share * n_steps as f64).max(1.0);
                (n_steps.saturating_sub(step) as f64 / n_decay).min(1.0)
            }
        };
        self.end + (1.0 - self.end) * height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule { n_warmup: 10, decay, decay_share: 0.4, end: 0.1 }
    }

    #[test]
    fn every_shape_warms_up_and_ends_where_it_should() {
        for decay in [Decay::Wsd, Decay::Cosine, Decay::Linear, Decay::Constant] {
            let schedule = schedule(decay);
            let rates: Vec<f64> = (0..100).map(|step| schedule.rate(step, 100)).collect();
            assert!(rates[..10].windows(2).all(|pair| pair[0] < pair[1]), "{decay:?} goes up");
            assert!(rates[0] > 0.0 && rates[9] < 1.0 && (rates[10] - 1.0).abs() < 1e-9, "{decay:?}");
            assert!(rates[10..].windows(2).all(|pair| pair[0] >= pair[1]), "{decay:?} never goes up again");
            let end = if decay == Decay::Constant { 1.0 } else { 0.1 };
            assert!((rates[99] - end).abs() < 0.03, "{decay:?} ends at {}", rates[99]);
        }
    }

    #[test]
    fn the_level_part_is_as_long_as_it_is_said_to_be() {
        let schedule = schedule(Decay::Wsd);
        assert_eq!(schedule.rate(60, 100), 1.0);
        assert!((schedule.rate(80, 100) - 0.55).abs() < 1e-9);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_has_a_rate() {
        for step in 0..5 {
            let rate = schedule(Decay::Cosine).rate(step, 5);
            assert!(rate > 0.0 && rate <= 1.0);
        }
    }
}
