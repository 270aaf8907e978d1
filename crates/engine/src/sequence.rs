//! One request inside the engine: its tokens, its pages, and what is done with its logits.
//!
//! A sequence computes its tokens from left to right; `n_computed` of them have keys and values in
//! its pages. Whether they were a prompt, an answer so far or both (after a preemption) makes no
//! difference: when all are computed, the logits of the last one decide what comes next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use kernels::PAGE_LEN;
use tokio::sync::mpsc::UnboundedSender;

use crate::drafting::{Budget, Drafter, MAX_DRAFT};
use crate::error::EngineError;
use crate::masking::Masked;
use crate::pages::{NodeIdx, PageId, PageTable};
use crate::request::{Event, FinishReason, OnRow, Timings, TokenId};
use crate::sampler::Sampler;
use crate::saved::Keep;
use crate::saving::Restoring;

/// A request from its submission to its end.
pub(crate) struct Sequence {
    /// Prompt and answer so far.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) n_prompt: usize,
    /// Tokens whose keys and values stand in `pages`.
    pub(crate) n_computed: usize,
    /// One page for each `PAGE_LEN` computed tokens; the first `path.len()` are shared.
    pub(crate) pages: Vec<PageId>,
    /// The tree's nodes of the first pages.
    path: Vec<NodeIdx>,
    /// The order of submission, which a preemption does not change.
    pub(crate) arrival: u64,
    pub(crate) cache_scope: u64,
    pub(crate) fair_key: u64,
    pub(crate) priority: i8,
    /// Prompt tokens found in the cache, in memory or on disk.
    pub(crate) n_cached: usize,
    /// Where its keys and values are kept on disk.
    pub(crate) keep: Option<Keep>,
    /// Its next pages, while they come from there.
    pub(crate) restoring: Option<Restoring>,
    pub(crate) submitted: Instant,
    pub(crate) started: Option<Instant>,
    pub(crate) first_token: Option<Instant>,
    /// The queue position last told.
    pub(crate) told_position: Option<usize>,
    pub(crate) work: Work,
}

/// What a sequence is computed for.
pub(crate) enum Work {
    Answer(Box<Answer>),
    Score(Score),
}

/// Tokens are drawn and sent.
pub(crate) struct Answer {
    pub(crate) sampler: Sampler,
    pub(crate) max_tokens: usize,
    pub(crate) min_tokens: usize,
    pub(crate) stop_ids: Vec<TokenId>,
    pub(crate) ignore_eos: bool,
    pub(crate) constraint: Option<Masked>,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) cancelled: Arc<AtomicBool>,
    /// Guesses tokens, if that is wanted.
    pub(crate) drafter: Option<Drafter>,
    /// The tokens guessed for this step; their rows stand behind that of the last token.
    pub(crate) draft: Vec<TokenId>,
    /// How it ended, once something drawn ended it.
    pub(crate) outcome: Option<Result<FinishReason, EngineError>>,
}

/// The logits of every token from the place `first` on are shown to `on_row`.
pub(crate) struct Score {
    pub(crate) on_row: OnRow,
    pub(crate) first: usize,
    /// The next row to show; a preemption computes those before it again.
    pub(crate) n_shown: usize,
    pub(crate) done: SyncSender<Result<(), EngineError>>,
}

impl Sequence {
    /// A sequence that waits to be started.
    pub(crate) fn new(tokens: Vec<TokenId>, work: Work) -> Sequence {
        Sequence {
            n_prompt: tokens.len(),
            tokens,
            n_computed: 0,
            pages: Vec::new(),
            path: Vec::new(),
            arrival: 0,
            cache_scope: 0,
            fair_key: 0,
            priority: 0,
            n_cached: 0,
            keep: None,
            restoring: None,
            submitted: Instant::now(),
            started: None,
            first_token: None,
            told_position: None,
            work,
        }
    }

    /// Tokens still to be computed before something can be drawn.
    pub(crate) fn n_left(&self) -> usize {
        self.tokens.len() - self.n_computed
    }

    pub(crate) fn n_generated(&self) -> usize {
        self.tokens.len() - self.n_prompt
    }

    /// Whether the next step computes one token only, as in the middle of an answer.
    pub(crate) fn is_decoding(&self) -> bool {
        self.n_left() == 1
    }

