//! Which tokens predict which? A context and its continuation, and long texts in windows: lm-evaluation-harness's rules.

use tokenizer::{Specials, TokenId, Tokenizer};

/// Tokens, of which those from `first` on are to be predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scored {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) first: usize,
    /// Tokens that did not fit.
    pub(crate) n_cut: usize,
}

/// What stands before a text that nothing stands before: the first token, else the last.
pub(crate) fn prefix_token(tokenizer: &Tokenizer) -> Option<TokenId> {
    tokenizer.bos().or(tokenizer.eos())
}

/// Ids of a text as a model reads it: with a first token by the model's rule, what spells a special token stays text.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
    let mut ids = tokenizer.encode(text.as_bytes(), Specials::AsText);
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos())
        && ids.first() != Some(&bos)
    {
        ids.insert(0, bos);
    }
    ids
}

/// A context and a continuation as tokens. White space at the end of the context belongs to the continuation, so that a
/// word keeps the space before it; both are encoded together and then cut where the context alone ends.
///
/// `prefix` stands before a continuation of nothing.
pub(crate) fn encode_pair(
    tokenizer: &Tokenizer,
    context: &str,
    continuation: &str,
    prefix: TokenId,
) -> (Vec<TokenId>, usize) {
    if context.is_empty() {
        let continuation = tokenizer.encode(continuation.as_bytes(), Specials::AsText);
        return match continuation.first() {
            Some(&first) if first == prefix => (continuation, 1),
            _ => ([&[prefix], &continuation[..]].concat(), 1),
        };
    }
    let kept = context.trim_end();
    let mut whole = encode(tokenizer, &format!("{context}{continuation}"));
    let n_context = encode(tokenizer, kept).len();
    if n_context == 0 {
        whole.insert(0, prefix);
    }
    // A continuation that the tokenizer melts into the context still has the last token.
    let last = whole.len().saturating_sub(1);
    (whole, n_context.min(last).max(1))
}

/// What fits of a context and its continuation: the context's beginning is cut off. `max_len` tokens are read at most, so
/// one more may be predicted.
pub(crate) fn fitted((mut tokens, first): (Vec<TokenId>, usize), max_len: usize) -> Scored {
    let n_cut = tokens.len().saturating_sub(max_len + 1);
    tokens.drain(..n_cut);
    // The first token can never be predicted.
    let first = first.saturating_sub(n_cut).clamp(1, tokens.len().max(1));
    Scored { tokens, first, n_cut }
}

/// A text in windows: each token is predicted once, in the first window from all before it, in a later one from those
/// before it in that window, of which the last before its first token is one. The last window reaches back to be full.
pub(crate) fn windows(tokens: &[TokenId], prefix: TokenId, max_len: usize) -> Vec<Scored> {
    let mut windows = Vec::new();
    let mut n_done = 0;
    while n_done < tokens.len() {
        let end = (n_done + max_len).min(tokens.len());
        let scored = match n_done {
            0 => Scored { tokens: [&[prefix], &tokens[..end]].concat(), first: 1, n_cut: 0 },
            _ => {
                let start = end.saturating_sub(max_len + 1);
                Scored { tokens: tokens[start..end].to_vec(), first: n_done - start, n_cut: 0 }
            }
        };
        windows.push(scored);
        n_done = end;
    }
    windows
}
