//! What came of the messages: which of them are missing, came twice or in another order, and how long they took.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use echo_sdk::Subscription;
use echo_test_ledger::Added;
use tokio::time::{MissedTickBehavior, interval};

use super::traffic::Schedule;
use crate::BenchError;

/// How long nothing has to come before all has come.
const QUIET: Duration = Duration::from_millis(500);

/// How long nothing may come while something is missing.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How often it is looked what has come.
const LOOK: Duration = Duration::from_millis(1);

/// What goes on, as the checker has to know it.
#[derive(Debug)]
pub(super) struct Phase {
    /// One of the constants, or a transition's number from [`Self::FIRST`] on.
    now: AtomicU64,
    /// How many messages there are; known at the end.
    messages: AtomicU64,
}

impl Phase {
    const WARM_UP: u64 = 0;
    const UNDISTURBED: u64 = 1;
    const FIRST: u64 = 2;

    pub(super) fn warm_up() -> Arc<Self> {
        let messages = AtomicU64::new(u64::MAX);
        Arc::new(Self { now: AtomicU64::new(Self::WARM_UP), messages })
    }

    pub(super) fn undisturbed(&self) {
        self.now.store(Self::UNDISTURBED, Ordering::Relaxed);
    }

    /// A transition begins; what comes from now on, until the next one, is in its time.
    pub(super) fn transition(&self, number: u64) {
        self.now.store(Self::FIRST + number, Ordering::Relaxed);
    }

    /// Nothing more than these is published.
    pub(super) fn end(&self, messages: u64) {
        self.messages.store(messages, Ordering::Relaxed);
    }
}

/// What came of the messages.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The number of each key that is to come next.
    next: Vec<u64>,
    /// What was left out so far.
    missing: HashSet<(u64, u64)>,
    /// Messages that came for the first time.
    pub(super) messages: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// How long messages took while nothing went on.
    undisturbed: Vec<Duration>,
    /// The longest that one took, by transition.
    worst: Vec<Duration>,
}

impl Seen {
    pub(super) fn new(keys: u64) -> Self {
        Self { next: (0..keys).map(|_| 1).collect(), ..Self::default() }
    }

    /// Takes note of everything until nothing comes any more.
    pub(super) async fn watch(
        mut self,
        mut added: Subscription,
        schedule: Schedule,
        phase: Arc<Phase>,
    ) -> Result<Self, BenchError> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            looks.tick().await;
            // Nobody is woken for each: that would cost more than what is measured.
            let cx = &mut Context::from_waker(Waker::noop());
            while let Poll::Ready(received) = added.poll_next(cx) {
                let Some(received) = received else { return Ok(self) };
                last = Instant::now();
                let added: Added = received.message.json()?;
                self.order(added);
                let due = schedule.due(schedule.number(added.key, added.seq));
                let took = last.saturating_duration_since(due);
                self.time(took, phase.now.load(Ordering::Relaxed));
            }
            let is_all = self.messages >= phase.messages.load(Ordering::Relaxed);
            if last.elapsed() > if is_all { QUIET } else { GIVE_UP } {
                return Ok(self);
            }
        }
    }

    fn order(&mut self, added: Added) {
        let Added { key, seq, last, .. } = added;
        let Some(next) = self.next.get_mut(key as usize) else { return };
        if seq < *next {
            if self.missing.remove(&(key, seq)) {
                self.reordered += 1;
                self.messages += 1;
            } else {
                self.duplicated += 1;
            }
            return;
        }
        self.messages += 1;
        self.missing.extend((*next..seq).map(|left_out| (key, left_out)));
        // The account knows better than the order of arrival.
        self.reordered += u64::from(last + 1 != seq && seq == *next);
        *next = seq + 1;
    }

    fn time(&mut self, took: Duration, phase: u64) {
        if phase == Phase::UNDISTURBED {
            self.undisturbed.push(took);
        } else if let Some(number) = phase.checked_sub(Phase::FIRST) {
            let number = number as usize;
            if self.worst.len() <= number {
                self.worst.resize(number + 1, Duration::ZERO);
            }
            if let Some(worst) = self.worst.get_mut(number) {
                *worst = took.max(*worst);
            }
        }
    }

    /// The longest that messages took in each transition.
    pub(super) fn worst(&self) -> &[Duration] {
        &self.worst
    }

    /// How long messages took.
    pub(super) fn latency(&self) -> Latency {
        let (mut undisturbed, mut worst) = (self.undisturbed.clone(), self.worst.clone());
        undisturbed.sort_unstable();
        worst.sort_unstable();
        let at = |sorted: &[Duration], per_mille: usize| {
            let place = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
            sorted.get(place).copied().unwrap_or_default()
        };
        Latency {
            undisturbed_p999: at(&undisturbed, 999),
            undisturbed_max: at(&undisturbed, 1_000),
            median_worst: at(&worst, 500),
            worst: at(&worst, 1_000),
        }
    }
}

/// How long messages took from when they were due to when they were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) undisturbed_p999: Duration,
    pub(super) undisturbed_max: Duration,
    /// The longest of the transition in the middle.
    pub(super) median_worst: Duration,
    /// The longest of all transitions.
    pub(super) worst: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(key: u64, seq: u64, last: u64) -> Added {
        Added { key, seq, last, sum: 0 }
    }

    #[test]
    fn what_is_missing_comes_twice_or_late_is_told_apart() {
        let mut seen = Seen::new(2);
        for (seq, last) in [(1, 0), (2, 1), (4, 3), (3, 2), (4, 3), (7, 4)] {
            seen.order(added(0, seq, last));
        }
        seen.order(added(1, 1, 0));
        let counts = (seen.messages, seen.duplicated, seen.reordered, seen.missing.len());
        assert_eq!(counts, (6, 1, 1, 2), "5 and 6 are missing, 4 came twice, 3 late");
        seen.order(added(1, 2, 0));
        assert_eq!(seen.reordered, 2, "it came next, and was added to another account");
    }

    #[test]
    fn each_transition_has_its_own_worst() {
        let mut seen = Seen::new(1);
        let millis = Duration::from_millis;
        for took in 1..=1000 {
            seen.time(millis(took), Phase::UNDISTURBED);
        }
        seen.time(millis(5000), Phase::WARM_UP);
        for (took, transition) in [(3, 0), (7, 0), (9, 1), (2, 2)] {
            seen.time(millis(took), Phase::FIRST + transition);
        }
        let latency = Latency {
            undisturbed_p999: millis(1000),
            undisturbed_max: millis(1000),
            median_worst: millis(7),
            worst: millis(9),
        };
        assert_eq!(seen.latency(), latency);
        assert_eq!(Seen::new(1).latency().worst, Duration::ZERO);
    }
}
