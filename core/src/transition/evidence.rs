//! Whether something happens more often with the new version than with the old one, asked as often as one likes.
//!
//! What is looked at are attempts at which something happened or not: that they failed, or took long. The claim is that
//! it happens with the new version at most so much more often than with the old one. Evidence against it is a bet on
//! the contrary: it starts with 1 and is staked on each [`Pair`] of what both versions did in the same time, so that
//! it is expected not to grow as long as the claim holds. The chance that it ever comes to `1/alpha` is then at most
//! `alpha`, however often somebody looks (Ville's inequality, 1939).
//!
//! * **The bet** on a pair is the ratio of two likelihoods: of the rates that past pairs suggest, and of those closest
//!   to them that the claim allows. Its expectation is at most 1 under all rates that the claim allows, and these may
//!   be others for each pair (Turner and Grünwald, "Exact anytime-valid confidence intervals for contingency tables
//!   and beyond", 2023). So a load that slows both versions down, or a service that fails them both for a while, is
//!   no evidence. Where a pair is large beside what is known so far, a part of the stake is kept back.
//! * **Without the old version beside it** the rate of before is what counts: at most the upper end of a confidence
//!   sequence, which follows from the same inequality with the bound of Krichevsky and Trofimov ("The performance of
//!   universal encoding", 1981). It is wrong with a chance of its own, which is a part of `alpha`.
//! * **For hours.** The past of a version that did well for long outweighs what it does now. So beside the bet that
//!   goes on for ever there is one that begins anew each [`EPOCH`], the `k`-th with the part `6/(pi k)^2` of its share
//!   of `alpha`, which sums to the whole.
//!
//! What is assumed: whether it happens at one attempt does not depend on the others of its pair.

use std::f64::consts::PI;

/// How much of `alpha` goes to the rate of before, to the bet that goes on, and to those that begin anew.
const SHARES: [f64; 3] = [0.2, 0.4, 0.4];

/// After so many attempts of the new version a bet begins anew.
const EPOCH: u64 = 10_000;

/// By how much less a bet that begins anew counts what was before it.
const FADE: u64 = 16;

/// How often something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) of: u64,
    pub(super) happened: u64,
}

impl Count {
    fn and(self, more: Self) -> Self {
        Self { of: self.of + more.of, happened: self.happened + more.happened }
    }

    fn faded(self) -> Self {
        Self { of: self.of / FADE, happened: self.happened / FADE }
    }

    /// A guess at the rate, which is never 0 or 1.
    fn guess(self) -> f64 {
        (self.happened as f64 + 0.5) / (self.of as f64 + 1.0)
    }

    /// What the rate is at most; the chance that it is ever above what is said is at most `alpha`.
    fn at_most(self, alpha: f64) -> f64 {
        if self.of == 0 {
            return 1.0;
        }
        let of = self.of as f64;
        let seen = self.happened as f64 / of;
        let bound = (2.0 * of.sqrt() / alpha).ln() / of;
        bisect(seen, 1.0, |rate| divergence(seen, rate) < bound)
    }

    /// The logarithm of how much more likely the count is under one rate than under another.
    fn log_ratio(self, rate: f64, other: f64) -> f64 {
        let not = (self.of - self.happened) as f64;
        self.happened as f64 * (rate / other).ln() + not * ((1.0 - rate) / (1.0 - other)).ln()
    }
}

/// What both versions did in the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) new: Count,
    pub(super) old: Count,
}

impl Pair {
    fn and(self, more: Self) -> Self {
        Self { new: self.new.and(more.new), old: self.old.and(more.old) }
    }

    fn faded(self) -> Self {
        Self { new: self.new.faded(), old: self.old.faded() }
    }

    fn len(self) -> f64 {
        (self.new.of + self.old.of) as f64
    }
}

/// What is claimed of the new version's rate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Claim {
    /// It is at most so much above the old one's at the same time.
    Above(f64),
    /// It is at most this.
    AtMost(f64),
}

