//! Middleware: what stands between the bus and the plugins, as values in a list.
//!
//! A [`Middleware`] is a few plain functions. What takes time it says as a value - wait so long, cut off after
//! so long, have it handled again - and the host does the waiting. So a list of any length costs one boxed
//! future an attempt, an empty one costs nothing, and a middleware is tested without a bus.
//!
//! **Order.** The first of the list is the outermost. Those of the whole host stand before those of a plugin;
//! all of them stand within one attempt, whose counting, retry, deadline and dead letters are the host's and
//! outside of all. `docs/contracts/middleware.md` has the picture.
//!
//! **On delivery** the host goes in through [`Middleware::before`], calls the handler, and comes out through
//! [`Middleware::after`], innermost first. Whoever went in comes out exactly once a round: through `after`, or
//! through [`Middleware::cut_off`] when something further out stopped it, its worker was ended, or a middleware
//! panicked. What the handler published counts only if the handler itself acknowledged or forwarded in the last
//! round. A panic of the handler is an [`Ending::Error`] to the innermost middleware already.
//!
//! **On publish** each message that a plugin or a tool of this host sends goes through
//! [`Middleware::publishing`], outermost first, before the bus sees it. Within a handler that is when it
//! publishes, although the message leaves with the acknowledgement.
//!
//! State belongs to the value. The host makes a value for each plugin where it is made from the configuration
//! or with [`Layer::each`], so that the failures of one plugin open no circuit of another's; workers of that
//! plugin share it. A hook runs on the worker's thread and must not block it.

mod backoff;
mod circuit_breaker;
mod correlation;
mod dead_letters;
mod deduplicate;
mod delay_on_error;
mod layer;
mod log;
mod metrics;
mod outgoing;
mod passage;
mod retry;
mod throttle;
mod timeout;
mod trace;
mod validate;

#[cfg(test)]
mod captured;
#[cfg(test)]
mod testing;

use std::any::Any;
use std::fmt;
use std::time::Duration;

use echo_sdk::{BaseMessage, BoxFuture, PluginError, ProcessingStatus, PublishError, Topic};
use tokio::time::Instant;

pub use circuit_breaker::{CircuitBreaker, CircuitBreakerOptions};
pub use correlation::{Correlation, CorrelationOptions};
pub use dead_letters::{DeadLetters, DeadLettersOptions, Fault, field};
pub use deduplicate::{Deduplicate, DeduplicateOptions};
pub use delay_on_error::{DelayOnError, DelayOnErrorOptions};
pub use log::{Level, Log, LogOptions};
pub use metrics::{Metrics, MetricsOptions};
pub use retry::{Retry, RetryOptions};
pub use throttle::{Throttle, ThrottleOptions};
pub use timeout::{Timeout, TimeoutOptions};
pub use trace::{Trace, TraceOptions};
pub use validate::{Validate, ValidateOptions};

use crate::telemetry::Outcome;
pub use layer::{Layer, NamePattern, NamePatternError, On};

pub(crate) use layer::{SlotMiddleware, tool_transport};

/// Stands between the bus and the plugins; every hook has a default that lets everything pass.
pub trait Middleware: Send + Sync + 'static {
    /// What it is called in logs and errors.
    fn name(&self) -> &str;

    /// A message is about to be published.
    fn publishing(&self, _outgoing: &mut Outgoing<'_>) -> Publishing {
        Publishing::Go
    }

    /// A message is about to be handled.
    fn before(&self, _attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
        Before::Go
    }

    /// A message was handled, or answered by a middleware further in.
    fn after(&self, _attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
        After::Done(ending)
    }

    /// What [`before`](Self::before) let in was stopped from outside; `after` is not called for it.
    fn cut_off(&self, _attempt: &Attempt<'_>, _memo: &mut Memo) {}
}

/// How the handling of a message ended.
#[derive(Debug)]
pub enum Ending {
    /// The handler answered, or a middleware in its place.
    Answered(ProcessingStatus),
    /// The handler failed or panicked.
    Error(PluginError),
    /// It took longer than this and was stopped.
    TimedOut(Duration),
}

impl Ending {
    /// Whether the message is done with this: acknowledged or forwarded.
    pub fn is_done(&self) -> bool {
        use ProcessingStatus::{Acknowledged, Forward};
        matches!(self, Self::Answered(Acknowledged | Forward(..)))
    }

    /// Whether it went wrong: a fault, or given up.
    pub fn is_bad(&self) -> bool {
        self.is_fault() || matches!(self, Self::Answered(ProcessingStatus::Failed(_)))
    }

    /// Whether it went wrong by accident, so that another try may go better: an error, a panic, or too slow.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Error(_) | Self::TimedOut(_))
    }
}

impl<'a> From<&'a Ending> for Outcome<'a> {
    fn from(ending: &'a Ending) -> Self {
        match ending {
            Ending::Answered(status) => Self::Answered(status),
            Ending::Error(error) => Self::Error(error),
            Ending::TimedOut(limit) => Self::TimedOut(*limit),
        }
    }
}

