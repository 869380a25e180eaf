//! Whether a new version of a plugin does as well as the old one.
//!
//! [`Judge::look`] is given what both have done since the transition began, as often as one likes and for as long; it
//! has no clock of its own. It objects to
//!
//! * **a panic**, at once, unless the old version panics as often: a message that nobody can handle is no fault of the
//!   new version's;
//! * **failed attempts**: their share is more than [`errors`](Limits::errors) above the old version's;
//! * **messages put off**: the share of the attempts whose handler wants the message later is more than half of all
//!   above the old version's. It may say so, but not of all there is;
//! * **slowness**: for a time that half, or 99 of 100, of the old version's attempts take at most, the share of the
//!   new version's attempts that take [`latency`](Limits::latency) times as long is larger than the old version's share
//!   above that time by more than a margin. Whoever takes at most so many times as long never exceeds it. A version that
//!   gets few messages may take a tenth of a millisecond more at any rate.
//!
//! Of versions that are equal the last three together are wrong about one in a hundred at most, all looks together; how
//! is said in [`evidence`](super::evidence). The figures of both are compared for the same time where the old version
//! works beside the new one, and with those of before where it does not.

use super::Objection;
use super::evidence::{Count, Evidence, Pair};
use crate::actor::{BUCKETS, Figures, Times, first_from, shortest_of};

/// The chance to object to a version that is as good as the old one, one in a hundred in all.
mod chance {
    /// To its failed attempts.
    pub(super) const FAILS: f64 = 0.005;
    /// To its slowness.
    pub(super) const SLOW: f64 = 0.0045;
    /// To messages that it puts off. Little is needed to see that it does so with most of them.
    pub(super) const POSTPONES: f64 = 0.0005;
}

/// By how much the share of the attempts that put their message off may be above the old version's.
const POSTPONED: f64 = 0.5;

/// So many attempts of both are compared at once, at least.
const LEAST: u64 = 8;

/// Where the new version makes so many times as many attempts as the old one, that one is not beside it.
const ALONE: u64 = 16;

/// So many first attempts of the new version may take long: its code is new to the machine.
const WARM_UP: u64 = 100;

/// By so many nanoseconds more than the old version's an attempt may take where the new version gets few messages: what it
/// needs is not near then, and its threads have to be woken.
const COLD: f64 = 100_000.0;

/// What is allowed of a new version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// By how much, 0 to 1, the share of attempts that fail may be above the old version's.
    pub(crate) errors: f64,
    /// How many times as long as with the old version handling may take.
    pub(crate) latency: f64,
}

/// Judges one new version.
#[derive(Debug)]
pub(crate) struct Judge {
    limits: Limits,
    before: Figures,
    /// What was compared so far.
    old: Figures,
    new: Figures,
    errors: Evidence,
    postponed: Evidence,
    /// What the new version had done once it was warm.
    warm: Option<Figures>,
    /// Whether it gets few messages.
    is_cold: bool,
    slowness: [Slowness; 2],
}

/// Whether a part of the attempts takes too long.
#[derive(Debug)]
struct Slowness {
    /// The share of the old version's attempts that takes at most the time that is looked at.
    share: f64,
    evidence: Evidence,
    /// From which buckets on an attempt of the old, and of the new version, takes long.
    from: Option<(usize, usize)>,
}

impl Slowness {
    fn new(share: f64, margins: [f64; 2]) -> Self {
        Self { share, evidence: Evidence::new(chance::SLOW / 2.0, margins, BUCKETS), from: None }
    }

    /// What is looked at, as the old version's attempts so far suggest.
    fn choose(&self, known: &Times, allowed: Allowed) -> Option<(usize, usize)> {
        let old = known.bucket_at(self.share)? + 1;
        let time = shortest_of(old) as f64;
        let new = first_from((time * allowed.latency).max(time + allowed.more))?;
        (old < BUCKETS).then_some((old, new))
    }

    /// Takes in what both did after this was known of them; says whether it is too slow.
    fn add(&mut self, (did, past): (Both<'_>, Both<'_>), known: &Times, allowed: Allowed) -> bool {
        let Some(from) = self.choose(known, allowed) else { return false };
        if self.from.replace(from) != Some(from) {
            self.evidence.restate(past.longer(from));
        }
        self.evidence.add(did.longer(from), longer(known, from.0))
    }
}

/// How long an attempt of the new version may take, beside one of the old.
#[derive(Clone, Copy)]
struct Allowed {
    /// So many times as long.
    latency: f64,
    /// By so many nanoseconds more at any rate.
    more: f64,
}

/// Times of both versions.
#[derive(Clone, Copy)]
struct Both<'a> {
    new: &'a Times,
    old: &'a Times,
}

impl Both<'_> {
    fn longer(self, (old, new): (usize, usize)) -> Pair {
        Pair { new: longer(self.new, new), old: longer(self.old, old) }
    }
}

fn longer(times: &Times, from: usize) -> Count {
    Count { of: times.count(), happened: times.from(from) }
}

fn share(figures: &Figures, of: impl Fn(&Figures) -> u64) -> Count {
    Count { of: figures.attempts, happened: of(figures).min(figures.attempts) }
}

