//! Figures of tasks, how certain they are, and what has changed between two models that saw the same items.
//!
//! Results are kept with what each item counted, so that a later model can be held against them item by item.

use serde::{Deserialize, Serialize};

use super::error::EvalError;
use super::statistics::{Interval, mean, mean_stderr, paired_shares, ratio, wilson};

/// What `--json` prints and `--compare` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Says what the file is: `daybreak-eval`.
    pub format: String,
    /// Of the format: 1.
    pub version: u32,
    /// The model.
    pub model: String,
    /// In the order in which they were asked.
    pub tasks: Vec<TaskResult>,
}

/// What came of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Its name.
    pub task: String,
    /// What its documents are.
    pub kind: String,
    /// Documents asked.
    pub n: usize,
    /// Examples before each.
    pub num_fewshot: usize,
    /// `plain` or `chat`.
    pub template: String,
    /// What decided the examples.
    pub seed: u64,
    /// Tells its documents from others.
    pub documents: String,
    /// Documents whose prompt was longer than the context.
    pub n_cut: usize,
    /// Its figures.
    pub metrics: Vec<MetricResult>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricResult {
    /// Its name, as in lm-evaluation-harness.
    pub metric: String,
    /// What it is.
    pub scale: Scale,
    /// Value and certainty.
    #[serde(flatten)]
    pub figure: Figure,
    /// What each document counted.
    pub values: Vec<f64>,
    /// For how much each counted; empty where all count the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// A share of right answers: more is better.
    Share,
    /// A ratio of sums: less is better.
    Ratio,
    /// e to such a ratio.
    Perplexity,
}

/// A value and how certain it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The value.
    pub value: f64,
    /// Its standard error; none of a single document.
    pub stderr: Option<f64>,
    /// Where it lies with a confidence of 95 %.
    pub interval: Option<Interval>,
}

/// A figure of two models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The task.
    pub task: String,
    /// The figure.
    pub metric: String,
    /// Documents that both were asked.
    pub n: usize,
    /// The first model's.
    pub before: Figure,
    /// The second one's.
    pub after: Figure,
    /// After less before.
    pub difference: f64,
    /// Where the difference lies with a confidence of 95 %, as both saw the same documents.
    pub interval: Option<Interval>,
    /// What the figure is, and so whether more of it is better.
    pub scale: Scale,
}

/// Documents of results from outside at most.
const MAX_VALUES: usize = 10_000_000;

impl MetricResult {
    /// From what each document counted, and for how much.
    pub(crate) fn new(metric: &str, counts: Vec<[f64; 2]>) -> MetricResult {
        let scale = match metric {
            "bits_per_byte" => Scale::Ratio,
            "byte_perplexity" | "word_perplexity" => Scale::Perplexity,
            _ => Scale::Share,
        };
        let [values, mut weights] =
            [0, 1].map(|idx| counts.iter().map(|count| count[idx]).collect::<Vec<f64>>());
        if scale == Scale::Share {
            weights.clear();
        }
        MetricResult {
            metric: metric.to_owned(),
            scale,
            figure: Figure::new(scale, &counts),
            values,
            weights,
        }
    }

    fn counts(&self) -> Vec<[f64; 2]> {
        let weight = |idx: usize| self.weights.get(idx).copied().unwrap_or(1.0);
        self.values.iter().enumerate().map(|(idx, value)| [*value, weight(idx)]).collect()
    }

    fn is_sound(&self, n: usize) -> bool {
        let fits = self.values.len() == n && (1..=MAX_VALUES).contains(&n);
        let weighs = match self.scale {
            Scale::Share => self.weights.is_empty() && self.values.iter().all(|x| [0.0, 1.0].contains(x)),
            _ => self.weights.len() == n && self.weights.iter().all(|x| x.is_finite() && *x > 0.0),
        };
        fits && weighs && self.values.iter().all(|x| x.is_finite())
    }
}

impl Figure {
    fn new(scale: Scale, counts: &[[f64; 2]]) -> Figure {
        match scale {
            Scale::Share => {
                let values: Vec<f64> = counts.iter().map(|count| count[0]).collect();
                let interval = wilson(values.iter().sum(), values.len() as f64);
                Figure { value: mean(&values), stderr: mean_stderr(&values), interval: Some(interval) }
            }
            Scale::Ratio | Scale::Perplexity => {
                let (value, certainty) = ratio(counts);
                let plain = Figure {
                    value,
                    stderr: certainty.map(|(error, _)| error),
                    interval: certainty.map(|(_, interval)| interval),
                };
                if scale == Scale::Ratio { plain } else { plain.exp() }
            }
        }
    }

    fn exp(self) -> Figure {
        let value = self.value.exp();
        let interval =
            self.interval.map(|Interval { low, high }| Interval { low: low.exp(), high: high.exp() });
        Figure { value, stderr: self.stderr.map(|error| error * value), interval }
    }
}

