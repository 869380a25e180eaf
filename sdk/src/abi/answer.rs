//! What is answered to whatever was asked, in either direction.

#![allow(
    unsafe_code,
    reason = "writes to a place that the other side of the library boundary names"
)]

use std::time::Duration;

use serde_json::Value;

use super::bytes::{Fault, OwnedBytes};
use super::message::OwnedMessage;
use crate::{
    BaseMessage, Health, PluginError, ProcessingStatus, PublishError, Received, RequestError, Topic,
};

/// An answer: a tag that says which, and the numbers, the text and the message that the tag has.
///
/// | tag | stands for | numbers | text | message |
/// |---|---|---|---|---|
/// | 0 | done | from `create`: the form of its state | the plugin's name, from `create` | |
/// | 1 | acknowledged | | | |
/// | 2 | retry later | seconds, nanoseconds | | |
/// | 3 | failed | | the reason | |
/// | 4 | forward | | the topic | the message |
/// | 5 | a value | | JSON | |
/// | 6 to 9 | healthy, degraded, unhealthy, unchecked | | the reason | |
/// | 10 | a message | | its topic, from a subscription | the message |
/// | 11 | the subscription's end | | | |
/// | 12 | nothing is there | | | |
/// | 13 | a state, or an entry of the managed state | its form | its JSON | |
/// | 64 to 67 | invalid data, wrong configuration, failed work, a panic | | what happened | |
/// | 68 | a queue is full | | its slot | |
/// | 69 | the bus is closed | | | |
/// | 70 | the message is too large | its length, the limit | | |
/// | 71 | the transport failed | | how | |
/// | 72 | nobody answers | | | |
/// | 73 | no answer in time | | | |
/// | 74 | no state, and why: see `state` | the reason's number | what happened | |
/// | 75 | the state is too large | its length, the limit | | |
#[repr(C)]
#[derive(Debug)]
pub struct Answer {
    pub(super) size: u32,
    pub(super) tag: u32,
    pub(super) numbers: [u64; 2],
    pub(super) text: OwnedBytes,
    pub(super) message: OwnedMessage,
}

pub(super) mod tag {
    pub(in crate::abi) const DONE: u32 = 0;
    pub(in crate::abi) const ACKNOWLEDGED: u32 = 1;
    pub(in crate::abi) const RETRY_LATER: u32 = 2;
    pub(in crate::abi) const FAILED: u32 = 3;
    pub(in crate::abi) const FORWARD: u32 = 4;
    pub(in crate::abi) const VALUE: u32 = 5;
    pub(in crate::abi) const HEALTHY: u32 = 6;
    pub(in crate::abi) const DEGRADED: u32 = 7;
    pub(in crate::abi) const UNHEALTHY: u32 = 8;
    pub(in crate::abi) const UNCHECKED: u32 = 9;
    pub(in crate::abi) const MESSAGE: u32 = 10;
    pub(in crate::abi) const END: u32 = 11;
    pub(in crate::abi) const NOTHING: u32 = 12;
    pub(in crate::abi) const SNAPSHOT: u32 = 13;
    pub(in crate::abi) const INVALID_DATA: u32 = 64;
    pub(in crate::abi) const CONFIG: u32 = 65;
    pub(in crate::abi) const PROCESSING: u32 = 66;
    pub(in crate::abi) const PANICKED: u32 = 67;
    pub(in crate::abi) const FULL: u32 = 68;
    pub(in crate::abi) const CLOSED: u32 = 69;
    pub(in crate::abi) const TOO_LARGE: u32 = 70;
    pub(in crate::abi) const TRANSPORT: u32 = 71;
    pub(in crate::abi) const NO_RESPONDERS: u32 = 72;
    pub(in crate::abi) const TIMED_OUT: u32 = 73;
    pub(in crate::abi) const STATE: u32 = 74;
    pub(in crate::abi) const STATE_TOO_LARGE: u32 = 75;
}

/// Making answers.
impl Answer {
    pub(in crate::abi) const fn new(tag: u32) -> Self {
        let size = size_of::<Self>() as u32;
        Self { size, tag, numbers: [0; 2], text: OwnedBytes::NONE, message: OwnedMessage::NONE }
    }

    pub(super) fn with_text(tag: u32, text: impl Into<String>) -> Self {
        Self { text: OwnedBytes::give(text.into()), ..Self::new(tag) }
    }

    /// It is done; also what stands in an answer's place before it is written.
    pub const fn done() -> Self {
        Self::new(tag::DONE)
    }

