//! Tries again at once or soon, before the host counts a failed attempt.

use std::time::Duration;

use echo_sdk::duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::{After, Attempt, Ending, Memo, Middleware};

/// How a delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOptions {
    /// How often it is tried again at most.
    #[schemars(range(min = 1))]
    pub max_retries: u32,
    /// The delay before the first retry.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub initial_interval: Duration,
    /// The longest delay before a retry.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub max_interval: Duration,
    /// By how much a delay is longer than the one before it.
    #[schemars(range(min = 1.0))]
    pub multiplier: f64,
    /// The share of a delay that chance may take off, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// No retry begins when the first try began longer ago than this.
    #[serde(with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::schema")]
    pub max_elapsed: Option<Duration>,
}

impl Default for RetryOptions {
    /// Three retries, after about 100, 200 and 400 ms.
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(5),
            multiplier: 2.0,
            jitter: 0.5,
            max_elapsed: None,
        }
    }
}

/// Has a message that went wrong handled again, within the same attempt: after an error, a panic or a cut-off.
/// What a handler answers, be it `RetryLater` or `Failed`, stands.
///
/// The worker and the message's key are held meanwhile, so use it for faults that pass in a moment.
#[derive(Debug, Clone, Copy)]
pub struct Retry(RetryOptions);

impl Retry {
    /// Retries by these options.
    pub fn new(options: RetryOptions) -> Self {
        Self(options)
    }
}

impl Middleware for Retry {
    fn name(&self) -> &str {
        "retry"
    }

    fn after(&self, attempt: &Attempt<'_>, memo: &mut Memo, ending: Ending) -> After {
        let RetryOptions {
            max_retries, initial_interval, max_interval, multiplier, jitter, ..
        } = self.0;
        if !ending.is_fault() || memo.again >= max_retries {
            return After::Done(ending);
        }
        let backoff = Backoff { initial: initial_interval, max: max_interval, multiplier, jitter };
        let delay = backoff.delay(memo.again, attempt.message().id());
        if self.0.max_elapsed.is_some_and(|most| memo.since.elapsed() + delay > most) {
            return After::Done(ending);
        }
        let (slot, id) = (attempt.slot, attempt.message().id());
        tracing::debug!(slot, %id, fault = %ending, ?delay, "a handler failed; trying again");
        After::Again(delay)
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::{PluginError, ProcessingStatus};

    use super::super::testing::attempt;
    use super::*;

    fn fault() -> Ending {
        Ending::Error(PluginError::ProcessingError("down".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn faults_are_tried_again_so_often_and_answers_stand() {
        let retry =
            Retry::new(RetryOptions { max_retries: 2, jitter: 0.0, ..RetryOptions::default() });
        let (attempt, mut memo) = (attempt(), Memo::new());
        for expected in [100, 200] {
            let After::Again(delay) = retry.after(&attempt, &mut memo, fault()) else {
                panic!("no retry after {} retries", memo.again);
            };
            assert_eq!(delay, Duration::from_millis(expected));
            memo.again += 1;
        }
        assert!(matches!(retry.after(&attempt, &mut memo, fault()), After::Done(Ending::Error(_))));
        for answer in [
            ProcessingStatus::Acknowledged,
            ProcessingStatus::RetryLater(Duration::ZERO),
            ProcessingStatus::Failed("no".into()),
        ] {
            let after = retry.after(&attempt, &mut Memo::new(), Ending::Answered(answer));
            assert!(matches!(after, After::Done(Ending::Answered(_))), "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_retry_begins_too_late() {
        let max_elapsed = Some(Duration::from_millis(500));
        let retry = Retry::new(RetryOptions { max_elapsed, ..RetryOptions::default() });
        let (attempt, mut memo) = (attempt(), Memo::new());
        assert!(matches!(retry.after(&attempt, &mut memo, fault()), After::Again(_)));
        tokio::time::advance(Duration::from_millis(501)).await;
        assert!(matches!(retry.after(&attempt, &mut memo, fault()), After::Done(_)));
    }
}
