//! How many workers rest because other programs want their cores.
//!
//! A worker that the system puts aside inside a tile keeps everyone waiting for a time slice, some milliseconds: as
//! long as a whole token of a small model. Two threads beside one spinning process lose half of their speed that way,
//! where one thread alone would lose a fifth. So after such a wait as many workers rest as were waited for, first
//! briefly; if they are put aside again soon after they came back, twice as long.

use std::time::{Duration, Instant};

/// A wait shorter than this is no time slice.
const SLICE: Duration = Duration::from_micros(300);
/// How long workers rest at first, and at most.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(640);

#[derive(Default)]
pub(super) struct Rest {
    n_resting: usize,
    until: Option<Instant>,
    length: Duration,
}

impl Rest {
    /// Workers that take no part in a run that begins now.
    pub(super) fn n_resting(&self, now: Instant) -> usize {
        if self.until.is_some_and(|until| now < until) { self.n_resting } else { 0 }
    }

    /// A run that began at `begun` has been waiting since `since` for `n_inside` workers. True when they were put
    /// aside, as it seems: then this is not asked again for the same run.
    pub(super) fn waited(&mut self, n_inside: usize, begun: Instant, since: Instant, now: Instant) -> bool {
        // A tile of a large product may take milliseconds itself, but not longer than the whole of the others.
        let worked = since.duration_since(begun);
        if now.duration_since(since) < SLICE.max(worked) {
            return false;
        }
        match self.until {
            Some(until) if now < until => self.n_resting += n_inside,
            until => {
                let came_back_lately = until.is_some_and(|until| now.duration_since(until) < 2 * self.length);
                self.length = if came_back_lately { (2 * self.length).min(LONGEST) } else { SHORTEST };
                self.n_resting = n_inside;
                self.until = Some(now + self.length);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn workers_rest_after_a_wait_and_longer_when_it_happens_again() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        let wait = |rest: &mut Rest, at: Instant| rest.waited(2, at - 3 * MS, at - 2 * MS, at);
        assert_eq!(rest.n_resting(start), 0);
        wait(&mut rest, start);
        assert_eq!(rest.n_resting(start + MS), 2);
        // While two rest a third one is put aside.
        rest.waited(1, start - 2 * MS, start - MS, start + MS);
        assert_eq!(rest.n_resting(start + SHORTEST - MS), 3);
        assert_eq!(rest.n_resting(start + SHORTEST), 0);
        // Again at once: twice as long.
        let again = start + SHORTEST + MS;
        wait(&mut rest, again);
        assert_eq!(rest.n_resting(again + 2 * SHORTEST - MS), 2);
        assert_eq!(rest.n_resting(again + 2 * SHORTEST), 0);
        // After a quiet time: as at first.
        let later = again + 100 * SHORTEST;
        wait(&mut rest, later);
        assert_eq!(rest.n_resting(later + SHORTEST), 0);
        let mut at = later + SHORTEST;
        for _ in 0..20 {
            wait(&mut rest, at);
            at += rest.length;
            assert!(rest.length <= LONGEST && rest.n_resting(at) == 0);
        }
        assert_eq!(rest.length, LONGEST);
    }

    #[test]
    fn nobody_rests_for_short_waits_and_long_tiles() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        rest.waited(1, start - MS, start - SLICE / 2, start);
        assert_eq!(rest.n_resting(start), 0);
        rest.waited(1, start - 50 * MS, start - 20 * MS, start);
        assert_eq!(rest.n_resting(start), 0);
    }
}
