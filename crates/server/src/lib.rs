//! Who may ask, and how is the answer told? The HTTP side: the OpenAI API, the page's own API, sessions,
//! metrics; it embeds the page.
//!
//! A request passes `guard` (host, origin, key), is read (`json_body`, `openai::wire`), checked (`params`,
//! `openai::messages`), given to `generation` (template, context, engine, text events) and told as JSON or as
//! events. Models come from `model_host`; every failure is an `ApiError`, whose statuses are one table.

#![forbid(unsafe_code)]

mod config;
mod serve;
mod state;

mod connections;
mod guard;
mod json_body;
mod sessions;

mod kept;
mod model_host;
mod params;

mod constrained;
mod generation;

mod openai;

mod app;
mod training;
mod turn;

mod health;
mod metrics;
mod page;
mod page_api;

mod error;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

#[cfg(test)]
extern crate self as server; // the file is also part of the tests outside, which know the crate by its name
#[cfg(test)]
mod test_support;

pub use config::{BuildInfo, Limits, ServerConfig};
pub use constrained::Constrained;
pub use error::ApiError;
pub use serve::{ServeError, Serving, serve, shutdown_signal};
pub use training::{
    DataKind, MadeModel, ModelKind, Order, Plan, PreviewOrder, Progress, Recipe, Series, Setting,
    SettingKind, Stage, TestResult, TrainingConfig, TrainingDesk, TrainingLimits,
};
