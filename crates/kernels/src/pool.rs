//! The thread pool: a run of numbered tiles, shared out among the caller and its workers. Each has an even share of
//! its own, tile after tile, so that it reads memory in one piece; who is done takes from the ends of the others'.
//!
//! One word holds the state of the current run: its number, whether it is open, and how many workers are
//! inside. A worker joins an open run by adding itself to that word; the caller opens a run, works through
//! tiles like everyone else, closes it when no tile is left and waits only for those who joined. A worker
//! that the system has put aside therefore delays nothing unless it was put aside inside a tile. If that happens,
//! another program wants the core: the pool goes on with fewer workers for a while ([`rest`]), so that the next
//! tokens do not wait for a time slice again.
//!
//! Between runs workers spin for a bounded time (the phases of one token follow each other within
//! microseconds) and then park. Nothing is allocated per run. A panic in a tile ends the run early and is
//! raised again in the caller.
#![allow(unsafe_code)]

mod rest;

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::aligned::{AlignedBytes, Arena};
use crate::{Isa, KernelError};
use rest::Rest;

/// How long an idle worker spins before it parks. Longer than what lies between two phases of a token
/// (microseconds) and than sampling (tens of them), much shorter than what a person could feel.
const SPIN_TIME: Duration = Duration::from_micros(200);
/// How often the clock is read while spinning.
const SPINS_PER_CLOCK: u32 = 64;
/// Rounds for which the caller spins on stragglers before it reads the clock and gives its core away between looks.
const SPINS_BEFORE_YIELD: u32 = 4096;

/// State word: bit 0 set = open; bits 1..16 = workers inside; bits 16.. = number of the run.
const OPEN: u64 = 1;
const ONE_INSIDE: u64 = 2;
const INSIDE_MASK: u64 = 0xfffe;
const RUN_SHIFT: u32 = 16;
/// More workers than this is a mistake, and would not fit the state word.
const MAX_THREADS: usize = 1024;

type Tile<'a> = dyn Fn(usize, usize) + Sync + 'a;

#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    state: Apart<AtomicU64>,
    /// What is left of each worker's own tiles: the first in the lower half, the end in the upper.
    tiles: Box<[Apart<AtomicU64>]>,
    job: UnsafeCell<Option<&'static Tile<'static>>>,
    n_parked: AtomicUsize,
    /// Workers above this number do not join the run at hand; changed between runs only.
    last_worker: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the caller of `run` while the run is closed and nobody is inside (checked through `state`), and read only by workers inside an open run.
unsafe impl Sync for Shared {}

/// A fixed set of threads that run tiles together; the thread that calls [`Pool::run`] is worker 0.
pub struct Pool {
    isa: Isa,
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
    busy: AtomicBool,
    /// How many workers stay out for a while.
    rest: Mutex<Rest>,
    memory: Mutex<Arena>,
}

