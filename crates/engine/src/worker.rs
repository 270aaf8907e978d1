//! The engine's thread: takes requests, plans a step, computes it, hands out what came of it.
//!
//! A step computes the next token of every running answer and a slice of the prompts that are
//! being read. Pages are found for each: free ones, then the least recently used of the cache,
//! then those of the youngest running sequence, which waits again and is computed anew later. The
//! oldest sequence is never robbed, and one sequence alone always fits, so that something always
//! advances.

use std::any::Any;
use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kernels::PAGE_LEN;

use crate::batch::Batch;
use crate::drafting::{Budget, PromptLookup};
use crate::drawing::{DrawScratch, Job};
use crate::engine::{Shared, lock};
use crate::error::EngineError;
use crate::masking::{MaskHelper, Masked};
use crate::model::Model;
use crate::pages::PageTable;
use crate::profile::Phase;
use crate::request::{Event, FinishReason};
use crate::sampler::Choice;
use crate::saving::Saver;
use crate::scheduler::{FairShares, Pace, StepRows, seniority};
use crate::sequence::{Sequence, Work};
use crate::stats::EngineStats;

/// How long the thread sleeps where only the disk is waited for.
const DISK_PAUSE: Duration = Duration::from_millis(1);

/// Everything that the engine's thread owns.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    model: Model,
    table: PageTable,
    /// Not begun, or preempted.
    waiting: Vec<Sequence>,
    /// With pages, oldest first among equal priorities.
    running: Vec<Sequence>,
    /// The first in the queue found too few pages; nothing arrived or ended since.
    is_starved: bool,
    fair: FairShares,
    pace: Pace,
    batch: Batch,
    /// What the spans of `batch` belong to: positions in `running`, ascending, and tokens of each.
    planned: Vec<(usize, usize)>,
    /// Over in this step, not told yet.
    ended: Vec<(Sequence, Result<FinishReason, EngineError>)>,
    scratch: Vec<Mutex<DrawScratch>>,
    masks: MaskHelper,
    saver: Saver,
    totals: EngineStats,
    mean_request_s: f64,
}

impl Worker {
    /// A worker without requests.
    pub(crate) fn new(model: Model, shared: Arc<Shared>) -> Worker {
        let table = PageTable::new(model.n_pages(), PAGE_LEN);
        let new_scratch = || Mutex::new(DrawScratch::new(shared.config.isa));
        let worker = Worker {
            table,
            waiting: Vec::new(),
            running: Vec::new(),
            is_starved: false,
            fair: FairShares::default(),
            pace: Pace::default(),
            batch: Batch::default(),
            planned: Vec::new(),
            ended: Vec::new(),
            scratch: (0..model.max_logit_rows()).map(|_| new_scratch()).collect(),
            masks: MaskHelper::default(),
            saver: Saver::new(&model, &shared.config),
            totals: EngineStats::default(),
            mean_request_s: 1.0,
            model,
            shared,
        };
        worker.publish();
        worker
    }

