//! How many workers a pool should have.
//!
//! A pool grows when messages wait although its workers are taken, and only as far as that can help:
//!
//! * **What the cores allow.** `n` workers whose handlers keep `u` cores busy take `n * cores / u` workers to keep all
//!   cores busy, as long as nothing else holds them up (Little's law: each is taken for as long as before, and the cores
//!   can compute so many times as much). More would only get in each other's way. What others keep busy is not there
//!   for this pool, but for a fair share of it. A pool at most doubles at a time.
//! * **What it brought.** Workers that wait for something else, a database with four connections, say, may not get
//!   more done by being more, and what a blocking handler computes is not known. So what has doubled is judged by the
//!   throughput: where that did not rise as much, the pool goes back to the number that does as much, and does
//!   not try again for a while (hill climbing with back-off).
//!
//! It shrinks when few of its workers are taken.
//!
//! Every number is taken from several intervals with the same workers: the first one after a change shows the old
//! number's work as much as the new one's. The decisions are pure: a [`Scaler`] is told what was seen in each interval
//! and answers with a number of workers. `docs/decisions/0012-how-many-workers.md` says where the law comes from.

use std::time::Duration;

/// How often a pool is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// How many intervals after a change are not counted.
const SETTLE: u32 = 1;

/// From so many intervals it is told what a number of workers gets done, where much hangs on it.
const EVIDENCE: u32 = 3;

/// From so many it is believed that growing did not help, and that a little more might.
const DOUBT: u32 = 6;

/// Growth by this factor, in one step or several, is judged; one by less shows no more than chance does.
const JUDGED: f64 = 2.0;

/// Growth by less than this factor in one step is not hurried.
const SMALL: f64 = 1.5;

/// Growing was worth it when this share of the workers is needed for what they do.
const WORTHWHILE: f64 = 0.7;

/// What rises by less than this has not risen.
const NOTHING: f64 = 1.1;

/// So much of a worker is not worth another one.
const LENIENT: f64 = 0.25;

/// How many intervals pass before a growth that did not help is tried again.
const BACK_OFF: u32 = 100;

/// After so many intervals, what fewer workers did says nothing any more.
const OUT_OF_DATE: u32 = 400;

/// The share of its cores that a pool keeps busy when it keeps them busy.
const BUSY: f64 = 0.95;

/// The pool shrinks after it had too many workers for so many intervals.
const CALM: u32 = 20;

/// What a pool may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// The share of the workers that must be taken before growing is thought about.
    pub(crate) threshold: f64,
    /// The cores that the pool may keep busy.
    pub(crate) cores: f64,
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
    /// The time in which handlers computed since the last look, of all workers together. Nobody knows it of handlers
    /// that block their thread: they may wait there.
    pub(crate) computed: Option<Duration>,
    /// How long ago the last look was.
    pub(crate) elapsed: Duration,
}

impl Seen {
    /// How many cores the pool's handlers kept busy, as far as that is known.
    fn busy_cores(&self) -> f64 {
        per_second(self.computed.unwrap_or_default().as_secs_f64(), self.elapsed)
    }
}

/// The cores that each of these pools may keep busy: what the others leave, and an equal share at least among those
/// for which messages wait.
pub(crate) fn shares(cores: f64, pools: &[Seen]) -> impl Iterator<Item = f64> {
    let busy: f64 = pools.iter().map(Seen::busy_cores).sum();
    let equal = cores / pools.iter().filter(|seen| seen.waiting).count().max(1) as f64;
    pools.iter().map(move |seen| (cores - (busy - seen.busy_cores())).max(equal))
}

/// Remembers what was seen and decides.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    /// How many intervals are still not counted.
    settling: u32,
    /// What the workers that there are got done.
    evidence: Evidence,
    /// What fewer workers got done, until the growth is judged.
    before: Option<Before>,
    /// The number of workers that proved enough, and how many intervals ago.
    enough: Option<(usize, u32)>,
    calm: u32,
}

