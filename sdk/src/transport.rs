//! The bus as a plugin sees it.

use std::fmt;
use std::time::Duration;

use crate::{BaseMessage, BoxFuture, Pattern, PublishError, RequestError, Subscription, Topic};

/// How an offer of a message to the bus ended.
#[derive(Debug)]
pub enum Offer {
    /// It is published.
    Taken,
    /// It cannot be taken without waiting; nobody got it.
    Busy(BaseMessage),
    /// It is not taken at all.
    Refused(PublishError),
}

/// How far a request came at once.
pub enum Asked<'a> {
    /// What came of it is known already.
    Done(Result<BaseMessage, RequestError>),
    /// It is to be waited for.
    Waiting(BoxFuture<'a, Result<BaseMessage, RequestError>>),
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(answer) => f.debug_tuple("Done").field(answer).finish(),
            Self::Waiting(_) => f.write_str("Waiting"),
        }
    }
}

/// The bus as a plugin sees it; implemented by hosts and by the test kit.
pub trait MessageTransport: Send + Sync {
    /// Publishes if that takes no waiting, as most publishes do, and gives the message back otherwise; within a
    /// handler, along with its acknowledgement.
    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        let _ = topic;
        Offer::Busy(message)
    }

    /// Publishes without waiting; within a handler, along with its acknowledgement.
    ///
    /// # Errors
    /// [`PublishError::Full`] when a subscriber has no room, and as [`publish`](Self::publish).
    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError>;

    /// Publishes, waiting for room; within a handler, along with its acknowledgement.
    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Publishes messages on one topic, one after another; within a handler, along with its acknowledgement.
    fn publish_batch<'a>(
        &'a self,
        topic: &'a Topic,
        messages: Vec<BaseMessage>,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            for message in messages {
                match self.offer(topic, message) {
                    Offer::Taken => {}
                    Offer::Refused(error) => return Err(error),
                    Offer::Busy(message) => self.publish(topic, message).await?,
                }
            }
            Ok(())
        })
    }

    /// Publishes at once, whatever becomes of the message that is being handled.
    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Publishes at once with a reply topic and waits for the first answer.
    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>>;

    /// [`request`](Self::request)s, without a future of its own where the answer is there at once.
    fn ask<'a>(&'a self, topic: &'a Topic, message: BaseMessage, timeout: Duration) -> Asked<'a> {
        Asked::Waiting(self.request(topic, message, timeout))
    }

    /// Subscribes beside the manifest's subscriptions.
    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>>;
}