impl Pool {
    /// A pool of `n_threads` workers (the caller counts as one; at least 1), whose kernels use `isa`.
    pub fn new(n_threads: usize, isa: Isa) -> Result<Pool, KernelError> {
        let isa = isa.checked()?;
        let n_threads = n_threads.clamp(1, MAX_THREADS);
        let shared = Arc::new(Shared {
            state: Apart(AtomicU64::new(0)),
            tiles: (0..n_threads).map(|_| Apart(AtomicU64::new(0))).collect(),
            job: UnsafeCell::new(None),
            n_parked: AtomicUsize::new(0),
            last_worker: AtomicUsize::new(n_threads - 1),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut pool = Pool {
            isa,
            shared,
            workers: Vec::new(),
            busy: AtomicBool::new(false),
            rest: Mutex::default(),
            memory: Mutex::default(),
        };
        for worker in 1..n_threads {
            let shared = Arc::clone(&pool.shared);
            let handle = std::thread::Builder::new()
                .name(format!("kernels-{worker}"))
                .spawn(move || work(&shared, worker))
                .map_err(|error| KernelError::Spawn { worker, n_threads, reason: error.to_string() })?;
            let thread = handle.thread().clone();
            pool.workers.push((handle, thread));
        }
        Ok(pool)
    }

    /// The instruction set that kernels called with this pool use; this processor has it.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of workers, the caller included.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Memory for a matrix, zeroed.
    pub(crate) fn memory(&self, len: usize) -> AlignedBytes {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).zeroed(len)
    }

    /// Calls `tile(tile_idx, worker_idx)` once for every `tile_idx` below `n_tiles` and returns when all are
    /// done. No two tiles run at once with the same `worker_idx`. A panic in a tile is raised again here.
    ///
    /// # Panics
    /// When called from inside a tile of the same pool, or with more than `u32::MAX` tiles.
    pub fn run(&self, n_tiles: usize, tile: &(dyn Fn(usize, usize) + Sync)) {
        if n_tiles == 0 {
            return;
        }
        assert!(!self.busy.swap(true, Ordering::Acquire), "a pool runs one set of tiles at a time");
        let _idle = ClearOnDrop(&self.busy);
        let begun = Instant::now();
        let last_worker = self.workers.len().saturating_sub(self.rest().n_resting(begun));
        if n_tiles == 1 || last_worker == 0 {
            for tile_idx in 0..n_tiles {
                tile(tile_idx, 0);
            }
            return;
        }
        self.run_shared(n_tiles, tile, last_worker, begun);
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Workers up to `last_worker` may join.
    fn run_shared(&self, n_tiles: usize, tile: &Tile<'_>, last_worker: usize, begun: Instant) {
        let shared = &*self.shared;
        shared.last_worker.store(last_worker, Ordering::Relaxed);
        assert!(u32::try_from(n_tiles).is_ok(), "{n_tiles} tiles are more than a run can have");
        // SAFETY: only the lifetime changes; the reference is dropped from `job` before this function
        // returns, and workers use it only while inside the run, which is over by then.
        let job = unsafe { std::mem::transmute::<&Tile<'_>, &'static Tile<'static>>(tile) };
        // SAFETY: the last run is closed and nobody is inside (waited for below), `busy` keeps other callers
        // out, so nothing else reads or writes `job` now.
        unsafe { *shared.job.get() = Some(job) };
        let n_workers = last_worker + 1;
        for (worker, tiles) in shared.tiles[..n_workers].iter().enumerate() {
            let (first, end) = (n_tiles * worker / n_workers, n_tiles * (worker + 1) / n_workers);
            tiles.0.store(first as u64 | (end as u64) << 32, Ordering::Relaxed);
        }
        let run = (shared.state.0.load(Ordering::Relaxed) >> RUN_SHIFT) + 1;
        // SeqCst pairs with the parking worker's: either it sees the open run or we see it parked.
        shared.state.0.store((run << RUN_SHIFT) | OPEN, Ordering::SeqCst);
        if shared.n_parked.load(Ordering::SeqCst) > 0 {
            let n_wanted = (n_tiles - 1).min(last_worker);
            for (_, thread) in &self.workers[..n_wanted] {
                thread.unpark();
            }
        }

        take_tiles(shared, job, 0);

        shared.state.0.fetch_and(!OPEN, Ordering::SeqCst);
        let mut n_spins = 0u32;
        let (mut waits_since, mut is_slice) = (None, false);
        loop {
            let n_inside = (shared.state.0.load(Ordering::Acquire) & INSIDE_MASK) / ONE_INSIDE;
            if n_inside == 0 {
                break;
            }
            n_spins += 1;
            if n_spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
                continue;
            }
            let now = Instant::now();
            let since = *waits_since.get_or_insert(now);
            is_slice = is_slice || self.rest().waited(n_inside as usize, begun, since, now);
            std::thread::yield_now();
        }
        // SAFETY: closed and empty again: no worker reads `job`.
        unsafe { *shared.job.get() = None };
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker catches the panics of its tiles, so there is none to report here.
            let _ = handle.join();
        }
    }
}

struct ClearOnDrop<'a>(&'a AtomicBool);

impl Drop for ClearOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Takes tiles until none is left: first one's own, from the front, then the others', from their ends. After a
/// panic nobody takes another.
fn take_tiles(shared: &Shared, tile: &Tile<'_>, worker: usize) {
    let n_workers = shared.last_worker.load(Ordering::Relaxed) + 1;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        while let Some(tile_idx) = take(&shared.tiles[worker], |first, end| (first, (first + 1, end))) {
            tile(tile_idx, worker);
        }
        for other in (1..n_workers).map(|i| (worker + i) % n_workers) {
            while let Some(tile_idx) = take(&shared.tiles[other], |first, end| (end - 1, (first, end - 1))) {
                tile(tile_idx, worker);
            }
        }
    }));
    if let Err(panic) = caught {
        for tiles in &shared.tiles {
            tiles.0.store(0, Ordering::Relaxed);
        }
        shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
    }
}

/// One tile of those that are left, if any is: `choose` says which, and which are left then.
fn take(tiles: &Apart<AtomicU64>, choose: impl Fn(u32, u32) -> (u32, (u32, u32))) -> Option<usize> {
    let mut left = tiles.0.load(Ordering::Relaxed);
    loop {
        let (first, end) = (left as u32, (left >> 32) as u32);
        if first >= end {
            return None;
        }
        let (tile, (first, end)) = choose(first, end);
        let now = u64::from(first) | u64::from(end) << 32;
        match tiles.0.compare_exchange_weak(left, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(tile as usize),
            Err(changed) => left = changed,
        }
    }
}

/// The life of a worker thread.
fn work(shared: &Shared, worker: usize) {
    let mut last_run = 0;
    while let Some(run) = join_run(shared, worker, last_run) {
        last_run = run;
        // SAFETY: this worker is inside an open run, so the caller has written `job` before it opened the
        // run and does not touch it until the worker has left.
        if let Some(tile) = unsafe { *shared.job.get() } {
            take_tiles(shared, tile, worker);
        }
        shared.state.0.fetch_sub(ONE_INSIDE, Ordering::Release);
    }
}