/// What speaks against one claim so far.
#[derive(Debug)]
pub(super) struct Evidence {
    /// By how much the new version's rate may be above that of the old one: of the one beside it, and of before.
    margins: [f64; 2],
    /// The chance that the rate of before is said to be lower than it is.
    alpha_before: f64,
    lasting: Bet,
    current: Bet,
    alpha_current: f64,
    /// How many bets began before the current one, and the new version's attempts since it did.
    epochs: u32,
    in_epoch: u64,
}

impl Evidence {
    /// Of a claim that may be rejected wrongly with a chance of at most `alpha`. Which of `alternatives` what happens
    /// is may be chosen by what the old version did.
    pub(super) fn new(alpha: f64, margins: [f64; 2], alternatives: usize) -> Self {
        let [before, lasting, current] = SHARES.map(|share| share * alpha);
        Self {
            margins,
            alpha_before: before / alternatives.max(1) as f64,
            lasting: Bet::with(lasting),
            current: Bet::with(current * 6.0 / PI.powi(2)),
            alpha_current: current,
            epochs: 0,
            in_epoch: 0,
        }
    }

    /// From now on something else is counted, and this is what is known of it.
    pub(super) fn restate(&mut self, past: Pair) {
        self.lasting.past = past;
        self.current.past = past.faded();
    }

    /// Takes in what both did, and what is known of the old version `before` that. Says whether it is enough to reject
    /// the claim.
    pub(super) fn add(&mut self, pair: Pair, before: Count) -> bool {
        let [beside, after] = self.margins;
        let claim = match pair.old.of {
            0 => Claim::AtMost(before.at_most(self.alpha_before) + after),
            _ => Claim::Above(beside),
        };
        let is_rejected = self.lasting.stake(pair, claim) | self.current.stake(pair, claim);
        self.in_epoch += pair.new.of;
        if self.in_epoch >= EPOCH {
            self.in_epoch = 0;
            self.epochs = self.epochs.saturating_add(1);
            let past = self.current.past.faded();
            let number = f64::from(self.epochs) + 1.0;
            let alpha = self.alpha_current * 6.0 / (PI * number).powi(2);
            self.current = Bet { past, ..Bet::with(alpha) };
        }
        is_rejected
    }
}

/// A bet against a claim.
#[derive(Debug)]
struct Bet {
    /// The logarithm of what the first stake has become.
    grown: f64,
    enough: f64,
    past: Pair,
}

impl Bet {
    fn with(alpha: f64) -> Self {
        Self { grown: 0.0, enough: -alpha.ln(), past: Pair::default() }
    }

    /// Stakes all that there is; says whether it has ever become enough.
    fn stake(&mut self, pair: Pair, claim: Claim) -> bool {
        if let Some(ratio) = self.log_ratio(pair, claim) {
            let kept = pair.len() / (pair.len() + self.past.len());
            // The logarithm of `kept + (1 - kept) * exp(ratio)`, where that may be huge.
            self.grown += ratio.max(0.0)
                + (kept * (-ratio.max(0.0)).exp() + (1.0 - kept) * ratio.min(0.0).exp()).ln();
        }
        self.past = self.past.and(pair);
        self.grown >= self.enough
    }

    /// What the stake is multiplied by, as a logarithm; nothing where the past does not speak against the claim.
    fn log_ratio(&self, pair: Pair, claim: Claim) -> Option<f64> {
        let new = self.past.new.guess();
        if self.past.new.of == 0 || pair.new.of == 0 {
            return None;
        }
        match claim {
            Claim::AtMost(most) => (new > most).then(|| pair.new.log_ratio(new, most)),
            Claim::Above(margin) => {
                let old = self.past.old.guess();
                if new <= old + margin {
                    return None;
                }
                let nearest = nearest(pair, new, old, margin);
                let ratio = pair.new.log_ratio(new, nearest + margin);
                Some(ratio + pair.old.log_ratio(old, nearest))
            }
        }
    }
}

/// The rate of the old version, with the margin the new one's, that is closest to these two for counts of this size.
fn nearest(pair: Pair, new: f64, old: f64, margin: f64) -> f64 {
    let slope = |of: u64, rate: f64, at: f64| of as f64 * (rate - at) / (at * (1.0 - at));
    bisect(old, new - margin, |at| {
        slope(pair.new.of, new, at + margin) + slope(pair.old.of, old, at) > 0.0
    })
}