    /// Whether the caller went away or asked to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        match &self.work {
            Work::Answer(a) => a.events.is_closed() || a.cancelled.load(Ordering::Relaxed),
            Work::Score(_) => false,
        }
    }

    /// How many tokens may come from the cache: those behind which nobody asks for logits. A text that is scored whole
    /// shares nothing, so that it does not drive out what others left there.
    fn n_reusable(&self) -> usize {
        match &self.work {
            Work::Answer(_) => self.tokens.len() - 1,
            Work::Score(score) => score.first,
        }
    }

    fn shares(&self) -> bool {
        self.n_reusable() > 0 || matches!(self.work, Work::Answer(_))
    }

    /// Takes over what the cache holds of the tokens.
    ///
    /// `copy(from, to, n)` copies the first n tokens of a page in every layer.
    pub(crate) fn begin(&mut self, table: &mut PageTable, mut copy: impl FnMut(PageId, PageId, usize)) {
        debug_assert!(self.pages.is_empty() && self.n_computed == 0);
        if !self.shares() {
            return;
        }
        let reusable = &self.tokens[..self.n_reusable()];
        let found = table.match_prefix(self.cache_scope, reusable);
        self.pages.extend(found.path.iter().map(|&idx| table.page(idx)));
        self.n_computed = found.path.len() * PAGE_LEN;
        self.path = found.path;
        if let Some((idx, n_common)) = found.partial {
            if let Some(page) = table.allocate() {
                copy(table.page(idx), page, n_common);
                self.pages.push(page);
                self.n_computed += n_common;
            }
            table.release(&[idx]);
        }
        if self.started.is_none() {
            self.n_cached = self.n_computed;
        }
    }

    /// Takes over further full pages that other sequences with the same prefix have computed since;
    /// the number of tokens in them.
    pub(crate) fn catch_up(&mut self, table: &mut PageTable) -> usize {
        let n_before = self.n_computed;
        let n_reusable = self.n_reusable();
        // A page of its own that it has begun is not given up.
        while self.pages.len() * PAGE_LEN == self.n_computed && self.n_computed + PAGE_LEN <= n_reusable {
            let tokens = &self.tokens[self.n_computed..self.n_computed + PAGE_LEN];
            let Some(idx) = table.find_full(self.cache_scope, self.path.last().copied(), tokens) else {
                break;
            };
            self.pages.push(table.page(idx));
            self.path.push(idx);
            self.n_computed += PAGE_LEN;
        }
        self.n_computed - n_before
    }

    /// Takes over a page that was computed in another run of the program: the one in which the next token lies, whole.
    /// `false` if there is no room for it.
    pub(crate) fn restore(
        &mut self,
        table: &mut PageTable,
        page_idx: usize,
        fill: impl FnOnce(PageId),
    ) -> bool {
        if page_idx != self.n_computed / PAGE_LEN || !self.grow(table, (page_idx + 1) * PAGE_LEN) {
            return false;
        }
        fill(self.pages[page_idx]);
        self.n_computed = (page_idx + 1) * PAGE_LEN;
        self.settle(table);
        true
    }

    /// Whether the next page that it needs is among the next `n_tokens` of `other`.
    pub(crate) fn awaits(&self, other: &Sequence, n_tokens: usize) -> bool {
        let end = self.n_computed + PAGE_LEN;
        other.shares()
            && self.cache_scope == other.cache_scope
            && self.pages.len() * PAGE_LEN == self.n_computed
            && self.n_reusable() >= end
            && (other.n_computed..=other.n_computed + n_tokens).contains(&end)
            && other.tokens[..end] == self.tokens[..end]
    }

    /// Allocates pages for `n_tokens` in all; on `false` it holds as many as there were.
    pub(crate) fn grow(&mut self, table: &mut PageTable, n_tokens: usize) -> bool {
        while self.pages.len() * PAGE_LEN < n_tokens {
            match table.allocate() {
                Some(page) => self.pages.push(page),
                None => return false,
            }
        }
        true
    }

    /// Guesses tokens for this step, as many as the budget has for it and `room` and its pages hold.
    pub(crate) fn guess(
        &mut self,
        table: &mut PageTable,
        budget: &mut Budget,
        room: usize,
        max_seq_len: usize,
    ) {
        let n_generated = self.n_generated();
        let Work::Answer(answer) = &mut self.work else {
            return;
        };
        let Some(drafter) = &mut answer.drafter else {
            return;
        };
        drafter.observe(&self.tokens);
        // The step draws one token anyway.
        let n_wanted = answer.max_tokens.saturating_sub(n_generated + 1);
        let n_fit = max_seq_len.saturating_sub(self.tokens.len() + 1);
        let max = n_wanted.min(n_fit).min(room).min(MAX_DRAFT);
        let n = budget.take(drafter.hit_rate(), max);
        if n == 0 {
            return;
        }
        let n_tokens = self.tokens.len();
        self.grow(table, n_tokens + n);
        let n_held = self.pages.len() * PAGE_LEN - n_tokens;
        if let Work::Answer(answer) = &mut self.work
            && let Some(drafter) = &answer.drafter
        {
            drafter.guess(&self.tokens, n.min(n_held), &mut answer.draft);
        }
    }

    /// Tokens guessed for this step.
    pub(crate) fn draft(&self) -> &[TokenId] {
        match &self.work {
            Work::Answer(answer) => &answer.draft,
            Work::Score(_) => &[],
        }
    }

    /// Counts the guesses that came true as computed and forgets all; how many did.
    pub(crate) fn keep_drafted(&mut self, table: &mut PageTable) -> usize {
        let Work::Answer(answer) = &mut self.work else {
            return 0;
        };
        let drawn = &self.tokens[self.n_computed..];
        let n_true = answer.draft.iter().zip(drawn).take_while(|(guessed, drawn)| guessed == drawn).count();
        answer.draft.clear();
        self.n_computed += n_true;
        self.settle(table);
        n_true
    }

    /// Pages that all present tokens and the next one need beyond those held.
    pub(crate) fn n_pages_wanted(&self) -> usize {
        (self.tokens.len() + 1).div_ceil(PAGE_LEN).saturating_sub(self.pages.len())
    }

    /// Shares the pages that have become full.
    pub(crate) fn settle(&mut self, table: &mut PageTable) {
        if !self.shares() {
            return;
        }
        while (self.path.len() + 1) * PAGE_LEN <= self.n_computed {
            let i = self.path.len();
            let tokens = &self.tokens[i * PAGE_LEN..(i + 1) * PAGE_LEN];
            let parent = self.path.last().copied();
            let idx = table.insert_full(self.cache_scope, parent, tokens, self.pages[i]);
            self.pages[i] = table.page(idx);
            self.path.push(idx);
        }
    }

    /// Gives all pages back, computed ones to the cache; the sequence could begin again.
    pub(crate) fn retire(&mut self, table: &mut PageTable) {
        self.settle(table);
        let (n_shared, shares) = (self.path.len(), self.shares());
        let tail = n_shared * PAGE_LEN..self.n_computed;
        let mut own = self.pages.drain(n_shared..);
        if !tail.is_empty()
            && shares
            && let Some(page) = own.next()
        {
            let parent = self.path.last().copied();
            table.insert_partial(self.cache_scope, parent, &self.tokens[tail], page);
        }
        for page in own {
            table.free(page);
        }
        self.pages.clear();
        self.restoring = None;
        table.release(&self.path);
        self.path.clear();
        self.n_computed = 0;
    }

    /// Where its time and tokens went, up to now.
    pub(crate) fn timings(&self, now: Instant) -> Timings {
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let started = self.started.unwrap_or(now);
        let first_token = self.first_token.unwrap_or(now);
        Timings {
            queue_s: seconds(self.submitted, started),
            prefill_s: seconds(started, first_token),
            decode_s: seconds(first_token, now),
            n_prompt: self.n_prompt,
            n_cached: self.n_cached.min(self.n_prompt),
            n_generated: self.n_generated(),
        }
    }

    /// Tells the caller, if it still listens.
    pub(crate) fn send(&self, event: Event) {
        if let Work::Answer(answer) = &self.work {
            // A closed channel is noticed at the next step.
            let _ = answer.events.send(event);
        }
    }

    /// Tells the caller that it is over.
    pub(crate) fn finish(&mut self, reason: FinishReason) {
        let timings = self.timings(Instant::now());
        match &self.work {
            Work::Answer(_) => self.send(Event::Done { reason, timings }),
            Work::Score(score) => drop(score.done.try_send(Ok(()))),
        }
    }

    /// Tells the caller that it failed.
    pub(crate) fn fail(&mut self, error: EngineError) {
        match &self.work {
            Work::Answer(_) => self.send(Event::Failed(error)),
            Work::Score(score) => drop(score.done.try_send(Err(error))),
        }
    }
}
