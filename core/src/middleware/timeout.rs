//! Cuts off what takes too long.

use std::time::Duration;

use echo_sdk::duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Attempt, Before, Memo, Middleware};

/// How long handling may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutOptions {
    /// The time after which all that is further in is stopped.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub after: Duration,
}

/// Stops the handler, and all middleware further in, after some time; it then counts as failed, as it does
/// past the deadline of its pool. Outside of a retry it limits all tries together, inside of it each one.
#[derive(Debug, Clone, Copy)]
pub struct Timeout(TimeoutOptions);

impl Timeout {
    /// Stops what takes longer than this.
    pub fn new(options: TimeoutOptions) -> Self {
        Self(options)
    }
}

impl Middleware for Timeout {
    fn name(&self) -> &str {
        "timeout"
    }

    fn before(&self, _attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
        Before::GoWithin(self.0.after)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::attempt;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limit_is_what_was_asked_for() {
        let after = Duration::from_secs(2);
        let before =
            Timeout::new(TimeoutOptions { after }).before(&mut attempt(), &mut Memo::new());
        assert!(matches!(before, Before::GoWithin(limit) if limit == after), "{before:?}");
    }
}
