//! What a version of a plugin has done, in figures that another version's can be held against.
//!
//! Workers add, whoever judges reads: nobody waits, and no two figures need be of the same moment. Outside of a
//! transition a worker adds what it has counted when it idles or after some messages, and measures some of them where
//! handling is fast; from [`Measured::attend`] on it does both with each message.

use std::array;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use echo_sdk::contract::transition::VersionFigures;

/// Times below this many nanoseconds are not told apart.
const SHORTEST: u64 = 1 << SHORTEST_OCTAVE;
const SHORTEST_OCTAVE: u32 = 6;

/// Times from this many nanoseconds on are not told apart; they are 18 minutes.
const LONGEST: u64 = 1 << LONGEST_OCTAVE;
const LONGEST_OCTAVE: u32 = 40;

/// Into how many a factor of two is divided.
const PER_OCTAVE: usize = 4;

/// Those of the octaves, one for shorter and one for longer times.
pub(crate) const BUCKETS: usize = 2 + (LONGEST_OCTAVE - SHORTEST_OCTAVE) as usize * PER_OCTAVE;

/// The bucket of a time.
fn bucket_of(nanos: u64) -> usize {
    match nanos {
        ..SHORTEST => 0,
        LONGEST.. => BUCKETS - 1,
        _ => {
            let octave = nanos.ilog2();
            let quarter = (nanos >> (octave - 2)) as usize % PER_OCTAVE;
            1 + (octave - SHORTEST_OCTAVE) as usize * PER_OCTAVE + quarter
        }
    }
}

/// The shortest time of a bucket, in nanoseconds.
pub(crate) fn shortest_of(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return 0 };
    let octave = SHORTEST_OCTAVE + (above / PER_OCTAVE) as u32;
    ((PER_OCTAVE + above % PER_OCTAVE) as u64) << (octave - 2)
}

/// What is asked of a version's workers while a transition goes on.
mod asked {
    /// Each message is measured, and told at once.
    pub(super) const MEASURE: u8 = 1;
    /// What handlers do is shown to whoever has another version do the same.
    pub(super) const SHOW: u8 = 2;
}

/// What a version has done so far; shared by all of its workers.
#[derive(Debug)]
pub(crate) struct Measured {
    asked: AtomicU8,
    /// Nothing that the version does may be seen outside.
    is_shadow: AtomicBool,
    attempts: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    postponed: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            asked: AtomicU8::new(0),
            is_shadow: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            postponed: AtomicU64::new(0),
            times: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// What a worker has to do for a message besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(u8);

impl Asked {
    #[inline]
    pub(crate) fn anything(self) -> bool {
        self.0 != 0
    }

    /// Whether what its handler does is to be shown.
    pub(crate) fn to_show(self) -> bool {
        self.0 & asked::SHOW != 0
    }
}

impl Measured {
    /// Says whether each message is measured from now on, and told at once.
    pub(crate) fn attend(&self, wanted: bool) {
        self.ask(asked::MEASURE, wanted);
    }

    /// Says whether what handlers do is shown from now on.
    pub(crate) fn show(&self, wanted: bool) {
        self.ask(asked::SHOW, wanted);
    }

    fn ask(&self, bit: u8, wanted: bool) {
        if wanted {
            self.asked.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.asked.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn asked(&self) -> Asked {
        Asked(self.asked.load(Ordering::Relaxed))
    }

    /// Says whether the version does what it does to be looked at only: nothing that it publishes reaches the bus.
    pub(crate) fn set_shadow(&self, is_shadow: bool) {
        self.is_shadow.store(is_shadow, Ordering::Release);
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.is_shadow.load(Ordering::Acquire)
    }

    /// Adds how long a handler took.
    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.times.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds attempts that have ended.
    pub(crate) fn count(&self, attempts: Attempts) {
        let Attempts { ended, failed, panicked, postponed } = attempts;
        for (count, to) in [
            (ended, &self.attempts),
            (failed, &self.failed),
            (panicked, &self.panicked),
            (postponed, &self.postponed),
        ] {
            if count > 0 {
                to.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// The figures by now.
    pub(crate) fn snapshot(&self) -> Figures {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Figures {
            attempts: read(&self.attempts),
            failed: read(&self.failed),
            panicked: read(&self.panicked),
            postponed: read(&self.postponed),
            times: Times(self.times.each_ref().map(read)),
        }
    }
}

/// How attempts have ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attempts {
    pub(crate) ended: u64,
    /// Those of them that failed, panics included.
    pub(crate) failed: u64,
    pub(crate) panicked: u64,
    /// Those of them whose handler wants the message later.
    pub(crate) postponed: u64,
}

/// What a version has done up to a moment, or between two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Attempts at messages that have ended.
    pub(crate) attempts: u64,
    /// Those of them that failed, panics included.
    pub(crate) failed: u64,
    pub(crate) panicked: u64,
    /// Those of them whose handler wants the message later.
    pub(crate) postponed: u64,
    /// How long handlers took, of those attempts that were measured.
    pub(crate) times: Times,
}

impl Figures {
    /// What was done since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            attempts: self.attempts.saturating_sub(before.attempts),
            failed: self.failed.saturating_sub(before.failed),
            panicked: self.panicked.saturating_sub(before.panicked),
            postponed: self.postponed.saturating_sub(before.postponed),
            times: self.times.with(&before.times, u64::saturating_sub),
        }
    }

    /// Both together.
    pub(crate) fn and(&self, more: &Self) -> Self {
        Self {
            attempts: self.attempts.saturating_add(more.attempts),
            failed: self.failed.saturating_add(more.failed),
            panicked: self.panicked.saturating_add(more.panicked),
            postponed: self.postponed.saturating_add(more.postponed),
            times: self.times.with(&more.times, u64::saturating_add),
        }
    }
}

impl From<&Figures> for VersionFigures {
    fn from(figures: &Figures) -> Self {
        let Figures { attempts, failed, panicked, postponed, times } = figures;
        Self {
            attempts: *attempts,
            failed: *failed,
            panicked: *panicked,
            postponed: *postponed,
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
        }
    }
}

/// Times by size: four buckets to the factor two, so what a bucket holds is known to within a fifth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Times([u64; BUCKETS]);

impl Default for Times {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Times {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.from(0)
    }

