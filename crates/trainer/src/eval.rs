//! How good is a model? Tasks become requests, answers become figures, and figures say how certain they are.
//!
//! A [`Task`] is a list of [`Document`]s of one [`TaskKind`]: built in ([`built_in_tasks`]) or read from a file of records
//! ([`read_task`]). [`evaluate`] asks an [`EvalModel`] about each of them and counts as lm-evaluation-harness does;
//! [`compare`] holds two [`TaskResult`]s against each other, item by item.
//!
//! Nothing here knows what computes: the caller hands in who scores and goes on with tokens.

mod arithmetic;
mod asking;
mod built_in;
mod checks;
mod copying;
mod draw;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod idioms;
mod instructions;
mod matching;
mod prompts;
mod records;
mod results;
mod rolling;
mod samples;
mod spelling;
mod statistics;
mod task;
#[cfg(test)]
mod tests;
mod words;

pub use asking::{EvalModel, EvalSettings, Examinee, Written, evaluate};
pub use built_in::{BUILT_IN_SEED, built_in_tasks};
pub use error::EvalError;
pub use prompts::Wording;
pub use records::read_task;
pub use results::{Comparison, Figure, MetricResult, Results, Scale, TaskResult, compare};
pub use samples::Sample;
pub use statistics::Interval;
pub use task::{Document, Task, TaskKind, TaskOptions};
