//! Log-probabilities of a prompt's own tokens, for `echo` with `logprobs`.

use std::sync::mpsc;

use crate::error::ApiError;
use crate::generation::{TokenLogprob, from_submit};
use crate::model_host::LoadedModel;

/// What one position predicts: the log-probability of the token that follows, and the likeliest tokens.
struct Prediction {
    logprob: f32,
    top: Vec<(u32, f32)>,
}

/// Every token of `ids` with its log-probability and `n_top` alternatives; the first token's are 0 and empty.
/// Waits for the engine.
pub(super) fn score(model: &LoadedModel, ids: &[u32], n_top: u8) -> Result<Vec<TokenLogprob>, ApiError> {
    let next: Vec<u32> = ids.iter().skip(1).copied().collect();
    let (sender, receiver) = mpsc::channel();
    let on_row = move |position: usize, logits: &[f32]| {
        if let Some(&id) = next.get(position) {
            // The receiver lives until all rows are there.
            let _ = sender.send(predict(logits, id, usize::from(n_top)));
        }
    };
    model.engine.score_with(ids, Box::new(on_row)).map_err(from_submit)?;
    let none = Prediction { logprob: 0.0, top: Vec::new() };
    let predictions = std::iter::once(none).chain(receiver);
    let piece = |id: u32| model.open.tokenizer.piece(id).to_vec();
    let tokens = ids.iter().zip(predictions).map(|(&id, prediction)| TokenLogprob {
        id,
        bytes: piece(id),
        logprob: prediction.logprob,
        top: prediction.top.into_iter().map(|(id, logprob)| (piece(id), logprob)).collect(),
        char_offset: 0,
    });
    Ok(tokens.collect())
}

fn predict(logits: &[f32], id: u32, n_top: usize) -> Prediction {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let log_sum = max + sum.ln() as f32;
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n_top + 1);
    for (idx, &logit) in logits.iter().enumerate() {
        if n_top == 0 || (top.len() == n_top && top.last().is_some_and(|(_, least)| logit <= *least)) {
            continue;
        }
        let at = top.partition_point(|(_, other)| *other >= logit);
        top.insert(at, (idx as u32, logit));
        top.truncate(n_top);
    }
    top.iter_mut().for_each(|(_, logit)| *logit -= log_sum);
    Prediction { logprob: logits[id as usize] - log_sum, top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_a_log_softmax_with_its_largest() {
        let prediction = predict(&[0.0, 2.0, 1.0, 2.0], 2, 3);
        let sum = 1.0f32 + 2.0 * 2.0f32.exp() + 1.0f32.exp();
        assert!((prediction.logprob - (1.0 - sum.ln())).abs() < 1e-5);
        let ids: Vec<u32> = prediction.top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 2], "the lower id first among equals");
        assert!((prediction.top[0].1 - (2.0 - sum.ln())).abs() < 1e-5);
        assert!(predict(&[0.0, 1.0], 0, 0).top.is_empty());
    }
}
