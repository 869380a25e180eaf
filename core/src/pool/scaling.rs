//! How many workers a pool should have.
//!
//! A pool grows when messages wait although its workers are taken, and only as far as that can help:
//!
//! * Workers that compute share the cores. From the share of their taken time in which handlers computed
//!   follows how many keep the cores busy; more would only get in each other's way.
//! * Where all pools together keep the cores busy, only work that hardly computes gets more workers: its
//!   workers may be waiting for a core, which looks as if they waited for something else.
//! * Workers that wait for something else, a database with four connections, say, may not get more done by
//!   being more. After growing, the pool compares its throughput; where it did not rise, it goes back and
//!   does not try again for a while (hill climbing with back-off).
//!
//! It shrinks when few of its workers are taken. The decisions are pure: a [`Scaler`] is told what was seen
//! in each interval and answers with a number of workers.

use std::time::Duration;

/// How often a pool is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// After growing, so many intervals pass before the throughput is compared.
const SETTLE: u32 = 3;

/// Growing by a factor must raise the throughput by at least this part of what the factor promises.
const WORTHWHILE: f64 = 0.2;

/// How many intervals pass before a growth that did not help is tried again.
const BACK_OFF: u32 = 100;

/// Work that computes for less than this share of its time gets more workers even when the cores are busy.
const HARDLY_COMPUTES: f64 = 0.1;

/// The pool shrinks after it had too many workers for so many intervals.
const CALM: u32 = 20;

/// What a pool may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// The share of the workers that must be taken before growing is thought about.
    pub(crate) threshold: f64,
    pub(crate) cores: usize,
    /// Whether all pools together keep the cores busy.
    pub(crate) saturated: bool,
}

/// What was seen of a pool in one interval.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) workers: usize,
    /// Workers with a message in hand.
    pub(crate) taken: usize,
    /// Whether messages wait that a worker could take now.
    pub(crate) waiting: bool,
    /// Messages handled since the last look.
    pub(crate) handled: u64,
    /// The time in which handlers computed since the last look, of all workers together.
    pub(crate) computed: Duration,
    /// How long ago the last look was.
    pub(crate) elapsed: Duration,
}

impl Seen {
    /// How many cores the pool's handlers kept busy.
    pub(crate) fn busy_cores(&self) -> f64 {
        let elapsed = self.elapsed.as_secs_f64();
        if elapsed == 0.0 { 0.0 } else { self.computed.as_secs_f64() / elapsed }
    }
}

/// Remembers what was seen and decides.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    /// The share of the taken time in which handlers computed, smoothed; `None` before anything was seen.
    computing: Option<f64>,
    trial: Option<Trial>,
    /// The number of workers that proved enough, and for how many intervals to believe it.
    enough: Option<(usize, u32)>,
    calm: u32,
}

/// A growth whose effect is not known yet.
#[derive(Debug, Clone, Copy)]
struct Trial {
    workers_before: usize,
    rate_before: f64,
    intervals: u32,
    handled: u64,
    elapsed: Duration,
}

/// A change of a pool's size, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) workers: usize,
    pub(crate) reason: String,
}

impl Scaler {
    /// Decides on a change after an interval.
    pub(crate) fn decide(&mut self, limits: Limits, seen: Seen) -> Option<Change> {
        self.learn(seen);
        let pressed = seen.waiting && share(seen.taken, seen.workers) >= limits.threshold;
        if let Some((_, intervals)) = &mut self.enough {
            *intervals = intervals.saturating_sub(1);
        }
        self.enough = self.enough.filter(|(_, intervals)| *intervals > 0);
        if let Some(change) = self.conclude_trial(seen, pressed) {
            return Some(change);
        }
        if pressed {
            self.calm = 0;
            return if self.trial.is_none() { self.grow(limits, seen) } else { None };
        }
        self.shrink(limits, seen)
    }

    fn learn(&mut self, seen: Seen) {
        let taken_time = seen.elapsed.mul_f64(seen.taken as f64);
        if seen.taken == 0 || taken_time.is_zero() {
            return;
        }
        let now = (seen.computed.as_secs_f64() / taken_time.as_secs_f64()).min(1.0);
        self.computing = Some(self.computing.map_or(now, |mean| mean.mul_add(0.7, now * 0.3)));
    }

    /// The workers that keep the cores busy.
    fn useful(&self, limits: Limits) -> usize {
        let computing = self.computing.unwrap_or_default().max(1e-3);
        if limits.saturated && computing >= HARDLY_COMPUTES {
            return limits.min;
        }
        // A little generosity: 2.9 is 3.
        let useful = (limits.cores as f64 / computing + 0.25).floor();
        (useful as usize).clamp(limits.min, limits.max)
    }

    fn grow(&mut self, limits: Limits, seen: Seen) -> Option<Change> {
        let ceiling = self.enough.map_or(limits.max, |(enough, _)| enough.max(limits.min));
        let workers = (seen.workers * 2).min(self.useful(limits)).min(ceiling);
        if workers <= seen.workers {
            return None;
        }
        self.trial = Some(Trial {
            workers_before: seen.workers,
            rate_before: rate(seen.handled, seen.elapsed),
            intervals: 0,
            handled: 0,
            elapsed: Duration::ZERO,
        });
        let computing = 100.0 * self.computing.unwrap_or_default();
        let (taken, of) = (seen.taken, seen.workers);
        let reason = format!(
            "messages wait, {taken} of {of} workers are taken, {computing:.0} % of that computing"
        );
        Some(Change { workers, reason })
    }

