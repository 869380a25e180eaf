//! Says how long a message that went wrong waits for its next attempt.

use std::time::Duration;

use echo_sdk::{ProcessingStatus, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::{After, Attempt, Ending, Memo, Middleware};

/// How long a message waits after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DelayOnErrorOptions {
    /// The delay after the first attempt.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub initial_interval: Duration,
    /// The longest delay after an attempt.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub max_interval: Duration,
    /// By how much a delay is longer than the one before it.
    #[schemars(range(min = 1.0))]
    pub multiplier: f64,
}

impl Default for DelayOnErrorOptions {
    /// A second, doubled from attempt to attempt up to a minute.
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(60),
            multiplier: 2.0,
        }
    }
}

/// Answers a fault with `RetryLater`, in place of the host's own delays (`delivery.retry_base_delay`), so that
/// one plugin's messages can wait longer than another's. The last attempt's fault stands: the dead letter says it.
#[derive(Debug, Clone, Copy)]
pub struct DelayOnError(DelayOnErrorOptions);

impl DelayOnError {
    /// Delays by these options.
    pub fn new(options: DelayOnErrorOptions) -> Self {
        Self(options)
    }
}

impl Middleware for DelayOnError {
    fn name(&self) -> &str {
        "delay_on_error"
    }

    fn after(&self, attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
        if !ending.is_fault() || attempt.is_last() {
            return After::Done(ending);
        }
        let DelayOnErrorOptions { initial_interval: initial, max_interval: max, multiplier } =
            self.0;
        let message = attempt.message();
        let tries = u32::from(message.attempt().saturating_sub(1));
        let delay = Backoff { initial, max, multiplier, jitter: 0.0 }.delay(tries, message.id());
        let (slot, id) = (attempt.slot, message.id());
        tracing::debug!(slot, %id, fault = %ending, ?delay, "a handler failed; the message waits");
        After::Done(Ending::Answered(ProcessingStatus::RetryLater(delay)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::attempt_of;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_delay_grows_with_the_attempts_and_the_last_fault_stands() {
        let delay = DelayOnError::new(DelayOnErrorOptions::default());
        let after = |number| {
            let ending = Ending::TimedOut(Duration::from_secs(1));
            delay.after(&attempt_of(number, 5), &mut Memo::new(), ending)
        };
        for (number, seconds) in [(1, 1), (2, 2), (4, 8)] {
            let After::Done(Ending::Answered(ProcessingStatus::RetryLater(delay))) = after(number)
            else {
                panic!("no delay after attempt {number}");
            };
            assert_eq!(delay, Duration::from_secs(seconds));
        }
        assert!(matches!(after(5), After::Done(Ending::TimedOut(_))));
    }
}
