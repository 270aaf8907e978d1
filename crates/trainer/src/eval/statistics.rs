//! How certain is a figure? Standard errors and 95 % intervals of means, shares, ratios and paired differences.

/// Half the width of a 95 % interval in standard errors of a normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    fn around(value: f64, half: f64) -> Interval {
        Interval { low: value - half, high: value + half }
    }

    /// Whether the figure cannot be told from 0.
    #[must_use]
    pub fn holds_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// Mean of some values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard error of their mean, from the sample's standard deviation; none of fewer than two.
pub(crate) fn mean_stderr(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt())
}

/// Wilson's interval of a share: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
/// JASA 22 (1927). It stays within 0 and 1 and does not shrink to nothing where all answers are right or wrong.
pub(crate) fn wilson(n_right: f64, n: f64) -> Interval {
    let share = n_right / n;
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding must not push an end beyond what it bounds.
    Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) }
}

/// The difference of two shares of the same items, and its interval: method 10 of R. G. Newcombe, "Improved confidence
/// intervals for the difference between binomial proportions based on paired data", Statistics in Medicine 17 (1998).
///
/// `before` and `after` hold 0 or 1 for each item.
pub(crate) fn paired_shares(before: &[f64], after: &[f64]) -> (f64, Interval) {
    assert_eq!(before.len(), after.len(), "both saw the same items");
    let n = before.len() as f64;
    let count = |was: bool, is: bool| {
        before.iter().zip(after).filter(|&(b, a)| (*b > 0.5, *a > 0.5) == (was, is)).count() as f64
    };
    // Right both times, only after, only before, never.
    let [both, gained, lost, neither] =
        [count(true, true), count(false, true), count(true, false), count(false, false)];
    let (right_after, right_before) = (both + gained, both + lost);
    let (p_after, p_before) = (right_after / n, right_before / n);
    let (w_after, w_before) = (wilson(right_after, n), wilson(right_before, n));
    let margins = right_after * (lost + neither) * right_before * (gained + neither);
    let covariance = both * neither - gained * lost;
    // Continuity, as Newcombe has it.
    let corrected = if covariance > 0.0 { (covariance - n / 2.0).max(0.0) } else { covariance };
    let phi = if margins > 0.0 { corrected / margins.sqrt() } else { 0.0 };
    let joined = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
    let difference = p_after - p_before;
    let low = difference - joined(p_after - w_after.low, w_before.high - p_before);
    let high = difference + joined(w_after.high - p_after, p_before - w_before.low);
    (difference, Interval { low, high })
}

/// A ratio of sums, Σy / Σx, with its standard error by linearisation (W. G. Cochran, "Sampling Techniques", 3rd ed.,
/// 1977, section 6.3) and Student's interval; neither of a single item.
pub(crate) fn ratio(sums: &[[f64; 2]]) -> (f64, Option<(f64, Interval)>) {
    let n = sums.len() as f64;
    let [y, x] = [0, 1].map(|idx| sums.iter().map(|sum| sum[idx]).sum::<f64>());
    let ratio = y / x;
    if sums.len() < 2 {
        return (ratio, None);
    }
    let squares: f64 = sums.iter().map(|[y, x]| (y - ratio * x).powi(2)).sum();
    let error = (squares / (n - 1.0) / n).sqrt() / (x / n);
    (ratio, Some((error, Interval::around(ratio, error * student(sums.len() - 1)))))
}

/// Half the width of a 95 % interval in standard errors, with so many degrees of freedom: Cornish and Fisher's expansion
/// (Abramowitz and Stegun 26.7.5), tables where it is too coarse.
fn student(degrees: usize) -> f64 {
    const FIRST: [f64; 4] = [12.706_205, 4.302_653, 3.182_446, 2.776_445];
    if let Some(&value) = FIRST.get(degrees.wrapping_sub(1)) {
        return value;
    }
    let v = degrees as f64;
    let z2 = Z * Z;
    let terms = [
        Z * (z2 + 1.0) / 4.0,
        Z * (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / 96.0,
        Z * (3.0 * z2.powi(3) + 19.0 * z2 * z2 + 17.0 * z2 - 15.0) / 384.0,
        Z * (79.0 * z2.powi(4) + 776.0 * z2.powi(3) + 1482.0 * z2 * z2 - 1920.0 * z2 - 945.0) / 92_160.0,
    ];
    Z + terms.iter().rev().fold(0.0, |sum, term| (sum + term) / v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found}, expected {expected}");
    }

    #[test]
    fn wilson_gives_newcombes_published_intervals() {
        // R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        for (n_right, n, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let interval = wilson(n_right, n);
            near(interval.low, low, 5e-5);
            near(interval.high, high, 5e-5);
        }
        assert_eq!(wilson(20.0, 20.0).high, 1.0);
    }

    #[test]
    fn paired_shares_give_newcombes_published_interval() {
        // The paper's table II, method 10: 36 right both times, 12 only the first, 2 only the second time.
        let first = [[1.0; 48].as_slice(), &[0.0; 2]].concat();
        let second = [[1.0; 36].as_slice(), &[0.0; 12], &[1.0; 2]].concat();
        let (difference, interval) = paired_shares(&second, &first);
        near(difference, 0.2, 1e-12);
        near(interval.low, 0.0569, 5e-5);
        near(interval.high, 0.3404, 5e-5);
        let (difference, reversed) = paired_shares(&first, &second);
        near(difference, -0.2, 1e-12);
        near(reversed.low, -interval.high, 1e-12);
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (degrees, expected) in [
            (1, 12.7062),
            (4, 2.7764),
            (5, 2.5706),
            (6, 2.4469),
            (10, 2.2281),
            (30, 2.0423),
            (120, 1.9799),
            (100_000, 1.9600),
        ] {
            near(student(degrees), expected, 4e-4);
        }
    }

    #[test]
    fn a_mean_and_a_ratio_have_their_standard_errors() {
        near(mean_stderr(&[1.0, 0.0, 1.0, 1.0]).unwrap_or(0.0), 0.25, 1e-12);
        assert_eq!(mean_stderr(&[1.0]), None);
        // With equal weights a ratio is a mean.
        let values = [2.0, 3.0, 7.0, 4.0];
        let (value, found) = ratio(&values.map(|value| [value, 1.0]));
        let (error, interval) = found.unwrap_or_else(|| panic!("four items"));
        near(value, 4.0, 1e-12);
        near(error, mean_stderr(&values).unwrap_or(0.0), 1e-12);
        near(interval.high - 4.0, error * 3.182_446, 1e-9);
        assert_eq!(ratio(&[[1.0, 2.0]]), (0.5, None));
    }
}