    /// How many lie in this bucket and those above it.
    pub(crate) fn from(&self, bucket: usize) -> u64 {
        self.0.iter().skip(bucket).sum()
    }

    /// The bucket with the time that this share of them takes at most; nothing where there are none.
    pub(crate) fn bucket_at(&self, share: f64) -> Option<usize> {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        self.0.iter().position(|count| {
            below += count;
            below >= wanted
        })
    }

    /// What this share of them takes at most, rounded up to the end of a bucket; nothing where there are none.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let bucket = self.bucket_at(share)?;
        Some(Duration::from_nanos(shortest_of((bucket + 1).min(BUCKETS - 1))))
    }

    fn with(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let mut both = self.clone();
        both.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own = f(*own, *other));
        both
    }
}

/// The first bucket whose times are all of at least so many nanoseconds, if there is one.
pub(crate) fn first_from(nanos: f64) -> Option<usize> {
    (0..BUCKETS).find(|bucket| shortest_of(*bucket) as f64 >= nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_times_to_within_a_fifth() {
        let nanos = |bucket| (shortest_of(bucket), shortest_of(bucket + 1));
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(shortest_of(bucket)), bucket);
            assert_eq!(bucket_of(shortest_of(bucket + 1).max(1) - 1), bucket.min(BUCKETS - 1));
        }
        for bucket in 1..BUCKETS - 1 {
            let (shortest, longest) = nanos(bucket);
            assert!((longest - shortest) * 5 <= longest, "{bucket}: {shortest} to {longest}");
        }
        assert_eq!((bucket_of(0), bucket_of(63), bucket_of(64)), (0, 0, 1));
        assert_eq!((bucket_of(LONGEST - 1), bucket_of(u64::MAX)), (BUCKETS - 2, BUCKETS - 1));
        assert!(Duration::from_nanos(LONGEST) > Duration::from_secs(600));
    }

    #[test]
    fn twice_the_time_is_four_buckets_further() {
        for bucket in 1..BUCKETS - PER_OCTAVE {
            let doubled = shortest_of(bucket) as f64 * 2.0;
            assert_eq!(first_from(doubled), Some(bucket + PER_OCTAVE));
        }
        assert_eq!(first_from(0.0), Some(0));
        assert_eq!(first_from(65.0), Some(2), "the bucket from 64 on holds shorter times as well");
        assert_eq!(first_from(1e15), None);
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let measured = Measured::default();
        assert_eq!(VersionFigures::from(&measured.snapshot()), VersionFigures::default());
        for micros in 1..=1_000 {
            measured.record(Duration::from_micros(micros));
        }
        let before = measured.snapshot();
        for (share, exact) in [(0.5, 500), (0.99, 990), (1.0, 1_000), (0.0, 1)] {
            let exact = Duration::from_micros(exact);
            let said = before.times.quantile(share).unwrap();
            assert!(said >= exact && said.mul_f64(0.8) <= exact, "{share}: {said:?}");
        }
        measured.record(Duration::from_secs(1));
        measured.count(Attempts { ended: 2, failed: 1, panicked: 1, postponed: 1 });
        let since = measured.snapshot().since(&before);
        let counts = (since.attempts, since.failed, since.panicked, since.postponed);
        assert_eq!(counts, (2, 1, 1, 1));
        assert_eq!(since.times.count(), 1);
        assert!(since.times.quantile(0.5).unwrap() >= Duration::from_secs(1));
        assert_eq!(before.and(&since), measured.snapshot());
    }

    #[test]
    fn what_is_asked_is_asked_apart() {
        let measured = Measured::default();
        assert!(!measured.asked().anything());
        measured.attend(true);
        assert!(measured.asked().anything() && !measured.asked().to_show());
        measured.show(true);
        measured.attend(false);
        assert!(measured.asked().to_show());
        measured.show(false);
        assert!(!measured.asked().anything());
    }
}