impl Comparison {
    /// Whether the interval of the difference leaves out 0.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.interval.is_some_and(|interval| !interval.holds_zero())
    }

    /// Whether the second model is the better one.
    #[must_use]
    pub fn is_better(&self) -> bool {
        match self.scale {
            Scale::Share => self.difference > 0.0,
            Scale::Ratio | Scale::Perplexity => self.difference < 0.0,
        }
    }
}

impl Results {
    /// Of this model.
    #[must_use]
    pub fn new(model: &str, tasks: Vec<TaskResult>) -> Results {
        Results { format: "daybreak-eval".to_owned(), version: 1, model: model.to_owned(), tasks }
    }

    /// Whether it is what this program writes.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.format == "daybreak-eval" && self.version == 1
    }
}

/// What has changed, figure by figure. Perplexities say nothing that bits per byte do not, so they are left out.
///
/// # Errors
/// Where the two were not asked the same.
pub fn compare(before: &TaskResult, after: &TaskResult) -> Result<Vec<Comparison>, EvalError> {
    let differ = |what| Err(EvalError::NotTheSame { task: after.task.clone(), what });
    if before.n != after.n {
        return differ("another number of documents (--limit)");
    }
    if before.documents != after.documents {
        return differ("other documents");
    }
    let mut rows = Vec::new();
    for after_metric in after.metrics.iter().filter(|metric| metric.scale != Scale::Perplexity) {
        let found = before.metrics.iter().find(|metric| {
            metric.metric == after_metric.metric
                && metric.scale == after_metric.scale
                && metric.is_sound(before.n)
        });
        let Some(before_metric) = found else { return differ("a file without the figure of each document") };
        let (difference, interval) = match after_metric.scale {
            Scale::Share => {
                let (difference, interval) = paired_shares(&before_metric.values, &after_metric.values);
                (difference, Some(interval))
            }
            _ => {
                // The same texts, so the same weights: their differences have a ratio of their own.
                let pairs = after_metric.counts().into_iter().zip(&before_metric.values);
                let changes: Vec<[f64; 2]> =
                    pairs.map(|([value, weight], was)| [value - was, weight]).collect();
                let (difference, certainty) = ratio(&changes);
                (difference, certainty.map(|(_, interval)| interval))
            }
        };
        rows.push(Comparison {
            task: after.task.clone(),
            metric: after_metric.metric.clone(),
            n: after.n,
            before: Figure::new(before_metric.scale, &before_metric.counts()),
            after: after_metric.figure,
            difference,
            interval,
            scale: after_metric.scale,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(values: &[f64], documents: &str) -> TaskResult {
        let counts = values.iter().map(|value| [*value, 1.0]).collect();
        TaskResult {
            task: "sums".to_owned(),
            kind: "generation".to_owned(),
            n: values.len(),
            num_fewshot: 0,
            template: "plain".to_owned(),
            seed: 1,
            documents: documents.to_owned(),
            n_cut: 0,
            metrics: vec![MetricResult::new("exact_match", counts)],
        }
    }

    #[test]
    fn a_clear_change_is_told_from_chance() {
        let (none, all, some) = ([0.0; 20], [1.0; 20], [[0.0; 18].as_slice(), &[1.0; 2]].concat());
        let rows = compare(&result(&none, "a"), &result(&all, "a")).unwrap_or_default();
        assert!(rows[0].is_certain() && rows[0].is_better() && rows[0].difference == 1.0, "{rows:?}");
        let rows = compare(&result(&none, "a"), &result(&some, "a")).unwrap_or_default();
        assert!(!rows[0].is_certain(), "{rows:?}");
        assert!(compare(&result(&none, "a"), &result(&none, "b")).is_err());
        assert!(compare(&result(&none, "a"), &result(&all[..5], "a")).is_err());
        let mut broken = result(&none, "a");
        broken.metrics[0].values[3] = f64::NAN;
        assert!(compare(&broken, &result(&all, "a")).is_err());
    }

    #[test]
    fn results_from_a_file_are_held_against_others() {
        let results = Results::new("m", vec![result(&[1.0, 0.0, 1.0], "a")]);
        let text = serde_json::to_string(&results).unwrap_or_default();
        let read: Results = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
        assert!(read.is_known());
        let rows = compare(&read.tasks[0], &results.tasks[0]).unwrap_or_default();
        assert_eq!((rows.len(), rows[0].n, rows[0].difference), (1, 3, 0.0), "{rows:?}");
    }

    #[test]
    fn perplexity_is_the_power_of_its_ratio() {
        let metric = MetricResult::new("byte_perplexity", vec![[2.0, 4.0], [3.0, 6.0]]);
        assert!((metric.figure.value - 0.5f64.exp()).abs() < 1e-12, "{metric:?}");
        let bits = MetricResult::new("bits_per_byte", vec![[2.0, 4.0], [6.0, 6.0]]);
        assert!((bits.figure.value - 0.8).abs() < 1e-12, "{bits:?}");
    }
}
