//! How one transition is to go.

use std::time::Duration;

use echo_sdk::{TransitionSettings, TransitionStrategy, WorkerPoolConfig};

/// [`TransitionSettings`] with a value for each.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) strategy: TransitionStrategy,
    pub(crate) trial: Duration,
    pub(crate) patience: Duration,
    /// In bytes.
    pub(crate) memory: u64,
}

impl Plan {
    /// What the settings come to for a plugin whose current version has this pool.
    pub(crate) fn new(settings: TransitionSettings, pool: &WorkerPoolConfig) -> Self {
        Self {
            strategy: settings.strategy.unwrap_or_default(),
            trial: settings.trial.unwrap_or(Duration::from_secs(30)),
            patience: settings.patience.unwrap_or(pool.shutdown_timeout),
            memory: settings.memory.unwrap_or(512 << 20),
        }
    }
}
