//! The plugin trait: one method to write, the rest with defaults.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    BaseMessage, MessageError, PluginContext, PublishError, RequestError, StateError,
    StateSnapshot, Topic, TopicError, handover,
};

/// What became of a message; the answer of every handler.
#[derive(Debug, Clone, PartialEq)]
pub enum ProcessingStatus {
    /// Handled; the message is done, and what the handler published takes effect.
    Acknowledged,
    /// Not now: deliver it again, no earlier than after this time. The attempts are counted; past the
    /// slot's `max_attempts` the message is dead.
    RetryLater(Duration),
    /// Never: the message is dead at once, with this reason.
    Failed(String),
    /// Publish this message to this topic, and acknowledge the one that was handled.
    Forward(Topic, BaseMessage),
}

impl From<()> for ProcessingStatus {
    fn from((): ()) -> Self {
        Self::Acknowledged
    }
}

/// Why a plugin could not do what it was asked.
///
/// From [`Plugin::process_message`] it counts as a failed attempt: the message is retried with growing
/// delay, then dead. To give a message up at once, answer [`ProcessingStatus::Failed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The data of a message is not what the plugin expects.
    #[error("invalid data: {0}")]
    InvalidData(String),
    /// The configuration holds a value that the plugin cannot work with.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// The work itself failed.
    #[error("{0}")]
    ProcessingError(String),
    /// The plugin panicked; the host caught it.
    #[error("the plugin panicked: {0}")]
    Panicked(String),
    /// Building or reading a message failed.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A topic or pattern is malformed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Publishing failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A request went without an answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The managed state could not be read or changed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl PluginError {
    /// A [`PluginError::ProcessingError`] that says what `error` says, its causes included.
    pub fn processing(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::ProcessingError(text)
    }
}

/// How a plugin, or a service that it runs, says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Health {
    /// It looked, and all is well.
    Healthy,
    /// It works, though not as it should.
    Degraded(String),
    /// It does not work.
    Unhealthy(String),
    /// Nobody looked: the plugin has no check of its own. The host then judges by what it sees.
    Unchecked,
}

impl From<bool> for Health {
    fn from(healthy: bool) -> Self {
        if healthy {
            Self::Healthy
        } else {
            Self::Unhealthy("the plugin's own check failed".into())
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Degraded(reason) => write!(f, "degraded: {reason}"),
            Self::Unhealthy(reason) => write!(f, "unhealthy: {reason}"),
            Self::Unchecked => f.write_str("unchecked"),
        }
    }
}

/// An actor on the bus: it handles the messages of the topics that its manifest subscribes to.
///
/// Write the methods as plain `async fn`. Many workers call [`process_message`](Self::process_message) at
/// once on the same value, so state sits behind locks or atomics of the plugin's own; a lock must not be
/// held across an `await` that waits for another message of the same plugin.
///
/// The host drops a handler's future when its deadline passes or the plugin is cut off, so a handler must
/// stand being cancelled at any `await`.
pub trait Plugin: Send + Sync + 'static {
    /// The plugin's name, which is the slot's name on the bus.
    fn name(&self) -> &str;

    /// Called once before the first message; dependencies are initialised by then.
    fn init(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// Handles one message.
    ///
    /// What it publishes and sets in its [state](PluginContext::state) through its context takes effect when it answers
    /// [`Acknowledged`](ProcessingStatus::Acknowledged) or [`Forward`](ProcessingStatus::Forward), and is
    /// dropped on any other outcome.
    fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> impl Future<Output = Result<ProcessingStatus, PluginError>> + Send;

    /// Called once after the last message, before the plugin's dependencies are shut down.
    fn shutdown(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// Looks whether the plugin works. Without one the host reports what it can see itself.
    fn health_check(&self) -> impl Future<Output = Health> + Send {
        async { Health::Unchecked }
    }

    /// Figures of the plugin's own, shown beside those that the host counts.
    fn metrics(&self) -> impl Future<Output = Value> + Send {
        async { Value::Null }
    }

    /// Called when the plugin is paused: its messages wait in the queue from now on.
    fn pause(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// Called before the plugin's messages flow again.
    fn resume(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// Forgets what the plugin remembers, as if it had just been initialised.
    fn reset(&self) -> impl Future<Output = Result<(), PluginError>> + Send {
        async { Ok(()) }
    }

    /// The form in which this version keeps its state and the entries of its managed state. Raise it by one
    /// with each change of the form, and write [`state_up`](Self::state_up) and [`state_down`](Self::state_down).
    fn state_schema(&self) -> u32 {
        1
    }

    /// What the plugin remembers, in its own form, for the version that takes its place; nothing without one.
    /// It is asked with no message in hand, and goes on remembering.
    fn export_state(
        &self,
    ) -> impl Future<Output = Result<Option<StateSnapshot>, PluginError>> + Send {
        async { Ok(None) }
    }

    /// Takes over what another version exported, in this one's form, in place of what it remembers itself. It is
    /// asked with no message in hand.
    fn import_state(
        &self,
        state: StateSnapshot,
    ) -> impl Future<Output = Result<(), PluginError>> + Send {
        let _ = state;
        async { Err(handover::no_import()) }
    }

    /// Takes a state from the form `from` to the next; `entry` names one of the managed state.
    ///
    /// # Errors
    /// The plugin's own; as long as it is not written, that there is no way.
    fn state_up(&self, entry: Option<&str>, from: u32, data: Value) -> Result<Value, PluginError> {
        let _ = (entry, data);
        Err(handover::no_way_up(from))
    }

    /// Takes a state to the form `to` from the next, so that it is what it was before
    /// [`state_up`](Self::state_up); `entry` names one of the managed state.
    ///
    /// # Errors
    /// As [`state_up`](Self::state_up).
    fn state_down(&self, entry: Option<&str>, to: u32, data: Value) -> Result<Value, PluginError> {
        let _ = (entry, data);
        Err(handover::no_way_down(to))
    }

    /// Takes a state to another form, by one step after the other. There is no need to write it.
    fn convert_state(
        &self,
        state: StateSnapshot,
        to: u32,
    ) -> impl Future<Output = Result<StateSnapshot, PluginError>> + Send {
        async move { handover::convert(self, state, to) }
    }
}

/// What a plugin's constructor may return: the plugin, or a result with it.
pub trait Created<P> {
    /// The plugin, or why there is none.
    ///
    /// # Errors
    /// The constructor's own error.
    fn created(self) -> Result<P, PluginError>;
}

impl<P: Plugin> Created<P> for P {
    fn created(self) -> Result<P, PluginError> {
        Ok(self)
    }
}

impl<P: Plugin, E: Into<PluginError>> Created<P> for Result<P, E> {
    fn created(self) -> Result<P, PluginError> {
        self.map_err(Into::into)
    }
}

/// A plugin's constructor, as hosts and test kits take it.
pub trait Constructor<P>: Fn(PluginContext) -> Result<P, PluginError> + Send + Sync {}
impl<P, F: Fn(PluginContext) -> Result<P, PluginError> + Send + Sync> Constructor<P> for F {}
