//! Kullback-Leibler divergence and its company: a model's predictions beside those of a base model, usually the
//! same one before it was quantised.

use kernels::Isa;

use super::{Estimate, LogitsRow, Sums, perplexity};
use crate::TokenId;

/// Below this log-probability of the base a token adds nothing that could be seen, from llama.cpp.
const LEAST_LOG_PROB: f32 = -16.0;

/// Collects predictions of both models.
#[derive(Debug, Clone, Default)]
pub struct Divergence {
    divergences: Vec<f32>,
    divergence: Sums,
    surprise: Sums,
    base_surprise: Sums,
    /// Of the product of both surprises: their covariance makes the ratio of perplexities far more certain than
    /// either of them.
    surprise_product: Sums,
    probability_change: Sums,
    squared_change: Sums,
    n_same_top: u64,
}

/// What the predictions add up to. Logarithms are natural.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DivergenceReport {
    /// Predictions compared.
    pub n_tokens: u64,
    /// Perplexity of the model.
    pub perplexity: Estimate,
    /// Perplexity of the base.
    pub base_perplexity: Estimate,
    /// Logarithm of the ratio of both.
    pub log_ratio: Estimate,
    /// Mean divergence of the model from the base, in nats.
    pub mean: Estimate,
    /// The largest.
    pub max: f32,
    /// 99 of 100 are at most this.
    pub percentile_99: f32,
    /// 95 of 100 are at most this.
    pub percentile_95: f32,
    /// Half are at most this.
    pub median: f32,
    /// Share of predictions where both hold the same token for the likeliest.
    pub same_top: Estimate,
    /// Mean change of the probability of the token that came.
    pub probability_change: Estimate,
    /// Root of its mean square.
    pub rms_probability_change: Estimate,
}

impl Divergence {
    /// One prediction of both, and the token that came.
    ///
    /// logits: `[vocab_size]`, the model's; base: as many log-probabilities.
    pub fn add(&mut self, isa: Isa, logits: &[f32], base: LogitsRow<'_>, next: TokenId) {
        assert_eq!(logits.len(), base.log_probs().len(), "logits must be [vocab_size]");
        let total = kernels::log_sum_exp(isa, logits, 1.0);
        let mut sum = 0.0;
        let mut base_top = (0, f32::NEG_INFINITY);
        for (id, (base, logit)) in base.log_probs().zip(logits).enumerate() {
            if base > base_top.1 {
                base_top = (id, base);
            }
            if base > LEAST_LOG_PROB {
                sum += f64::from(base.exp() * (base - (logit - total)));
            }
        }
        self.divergences.push(sum as f32);
        self.divergence.add(sum);
        self.n_same_top += u64::from(kernels::argmax(isa, logits) == Some(base_top.0));
        let (ours, theirs) = (f64::from(logits[next as usize] - total), f64::from(base.log_prob(next)));
        self.surprise.add(-ours);
        self.base_surprise.add(-theirs);
        self.surprise_product.add(ours * theirs);
        let change = ours.exp() - theirs.exp();
        self.probability_change.add(change);
        self.squared_change.add(change * change);
    }

    /// Predictions so far.
    pub fn n_tokens(&self) -> u64 {
        self.divergence.n
    }

    /// The mean divergence so far.
    pub fn mean(&self) -> Estimate {
        self.divergence.estimate()
    }