impl From<Result<ProcessingStatus, PluginError>> for Ending {
    #[inline]
    fn from(answer: Result<ProcessingStatus, PluginError>) -> Self {
        match answer {
            // Made anew: to move the answer would copy room for the largest there is.
            Ok(ProcessingStatus::Acknowledged) => Self::Answered(ProcessingStatus::Acknowledged),
            Ok(status) => Self::Answered(status),
            Err(error) => Self::Error(error),
        }
    }
}

/// How it ended, for people; for a message that was not handled well the sentence that says why.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(ProcessingStatus::Acknowledged) => f.write_str("acknowledged"),
            Self::Answered(ProcessingStatus::Forward(topic, _)) => {
                write!(f, "forwarded to `{topic}`")
            }
            Self::Answered(ProcessingStatus::RetryLater(delay)) => {
                write!(f, "asked to be retried after {}", echo_sdk::duration::format(*delay))
            }
            Self::Answered(ProcessingStatus::Failed(reason)) => f.write_str(reason),
            Self::Error(error) => write!(f, "{error}"),
            Self::TimedOut(limit) => {
                let limit = echo_sdk::duration::format(*limit);
                write!(f, "the handler took longer than its deadline, {limit}")
            }
        }
    }
}

/// What is being handled.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The slot, which has the plugin's name.
    pub slot: &'a str,
    /// The topic that the message came on.
    pub topic: &'a Topic,
    message: BaseMessage,
    replaced: Option<BaseMessage>,
    max_attempts: u16,
}

impl<'a> Attempt<'a> {
    /// An attempt, of so many that the slot makes, as the host puts it together; for tests of a middleware.
    pub fn new(slot: &'a str, topic: &'a Topic, message: BaseMessage, max_attempts: u16) -> Self {
        Self { slot, topic, message, replaced: None, max_attempts }
    }

    /// The message, as those further out made it.
    pub fn message(&self) -> &BaseMessage {
        &self.message
    }

    /// Whether a fault now, or a wish to be retried, makes the message dead.
    pub fn is_last(&self) -> bool {
        self.message.attempt() >= self.max_attempts
    }

    /// Has everybody further in see another message. Whoever is further out, and the bus, keep this one.
    pub fn replace(&mut self, message: BaseMessage) {
        let outer = std::mem::replace(&mut self.message, message);
        self.replaced.get_or_insert(outer);
    }
}

/// What a middleware remembers of one attempt from [`Middleware::before`] on.
#[derive(Debug)]
pub struct Memo {
    /// When the message came to it.
    pub since: Instant,
    /// How often it had the message handled again ([`After::Again`]).
    pub again: u32,
    /// Whatever else it wants to remember.
    pub kept: Option<Box<dyn Any + Send>>,
}

impl Memo {
    /// A memo of now; for tests of a middleware.
    pub fn new() -> Self {
        Self { since: Instant::now(), again: 0, kept: None }
    }

    /// Takes out what was kept, where it is a `T`.
    pub fn take<T: 'static>(&mut self) -> Option<T> {
        let kept = self.kept.take()?.downcast::<T>().ok()?;
        Some(*kept)
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

/// What a middleware says before a message is handled.
pub enum Before {
    /// Go on.
    Go,
    /// Go on after this time.
    GoAfter(Duration),
    /// Go on, and cut off all that is further in when it takes longer than this: the ending that comes back is
    /// then [`Ending::TimedOut`].
    GoWithin(Duration),
    /// Ask again once this has happened.
    AskAgain(BoxFuture<'static, ()>),
    /// The message is answered; nobody further in sees it.
    Answer(Ending),
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Go => f.write_str("Go"),
            Self::GoAfter(delay) => f.debug_tuple("GoAfter").field(delay).finish(),
            Self::GoWithin(limit) => f.debug_tuple("GoWithin").field(limit).finish(),
            Self::AskAgain(_) => f.write_str("AskAgain"),
            Self::Answer(ending) => f.debug_tuple("Answer").field(ending).finish(),
        }
    }
}

/// What a middleware says after a message was handled.
#[derive(Debug)]
pub enum After {
    /// This is how it ended, as those further out are to see it.
    Done(Ending),
    /// Have it handled again by all that is further in, after this time. What the handler published before is
    /// dropped.
    Again(Duration),
}

/// A message on its way to the bus.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Who publishes: a plugin's name or a tool's.
    pub sender: &'a str,
    /// The topic; may be changed.
    pub topic: Topic,
    /// The message; may be changed.
    pub message: BaseMessage,
    /// The message whose handler publishes, if one does.
    pub handled: Option<BaseMessage>,
    /// Whether the sender would wait; [`Publishing::GoAfter`] says [`PublishError::Full`] to one that does not.
    pub may_wait: bool,
}

/// What a middleware says to a message that is published.
#[derive(Debug)]
pub enum Publishing {
    /// Go on.
    Go,
    /// Go on after this time.
    GoAfter(Duration),
    /// Nobody gets the message, and the sender is told that all is well.
    Drop,
    /// Nobody gets the message, and the sender is told why.
    Refuse(PublishError),
}
