//! Two versions, simulated message by message and looked at all the time.

use std::time::Duration;

use super::*;
use crate::actor::{Attempts, Measured};

const LIMITS: Limits = Limits { errors: 0.01, latency: 2.0 };

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let (radius, angle) = (self.share().max(1e-12), self.share() * std::f64::consts::TAU);
        let normal = (-2.0 * radius.ln()).sqrt() * angle.cos();
        median * (sigma * normal).exp()
    }
}

/// How a version handles messages.
struct Version {
    errors: f64,
    nanos: Vec<u64>,
    measured: Measured,
}

impl Version {
    fn new(dice: &mut Dice, errors: f64, median: f64, sigma: f64) -> Self {
        let nanos = (0..1 << 14).map(|_| dice.lognormal(median, sigma) as u64).collect();
        Self { errors, nanos, measured: Measured::default() }
    }

    fn handle(&self, dice: &mut Dice) {
        let number = dice.next();
        self.measured.record(Duration::from_nanos(self.nanos[number as usize % self.nanos.len()]));
        let failed = u64::from(dice.share() < self.errors);
        self.measured.count(Attempts { ended: 1, failed, ..Attempts::default() });
    }

    fn figures(&self) -> Figures {
        self.measured.snapshot()
    }

    fn afresh(&mut self) {
        self.measured = Measured::default();
    }
}

/// How the messages are divided.
#[derive(Clone, Copy)]
enum Course {
    /// All for the new version; so many were the old one's before.
    After(u64),
    /// So many of 50 for the new version.
    Beside(u64),
}

/// Has so many messages handled by the new version and judges every 50 of all; gives back after how many of the new
/// version's there was an objection.
fn run(
    dice: &mut Dice,
    course: Course,
    messages: u64,
    old: &Version,
    new: &Version,
) -> Option<(u64, Objection)> {
    let (of_new, before) = match course {
        Course::Beside(of_new) => (of_new, None),
        Course::After(before) => {
            (0..before).for_each(|_| old.handle(dice));
            (50, Some(old.figures()))
        }
    };
    let began = before.clone().unwrap_or_default();
    let mut judge = Judge::new(LIMITS, before);
    loop {
        (0..50 - of_new).for_each(|_| old.handle(dice));
        (0..of_new).for_each(|_| new.handle(dice));
        let figures = new.figures();
        if let Some(objection) = judge.look(&old.figures().since(&began), &figures) {
            return Some((figures.attempts, objection));
        }
        if figures.attempts >= messages {
            return None;
        }
    }
}