/// What was seen while the workers stayed the same and were pressed.
#[derive(Debug, Clone, Copy, Default)]
struct Evidence {
    intervals: u32,
    handled: u64,
    computed: Option<Duration>,
    elapsed: Duration,
}

impl Evidence {
    fn add(&mut self, seen: Seen) {
        self.intervals += 1;
        self.handled += seen.handled;
        self.computed = seen.computed.map(|computed| self.computed.unwrap_or_default() + computed);
        self.elapsed += seen.elapsed;
    }

    /// What was long ago counts less and less.
    fn fade(&mut self) {
        self.intervals /= 2;
        self.handled /= 2;
        self.computed = self.computed.map(|computed| computed / 2);
        self.elapsed /= 2;
    }

    /// Messages a second; nothing where the handlers take longer than has been looked at.
    fn rate(&self, workers: usize) -> Option<f64> {
        let enough = self.handled >= workers as u64;
        enough.then(|| per_second(self.handled as f64, self.elapsed))
    }

    fn busy_cores(&self) -> Option<f64> {
        self.computed.map(|computed| per_second(computed.as_secs_f64(), self.elapsed))
    }
}

/// How things stood before the pool grew.
#[derive(Debug, Clone, Copy)]
struct Before {
    workers: usize,
    rate: f64,
    /// How many intervals ago that was.
    ago: u32,
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
        self.pass();
        let is_pressed = seen.waiting && share(seen.taken, seen.workers) >= limits.threshold;
        let change = if is_pressed {
            self.calm = 0;
            self.pressed(limits, seen)
        } else {
            self.before = None;
            self.unsettle();
            self.shrink(limits, seen)
        };
        if change.is_some() {
            self.unsettle();
        }
        change
    }

    /// What was found out long ago is believed no more.
    fn pass(&mut self) {
        self.enough = self.enough.filter(|(_, ago)| *ago < BACK_OFF);
        self.before = self.before.filter(|before| before.ago < OUT_OF_DATE);
        if let Some((_, ago)) = &mut self.enough {
            *ago += 1;
        }
        if let Some(before) = &mut self.before {
            before.ago += 1;
        }
    }

    /// What was seen does not speak for what comes.
    fn unsettle(&mut self) {
        self.settling = SETTLE;
        self.evidence = Evidence::default();
    }

    fn pressed(&mut self, limits: Limits, seen: Seen) -> Option<Change> {
        if self.settling > 0 {
            self.settling -= 1;
            return None;
        }
        self.evidence.add(seen);
        if self.evidence.intervals < EVIDENCE {
            return None;
        }
        match self.judge(seen.workers, limits.min) {
            Verdict::Open => None,
            Verdict::InVain(change) => Some(change),
            Verdict::Well => self.grow(limits, seen),
        }
    }

    /// Whether growing was worth it.
    fn judge(&mut self, workers: usize, min: usize) -> Verdict {
        let Some(Before { workers: fewer, rate: slower, .. }) = self.before else {
            return Verdict::Well;
        };
        let factor = share(workers, fewer);
        if factor < JUDGED {
            return Verdict::Well;
        }
        let Some(rate) = self.evidence.rate(workers) else {
            // Handlers that take so long say nothing about throughput yet. They wait for something.
            return self.well();
        };
        let gained = rate / slower;
        // Each did as much as it could when they were fewer, so that so many do what all do now.
        let needed = fewer as f64 * gained;
        if self.evidence.intervals < DOUBT {
            let is_plain = gained - 1.0 >= (factor - 1.0) / 2.0;
            return if is_plain { self.well() } else { Verdict::Open };
        }
        if needed >= WORTHWHILE * workers as f64 {
            return self.well();
        }
        self.before = None;
        let more = if gained < NOTHING { fewer } else { (needed - LENIENT).ceil() as usize };
        let enough = more.clamp(min, workers);
        self.enough = Some((enough, 0));
        let reason = format!("{workers} workers handle {gained:.2} times as much as {fewer} did");
        Verdict::InVain(Change { workers: enough, reason })
    }

    fn well(&mut self) -> Verdict {
        self.before = None;
        Verdict::Well
    }

    fn grow(&mut self, limits: Limits, seen: Seen) -> Option<Change> {
        let busy = self.evidence.busy_cores();
        let ceiling = self.enough.map_or(limits.max, |(enough, _)| enough.min(limits.max));
        // What has doubled is judged first.
        let most = 2 * self.before.map_or(seen.workers, |before| before.workers);
        let workers = useful(seen.workers, busy, limits.cores).min(most).min(ceiling);
        if workers <= seen.workers {
            if self.evidence.intervals >= 2 * DOUBT {
                self.evidence.fade();
            }
            return None;
        }
        if share(workers, seen.workers) < SMALL && self.evidence.intervals < DOUBT {
            return None;
        }
        if self.before.is_none() {
            let rate = self.evidence.rate(seen.workers);
            self.before = rate.map(|rate| Before { workers: seen.workers, rate, ago: 0 });
        }
        let (taken, of, cores) = (seen.taken, seen.workers, limits.cores);
        let busy = busy.map_or_else(String::new, |busy| {
            format!(" and compute on {busy:.1} of {cores:.1} cores")
        });
        let reason = format!("messages wait, {taken} of {of} workers are taken{busy}");
        Some(Change { workers, reason })
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

/// What became of a growth.
enum Verdict {
    /// It was worth it, or there was none that could be judged.
    Well,
    /// It has to be looked at for longer.
    Open,
    InVain(Change),
}

/// The workers that keep the cores busy, as far as that is known.
fn useful(workers: usize, busy: Option<f64>, cores: f64) -> usize {
    match busy {
        Some(busy) if busy >= BUSY * cores => workers,
        Some(busy) if busy > 0.0 => (workers as f64 * cores / busy).round() as usize,
        _ => usize::MAX,
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn per_second(amount: f64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { amount / elapsed.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { min: 1, max: 64, threshold: 0.7, cores: 2.0 };

    /// What handlers do, as far as a pool sees it.
    #[derive(Clone, Copy)]
    struct Work {
        /// The share of a message's time that is computing.
        computing: f64,
        /// How many messages a worker handles in an interval when nothing holds it up.
        per_worker: f64,
        /// How many all of them handle at most: what lies behind them allows no more.
        at_most: f64,
        /// What is seen is off by up to this share, now more and now less.
        noise: f64,
        /// Where chance begins.
        seed: u64,
    }

    impl Default for Work {
        fn default() -> Self {
            Self { computing: 0.001, per_worker: 10.0, at_most: f64::INFINITY, noise: 0.0, seed: 1 }
        }
    }

    /// Runs a pool of one worker against a load that is always more than it can do; gives the sizes that it had.
    fn settle(work: Work, intervals: u32) -> Vec<usize> {
        let (mut scaler, mut workers) = (Scaler::default(), 1);
        let (mut sizes, mut chance) = (Vec::new(), work.seed);
        for _ in 0..intervals {
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            // Workers that compute share the cores.
            let wanted = workers as f64 * work.computing;
            let by_cores = workers as f64 * work.per_worker * (LIMITS.cores / wanted).min(1.0);
            let off = work.noise * ((chance >> 32) as f64 / f64::from(1_u32 << 31) - 1.0);
            let handled = by_cores.min(work.at_most) * (1.0 + off);
            let busy = (handled / work.per_worker * work.computing).min(LIMITS.cores);
            let seen = Seen {
                workers,
                taken: workers,
                waiting: true,
                handled: handled as u64,
                computed: Some(INTERVAL.mul_f64(busy)),
                elapsed: INTERVAL,
            };
            if let Some(change) = scaler.decide(LIMITS, seen) {
                workers = change.workers;
            }
            sizes.push(workers);
        }
        sizes
    }

    /// Without chance, and with some of it, many times over.
    fn seeds(noise: f64) -> impl Iterator<Item = (f64, u64)> {
        std::iter::once((0.0, 0)).chain((1..100).map(move |seed| (noise, seed)))
    }

    #[test]
    fn work_that_computes_stays_at_the_cores() {
        for (noise, seed) in seeds(0.2) {
            let sizes = settle(Work { computing: 1.0, noise, seed, ..Work::default() }, 1000);
            assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
            assert_eq!(sizes[40], 2);
        }
    }

    #[test]
    fn work_that_waits_grows_to_the_maximum_within_two_seconds() {
        for (noise, seed) in seeds(0.2) {
            let sizes = settle(Work { noise, seed, ..Work::default() }, 40);
            assert_eq!(sizes.last(), Some(&64), "{sizes:?}");
        }
    }

    #[test]
    fn mixed_work_grows_to_what_keeps_the_cores_busy() {
        // An eighth of the time computing: 16 workers keep 2 cores busy.
        let sizes = settle(Work { computing: 0.125, ..Work::default() }, 40);
        assert_eq!(sizes.last(), Some(&16), "{sizes:?}");
        // A seventh: what is not a power of two is found as well.
        let sizes = settle(Work { computing: 1.0 / 7.0, ..Work::default() }, 40);
        assert_eq!(sizes.last(), Some(&14), "{sizes:?}");
        // Chance does not lead it far from there, nor further and further.
        for (off, intervals) in [(0.2, 100), (0.1, 1000)] {
            for (noise, seed) in seeds(off) {
                let work = Work { computing: 0.125, noise, seed, ..Work::default() };
                let sizes = settle(work, intervals);
                assert!(sizes[40..].iter().all(|size| (12..=32).contains(size)), "{sizes:?}");
            }
        }
    }

    #[test]
    fn growth_that_does_not_help_is_taken_back() {
        // Something behind the handlers lets no more than four, five or seven through at once.
        for through in [4.0, 5.0, 7.0] {
            for (noise, seed) in seeds(0.1) {
                let work = Work { at_most: 10.0 * through, noise, seed, ..Work::default() };
                let sizes = settle(work, 100);
                let last = *sizes.last().unwrap();
                assert!(
                    (through as usize..=(1.4 * through) as usize + 1).contains(&last),
                    "{through}: {sizes:?}"
                );
            }
        }
    }

    #[test]
    fn growth_in_small_steps_is_judged_too() {
        // The cores never get busier than this, so that a little more always seems to help.
        for (noise, seed) in seeds(0.1) {
            let at_most = 10.0 * 8.0;
            let work = Work { computing: 1.7 / 8.0, at_most, noise, seed, ..Work::default() };
            let sizes = settle(work, 1000);
            assert!(sizes.iter().all(|size| *size <= 20), "{sizes:?}");
        }
    }

    #[test]
    fn a_handler_that_blocks_is_judged_by_its_throughput_alone() {
        let (mut scaler, mut workers) = (Scaler::default(), 1);
        for _ in 0..60 {
            let seen = Seen {
                workers,
                taken: workers,
                waiting: true,
                handled: 10 * workers.min(4) as u64,
                computed: None,
                elapsed: INTERVAL,
            };
            if let Some(change) = scaler.decide(LIMITS, seen) {
                workers = change.workers;
            }
        }
        assert_eq!(workers, 4);
    }

    #[test]
    fn a_pool_has_what_others_leave_and_its_share_at_least() {
        let pool = |busy: f64, waiting| Seen {
            computed: Some(INTERVAL.mul_f64(busy)),
            elapsed: INTERVAL,
            waiting,
            ..Seen::default()
        };
        let shares = |pools: &[Seen]| -> Vec<f64> {
            shares(4.0, pools).map(|share| (share * 100.0).round() / 100.0).collect()
        };
        assert_eq!(shares(&[pool(1.0, true)]), [4.0]);
        assert_eq!(shares(&[pool(1.0, true), pool(0.5, false)]), [4.0, 4.0]);
        assert_eq!(shares(&[pool(3.5, true), pool(0.1, true)]), [3.9, 2.0]);
        assert_eq!(shares(&[pool(3.0, false), pool(0.5, false)]), [4.0, 4.0]);
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
                computed: Some(Duration::ZERO),
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
