//! Brings the messages of plain NATS subscriptions into a queue of this host.
//!
//! NATS does not hold publishers back. A queue that blocks lets what finds it full wait beside it, up to a bound,
//! so that a burst loses nothing; what comes after that is dropped and counted. A queue that drops does so
//! itself.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_nats::{Message, Subscriber};
use echo_bus::{LocalTransport, Transport};
use echo_sdk::{Pattern, PublishError, Received};
use futures_util::stream::{SelectAll, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::decode;
use crate::ending::Ending;
use crate::streams::Streams;
use crate::subject;

/// Asks a feed to say when all that the server has sent so far is in the queue.
pub(crate) type CaughtUp = oneshot::Sender<()>;

/// A subscription at the server.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) subscriber: Subscriber,
    /// Whether it is one for the partitions of keys.
    pub(crate) is_keyed: bool,
}

impl Stream for Heard {
    type Item = (bool, Message);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let is_keyed = self.is_keyed;
        self.subscriber.poll_next_unpin(cx).map(|message| message.map(|it| (is_keyed, it)))
    }
}

/// A task that fills a queue.
pub(crate) struct Feed {
    pub(crate) messages: SelectAll<Heard>,
    pub(crate) queue: LocalTransport,
    pub(crate) patterns: Vec<Pattern>,
    /// For slots: what is durable comes from its stream.
    pub(crate) durable: Option<Arc<Streams>>,
    /// How many messages wait beside a full queue.
    pub(crate) backlog: usize,
    pub(crate) dropped: Arc<AtomicU64>,
    pub(crate) asked: mpsc::UnboundedReceiver<CaughtUp>,
    pub(crate) ending: Arc<Ending>,
}

impl Feed {
    /// Fills the queue until it is told to end, or the queue is closed; then leaves the server.
    pub(crate) async fn run(mut self) {
        let ending = Arc::clone(&self.ending);
        ending.token().run_until_cancelled(self.fill()).await;
        self.queue.close();
        for mut heard in std::mem::take(&mut self.messages) {
            // Without a connection there is nothing to leave.
            let _ = heard.subscriber.unsubscribe().await;
        }
        ending.task_has_left();
    }

    async fn fill(&mut self) {
        loop {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                Some(caught_up) = self.asked.recv() => {
                    // Whoever asked may have stopped waiting.
                    let _ = caught_up.send(());
                    continue;
                }
            };
            let Some(message) = message else {
                // The slot has no patterns that are not durable: nothing comes.
                while let Some(caught_up) = self.asked.recv().await {
                    let _ = caught_up.send(());
                }
                return std::future::pending().await;
            };
            let Some(received) = self.read(message) else { continue };
            match self.queue.try_publish(&received.topic, received.message.clone()) {
                Ok(()) => {}
                Err(PublishError::Full { .. }) => self.wait(received).await,
                Err(_) => return,
            }
        }
    }

    /// The queue is full: waits for room, and meanwhile keeps what comes.
    async fn wait(&mut self, first: Received) {
        let mut backlog = VecDeque::from([first]);
        while let Some(Received { topic, message }) = backlog.pop_front() {
            let queue = self.queue.clone();
            let mut publishing = std::pin::pin!(queue.publish(&topic, message));
            loop {
                tokio::select! {
                    biased;
                    published = &mut publishing => {
                        if published.is_err() {
                            return;
                        }
                        break;
                    }
                    Some(message) = self.messages.next() => {
                        let Some(received) = self.read(message) else { continue };
                        if backlog.len() < self.backlog {
                            backlog.push_back(received);
                        } else {
                            self.dropped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }

    fn read(&self, (is_keyed, message): (bool, Message)) -> Option<Received> {
        let is_meant = is_keyed || subject::is_meant(&self.patterns, &message.subject);
        if message.status.is_some() || !is_meant {
            return None;
        }
        match decode::core(&message) {
            Ok(received) => {
                let elsewhere = self.durable.as_ref().is_some_and(|it| it.keep(&received.topic));
                (!elsewhere).then_some(received)
            }
            Err(error) => {
                let subject = &message.subject;
                tracing::error!(%subject, %error, "what came is no message and is dropped");
                self.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}