/// How many runs to try; more are asked for where somebody has the time.
fn runs(few: u64) -> u64 {
    std::env::var("ECHO_JUDGE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(few)
}

/// Versions that are equal; gives back how many of the runs had an objection.
fn wrong(course: Course, errors: f64, sigma: f64, messages: u64, runs: u64) -> Vec<String> {
    let mut dice = Dice(7);
    let mut old = Version::new(&mut dice, errors, 30_000.0, sigma);
    let mut new = Version::new(&mut dice, errors, 30_000.0, sigma);
    (0..runs)
        .filter_map(|_| {
            old.afresh();
            new.afresh();
            let objection = run(&mut dice, course, messages, &old, &new);
            objection.map(|(at, objection)| format!("{at}: {objection:?}"))
        })
        .collect()
}

#[test]
fn equal_versions_are_hardly_ever_objected_to() {
    for course in [Course::Beside(25), Course::Beside(5), Course::After(1_000)] {
        for (errors, sigma) in [(0.001, 0.5), (0.2, 1.5)] {
            let runs = runs(6);
            let wrong = wrong(course, errors, sigma, 100_000, runs);
            assert!(wrong.len() as u64 * 100 <= runs, "{} of {runs}: {wrong:?}", wrong.len());
        }
    }
}

/// The most messages of the new version, in all of many runs, after which there is the objection.
fn found(course: Course, errors: f64, median: f64, sigma: f64, word: &str) -> u64 {
    let mut dice = Dice(11);
    let mut old = Version::new(&mut dice, 0.0, 30_000.0, sigma);
    let mut new = Version::new(&mut dice, errors, median, sigma);
    let found = (0..runs(100)).map(|_| {
        old.afresh();
        new.afresh();
        let objection = run(&mut dice, course, 20_000, &old, &new);
        let (at, objection) = objection.expect("somebody has to see it");
        assert!(objection.0.contains(word), "{objection:?}");
        at
    });
    found.max().unwrap()
}

#[test]
fn failing_at_one_message_in_twenty_is_seen_within_a_thousand() {
    for course in [Course::Beside(25), Course::Beside(1), Course::After(10_000)] {
        let at = found(course, 0.05, 30_000.0, 0.5, "failed");
        assert!(at <= 1_000, "{at}");
    }
}

#[test]
fn three_times_slower_is_seen_within_five_hundred() {
    for course in [Course::Beside(25), Course::Beside(5), Course::After(10_000)] {
        for sigma in [0.05, 0.5] {
            let at = found(course, 0.0, 90_000.0, sigma, "times as long");
            assert!(at <= 500, "{sigma}: {at}");
        }
    }
}

#[test]
fn what_is_bad_for_both_is_no_fault_of_the_new_one() {
    let mut dice = Dice(3);
    let good = |dice: &mut Dice| Version::new(dice, 0.0, 30_000.0, 0.5);
    let bad = |dice: &mut Dice| Version::new(dice, 0.5, 3_000_000.0, 0.5);
    let (good, bad) = (good(&mut dice), bad(&mut dice));
    let (old, new) = (Measured::default(), Measured::default());
    let mut judge = Judge::new(LIMITS, None);
    for round in 0..4_000 {
        // A service that both need is away for a while, and more and more messages are the new version's.
        let of_new = if round < 2_000 { 5 } else { 25 };
        let version = if (2_500..3_000).contains(&round) { &bad } else { &good };
        for message in 0..50 {
            let measured = if message < of_new { &new } else { &old };
            let number = dice.next() as usize % version.nanos.len();
            measured.record(Duration::from_nanos(version.nanos[number]));
            let failed = u64::from(dice.share() < version.errors);
            measured.count(Attempts { ended: 1, failed, ..Attempts::default() });
        }
        let objection = judge.look(&old.snapshot(), &new.snapshot());
        assert_eq!(objection, None, "{round}");
    }
}

#[test]
fn a_version_may_put_messages_off_but_not_most_of_them() {
    let look = |of_old: f64, of_new: f64| {
        let (mut dice, mut judge) = (Dice(9), Judge::new(LIMITS, None));
        let [old, new] = [of_old, of_new].map(|share| (Measured::default(), share));
        (0..200).find_map(|_| {
            for (measured, share) in [&old, &new] {
                for _ in 0..50 {
                    let postponed = u64::from(dice.share() < *share);
                    measured.count(Attempts { ended: 1, postponed, ..Attempts::default() });
                }
            }
            judge.look(&old.0.snapshot(), &new.0.snapshot())
        })
    };
    for (old, new) in [(0.0, 0.4), (0.3, 0.7), (1.0, 1.0)] {
        assert_eq!(look(old, new), None, "{old} and {new}");
    }
    for (old, new) in [(0.0, 1.0), (0.0, 0.7), (0.3, 0.95)] {
        let Objection(why) = look(old, new).unwrap();
        assert!(why.contains("wants messages later at"), "{why}");
    }
}

#[test]
fn a_panic_is_enough() {
    let figures = |attempts, panicked| {
        let measured = Measured::default();
        measured.count(Attempts { ended: attempts, failed: panicked, panicked, postponed: 0 });
        measured.snapshot()
    };
    let look = |before: (u64, u64), old: (u64, u64), new: (u64, u64)| {
        let mut judge = Judge::new(LIMITS, Some(figures(before.0, before.1)));
        judge.look(&figures(old.0, old.1), &figures(new.0, new.1))
    };
    let said = look((5_000, 0), (1_000, 0), (3, 1)).map(|Objection(sentence)| sentence);
    let sentence = "the new version panicked at 1 of 3 attempts (33.3 %), the old one at 0 of 6000 \
                    attempts (0.0 %)";
    assert_eq!(said.as_deref(), Some(sentence));
    assert!(look((0, 0), (0, 0), (1, 1)).is_some());
    assert_eq!(look((5_000, 0), (0, 0), (7, 0)), None);
    // A message that panics them both, wherever it comes next.
    assert_eq!(look((5_000, 2), (0, 0), (3, 2)), None);
    assert!(look((5_000, 2), (0, 0), (5, 3)).is_some());
    // And one in a hundred messages.
    assert_eq!(look((500, 5), (500, 5), (1_000, 15)), None);
}

#[test]
fn what_takes_too_long_is_said_beside_times_that_there_are() {
    let mut dice = Dice(6);
    let (old, new) = (
        Version::new(&mut dice, 0.0, 30_000.0, 0.05),
        Version::new(&mut dice, 0.0, 90_000.0, 0.05),
    );
    (0..5_000).for_each(|_| old.handle(&mut dice));
    let mut judge = Judge::new(LIMITS, Some(old.figures()));
    // What it had in hand at the cut, too little to be measured.
    let left = Measured::default();
    left.count(Attempts { ended: 5, ..Attempts::default() });
    let Objection(sentence) = loop {
        (0..50).for_each(|_| new.handle(&mut dice));
        if let Some(objection) = judge.look(&left.snapshot(), &new.figures()) {
            break objection;
        }
        assert!(new.figures().attempts < 1_000, "nothing was said");
    };
    assert!(sentence.contains("with the old one up to 3"), "{sentence}");
}

#[test]
fn no_figures_are_no_objection() {
    let mut judge = Judge::new(LIMITS, None);
    assert_eq!(judge.look(&Figures::default(), &Figures::default()), None);
    let mut dice = Dice(5);
    let new = Version::new(&mut dice, 0.5, 30_000.0, 0.5);
    // Nothing is known of the old version: nothing can be said but that it panicked.
    for _ in 0..100 {
        (0..50).for_each(|_| new.handle(&mut dice));
        assert_eq!(judge.look(&Figures::default(), &new.figures()), None);
    }
}

/// Has both handle so many messages, the new version one in a hundred, and looks each 50 of that.
fn cold(
    judge: &mut Judge,
    dice: &mut Dice,
    (old, new): (&Version, &Version),
    messages: u64,
) -> Option<Objection> {
    (1..=messages).find_map(|message| {
        (0..99).for_each(|_| old.handle(dice));
        new.handle(dice);
        message.is_multiple_of(50).then(|| judge.look(&old.figures(), &new.figures())).flatten()
    })
}

#[test]
fn a_version_that_gets_few_messages_may_be_cold_but_not_slow() {
    let mut dice = Dice(7);
    let (old, mut new) =
        (Version::new(&mut dice, 0.0, 7_000.0, 0.3), Version::new(&mut dice, 0.0, 33_000.0, 0.3));
    let mut judge = Judge::new(LIMITS, None);
    judge.set_cold(true);
    assert_eq!(cold(&mut judge, &mut dice, (&old, &new), 2_000), None);
    // With many messages it is as fast as the other, and what it did before counts no more.
    judge.set_cold(false);
    new.nanos = Version::new(&mut dice, 0.0, 7_000.0, 0.3).nanos;
    for message in 0..20_000_u64 {
        old.handle(&mut dice);
        new.handle(&mut dice);
        if message.is_multiple_of(50) {
            assert_eq!(judge.look(&old.figures(), &new.figures()), None, "{message}");
        }
    }
    let (old, new) = (
        Version::new(&mut dice, 0.0, 1_000_000.0, 0.3),
        Version::new(&mut dice, 0.0, 3_000_000.0, 0.3),
    );
    let mut judge = Judge::new(LIMITS, None);
    judge.set_cold(true);
    let Objection(why) = cold(&mut judge, &mut dice, (&old, &new), 1_000).unwrap();
    assert!(why.contains("times as long"), "{why}");
}
