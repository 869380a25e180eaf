//! When a message that failed is tried again.

use std::time::Duration;

use echo_sdk::BaseMessage;

/// Exponential growth from `base` to `max`, each delay jittered down by up to half.
///
/// Jitter spreads the retries of messages that failed together ("equal jitter", Marc Brooker, "Exponential
/// Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The delay before the second attempt.
    pub base: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { base: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// How long to wait after the message's `attempt`-th failure, counted from 1.
    ///
    /// The jitter comes from the message's id, which is random, and the attempt: the same message waits the
    /// same time wherever it is computed, two messages do not.
    pub fn delay(&self, message: &BaseMessage, attempt: u16) -> Duration {
        let doublings = u32::from(attempt.saturating_sub(1)).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.max);
        let [.., a, b, c, d] = message.id().into_bytes();
        let seed = u32::from_le_bytes([a, b, c, d]) ^ u32::from(attempt);
        let share = f64::from(seed.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
        full.mul_f64(1.0 - share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_within_their_jitter_and_stay_below_the_maximum() {
        let policy = RetryPolicy { base: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut first = Vec::new();
        for _ in 0..100 {
            let message = BaseMessage::builder("test").build().unwrap();
            for (attempt, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (40, 1000)] {
                let full = Duration::from_millis(full);
                let delay = policy.delay(&message, attempt);
                assert!(delay <= full && delay >= full / 2, "attempt {attempt}: {delay:?}");
            }
            first.push(policy.delay(&message, 1));
        }
        first.sort();
        first.dedup();
        assert!(first.len() > 50, "the jitter spreads: {} different delays", first.len());
    }
}