    /// Runs until the engine is shut down; a panic fails all requests and closes the engine.
    pub(crate) fn run(&mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while self.take_requests() {
                self.step();
            }
            self.saver.finish(&self.table, &self.model);
        }));
        let error = match outcome {
            Ok(()) => EngineError::Stopped,
            Err(panic) => EngineError::Panicked { message: panic_message(panic.as_ref()) },
        };
        self.fail_all(error);
    }

    /// Moves arrived requests to the queue, waiting for one if there is nothing to do;
    /// `false` once the engine is to end.
    fn take_requests(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut inbox = lock(&shared.inbox);
        loop {
            if inbox.closed.is_some() {
                return false;
            }
            let n_held = self.waiting.len() + self.running.len();
            if n_held > 0 || !inbox.requests.is_empty() {
                break;
            }
            inbox.n_held = 0;
            if self.saver.is_idle() {
                inbox = shared.wake.wait(inbox).unwrap_or_else(|e| e.into_inner());
                continue;
            }
            drop(inbox);
            self.saver.advance(&self.table, &self.model, usize::MAX);
            inbox = lock(&shared.inbox);
            if inbox.requests.is_empty() && inbox.closed.is_none() {
                let waited = shared.wake.wait_timeout(inbox, DISK_PAUSE);
                inbox = waited.unwrap_or_else(|e| e.into_inner()).0;
            }
        }
        for sequence in inbox.requests.drain(..) {
            self.fair.enter(sequence.fair_key);
            self.waiting.push(sequence);
            self.is_starved = false;
        }
        inbox.n_held = self.waiting.len() + self.running.len();
        inbox.mean_request_s = self.mean_request_s;
        true
    }

    /// One step for everyone.
    fn step(&mut self) {
        let began = Instant::now();
        let profiling = self.shared.profiling.load(Ordering::Relaxed);
        self.model.stopwatch.start(profiling);
        self.drop_cancelled();
        self.admit();
        self.plan();
        if self.batch.n_rows() > 0 {
            self.compute(began);
            self.saver.advance(&self.table, &self.model, 1);
        } else if let Some(restoring) = self.running.iter_mut().find_map(|s| s.restoring.as_mut()) {
            restoring.wait(DISK_PAUSE);
        }
        self.publish();
        self.model.stopwatch.lap(Phase::Scheduling, 0, 0);
        self.model.stopwatch.finish(self.batch.n_rows());
        if profiling {
            let profile = std::mem::take(&mut self.model.stopwatch.profile);
            lock(&self.shared.profile).add(&profile);
        }
        // Told last, so that who hears it finds the counters true.
        for (mut sequence, outcome) in self.ended.drain(..) {
            match outcome {
                Ok(reason) => sequence.finish(reason),
                Err(error) => sequence.fail(error),
            }
        }
    }

    /// Lets go of sequences whose callers went away or asked to stop.
    fn drop_cancelled(&mut self) {
        let mut ended = extract(&mut self.waiting, Sequence::is_cancelled);
        ended.append(&mut extract(&mut self.running, Sequence::is_cancelled));
        for sequence in ended {
            self.totals.cancelled_total += 1;
            self.end(sequence, Ok(FinishReason::Cancelled));
        }
    }

    /// Starts waiting sequences while there are places and pages for them.
    fn admit(&mut self) {
        if self.waiting.is_empty() || self.is_starved {
            return;
        }
        let fair = &self.fair;
        self.waiting.sort_by_key(|s| (Reverse(s.priority), s.started.is_none(), fair.order(s)));
        let mut n_promised: usize = self.running.iter().map(Sequence::n_pages_wanted).sum();
        while !self.waiting.is_empty() {
            if self.running.len() >= self.shared.config.max_running && !self.yield_to_higher() {
                break;
            }
            let sequence = &mut self.waiting[0];
            let model = &mut self.model;
            sequence.begin(&mut self.table, |from, to, n| model.copy_page(from, to, n));
            sequence.restoring = self.saver.restore(sequence);
            let n_wanted = sequence.n_pages_wanted();
            let fits = n_promised + n_wanted <= self.table.n_available();
            if !fits && !self.running.is_empty() {
                sequence.retire(&mut self.table);
                self.is_starved = true;
                break;
            }
            n_promised += n_wanted;
            let mut sequence = self.waiting.remove(0);
            if sequence.started.is_none() {
                sequence.started = Some(Instant::now());
                self.totals.prompt_tokens_total += sequence.n_prompt as u64;
                self.totals.cached_tokens_total += sequence.n_cached as u64;
            }
            self.running.push(sequence);
        }
        self.running.sort_by_key(seniority);
        for (position, sequence) in self.waiting.iter_mut().enumerate() {
            if sequence.started.is_none() && sequence.told_position != Some(position) {
                sequence.told_position = Some(position);
                sequence.send(Event::Queued { position });
            }
        }
    }

    /// Preempts a running sequence of lower priority than the first waiting one, if any.
    fn yield_to_higher(&mut self) -> bool {
        let highest = self.waiting[0].priority;
        let lowest = self.running.iter().enumerate().max_by_key(|(_, s)| seniority(s));
        match lowest {
            Some((i, sequence)) if sequence.priority < highest => {
                let mut sequence = self.running.remove(i);
                sequence.retire(&mut self.table);
                self.totals.preemptions_total += 1;
                // Behind the one that takes its place.
                self.waiting.push(sequence);
                true
            }
            _ => false,
        }
    }

    /// Fills the batch: a token of each running answer, then slices of prompts.
    fn plan(&mut self) {
        self.planned.clear();
        let max_batch_tokens = self.shared.config.max_batch_tokens;
        let mut i = 0;
        while i < self.running.len() {
            let is_wanted = self.running[i].is_decoding() && self.planned.len() < max_batch_tokens;
            if is_wanted && self.find_pages(i) {
                self.planned.push((i, 1));
            }
            i += 1;
        }
        let n_decoding = self.planned.len();
        let mut room = self.pace.slice(n_decoding, max_batch_tokens);
        let mut prompts: Vec<usize> =
            (0..self.running.len()).filter(|&i| !self.running[i].is_decoding()).collect();
        prompts.sort_by_key(|&i| self.fair.order(&self.running[i]));
        for i in prompts {
            if self.take_restored(i, n_decoding > 0) {
                continue;
            }
            let n_found = self.running[i].catch_up(&mut self.table);
            self.running[i].n_cached += n_found;
            self.totals.cached_tokens_total += n_found as u64;
            // What another computes in this very step is taken over in the next.
            let sequence = &self.running[i];
            if self.planned.iter().any(|&(j, n)| sequence.awaits(&self.running[j], n)) {
                continue;
            }
            let sequence = &mut self.running[i];
            let wanted = sequence.n_left().min(room);
            sequence.grow(&mut self.table, sequence.n_computed + wanted);
            let held = sequence.pages.len() * PAGE_LEN;
            let n_tokens = wanted.min(held - sequence.n_computed);
            if n_tokens > 0 {
                self.planned.push((i, n_tokens));
                room -= n_tokens;
            }
        }
        let is_restoring = self.running.iter().any(|sequence| sequence.restoring.is_some());
        if self.planned.is_empty() && self.running.len() > 1 && !is_restoring {
            // Every page is held by prompts that cannot go on: the youngest gives way.
            self.preempt_last();
        }
        if self.planned.len() == n_decoding {
            self.guess();
        }
        self.planned.sort_unstable();
        self.fill_batch();
    }

    /// Takes the pages of `running[i]` that have come from disk, one of them where others wait for this step; whether
    /// more are to come.
    fn take_restored(&mut self, i: usize, others_wait: bool) -> bool {
        let sequence = &mut self.running[i];
        let Some(mut restoring) = sequence.restoring.take() else {
            return false;
        };
        let n_before = sequence.n_computed;
        let mut has_room = true;
        for _ in 0..if others_wait { 1 } else { usize::MAX } {
            let Some((page_idx, page)) = restoring.next() else { break };
            let model = &mut self.model;
            has_room = sequence.restore(&mut self.table, page_idx, |id| model.write_page(id, &page.data));
            if !has_room {
                break;
            }
        }
        let n_restored = sequence.n_computed - n_before;
        if n_restored > 0 {
            sequence.n_cached += n_restored;
            self.totals.cached_tokens_total += n_restored as u64;
            self.totals.restored_tokens_total += n_restored as u64;
            let (done, total, cached) = (sequence.n_computed, sequence.n_prompt, sequence.n_cached);
            sequence.send(Event::Prefill { done, total, cached });
        }
        // A page that found no room ends it: what is missing is computed.
        sequence.restoring = (has_room && restoring.is_open()).then_some(restoring);
        sequence.restoring.is_some()
    }

    /// Lets the planned answers guess tokens where that is expected to pay.
    fn guess(&mut self) {
        let config = &self.shared.config;
        let mut budget = match (config.prompt_lookup, self.pace.costs()) {
            (PromptLookup::Always, _) => Budget::unlimited(),
            (PromptLookup::Auto, Some(costs)) => Budget::new(costs, self.planned.len()),
            _ => return,
        };
        let mut room = config.max_batch_tokens.saturating_sub(self.planned.len());
        for &(i, _) in &self.planned {
            let sequence = &mut self.running[i];
            sequence.guess(&mut self.table, &mut budget, room, config.max_seq_len);
            room -= sequence.draft().len();
        }
    }

    /// Lays the planned tokens end to end.
    fn fill_batch(&mut self) {
        self.batch.clear();
        for &(i, n_tokens) in &self.planned {
            let sequence = &self.running[i];
            let end = sequence.n_computed + n_tokens;
            let n_outputs = match &sequence.work {
                Work::Score(score) => end.saturating_sub(score.first).min(n_tokens),
                Work::Answer(_) => usize::from(end == sequence.tokens.len()),
            };
            let tokens = &sequence.tokens[sequence.n_computed..end];
            self.batch.push(tokens, sequence.n_computed, &sequence.pages, n_outputs);
            if !sequence.draft().is_empty() {
                self.batch.push_draft(sequence.draft());
            }
        }
    }

    /// A page for the next token of `running[i]`, at the cost of younger sequences if need be;
    /// `false` if it had to give way itself.
    fn find_pages(&mut self, i: usize) -> bool {
        loop {
            let sequence = &mut self.running[i];
            let n_tokens = sequence.n_computed + 1;
            if sequence.grow(&mut self.table, n_tokens) {
                return true;
            }
            // The youngest stands last: it may be this one itself.
            let gives_way = self.running.len() - 1 == i;
            self.preempt_last();
            if gives_way {
                return false;
            }
        }
    }

    /// Sends the youngest running sequence back to the queue.
    fn preempt_last(&mut self) {
        if let Some(mut sequence) = self.running.pop() {
            sequence.retire(&mut self.table);
            self.totals.preemptions_total += 1;
            self.waiting.push(sequence);
        }
    }

    /// Computes the batch, draws and scores, and tells the callers.
    fn compute(&mut self, began: Instant) {
        self.masks.begin(self.masks_to_draw_with());
        self.model.stopwatch.lap(Phase::Scheduling, 0, 0);
        self.model.forward(&self.batch);
        let spans = std::mem::take(&mut self.batch.spans);
        let mut rows = StepRows::default();
        for (span, &(i, n_tokens)) in spans.iter().zip(&self.planned) {
            let sequence = &mut self.running[i];
            match sequence.is_decoding() {
                true => rows.n_decoding += 1,
                false => rows.n_prompt += n_tokens,
            }
            rows.n_draft += span.n_rows - n_tokens;
            sequence.n_computed += n_tokens;
            sequence.settle(&mut self.table);
            self.fair.charge(sequence.fair_key, span.n_rows);
            let n_done = sequence.n_computed.min(sequence.n_prompt);
            if span.first_pos < sequence.n_prompt && sequence.n_generated() == 0 {
                sequence.send(Event::Prefill {
                    done: n_done,
                    total: sequence.n_prompt,
                    cached: sequence.n_cached,
                });
            }
        }

        // Output rows stand in span order; `owners` tells whose each is.
        let mut owners = Vec::with_capacity(self.batch.n_rows());
        for (span, &(i, _)) in spans.iter().zip(&self.planned) {
            let first = span.first_pos + span.n_rows - span.n_outputs;
            owners.extend((0..span.n_outputs).map(|n| (i, first + n)));
        }
        self.batch.spans = spans;
        let mut drawn: Vec<(usize, Choice)> = Vec::with_capacity(owners.len());
        for (slice_idx, slice) in owners.chunks(self.model.max_logit_rows()).enumerate() {
            self.read_logits(slice_idx * self.model.max_logit_rows(), slice, &mut drawn);
        }
        if rows.n_draft > 0 {
            self.totals.drafted_tokens_total += rows.n_draft as u64;
            for &(i, _) in &self.planned {
                let n_true = self.running[i].keep_drafted(&mut self.table);
                self.totals.accepted_tokens_total += n_true as u64;
            }
        }
        self.totals.steps_total += 1;
        self.pace.note(rows, began.elapsed());
        self.deliver(drawn);
    }

    /// The constraints of the planned answers that a token will be drawn for.
    fn masks_to_draw_with(&self) -> Vec<Masked> {
        let spans = self.batch.spans.iter().zip(&self.planned);
        let drawing = spans.filter(|(span, _)| span.n_outputs > 0).map(|(_, &(i, _))| &self.running[i]);
        let constraint = |sequence: &Sequence| match &sequence.work {
            Work::Answer(answer) if answer.max_tokens > 0 => answer.constraint.clone(),
            _ => None,
        };
        drawing.filter_map(constraint).collect()
    }

    /// Computes the logits of some output rows and draws from them or shows them.
    ///
    /// owners: (position in `running`, position of the row in its sequence) of each row.
    fn read_logits(&mut self, first: usize, owners: &[(usize, usize)], drawn: &mut Vec<(usize, Choice)>) {
        let vocab_size = self.shared.vocab_size;
        let (logits, pool) = self.model.logits(first, owners.len());
        // The sequences of the rows, borrowed apart from each other: owners are in order.
        let mut rest: &mut [Sequence] = &mut self.running;
        let mut n_passed = 0;
        let mut jobs: Vec<Mutex<Job<'_>>> = Vec::with_capacity(owners.len());
        let mut rows = logits.chunks_exact_mut(vocab_size);
        for group in owners.chunk_by(|a, b| a.0 == b.0) {
            let (i, first_pos) = group[0];
            let (_, tail) = rest.split_at_mut(i - n_passed);
            let (sequence, tail) = tail.split_first_mut().expect("owners are running sequences");
            rest = tail;
            n_passed = i + 1;
            let n = group.len();
            let rows: Vec<&mut [f32]> = rows.by_ref().take(n).collect();
            jobs.push(Mutex::new(Job { running_idx: i, first_pos, rows, sequence, drawn: Vec::new() }));
        }
        let scratch = &self.scratch;
        let max_seq_len = self.shared.config.max_seq_len;
        let draw = |job_idx: usize, _worker: usize| {
            let mut scratch = lock(&scratch[job_idx]);
            lock(&jobs[job_idx]).run(&mut scratch, max_seq_len);
        };
        match jobs.len() {
            1 => draw(0, 0),
            n => pool.run(n, &draw),
        }
        for job in jobs {
            let job = job.into_inner().unwrap_or_else(|e| e.into_inner());
            drawn.extend(job.drawn.into_iter().map(|choice| (job.running_idx, choice)));
        }
        self.model.stopwatch.lap(Phase::Sampling, 0, 0);
    }

    /// Tells the callers what was drawn, and lets finished sequences go.
    fn deliver(&mut self, drawn: Vec<(usize, Choice)>) {
        let now = Instant::now();
        for (i, choice) in drawn {
            let sequence = &mut self.running[i];
            sequence.first_token.get_or_insert(now);
            self.totals.generated_tokens_total += 1;
            sequence.send(Event::Token { id: choice.id, logprob: choice.logprob, top: choice.top });
        }
        let mut ended: Vec<(usize, Result<FinishReason, EngineError>)> = Vec::new();
        for &(i, _) in &self.planned {
            let sequence = &mut self.running[i];
            let is_computed = sequence.n_left() == 0;
            let outcome = match &mut sequence.work {
                Work::Answer(answer) if answer.max_tokens > 0 => answer.outcome.take(),
                _ => is_computed.then_some(Ok(FinishReason::Length)),
            };
            ended.extend(outcome.map(|outcome| (i, outcome)));
        }
        ended.sort_by_key(|(i, _)| *i);
        for (i, outcome) in ended.into_iter().rev() {
            let sequence = self.running.remove(i);
            match &outcome {
                Ok(_) => self.totals.finished_total += 1,
                Err(_) => self.totals.failed_total += 1,
            }
            self.end(sequence, outcome);
        }
    }

    /// Takes a sequence's pages back; its caller is told at the end of the step.
    fn end(&mut self, mut sequence: Sequence, outcome: Result<FinishReason, EngineError>) {
        let n_settled = sequence.n_computed / PAGE_LEN * PAGE_LEN;
        sequence.retire(&mut self.table);
        if let Some(keep) = sequence.keep.take().filter(|_| outcome.is_ok()) {
            self.saver.add(keep, sequence.cache_scope, &sequence.tokens[..n_settled]);
        }
        self.fair.leave(sequence.fair_key);
        self.is_starved = false;
        let took = sequence.submitted.elapsed().as_secs_f64();
        self.mean_request_s += 0.1 * (took - self.mean_request_s);
        self.ended.push((sequence, outcome));
    }

    /// Ends everything: requests that are held, and those still in the inbox.
    fn fail_all(&mut self, error: EngineError) {
        let mut inbox = lock(&self.shared.inbox);
        if inbox.closed.is_none() || !matches!(error, EngineError::Stopped) {
            inbox.closed = Some(error.clone());
        }
        let mut sequences: Vec<Sequence> = inbox.requests.drain(..).collect();
        inbox.n_held = 0;
        drop(inbox);
        sequences.append(&mut self.waiting);
        sequences.append(&mut self.running);
        sequences.extend(self.ended.drain(..).map(|(sequence, _)| sequence));
        for mut sequence in sequences {
            sequence.fail(error.clone());
        }
    }

    fn publish(&self) {
        let mut stats = self.totals.clone();
        stats.running = self.running.len();
        stats.queued = self.waiting.len();
        stats.kv_pages_total = self.table.n_pages();
        stats.kv_pages_used = self.table.n_used();
        stats.kv_pages_cached = self.table.n_cached();
        stats.kv_page_len = PAGE_LEN;
        stats.memory_bytes = self.model.memory_bytes();
        *lock(&self.shared.stats) = stats;
    }
}

/// Takes out the elements that satisfy `wanted`, keeping the order of the others.
fn extract(from: &mut Vec<Sequence>, wanted: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
    if !from.iter().any(&wanted) {
        return Vec::new();
    }
    let (taken, kept) = std::mem::take(from).into_iter().partition(wanted);
    *from = kept;
    taken
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a message").to_string()
}
