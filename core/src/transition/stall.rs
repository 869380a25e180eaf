//! Whether a new version ends any attempt at all: one that hangs fails at nothing, and takes no time that could be
//! measured.

use std::time::Duration;

use tokio::time::Instant;

use super::Objection;

/// How long a version may end no attempt while messages wait, whatever the other one took.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is seen of the version.
#[derive(Debug)]
pub(super) struct Stall {
    attempts: u64,
    /// Since when it has ended none while messages waited.
    since: Instant,
}

/// What is seen of a version at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Attempts that have ended.
    pub(super) attempts: u64,
    /// Whether messages wait while it has others in hand.
    pub(super) messages_wait: bool,
}

impl Stall {
    pub(super) fn new(now: Instant) -> Self {
        Self { attempts: 0, since: now }
    }

    /// Looks at the version. The old one has taken `longest` at most, if anything is known of it, and the new one may take
    /// `latency` times as long.
    pub(super) fn look(
        &mut self,
        now: Instant,
        seen: Seen,
        longest: Option<Duration>,
        latency: f64,
    ) -> Option<Objection> {
        if seen.attempts != self.attempts || !seen.messages_wait {
            *self = Self { attempts: seen.attempts, since: now };
        }
        let longest = longest?;
        let allowed = Duration::try_from_secs_f64(longest.as_secs_f64() * latency);
        let (allowed, took) = (allowed.unwrap_or(Duration::MAX).max(PATIENCE), now - self.since);
        (took > allowed).then(|| {
            Objection(format!(
                "the new version has ended no attempt for {took:.1?} while messages wait; \
                 the old one took up to {longest:.1?} for any"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn look(stall: &mut Stall, now: Instant, attempts: u64, messages_wait: bool) -> bool {
        stall.look(now, Seen { attempts, messages_wait }, Some(MILLI), 2.0).is_some()
    }

    #[test]
    fn whoever_ends_attempts_or_has_nothing_that_waits_does_not_hang() {
        let now = Instant::now();
        let mut stall = Stall::new(now);
        for second in 1..10 {
            assert!(!look(&mut stall, now + Duration::from_secs(second), second, true));
        }
        for second in 10..20 {
            assert!(!look(&mut stall, now + Duration::from_secs(second), 9, false));
        }
        assert!(!look(&mut stall, now + Duration::from_millis(20_000), 9, true));
        assert!(look(&mut stall, now + Duration::from_millis(20_001), 9, true));
    }

    #[test]
    fn it_may_take_as_many_times_as_long_as_the_old_version_as_it_may_otherwise() {
        let now = Instant::now();
        let seen = Seen { attempts: 0, messages_wait: true };
        let objects = |after: u64, longest: Option<u64>, latency| {
            let after = now + Duration::from_secs(after);
            Stall::new(now).look(after, seen, longest.map(Duration::from_secs), latency).is_some()
        };
        assert!(!objects(60, Some(30), 2.0) && objects(61, Some(30), 2.0));
        assert!(!objects(1_000_000, None, 2.0), "nothing is known of the old one");
        assert!(!objects(1_000_000, Some(1), f64::MAX));
    }
}
