//! Ending early: why, and how all that waits hears of it.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use echo_sdk::contract::run::{CancelReply, Outcome, RunCancel};
use echo_sdk::contract::{RunId, run};
use echo_sdk::{BoxFuture, PluginContext, PublishError, Subscription};
use futures_util::FutureExt;
use futures_util::future::{Either, Shared, select};
use tokio::time::{Instant, sleep_until};

/// Why a run or a suite is to end before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody ended the run, for this reason.
    Cancelled(String),
    /// The run took longer than it may.
    RunTimeout(Duration),
    /// The suite of this name took longer than it may.
    SuiteTimeout(String, Duration),
}

impl Cause {
    /// How that which is ended comes out.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Cancelled(_) => Outcome::Interrupted,
            Self::RunTimeout(_) | Self::SuiteTimeout(..) => Outcome::Failed,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeout = |limit: &Duration| echo_sdk::duration::format(*limit);
        match self {
            Self::Cancelled(reason) if reason.is_empty() => f.write_str("the run was cancelled"),
            Self::Cancelled(reason) => write!(f, "the run was cancelled: {reason}"),
            Self::RunTimeout(limit) => {
                write!(f, "the run did not end within its timeout of {}", timeout(limit))
            }
            Self::SuiteTimeout(suite, limit) => {
                let limit = timeout(limit);
                write!(f, "the suite `{suite}` did not end within its timeout of {limit}")
            }
        }
    }
}

/// Tells all that waits within a run or a suite that it is to end.
#[derive(Clone)]
pub(crate) struct Stop {
    cause: Shared<BoxFuture<'static, Cause>>,
    deadline: Option<Instant>,
}

impl Stop {
    /// Listens for the run's `test.run.cancel`, and to the clock.
    ///
    /// The run listens for itself instead of leaving it to the plugin's workers: so a cancel arrives
    /// even when every worker has a run in hand.
    ///
    /// # Errors
    /// When the bus takes no subscription.
    pub(crate) async fn of_run(
        context: &PluginContext,
        run_id: &RunId,
        timeout: Option<Duration>,
    ) -> Result<Self, PublishError> {
        let cancels = context.subscribe(run::CANCEL).await?;
        let cancelled = cancelled(context.clone(), run_id.clone(), cancels);
        Ok(Self { cause: cancelled.boxed().shared(), deadline: None }
            .or_after(timeout, Cause::RunTimeout))
    }

    /// This, or the end of a `timeout` that starts now, whichever comes first.
    pub(crate) fn or_after(
        &self,
        timeout: Option<Duration>,
        cause: impl FnOnce(Duration) -> Cause + Send + 'static,
    ) -> Self {
        let at = |timeout| Some((timeout, Instant::now().checked_add(timeout)?));
        let Some((timeout, deadline)) = timeout.and_then(at) else {
            return self.clone();
        };
        let outer = self.cause.clone();
        let first = async move {
            match select(outer, pin!(sleep_until(deadline))).await {
                Either::Left((outer, _)) => outer,
                Either::Right(_) => cause(timeout),
            }
        };
        let deadline = self.deadline.map_or(deadline, |outer| outer.min(deadline));
        Self { cause: first.boxed().shared(), deadline: Some(deadline) }
    }

    /// The cause, if there is one by now.
    pub(crate) fn raised(&self) -> Option<Cause> {
        self.cause.clone().now_or_never()
    }

    /// How long until the next timeout, if there is one.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Does `work`; drops it when it is to end before it is done.
    ///
    /// # Errors
    /// The cause.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Cause> {
        match select(self.cause.clone(), pin!(work)).await {
            Either::Left((cause, _)) => Err(cause),
            Either::Right((done, _)) => Ok(done),
        }
    }
}

/// Waits until somebody cancels the run, and says so to them.
async fn cancelled(context: PluginContext, run_id: RunId, mut cancels: Subscription) -> Cause {
    while let Some(received) = cancels.next().await {
        let Ok(cancel) = received.message.json::<RunCancel>() else {
            continue;
        };
        if cancel.run_id != run_id {
            continue;
        }
        if let Some(topic) = received.message.reply_to()
            && let Ok(reply) = context.message_builder().data(&CancelReply { run_id }).build()
        {
            // Whoever asked may be gone; the run ends all the same.
            let _ = context.publish_now(topic, reply).await;
        }
        return Cause::Cancelled(cancel.reason);
    }
    Cause::Cancelled("the bus is closed".to_owned())
}