/// Waits for an open run other than `last_run` and enters it; `None` when the pool ends.
fn join_run(shared: &Shared, worker: usize, last_run: u64) -> Option<u64> {
    loop {
        let mut idle_since: Option<Instant> = None;
        let mut n_spins = 0u32;
        loop {
            if let Some(run) = try_join(shared, worker, last_run) {
                return Some(run);
            }
            if shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            std::hint::spin_loop();
            n_spins += 1;
            if n_spins.is_multiple_of(SPINS_PER_CLOCK)
                && idle_since.get_or_insert_with(Instant::now).elapsed() > SPIN_TIME
            {
                break;
            }
        }
        shared.n_parked.fetch_add(1, Ordering::SeqCst);
        let joined = loop {
            if let Some(run) = try_join(shared, worker, last_run) {
                break Some(run);
            }
            if shared.stop.load(Ordering::SeqCst) {
                break None;
            }
            std::thread::park();
            // Woken for a run that others may have finished already: spin again for the next.
            let state = shared.state.0.load(Ordering::SeqCst);
            if state >> RUN_SHIFT != last_run && state & OPEN == 0 {
                break None;
            }
        };
        shared.n_parked.fetch_sub(1, Ordering::SeqCst);
        if joined.is_some() || shared.stop.load(Ordering::SeqCst) {
            return joined;
        }
    }
}

fn try_join(shared: &Shared, worker: usize, last_run: u64) -> Option<u64> {
    let state = shared.state.0.load(Ordering::SeqCst);
    let run = state >> RUN_SHIFT;
    // The number of workers was written before the run was opened.
    if state & OPEN == 0 || run == last_run || worker > shared.last_worker.load(Ordering::Relaxed) {
        return None;
    }
    // Fails when the run closed or another worker entered meanwhile; the caller of this function looks again.
    shared
        .state
        .0
        .compare_exchange(state, state + ONE_INSIDE, Ordering::SeqCst, Ordering::Relaxed)
        .ok()
        .map(|_| run)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_tile_runs_once_whatever_the_number_of_threads() {
        for n_threads in [1, 2, 3, 7] {
            let pool = Pool::new(n_threads, Isa::Scalar).unwrap();
            for n_tiles in [0, 1, 2, 3, 100, 1001] {
                let counts: Vec<AtomicUsize> = (0..n_tiles).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n_tiles, &|tile, worker| {
                    assert!(worker < n_threads);
                    counts[tile].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                    "{n_threads} threads, {n_tiles} tiles"
                );
            }
        }
    }

    #[test]
    fn many_short_runs_after_each_other_lose_nothing() {
        let pool = Pool::new(4, Isa::Scalar).unwrap();
        let sum = AtomicUsize::new(0);
        for _ in 0..20_000 {
            pool.run(5, &|tile, _| {
                sum.fetch_add(tile, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.load(Ordering::Relaxed), 20_000 * 10);
    }

    #[test]
    fn a_parked_worker_wakes_for_the_next_run() {
        let pool = Pool::new(2, Isa::Scalar).unwrap();
        for _ in 0..5 {
            std::thread::sleep(SPIN_TIME * 10);
            let seen = [const { AtomicBool::new(false) }; 2];
            let deadline = Instant::now() + Duration::from_secs(10);
            // The first tile ends only once the other worker has come.
            pool.run(2, &|_, worker| {
                seen[worker].store(true, Ordering::SeqCst);
                while !seen.iter().all(|seen| seen.load(Ordering::SeqCst)) {
                    assert!(Instant::now() < deadline, "the worker did not wake");
                    std::thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn who_is_done_takes_the_tiles_of_who_is_held_up() {
        let pool = Pool::new(2, Isa::Scalar).unwrap();
        let n_others = AtomicUsize::new(0);
        let deadline = Instant::now() + Duration::from_secs(10);
        // The first tile, whose worker has four more, ends only once all others are done.
        pool.run(10, &|tile, _| {
            if tile > 0 {
                n_others.fetch_add(1, Ordering::SeqCst);
                return;
            }
            while n_others.load(Ordering::SeqCst) < 9 {
                assert!(Instant::now() < deadline, "nobody took the other tiles");
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn a_panic_in_a_tile_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3, Isa::Scalar).unwrap();
        for bad_tile in [0, 7, 99] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, &|tile, _| assert!(tile != bad_tile, "tile {tile} is broken"));
            }));
            let message = *caught.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("tile {bad_tile} is broken"));
            let n_done = AtomicUsize::new(0);
            pool.run(10, &|_, _| {
                n_done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(n_done.load(Ordering::Relaxed), 10);
        }
    }

    #[test]
    fn an_instruction_set_that_is_missing_is_refused() {
        for isa in Isa::ALL {
            assert_eq!(Pool::new(1, isa).is_ok(), isa.is_available());
        }
    }
}
