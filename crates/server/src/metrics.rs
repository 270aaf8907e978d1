//! What the server has done, counted: Prometheus' text format at `/metrics`.
//!
//! Counters are atomic numbers, a histogram is one of them per bucket; a request costs a few additions.
//! What belongs to a model (sequences running, pages used) is asked of its engine when somebody looks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::state::AppState;

/// Upper ends of the buckets, in seconds; these cover a cached prompt of a small model (1 ms) and a long
/// prompt of a large one (2 min).
const FIRST_TOKEN_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];
const PER_TOKEN_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// All counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Answers by (route, status). Routes are patterns, so their number is small.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    /// Requests being answered now.
    pub(crate) in_flight: AtomicU64,
    /// Generations by how they ended.
    pub(crate) finished_stop: AtomicU64,
    pub(crate) finished_length: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Generations refused because the queue was full.
    pub(crate) refused: AtomicU64,
    /// From submission to the first token.
    pub(crate) first_token: Histogram<14>,
    /// From each token to the next.
    pub(crate) per_token: Histogram<12>,
}

/// A histogram with fixed buckets.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    ends: [f64; N],
    buckets: [AtomicU64; N],
    n_observed: AtomicU64,
    sum_us: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(ends: [f64; N]) -> Histogram<N> {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Histogram { ends, buckets, n_observed: AtomicU64::new(0), sum_us: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(idx) = self.ends.iter().position(|end| seconds <= *end) {
            self.buckets[idx].fetch_add(1, Ordering::Relaxed);
        }
        self.n_observed.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2), Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (end, bucket) in self.ends.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{end}\"}} {below}");
        }
        let n_observed = self.n_observed.load(Ordering::Relaxed).max(below);
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {n_observed}\n{name}_sum {sum}\n{name}_count {n_observed}"
        );
    }
}

impl Metrics {
    /// Everything at zero.
    pub(crate) fn new() -> Metrics {
        Metrics {
            requests: Mutex::default(),
            in_flight: AtomicU64::new(0),
            finished_stop: AtomicU64::new(0),
            finished_length: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            first_token: Histogram::new(FIRST_TOKEN_BUCKETS),
            per_token: Histogram::new(PER_TOKEN_BUCKETS),
        }
    }

    fn count_request(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *requests.entry((route.to_string(), status)).or_insert(0) += 1;
    }

    fn write(&self, out: &mut String) {
        head(out, "daybreak_http_requests_total", "counter", "Requests answered, by route and status.");
        let requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for ((route, status), n) in requests.iter() {
            let route = escape(route);
            let _ =
                writeln!(out, "daybreak_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {n}");
        }
        drop(requests);
        head(out, "daybreak_http_requests_in_flight", "gauge", "Requests being answered now.");
        let _ = writeln!(out, "daybreak_http_requests_in_flight {}", self.in_flight.load(Ordering::Relaxed));
        head(out, "daybreak_generations_total", "counter", "Generations ended, by how.");
        for (how, counter) in [
            ("stop", &self.finished_stop),
            ("length", &self.finished_length),
            ("cancelled", &self.cancelled),
            ("failed", &self.failed),
            ("refused", &self.refused),
        ] {
            let _ = writeln!(
                out,
                "daybreak_generations_total{{how=\"{how}\"}} {}",
                counter.load(Ordering::Relaxed)
            );
        }
        self.first_token.write(
            out,
            "daybreak_time_to_first_token_seconds",
            "From submission to the first token.",
        );
        self.per_token.write(
            out,
            "daybreak_time_per_output_token_seconds",
            "From one token of an answer to the next.",
        );
    }
}

/// Counts the request and its status under its route.
pub(crate) async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_string());
    let metrics = &state.metrics;
    let in_flight = InFlight::begin(metrics);
    let response = next.run(request).await;
    drop(in_flight);
    metrics.count_request(route.as_deref().unwrap_or("other"), response.status().as_u16());
    response
}

/// Counts down again also when the client goes away in between.
struct InFlight<'a>(&'a Metrics);