    /// A plugin was created, and calls itself this; its state has this form.
    pub fn created(name: String, schema: u32) -> Self {
        Self { numbers: [schema.into(), 0], ..Self::with_text(tag::DONE, name) }
    }

    /// The side that was asked panicked.
    pub fn panicked(text: String) -> Self {
        Self::with_text(tag::PANICKED, text)
    }

    /// What was asked cannot be understood.
    pub fn unknown(what: &'static str, found: u32) -> Self {
        Self::fault(&Fault::Number { what, found: found.into() })
    }

    /// The other side broke the rules.
    pub fn fault(fault: &Fault) -> Self {
        Self::with_text(tag::TRANSPORT, broken(fault))
    }

    /// A value, as JSON.
    pub fn value(value: &Value) -> Self {
        Self::with_text(tag::VALUE, value.to_string())
    }

    /// A message, as the answer to a request.
    pub fn message(message: BaseMessage) -> Self {
        Self { message: OwnedMessage::give(message), ..Self::new(tag::MESSAGE) }
    }

    /// What a subscription gives next.
    pub fn received(received: Option<Received>) -> Self {
        match received {
            Some(Received { topic, message }) => {
                Self { text: OwnedBytes::give(topic.as_str().to_owned()), ..Self::message(message) }
            }
            None => Self::new(tag::END),
        }
    }

    /// Writes the answer to a place that may know fewer fields.
    ///
    /// # Safety
    /// `out` points to an answer of the other side's that holds nothing, and tells its own size.
    pub unsafe fn put(self, out: *mut Self) {
        // SAFETY: the caller vouches for `out`, which holds nothing that has to be dropped. Where it is the
        // shorter one it gets what it knows of; the owned parts are the receiver's either way.
        unsafe {
            let size = (*out).size;
            if size as usize >= size_of::<Self>() {
                out.write(self);
            } else {
                out.cast::<u8>().copy_from_nonoverlapping((&raw const self).cast(), size as usize);
                std::mem::forget(self);
            }
            (*out).size = size;
        }
    }
}

impl From<ProcessingStatus> for Answer {
    fn from(status: ProcessingStatus) -> Self {
        match status {
            ProcessingStatus::Acknowledged => Self::new(tag::ACKNOWLEDGED),
            ProcessingStatus::RetryLater(delay) => Self {
                numbers: [delay.as_secs(), delay.subsec_nanos().into()],
                ..Self::new(tag::RETRY_LATER)
            },
            ProcessingStatus::Failed(reason) => Self::with_text(tag::FAILED, reason),
            ProcessingStatus::Forward(topic, message) => Self {
                message: OwnedMessage::give(message),
                ..Self::with_text(tag::FORWARD, topic.as_str())
            },
        }
    }
}

impl From<Health> for Answer {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::new(tag::HEALTHY),
            Health::Degraded(reason) => Self::with_text(tag::DEGRADED, reason),
            Health::Unhealthy(reason) => Self::with_text(tag::UNHEALTHY, reason),
            Health::Unchecked => Self::new(tag::UNCHECKED),
        }
    }
}

impl From<PluginError> for Answer {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::InvalidData(text) => Self::with_text(tag::INVALID_DATA, text),
            PluginError::Config(text) => Self::with_text(tag::CONFIG, text),
            PluginError::Panicked(text) => Self::with_text(tag::PANICKED, text),
            other => Self::with_text(tag::PROCESSING, other.to_string()),
        }
    }
}

impl From<PublishError> for Answer {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full { slot } => Self::with_text(tag::FULL, slot),
            PublishError::Closed => Self::new(tag::CLOSED),
            PublishError::TooLarge { len, max } => {
                Self { numbers: [len as u64, max as u64], ..Self::new(tag::TOO_LARGE) }
            }
            PublishError::Transport(text) => Self::with_text(tag::TRANSPORT, text),
            other => Self::with_text(tag::TRANSPORT, other.to_string()),
        }
    }
}

impl From<RequestError> for Answer {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoResponders { .. } => Self::new(tag::NO_RESPONDERS),
            RequestError::TimedOut { .. } => Self::new(tag::TIMED_OUT),
            RequestError::Publish(error) => error.into(),
        }
    }
}

impl<T: Into<Answer>, E: Into<Answer>> From<Result<T, E>> for Answer {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Self::done()
    }
}

