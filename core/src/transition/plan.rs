//! How one transition is to go.

use std::time::Duration;

use echo_bus::{BUCKETS, Side};
use echo_sdk::{TransitionSettings, TransitionStrategy, WorkerPoolConfig};

/// The percentages of a gradual transition where nobody says.
const STEPS: [u8; 5] = [1, 5, 25, 50, 100];

/// [`TransitionSettings`] with a value for each.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) strategy: TransitionStrategy,
    /// The percentages before the last, which is 100.
    pub(crate) steps: Vec<u8>,
    pub(crate) interval: Duration,
    pub(crate) trial: Duration,
    pub(crate) patience: Duration,
    pub(crate) compare: u32,
    pub(crate) differences: f64,
    pub(crate) errors: f64,
    pub(crate) latency: f64,
    /// In bytes.
    pub(crate) memory: u64,
}

impl Plan {
    /// What the settings come to for a plugin whose current version has this pool.
    pub(crate) fn new(settings: TransitionSettings, pool: &WorkerPoolConfig) -> Self {
        let mut steps = settings.steps.unwrap_or_else(|| STEPS.to_vec());
        steps.retain(|step| *step < 100);
        Self {
            strategy: settings.strategy.unwrap_or_default(),
            steps,
            interval: settings.interval.unwrap_or(Duration::from_secs(10)),
            trial: settings.trial.unwrap_or(Duration::from_secs(30)),
            patience: settings.patience.unwrap_or(pool.shutdown_timeout),
            compare: settings.compare.unwrap_or(100),
            differences: settings.differences.unwrap_or(0.0),
            errors: settings.errors.unwrap_or(0.01),
            latency: settings.latency.unwrap_or(2.0),
            memory: settings.memory.unwrap_or(512 << 20),
        }
    }
}

/// How many buckets are the second side's, where one side gets so many percent of the messages: at least one bucket,
/// unless it is to get none.
pub(crate) fn second(side: Side, share: u8) -> u16 {
    let own = (u16::from(share) * BUCKETS).div_ceil(100).min(BUCKETS);
    match side {
        Side::First => BUCKETS - own,
        Side::Second => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_percentage_has_its_buckets() {
        for (share, own) in [(0, 0), (1, 3), (5, 13), (25, 64), (50, 128), (100, 256)] {
            assert_eq!(second(Side::Second, share), own);
            assert_eq!(second(Side::First, share), 256 - own);
        }
    }
}
