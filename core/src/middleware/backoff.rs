//! Delays that grow from try to try.

use std::time::Duration;

use uuid::Uuid;

/// A delay that grows by a factor up to a bound, each one shortened at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Backoff {
    pub(super) initial: Duration,
    pub(super) max: Duration,
    pub(super) multiplier: f64,
    /// The share of a delay that chance may take off, 0 to 1.
    pub(super) jitter: f64,
}

impl Backoff {
    /// The delay after so many tries of a message, from 0: the same for the same message and try, and spread
    /// over messages, so that those that failed together do not come back together.
    pub(super) fn delay(&self, tries: u32, id: Uuid) -> Duration {
        let tries = i32::try_from(tries).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.multiplier.max(1.0).powi(tries);
        let bounded = grown.min(self.max.as_secs_f64());
        let kept = 1.0 - self.jitter.clamp(0.0, 1.0) * chance(tries, id);
        Duration::try_from_secs_f64(bounded * kept).unwrap_or(self.max)
    }
}

/// A number from 0 to 1, evenly spread over ids and tries.
fn chance(tries: i32, id: Uuid) -> f64 {
    let (high, low) = id.as_u64_pair();
    // The finaliser of SplitMix64: each bit of what goes in changes about half of those that come out.
    let mut bits = high
        ^ low.rotate_left(32)
        ^ u64::from(tries.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    bits as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Backoff = Backoff {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(1),
        multiplier: 2.0,
        jitter: 0.0,
    };

    #[test]
    fn delays_double_up_to_the_bound() {
        let delays = [0, 1, 2, 3, 4, 1_000_000, u32::MAX].map(|n| PLAIN.delay(n, Uuid::nil()));
        let millis = delays.map(|delay| delay.as_millis());
        assert_eq!(millis, [100, 200, 400, 800, 1000, 1000, 1000]);
        let none = Backoff { initial: Duration::ZERO, ..PLAIN };
        assert_eq!(none.delay(u32::MAX, Uuid::nil()), PLAIN.max, "zero times endless is no number");
        assert_eq!(none.delay(3, Uuid::nil()), Duration::ZERO);
    }

    #[test]
    fn chance_takes_off_up_to_its_share_and_spreads() {
        let jittered = Backoff { jitter: 0.5, ..PLAIN };
        let ids: Vec<Uuid> = (0..200).map(|_| Uuid::now_v7()).collect();
        let delays: Vec<_> = ids.iter().map(|id| jittered.delay(1, *id).as_millis()).collect();
        assert!(delays.iter().all(|delay| (100..=200).contains(delay)), "{delays:?}");
        let (early, late) = delays.iter().partition::<Vec<u128>, _>(|delay| **delay < 150);
        assert!(early.len() > 50 && late.len() > 50, "{} early, {} late", early.len(), late.len());
        assert_eq!(jittered.delay(1, ids[0]), jittered.delay(1, ids[0]));
    }
}