impl InFlight<'_> {
    fn begin(metrics: &Metrics) -> InFlight<'_> {
        metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`
pub(crate) async fn show(State(state): State<AppState>) -> Response {
    let mut out = String::with_capacity(8192);
    state.metrics.write(&mut out);
    write_models(&mut out, &state);
    head(&mut out, "daybreak_kv_disk_bytes", "gauge", "Keys and values of conversations on disk.");
    let n_bytes = state.saved.as_ref().map_or(0, engine::SavedPrefixes::n_bytes);
    let _ = writeln!(out, "daybreak_kv_disk_bytes {n_bytes}");
    if let Some((waiting, running)) = state.training.as_ref().map(|training| training.n_going()) {
        head(&mut out, "daybreak_jobs", "gauge", "Training runs that wait, and that are running.");
        let _ = writeln!(
            out,
            "daybreak_jobs{{status=\"queued\"}} {waiting}\ndaybreak_jobs{{status=\"running\"}} {running}"
        );
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], out).into_response()
}

/// One engine's number under a metric's name.
struct ModelMetric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&engine::EngineStats) -> f64,
}

const MODEL_METRICS: &[ModelMetric] = &[
    ModelMetric {
        name: "daybreak_requests_running",
        kind: "gauge",
        help: "Sequences in the batch.",
        value: |stats| stats.running as f64,
    },
    ModelMetric {
        name: "daybreak_requests_queued",
        kind: "gauge",
        help: "Requests that wait.",
        value: |stats| stats.queued as f64,
    },
    ModelMetric {
        name: "daybreak_prompt_tokens_total",
        kind: "counter",
        help: "Prompt tokens, those from the cache included.",
        value: |stats| stats.prompt_tokens_total as f64,
    },
    ModelMetric {
        name: "daybreak_cached_tokens_total",
        kind: "counter",
        help: "Prompt tokens that came from the cache.",
        value: |stats| stats.cached_tokens_total as f64,
    },
    ModelMetric {
        name: "daybreak_restored_tokens_total",
        kind: "counter",
        help: "Prompt tokens among these that came from the disk.",
        value: |stats| stats.restored_tokens_total as f64,
    },
    ModelMetric {
        name: "daybreak_generated_tokens_total",
        kind: "counter",
        help: "Tokens generated.",
        value: |stats| stats.generated_tokens_total as f64,
    },
    ModelMetric {
        name: "daybreak_steps_total",
        kind: "counter",
        help: "Forward passes.",
        value: |stats| stats.steps_total as f64,
    },
    ModelMetric {
        name: "daybreak_drafted_tokens_total",
        kind: "counter",
        help: "Tokens guessed from prompt and answer and computed beside the certain ones.",
        value: |stats| stats.drafted_tokens_total as f64,
    },
    ModelMetric {
        name: "daybreak_accepted_tokens_total",
        kind: "counter",
        help: "Guessed tokens that came true.",
        value: |stats| stats.accepted_tokens_total as f64,
    },
    ModelMetric {
        name: "daybreak_kv_pages",
        kind: "gauge",
        help: "Pages of keys and values there are.",
        value: |stats| stats.kv_pages_total as f64,
    },
    ModelMetric {
        name: "daybreak_kv_pages_used",
        kind: "gauge",
        help: "Pages that running sequences hold.",
        value: |stats| stats.kv_pages_used.saturating_sub(stats.kv_pages_cached) as f64,
    },
    ModelMetric {
        name: "daybreak_kv_pages_cached",
        kind: "gauge",
        help: "Pages kept for the next turn.",
        value: |stats| stats.kv_pages_cached as f64,
    },
    ModelMetric {
        name: "daybreak_model_memory_bytes",
        kind: "gauge",
        help: "Memory of the loaded model.",
        value: |stats| stats.memory_bytes as f64,
    },
];

fn write_models(out: &mut String, state: &AppState) {
    let loaded = state.models.all_loaded();
    let stats: Vec<_> = loaded.iter().map(|model| (escape(&model.name), model.engine.stats())).collect();
    for metric in MODEL_METRICS {
        head(out, metric.name, metric.kind, metric.help);
        for (model, stats) in &stats {
            let _ = writeln!(out, "{}{{model=\"{model}\"}} {}", metric.name, (metric.value)(stats));
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value, with what Prometheus wants escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_with_the_count() {
        let histogram = Histogram::new([0.1, 1.0]);
        for ms in [50, 500, 5000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut out = String::new();
        histogram.write(&mut out, "x", "help");
        let lines: Vec<&str> = out.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "x_bucket{le=\"0.1\"} 1",
                "x_bucket{le=\"1\"} 2",
                "x_bucket{le=\"+Inf\"} 3",
                "x_sum 5.55",
                "x_count 3"
            ]
        );
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
