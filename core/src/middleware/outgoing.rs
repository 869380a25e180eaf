//! The way of a message out through a list of middleware to the bus.

use std::sync::Arc;
use std::time::Duration;

use echo_sdk::{
    BaseMessage, BoxFuture, MessageTransport, Pattern, PublishError, Received, RequestError,
    Subscription, Topic,
};

use super::{Middleware, Outgoing, Publishing};
use crate::current;

/// The middleware that one sender's messages go through.
#[derive(Clone)]
pub(super) struct Publisher {
    sender: Arc<str>,
    layers: Arc<[Arc<dyn Middleware>]>,
}

impl Publisher {
    /// Nothing where the list is empty.
    pub(super) fn new(sender: &str, layers: Vec<Arc<dyn Middleware>>) -> Option<Self> {
        (!layers.is_empty()).then(|| Self { sender: Arc::from(sender), layers: layers.into() })
    }

    /// What is to be published in the message's place; nothing where it was dropped.
    pub(super) async fn pass(
        &self,
        topic: &Topic,
        message: BaseMessage,
    ) -> Result<Option<Received>, PublishError> {
        let mut outgoing = self.outgoing(topic, message, true);
        for layer in &*self.layers {
            match layer.publishing(&mut outgoing) {
                Publishing::Go => {}
                Publishing::GoAfter(delay) => tokio::time::sleep(delay).await,
                Publishing::Drop => return Ok(None),
                Publishing::Refuse(error) => return Err(error),
            }
        }
        Ok(Some(Received { topic: outgoing.topic, message: outgoing.message }))
    }

    /// As [`pass`](Self::pass), for a sender that does not wait.
    fn try_pass(
        &self,
        topic: &Topic,
        message: BaseMessage,
    ) -> Result<Option<Received>, PublishError> {
        let mut outgoing = self.outgoing(topic, message, false);
        for layer in &*self.layers {
            match layer.publishing(&mut outgoing) {
                Publishing::Go | Publishing::GoAfter(Duration::ZERO) => {}
                Publishing::GoAfter(_) => {
                    return Err(PublishError::Full { slot: layer.name().to_owned() });
                }
                Publishing::Drop => return Ok(None),
                Publishing::Refuse(error) => return Err(error),
            }
        }
        Ok(Some(Received { topic: outgoing.topic, message: outgoing.message }))
    }

    fn outgoing(&self, topic: &Topic, message: BaseMessage, may_wait: bool) -> Outgoing<'_> {
        let (sender, topic) = (&*self.sender, topic.clone());
        Outgoing { sender, topic, message, handled: current::handled(), may_wait }
    }
}

/// A sender's way to the bus by way of its middleware. Whose messages go through none has the bus itself.
/// What a version does in the shadow of another passes by all middleware, which counts and remembers what is real.
struct Through {
    publisher: Publisher,
    bus: Arc<dyn MessageTransport>,
}

/// Puts the middleware, where there is any, before a sender's way to the bus.
pub(super) fn through(
    publisher: Option<Publisher>,
    bus: Arc<dyn MessageTransport>,
) -> Arc<dyn MessageTransport> {
    match publisher {
        Some(publisher) => Arc::new(Through { publisher, bus }),
        None => bus,
    }
}

impl MessageTransport for Through {
    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        if current::is_shadow() {
            return self.bus.try_publish(topic, message);
        }
        match self.publisher.try_pass(topic, message)? {
            Some(passed) => self.bus.try_publish(&passed.topic, passed.message),
            None => Ok(()),
        }
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        if current::is_shadow() {
            return self.bus.publish(topic, message);
        }
        Box::pin(async move {
            match self.publisher.pass(topic, message).await? {
                Some(passed) => self.bus.publish(&passed.topic, passed.message).await,
                None => Ok(()),
            }
        })
    }

    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        if current::is_shadow() {
            return self.bus.publish_now(topic, message);
        }
        Box::pin(async move {
            match self.publisher.pass(topic, message).await? {
                Some(passed) => self.bus.publish_now(&passed.topic, passed.message).await,
                None => Ok(()),
            }
        })
    }

    /// A request that is dropped goes without an answer. What it waits here is part of its time.
    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        if current::is_shadow() {
            return self.bus.request(topic, message, timeout);
        }
        Box::pin(async move {
            let asked = async {
                match self.publisher.pass(topic, message).await? {
                    Some(passed) => self.bus.request(&passed.topic, passed.message, timeout).await,
                    None => Err(RequestError::NoResponders { topic: topic.clone() }),
                }
            };
            let timed_out = |_| RequestError::TimedOut { topic: topic.clone(), timeout };
            tokio::time::timeout(timeout, asked).await.map_err(timed_out)?
        })
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        self.bus.subscribe(pattern)
    }
}