    /// Looks whether the last growth was worth it.
    fn conclude_trial(&mut self, seen: Seen, pressed: bool) -> Option<Change> {
        let trial = self.trial.as_mut()?;
        trial.intervals += 1;
        trial.handled += seen.handled;
        trial.elapsed += seen.elapsed;
        // Handlers that take longer than the trial say nothing about throughput yet; they wait for
        // something, or they would have counted as computing.
        let silent = trial.handled == 0;
        if trial.intervals < SETTLE && pressed && !silent {
            return None;
        }
        let trial = self.trial.take()?;
        if !pressed || silent || trial.rate_before == 0.0 {
            return None;
        }
        let promised = share(seen.workers, trial.workers_before) - 1.0;
        let gained = rate(trial.handled, trial.elapsed) / trial.rate_before - 1.0;
        if gained >= promised * WORTHWHILE {
            return None;
        }
        self.enough = Some((trial.workers_before, BACK_OFF));
        let (from, to) = (trial.workers_before, seen.workers);
        let gained = 100.0 * gained;
        let reason =
            format!("growing from {from} to {to} workers changed throughput by {gained:.0} %");
        Some(Change { workers: from, reason })
    }

    fn shrink(&mut self, limits: Limits, seen: Seen) -> Option<Change> {
        let idle = share(seen.taken, seen.workers) < limits.threshold / 2.0;
        self.calm = if idle { self.calm + 1 } else { 0 };
        if self.calm < CALM || seen.workers <= limits.min {
            return None;
        }
        self.calm = 0;
        let workers = (seen.workers / 2).max(seen.taken).max(limits.min);
        let (taken, of) = (seen.taken, seen.workers);
        let reason = format!("{taken} of {of} workers are taken");
        (workers < seen.workers).then_some(Change { workers, reason })
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 64, threshold: 0.7, cores: 2, saturated: false };

    /// Runs a pool against a load that is always more than it can do: each worker handles `per_worker`
    /// messages an interval, all together at most `at_most`, and computes for `computing` of its time.
    fn settle(computing: f64, per_worker: u64, at_most: u64, intervals: u32) -> Vec<usize> {
        let mut scaler = Scaler::default();
        let mut workers = 1;
        let mut sizes = Vec::new();
        for _ in 0..intervals {
            // Workers that compute share the cores.
            let computed = (workers as f64 * computing).min(LIMITS.cores as f64);
            let speed = computed / (workers as f64 * computing);
            let handled = ((workers as f64 * per_worker as f64) * speed) as u64;
            let seen = Seen {
                workers,
                taken: workers,
                waiting: true,
                handled: handled.min(at_most),
                computed: INTERVAL.mul_f64(computed),
                elapsed: INTERVAL,
            };
            if let Some(change) = scaler.decide(LIMITS, seen) {
                workers = change.workers;
            }
            sizes.push(workers);
        }
        sizes
    }

    #[test]
    fn work_that_computes_stays_at_the_cores() {
        let sizes = settle(1.0, 100, u64::MAX, 200);
        assert!(sizes.iter().all(|size| *size <= LIMITS.cores), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&2));
    }

    #[test]
    fn work_that_waits_grows_to_the_maximum_within_two_seconds() {
        let sizes = settle(0.001, 1, u64::MAX, 40);
        assert_eq!(sizes.last(), Some(&64), "{sizes:?}");
    }

    #[test]
    fn mixed_work_grows_to_what_keeps_the_cores_busy() {
        // A quarter of the time computing: 8 workers keep 2 cores busy.
        let sizes = settle(0.25, 10, u64::MAX, 40);
        assert_eq!(sizes.last(), Some(&8), "{sizes:?}");
    }

    #[test]
    fn growth_that_does_not_help_is_taken_back() {
        // Something behind the handlers lets no more than four through at once.
        let sizes = settle(0.001, 10, 40, 90);
        let last = *sizes.last().unwrap();
        assert!((4..=8).contains(&last), "{sizes:?}");
    }

    #[test]
    fn busy_cores_keep_work_that_computes_from_growing_and_no_other() {
        let limits = Limits { saturated: true, ..LIMITS };
        for (computing, size) in [(0.5, 2), (0.01, 4)] {
            let seen = Seen {
                workers: 2,
                taken: 2,
                waiting: true,
                handled: 10,
                computed: INTERVAL.mul_f64(computing * 2.0),
                elapsed: INTERVAL,
            };
            let change = Scaler::default().decide(limits, seen);
            assert_eq!(change.map_or(2, |change| change.workers), size, "{computing}");
        }
    }

    #[test]
    fn handlers_longer_than_any_interval_still_get_workers() {
        let mut scaler = Scaler::default();
        let mut workers = 2;
        for _ in 0..20 {
            let seen = Seen {
                workers,
                taken: workers,
                waiting: true,
                elapsed: INTERVAL,
                ..Seen::default()
            };
            if let Some(change) = scaler.decide(LIMITS, seen) {
                workers = change.workers;
            }
        }
        assert_eq!(workers, 64);
    }

    #[test]
    fn an_idle_pool_shrinks_step_by_step_to_its_minimum() {
        let mut scaler = Scaler::default();
        let mut workers = 16;
        let mut sizes = Vec::new();
        for _ in 0..200 {
            let seen = Seen { workers, elapsed: INTERVAL, ..Seen::default() };
            if let Some(change) = scaler.decide(LIMITS, seen) {
                workers = change.workers;
                sizes.push(workers);
            }
        }
        assert_eq!(sizes, [8, 4, 2, 1]);
    }
}