/// Reading what a plugin answers.
impl Answer {
    /// What became of a message.
    ///
    /// # Errors
    /// What the plugin returned, or that it panicked or broke the boundary's rules.
    pub fn status(self) -> Result<ProcessingStatus, PluginError> {
        match self.tag {
            tag::ACKNOWLEDGED => Ok(ProcessingStatus::Acknowledged),
            tag::RETRY_LATER => Ok(ProcessingStatus::RetryLater(self.delay()?)),
            tag::FAILED => Ok(ProcessingStatus::Failed(self.text()?)),
            tag::FORWARD => {
                let topic = Topic::new(self.text()?).map_err(Fault::from)?;
                Ok(ProcessingStatus::Forward(topic, self.message.adopt()?))
            }
            _ => Err(self.error("status")),
        }
    }

    /// Whether something was done; an empty text unless the answer is that of `create`.
    ///
    /// # Errors
    /// As [`Answer::status`].
    pub fn finished(self) -> Result<String, PluginError> {
        match self.tag {
            tag::DONE => Ok(self.text()?),
            _ => Err(self.error("way to be done")),
        }
    }

    /// How the plugin is.
    ///
    /// # Errors
    /// As [`Answer::status`].
    pub fn health(self) -> Result<Health, PluginError> {
        match self.tag {
            tag::HEALTHY => Ok(Health::Healthy),
            tag::DEGRADED => Ok(Health::Degraded(self.text()?)),
            tag::UNHEALTHY => Ok(Health::Unhealthy(self.text()?)),
            tag::UNCHECKED => Ok(Health::Unchecked),
            _ => Err(self.error("state of health")),
        }
    }

    /// The plugin's own figures.
    ///
    /// # Errors
    /// As [`Answer::status`].
    pub fn into_value(self) -> Result<Value, PluginError> {
        match self.tag {
            tag::VALUE => Ok(serde_json::from_str(&self.text()?)
                .map_err(|error| Fault::Json(error.to_string()))?),
            _ => Err(self.error("value")),
        }
    }

    pub(super) fn text(&self) -> Result<String, Fault> {
        self.text.read().map(Option::unwrap_or_default)
    }

    fn delay(&self) -> Result<Duration, Fault> {
        let [seconds, nanos] = self.numbers;
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => Err(Fault::Number { what: "part of a second", found: nanos }),
        }
    }

    pub(super) fn error(&self, what: &'static str) -> PluginError {
        let text = match self.text() {
            Ok(text) => text,
            Err(fault) => return fault.into(),
        };
        match self.tag {
            tag::INVALID_DATA => PluginError::InvalidData(text),
            tag::CONFIG => PluginError::Config(text),
            tag::PROCESSING | tag::TRANSPORT => PluginError::ProcessingError(text),
            tag::PANICKED => PluginError::Panicked(text),
            other => Fault::Number { what, found: other.into() }.into(),
        }
    }
}

/// Reading what the host answers; the plugin keeps messages in the host's memory.
impl Answer {
    pub(super) fn published(self) -> Result<(), PublishError> {
        match self.tag {
            tag::DONE => Ok(()),
            _ => Err(self.publish_error()),
        }
    }

    pub(super) fn reply(
        self,
        topic: &Topic,
        timeout: Duration,
    ) -> Result<BaseMessage, RequestError> {
        let topic = || topic.clone();
        match self.tag {
            tag::MESSAGE => {
                let kept = self.message.keep();
                kept.map_err(|fault| PublishError::Transport(broken(&fault)).into())
            }
            tag::NO_RESPONDERS => Err(RequestError::NoResponders { topic: topic() }),
            tag::TIMED_OUT => Err(RequestError::TimedOut { topic: topic(), timeout }),
            _ => Err(self.publish_error().into()),
        }
    }

    /// The next message of a subscription; anything else is its end.
    pub(super) fn next(self) -> Option<Received> {
        if self.tag != tag::MESSAGE {
            return None;
        }
        let topic = Topic::new(self.text().ok()?).ok()?;
        Some(Received { topic, message: self.message.keep().ok()? })
    }

    fn publish_error(&self) -> PublishError {
        let text = self.text().unwrap_or_else(|fault| broken(&fault));
        let [len, max] = self.numbers.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        match self.tag {
            tag::FULL => PublishError::Full { slot: text },
            tag::CLOSED => PublishError::Closed,
            tag::TOO_LARGE => PublishError::TooLarge { len, max },
            tag::TRANSPORT => PublishError::Transport(text),
            tag::PANICKED => PublishError::Transport(format!("the host panicked: {text}")),
            other => PublishError::Transport(broken(&Fault::Number {
                what: "answer of a host",
                found: other.into(),
            })),
        }
    }
}

pub(super) fn broken(fault: &Fault) -> String {
    format!("the other side broke the rules of the library boundary: it sent {fault}")
}

impl From<Fault> for PluginError {
    fn from(fault: Fault) -> Self {
        Self::ProcessingError(broken(&fault))
    }
}
