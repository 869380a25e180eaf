//! Where the answers to requests arrive: straight to whoever waits, past the routes.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use echo_sdk::{BaseMessage, Topic, TopicError};
use tokio::sync::oneshot;

/// The first token of reply topics, as NATS clients name it.
pub(super) const PREFIX: &str = "_INBOX.";

/// Whether a topic is one of those that answers arrive at.
pub(super) fn is_inbox(topic: &Topic) -> bool {
    topic.as_str().starts_with(PREFIX)
}

#[derive(Debug, Default)]
pub(super) struct Inboxes {
    /// The topics are the bus's own, so nobody can aim at collisions.
    open: DashMap<Topic, oneshot::Sender<BaseMessage>, foldhash::fast::RandomState>,
    next: AtomicU64,
}

/// A reply topic that somebody waits at; closed when dropped.
#[derive(Debug)]
pub(super) struct Inbox<'a> {
    inboxes: &'a Inboxes,
    topic: Topic,
    answer: oneshot::Receiver<BaseMessage>,
}

impl Inboxes {
    pub(super) fn open(&self) -> Result<Inbox<'_>, echo_sdk::PublishError> {
        let topic = self.fresh_topic()?;
        let (sender, answer) = oneshot::channel();
        self.open.insert(topic.clone(), sender);
        Ok(Inbox { inboxes: self, topic, answer })
    }

    fn fresh_topic(&self) -> Result<Topic, TopicError> {
        Topic::new(format!("{PREFIX}{:x}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Gives a message to whoever waits for it; hands it back when it is no answer to a request.
    pub(super) fn deliver(&self, topic: &Topic, message: BaseMessage) -> Option<BaseMessage> {
        if !is_inbox(topic) {
            return Some(message);
        }
        match self.open.remove(topic) {
            Some((_, sender)) => sender.send(message).err(),
            None => Some(message),
        }
    }

    /// Whether somebody waits for an answer there.
    pub(super) fn is_open(&self, topic: &Topic) -> bool {
        is_inbox(topic) && self.open.contains_key(topic)
    }

    pub(super) fn close(&self) {
        self.open.clear();
    }
}

impl Inbox<'_> {
    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The answer; `None` when the bus was closed. Borrows, so that dropping the wait closes the inbox.
    pub(super) async fn answer(mut self) -> Option<BaseMessage> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        self.inboxes.open.remove(&self.topic);
    }
}
