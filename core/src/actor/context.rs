//! The bus as plugins and tools see it.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use echo_bus::{SubscribeOptions, Transport};
use echo_sdk::{
    Asked, BaseMessage, BoxFuture, MessageTransport, Offer, Pattern, PublishError, RequestError,
    Subscription, Topic,
};

use super::Measured;
use crate::current;

/// A plugin's way to the bus: what a handler publishes waits for its acknowledgement.
pub(crate) struct PluginTransport {
    pub(crate) transport: Arc<dyn Transport>,
    /// How many messages wait for a subscription beside the slot's.
    pub(crate) queue_size: usize,
    /// Of the version that the plugin is of.
    pub(crate) measured: Arc<Measured>,
}

impl PluginTransport {
    /// Adds to the effects of the message in hand. Gives back what is not published by a handler, unless nothing of it
    /// may be seen.
    #[inline]
    fn collect(&self, topic: &Topic, message: BaseMessage) -> Option<BaseMessage> {
        current::add_effect(topic, message).filter(|_| !self.measured.is_shadow())
    }

    /// Whether nobody may be asked, since nothing of what the plugin does may be seen.
    fn is_mute(&self) -> bool {
        self.measured.is_shadow() && {
            current::ask();
            true
        }
    }
}

/// What a plugin gets to hear that may not ask.
fn mute() -> PublishError {
    let text = "the plugin handles copies of messages, in the shadow of another version";
    PublishError::Refused(text.to_owned())
}

impl MessageTransport for PluginTransport {
    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        match self.collect(topic, message) {
            Some(message) => self.transport.offer(topic, message),
            None => Offer::Taken,
        }
    }

    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        match self.collect(topic, message) {
            Some(message) => self.transport.try_publish(topic, message),
            None => Ok(()),
        }
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            match self.collect(topic, message) {
                Some(message) => self.transport.publish(topic, message).await,
                None => Ok(()),
            }
        })
    }

    fn publish_batch<'a>(
        &'a self,
        topic: &'a Topic,
        messages: Vec<BaseMessage>,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let add = |message| self.collect(topic, message);
            let others: Vec<BaseMessage> = messages.into_iter().filter_map(add).collect();
            self.transport.publish_batch(topic, others).await
        })
    }

    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        let is_shadow = self.measured.is_shadow();
        if is_shadow || self.measured.asked().to_show() {
            current::note_at_once(topic, &message);
        }
        if is_shadow { Box::pin(ready(Ok(()))) } else { self.transport.publish(topic, message) }
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        if self.is_mute() {
            return Box::pin(ready(Err(mute().into())));
        }
        self.transport.request(topic, message, timeout)
    }

    fn ask<'a>(&'a self, topic: &'a Topic, message: BaseMessage, timeout: Duration) -> Asked<'a> {
        if self.is_mute() {
            return Asked::Done(Err(mute().into()));
        }
        self.transport.ask(topic, message, timeout)
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        if self.is_mute() {
            return Box::pin(ready(Err(mute())));
        }
        subscribe(&*self.transport, pattern, self.queue_size)
    }
}

fn subscribe<'a>(
    transport: &'a dyn Transport,
    pattern: &'a Pattern,
    capacity: usize,
) -> BoxFuture<'a, Result<Subscription, PublishError>> {
    Box::pin(async move {
        let options = SubscribeOptions { capacity, ..SubscribeOptions::default() };
        let subscribed = transport.subscribe(pattern, options).await;
        subscribed.map_err(|error| PublishError::Transport(error.to_string()))
    })
}

/// Whether the host still takes messages from outside.
#[derive(Debug, Default)]
pub(crate) struct Intake(AtomicBool);

impl Intake {
    pub(crate) fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn check(&self) -> Result<(), PublishError> {
        if self.is_stopped() { Err(PublishError::Closed) } else { Ok(()) }
    }
}

/// A tool's way to the bus; shut once the host stops its intake.
pub(crate) struct ClientTransport {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) intake: Arc<Intake>,
    /// How many messages wait for a subscription.
    pub(crate) queue_size: usize,
}

impl MessageTransport for ClientTransport {
    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        match self.intake.check() {
            Ok(()) => self.transport.offer(topic, message),
            Err(error) => Offer::Refused(error),
        }
    }

    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.intake.check()?;
        self.transport.try_publish(topic, message)
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        match self.intake.check() {
            Ok(()) => self.transport.publish(topic, message),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn publish_batch<'a>(
        &'a self,
        topic: &'a Topic,
        messages: Vec<BaseMessage>,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        match self.intake.check() {
            Ok(()) => self.transport.publish_batch(topic, messages),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        self.publish(topic, message)
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        match self.intake.check() {
            Ok(()) => self.transport.request(topic, message, timeout),
            Err(error) => Box::pin(ready(Err(error.into()))),
        }
    }

    fn ask<'a>(&'a self, topic: &'a Topic, message: BaseMessage, timeout: Duration) -> Asked<'a> {
        match self.intake.check() {
            Ok(()) => self.transport.ask(topic, message, timeout),
            Err(error) => Asked::Done(Err(error.into())),
        }
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        subscribe(&*self.transport, pattern, self.queue_size)
    }
}
