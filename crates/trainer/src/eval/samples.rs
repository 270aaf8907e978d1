//! What was asked, what came back and how it counted, for who wants to look.

use serde::Serialize;

/// One document and what a model made of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The task.
    pub task: String,
    /// Which of its documents, from 0.
    pub doc_idx: usize,
    /// What the model read; a chat as its template renders it. Of a text nothing: it stands in the task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// Answers to choose from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The log-likelihood of each, or of the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_likelihoods: Vec<f64>,
    /// What the model wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Answers that are right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// How it counts.
    pub counts: Vec<Count>,
    /// Tokens at the beginning of the prompt that the context had no room for.
    pub n_cut: usize,
}

/// What a document adds to a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Count {
    /// The figure.
    pub metric: &'static str,
    /// What it adds.
    pub value: f64,
    /// For how much it counts.
    pub weight: f64,
}