/// Where `goes_on` ends to be true between two numbers.
fn bisect(mut from: f64, mut to: f64, goes_on: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..48 {
        let middle = f64::midpoint(from, to);
        *(if goes_on(middle) { &mut from } else { &mut to }) = middle;
    }
    to
}

/// How badly a rate explains what was seen at another, for each attempt.
fn divergence(seen: f64, rate: f64) -> f64 {
    let part = |seen: f64, rate: f64| if seen > 0.0 { seen * (seen / rate).ln() } else { 0.0 };
    part(seen, rate) + part(1.0 - seen, 1.0 - rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(of: u64, happened: u64) -> Count {
        Count { of, happened }
    }

    /// The chance of each count of so many attempts at a rate.
    fn binomial(of: u64, rate: f64) -> Vec<f64> {
        let mut chances = vec![1.0];
        for _ in 0..of {
            let mut next = vec![0.0; chances.len() + 1];
            for (happened, chance) in chances.iter().enumerate() {
                next[happened] += chance * (1.0 - rate);
                next[happened + 1] += chance * rate;
            }
            chances = next;
        }
        chances
    }

    #[test]
    fn no_bet_is_expected_to_grow_under_rates_that_the_claim_allows() {
        let pasts = [(40, 9, 60, 2), (8, 8, 900, 3), (1_000, 30, 10, 0), (5, 1, 1, 0)];
        let sizes = [(1, 1), (7, 13), (30, 3), (12, 0)];
        for (new_of, new, old_of, old) in pasts {
            for (n, m) in sizes {
                for margin in [0.0, 0.01, 0.2] {
                    for old_rate in [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0] {
                        let new_rate = f64::min(old_rate + margin, 1.0);
                        let claim = match m {
                            0 => Claim::AtMost(new_rate.clamp(1e-9, 1.0)),
                            _ => Claim::Above(margin),
                        };
                        let mut expected = 0.0;
                        for (happened, chance) in binomial(n, new_rate).iter().enumerate() {
                            for (also, other) in binomial(m, old_rate).iter().enumerate() {
                                let past =
                                    Pair { new: count(new_of, new), old: count(old_of, old) };
                                let mut bet = Bet { past, ..Bet::with(0.01) };
                                let pair = Pair {
                                    new: count(n, happened as u64),
                                    old: count(m, also as u64),
                                };
                                bet.stake(pair, claim);
                                expected += chance * other * bet.grown.exp();
                            }
                        }
                        assert!(expected < 1.0 + 1e-9, "{new}/{new_of} {claim:?}: {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_bet_on_what_is_so_grows() {
        let mut bet = Bet::with(0.001);
        let pair = Pair { new: count(50, 5), old: count(50, 0) };
        let pairs = (1..=20).position(|_| bet.stake(pair, Claim::Above(0.01)));
        assert!(pairs.is_some_and(|pairs| pairs < 10), "{pairs:?} {bet:?}");
    }

    #[test]
    fn the_rate_of_before_is_bounded_from_above() {
        assert_eq!(count(0, 0).at_most(0.001), 1.0);
        let few = count(100, 10).at_most(0.001);
        let many = count(100_000, 10_000).at_most(0.001);
        assert!(0.1 < many && many < 0.11 && many < few && few < 0.4, "{few} {many}");
        assert!(count(1_000, 0).at_most(0.001) < 0.02);
        assert!(count(10, 10).at_most(0.001) > 0.999);
    }

    #[test]
    fn what_goes_wrong_late_is_seen_soon() {
        let mut evidence = Evidence::new(0.005, [0.01, 0.01], 1);
        let good = Pair { new: count(50, 0), old: count(50, 0) };
        for _ in 0..20_000 {
            assert!(!evidence.add(good, Count::default()));
        }
        let bad = Pair { new: count(50, 5), old: count(50, 0) };
        let pairs = (0..100).position(|_| evidence.add(bad, Count::default()));
        assert!(pairs.is_some(), "a million good messages make a hundred bad ones no better");
    }
}