impl Judge {
    /// Judges by what the old version did `before` as well, where that is known.
    pub(crate) fn new(limits: Limits, before: Option<Figures>) -> Self {
        Self {
            limits,
            before: before.unwrap_or_default(),
            old: Figures::default(),
            new: Figures::default(),
            errors: Evidence::new(chance::FAILS, [limits.errors; 2], 1),
            postponed: Evidence::new(chance::POSTPONES, [POSTPONED; 2], 1),
            warm: None,
            is_cold: false,
            slowness: [Slowness::new(0.5, [0.05, 0.05]), Slowness::new(0.99, [0.02, 0.05])],
        }
    }

    /// Says whether the new version gets few messages from now on, which it cannot handle as fast as it would many.
    pub(crate) fn set_cold(&mut self, is_cold: bool) {
        if self.is_cold && !is_cold {
            // What it did while it was cold says nothing of how fast it is.
            self.warm = self.warm.take().map(|_| self.new.clone());
        }
        self.is_cold = is_cold;
    }

    /// Looks at what both have done since the transition began; says what speaks against the new version, if
    /// anything does.
    pub(crate) fn look(&mut self, old: &Figures, new: &Figures) -> Option<Objection> {
        if let Some(objection) = self.panics(old, new) {
            return Some(objection);
        }
        let (mut did_old, did_new) = (old.since(&self.old), new.since(&self.new));
        let is_alone = did_old.attempts < LEAST && did_old.attempts * ALONE < did_new.attempts;
        if did_new.attempts < LEAST || (did_old.attempts < LEAST && !is_alone) {
            return None;
        }
        let known = self.before.and(&self.old);
        if is_alone {
            did_old = Figures::default();
        }
        let of_both = |of: fn(&Figures) -> u64| {
            (Pair { new: share(&did_new, of), old: share(&did_old, of) }, share(&known, of))
        };
        let (did, past) = of_both(|figures| figures.failed);
        let fails = self.errors.add(did, past).then_some(Fault::Fails);
        let (did, past) = of_both(|figures| figures.postponed);
        let postpones = self.postponed.add(did, past).then_some(Fault::Postpones);
        let is_slow = self.times(&did_old, &did_new, &known);
        let is_slow = is_slow.map(|share| Fault::Slow { share, latency: self.limits.latency });
        (self.old, self.new) = (old.clone(), new.clone());
        fails.or(postpones).or(is_slow).map(|fault| self.objection(fault))
    }

    fn panics(&self, old: &Figures, new: &Figures) -> Option<Objection> {
        let known = self.before.and(old);
        let often = u128::from(new.panicked) * u128::from(known.attempts)
            > 2 * u128::from(known.panicked) * u128::from(new.attempts);
        let panics = new.panicked > known.panicked && (often || known.attempts == 0);
        panics.then(|| Fault::Panics.said(&known, new))
    }

    /// The share of the attempts that takes too long, if one does.
    fn times(&mut self, old: &Figures, new: &Figures, known: &Figures) -> Option<f64> {
        if self.new.times.count() < WARM_UP {
            return None;
        }
        let warm = self.warm.get_or_insert_with(|| self.new.clone());
        let past = self.new.since(warm);
        let did = Both { new: &new.times, old: &old.times };
        let past = Both { new: &past.times, old: &self.old.times };
        let more = if self.is_cold { COLD } else { 0.0 };
        let allowed = Allowed { latency: self.limits.latency, more };
        let slow = self.slowness.iter_mut().map(|slowness| {
            slowness.add((did, past), &known.times, allowed).then_some(slowness.share)
        });
        slow.reduce(Option::or).flatten()
    }

    fn objection(&self, fault: Fault) -> Objection {
        // Beside it where it was, since the times may be others now; and not by attempts that nobody took the time of.
        let is_known = match fault {
            Fault::Slow { .. } => self.old.times.count() > 0,
            Fault::Panics | Fault::Fails | Fault::Postpones => self.old.attempts > 0,
        };
        let old = if is_known { &self.old } else { &self.before };
        fault.said(old, &self.new)
    }
}

/// What speaks against a new version.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Panics,
    Fails,
    Postpones,
    Slow { share: f64, latency: f64 },
}

impl Fault {
    /// Says so in a sentence with the figures.
    fn said(self, old: &Figures, new: &Figures) -> Objection {
        let part = |figures: &Figures, of: u64| {
            let share = of as f64 * 100.0 / figures.attempts.max(1) as f64;
            format!("{of} of {} attempts ({share:.1} %)", figures.attempts)
        };
        Objection(match self {
            Self::Panics => {
                let (new, old) = (part(new, new.panicked), part(old, old.panicked));
                format!("the new version panicked at {new}, the old one at {old}")
            }
            Self::Fails => {
                let (new, old) = (part(new, new.failed), part(old, old.failed));
                format!("the new version failed at {new}, the old one at {old}")
            }
            Self::Postpones => {
                let (new, old) = (part(new, new.postponed), part(old, old.postponed));
                format!("the new version wants messages later at {new}, the old one at {old}")
            }
            Self::Slow { share, latency } => {
                let time = |figures: &Figures| figures.times.quantile(share).unwrap_or_default();
                let (part, new, old) = ((share * 100.0).round(), time(new), time(old));
                format!(
                    "the new version takes more than {latency} times as long: \
                     {part} of 100 attempts took up to {new:.1?}, with the old one up to {old:.1?}"
                )
            }
        })
    }
}

#[cfg(test)]
mod tests;