    /// The figures; `None` before the first prediction.
    pub fn report(&self) -> Option<DivergenceReport> {
        let mut sorted = self.divergences.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let max = *sorted.last()?;
        let (ours, base) = (self.surprise.estimate(), self.base_surprise.estimate());
        let n = self.n_tokens() as f64;
        let covariance = (self.surprise_product.estimate().value - ours.value * base.value) / (n - 1.0);
        let variance = ours.error * ours.error + base.error * base.error - 2.0 * covariance;
        let same_top = self.n_same_top as f64 / n;
        let mean_square = self.squared_change.estimate();
        let rms = mean_square.value.sqrt();
        Some(DivergenceReport {
            n_tokens: self.n_tokens(),
            perplexity: perplexity(ours),
            base_perplexity: perplexity(base),
            log_ratio: Estimate { value: ours.value - base.value, error: variance.max(0.0).sqrt() },
            mean: self.mean(),
            max,
            percentile_99: percentile(&sorted, 0.99),
            percentile_95: percentile(&sorted, 0.95),
            median: percentile(&sorted, 0.5),
            same_top: Estimate { value: same_top, error: (same_top * (1.0 - same_top) / (n - 1.0)).sqrt() },
            probability_change: self.probability_change.estimate(),
            rms_probability_change: Estimate {
                value: rms,
                error: if rms > 0.0 { 0.5 / rms * mean_square.error } else { 0.0 },
            },
        })
    }
}

/// The value below which a share of them lies, between two where it falls between.
fn percentile(sorted: &[f32], share: f32) -> f32 {
    let place = share * (sorted.len() - 1) as f32;
    let below = place as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let part = place - below as f32;
    (1.0 - part) * sorted[below] + part * sorted[above]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{LogitsReader, LogitsWriter, Windows};
    use super::*;

    /// Divergence of each row of logits from the row of the base.
    fn compare(base: &[[f32; 4]], ours: &[[f32; 4]], next: TokenId) -> DivergenceReport {
        let tokens = [0; 8];
        let windows = Windows::new(&tokens, 8, None, 1);
        let mut writer = LogitsWriter::new(Vec::new(), Isa::Scalar, 4, &windows).unwrap();
        base.iter().for_each(|row| writer.write(row).unwrap());
        let bytes = writer.into_inner();
        let mut reader = LogitsReader::new(&bytes[..], 4).unwrap();
        let mut divergence = Divergence::default();
        for row in ours {
            divergence.add(Isa::detect(), row, reader.read().unwrap(), next);
        }
        divergence.report().unwrap()
    }

    #[test]
    fn a_model_does_not_diverge_from_itself() {
        let rows = [[1.0, 2.0, -3.0, 0.5], [0.0, -1.0, 4.0, 2.0], [0.25, 0.5, 0.75, 1.0]];
        let report = compare(&rows, &rows, 1);
        // The base's log-probabilities are rounded to steps of some 1e-4.
        assert!(report.mean.value.abs() < 1e-5 && report.max < 1e-5, "{report:?}");
        assert_eq!((report.n_tokens, report.same_top.value), (3, 1.0));
        assert!(report.log_ratio.value.abs() < 1e-4 && report.rms_probability_change.value < 1e-4);
    }

    #[test]
    fn divergence_is_what_the_definition_says() {
        let ln = |p: [f32; 4]| p.map(f32::ln);
        let (base, ours) = ([0.5, 0.25, 0.125, 0.125], [0.125, 0.5, 0.25, 0.125]);
        let report = compare(&[ln(base)], &[ln(ours)], 1);
        let expected: f32 = base.iter().zip(ours).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((report.mean.value as f32 - expected).abs() < 1e-4, "{report:?}, not {expected}");
        assert_eq!(report.same_top.value, 0.0);
        assert!((report.probability_change.value - 0.25).abs() < 1e-4);
        assert!((report.perplexity.value - 2.0).abs() < 1e-4);
        assert!((report.base_perplexity.value - 4.0).abs() < 1e-3);
    }

    #[test]
    fn percentiles_fall_between_values() {
        let sorted = [0.0, 1.0, 2.0, 3.0, 4.0];
        assert_eq!(percentile(&sorted, 0.5), 2.0);
        assert!((percentile(&sorted, 0.9) - 3.6).abs() < 1e-6);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn nothing_compared_is_no_report() {
        assert_eq!(Divergence::default().report(), None);
    }
}
