//! Lets so many messages pass in a time.

use std::time::Duration;

use echo_sdk::duration;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Attempt, Before, Memo, Middleware, Outgoing, Publishing};

/// How many messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThrottleOptions {
    /// How many messages pass in each `per`.
    #[schemars(range(min = 0.001))]
    pub rate: f64,
    /// The time that `rate` counts in.
    #[serde(with = "duration", default = "second")]
    #[schemars(schema_with = "duration::schema")]
    pub per: Duration,
    /// How many pass at once after a pause.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub burst: u32,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn one() -> u32 {
    1
}

/// Has messages wait so that no more than so many pass in a time. What waits at delivery holds its worker, so
/// the queue fills up and holds publishers back in its turn.
///
/// One instant is all that there is to remember: when the bucket will be full again. A message takes its place
/// as it comes, so waiting messages pass in their order; one that is cut off while it waits leaves its place empty.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    burst: Duration,
    full_at: Mutex<Instant>,
}

impl Throttle {
    /// Lets pass what the options say; a rate that is none counts as the lowest, one in a million seconds.
    pub fn new(options: ThrottleOptions) -> Self {
        let rate = if options.rate > 1e-6 { options.rate } else { 1e-6 };
        let longest = Duration::from_secs(1_000_000);
        let interval = Duration::try_from_secs_f64(options.per.as_secs_f64() / rate)
            .map_or(longest, |interval| interval.min(longest));
        let burst = interval.saturating_mul(options.burst.max(1) - 1);
        Self { interval, burst, full_at: Mutex::new(Instant::now()) }
    }

    /// Takes a place and says how long it is until then. Who would not wait longer than `patience` takes none.
    fn take(&self, patience: Duration) -> Duration {
        let now = Instant::now();
        let mut full_at = self.full_at.lock();
        let taken_until = (*full_at).max(now);
        let wait = taken_until.saturating_duration_since(now).saturating_sub(self.burst);
        if wait <= patience {
            *full_at = taken_until + self.interval;
        }
        wait
    }
}

impl Middleware for Throttle {
    fn name(&self) -> &str {
        "throttle"
    }

    fn before(&self, _attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
        match self.take(Duration::MAX) {
            Duration::ZERO => Before::Go,
            wait => Before::GoAfter(wait),
        }
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        let patience = if outgoing.may_wait { Duration::MAX } else { Duration::ZERO };
        match self.take(patience) {
            Duration::ZERO => Publishing::Go,
            wait => Publishing::GoAfter(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(throttle: &Throttle, patience: Duration) -> u128 {
        throttle.take(patience).as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_one_an_interval() {
        let throttle = Throttle::new(ThrottleOptions { rate: 10.0, per: second(), burst: 3 });
        let waits: Vec<_> = (0..6).map(|_| millis(&throttle, Duration::MAX)).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        tokio::time::advance(Duration::from_millis(350)).await;
        assert_eq!(millis(&throttle, Duration::MAX), 50, "350 ms gave back three and a half");
        tokio::time::advance(Duration::from_secs(3600)).await;
        let waits: Vec<_> = (0..4).map(|_| millis(&throttle, Duration::MAX)).collect();
        assert_eq!(waits, [0, 0, 0, 100], "a long pause gives back no more than the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_takes_no_place() {
        let throttle = Throttle::new(ThrottleOptions { rate: 1.0, per: second(), burst: 1 });
        assert_eq!(millis(&throttle, Duration::ZERO), 0);
        for _ in 0..5 {
            assert_eq!(millis(&throttle, Duration::ZERO), 1000);
        }
        assert_eq!(millis(&throttle, Duration::MAX), 1000);
        assert_eq!(millis(&throttle, Duration::MAX), 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn rates_that_are_none_do_not_divide_by_zero() {
        for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
            let throttle = Throttle::new(ThrottleOptions { rate, per: second(), burst: 0 });
            assert_eq!(millis(&throttle, Duration::MAX), 0, "{rate}");
            assert!(millis(&throttle, Duration::MAX) > 0, "{rate}");
        }
        let endless =
            Throttle::new(ThrottleOptions { rate: f64::INFINITY, per: second(), burst: 1 });
        assert_eq!((0..3).map(|_| millis(&endless, Duration::MAX)).sum::<u128>(), 0);
    }
}
