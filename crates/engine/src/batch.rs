//! One step's work: spans of tokens of several sequences, laid end to end as rows.

use crate::pages::PageId;
use crate::request::TokenId;

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first row in the batch.
    pub(crate) first_row: usize,
    pub(crate) n_rows: usize,
    /// The position of its first row in the sequence.
    pub(crate) first_pos: usize,
    /// Where its sequence's pages stand in `Batch::pages`.
    pages: std::ops::Range<usize>,
    /// How many of its rows need logits, its last ones: something is drawn from them, they are scored, or they hold
    /// guesses to be held against what is drawn.
    pub(crate) n_outputs: usize,
}

/// The rows of one step; buffers are kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// tokens: [n_rows]
    pub(crate) tokens: Vec<TokenId>,
    /// positions: [n_rows]
    pub(crate) positions: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    pages: Vec<PageId>,
}

impl Batch {
    /// Forgets the last step.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.spans.clear();
        self.pages.clear();
    }

    /// Adds tokens that begin at `first_pos` of a sequence with these pages; the last `n_outputs` need logits.
    pub(crate) fn push(&mut self, tokens: &[TokenId], first_pos: usize, pages: &[PageId], n_outputs: usize) {
        let first_page = self.pages.len();
        self.pages.extend_from_slice(pages);
        self.spans.push(Span {
            first_row: self.tokens.len(),
            n_rows: tokens.len(),
            first_pos,
            pages: first_page..self.pages.len(),
            n_outputs,
        });
        self.tokens.extend_from_slice(tokens);
        let end = first_pos + tokens.len();
        self.positions.extend((first_pos..end).map(|pos| pos as u32));
    }

    /// Adds guessed tokens to the span that was pushed last; all its rows need logits then.
    pub(crate) fn push_draft(&mut self, draft: &[TokenId]) {
        let span = self.spans.last_mut().expect("a draft follows the tokens of its sequence");
        let end = span.first_pos + span.n_rows;
        span.n_rows += draft.len();
        span.n_outputs = span.n_rows;
        self.tokens.extend_from_slice(draft);
        self.positions.extend((end..end + draft.len()).map(|pos| pos as u32));
    }

    /// Rows in all.
    pub(crate) fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    /// Rows that need logits.
    pub(crate) fn n_outputs(&self) -> usize {
        self.spans.iter().map(|span| span.n_outputs).sum()
    }

    /// The pages of a span's sequence.
    pub(crate) fn span_pages(&self, span: &Span) -> &[PageId] {
        &self.pages[span.pages.clone()]
    }
}
