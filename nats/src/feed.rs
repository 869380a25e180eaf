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
use echo_sdk::{Offer, Pattern, Received};
use futures_util::stream::{SelectAll, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::decode;
use crate::ending::Ending;
use crate::streams::Streams;
use crate::subject;

/// Asks a feed to say when all that the server has sent so far is in the queue.
pub(crate) type CaughtUp = oneshot::Sender<()>;

/// How many messages of a subscription are taken at once before another has its turn.
const TURN: usize = 64;

/// A subscription at the server: gives the messages that have come, so many at a time.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) subscriber: Subscriber,
    /// Whether it is one for the partitions of keys.
    pub(crate) is_keyed: bool,
}

impl Stream for Heard {
    type Item = Vec<Come>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Come>>> {
        let is_keyed = self.is_keyed;
        let mut come = Vec::new();
        while come.len() < TURN {
            match self.subscriber.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    if come.is_empty() {
                        come.reserve_exact(TURN);
                    }
                    come.push(Come { is_keyed, message });
                }
                // What has come goes first.
                Poll::Ready(None) if come.is_empty() => return Poll::Ready(None),
                Poll::Pending if come.is_empty() => return Poll::Pending,
                _ => break,
            }
        }
        Poll::Ready(Some(come))
    }
}

/// A message of a subscription.
#[derive(Debug)]
pub(crate) struct Come {
    is_keyed: bool,
    message: Message,
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
            let come = tokio::select! {
                biased;
                come = self.messages.next() => come,
                Some(caught_up) = self.asked.recv() => {
                    // Whoever asked may have stopped waiting.
                    let _ = caught_up.send(());
                    continue;
                }
            };
            let Some(come) = come else {
                // The slot has no patterns that are not durable: nothing comes.
                while let Some(caught_up) = self.asked.recv().await {
                    let _ = caught_up.send(());
                }
                return std::future::pending().await;
            };
            let mut come = come.into_iter();
            while let Some(message) = come.next() {
                let Some(Received { topic, message }) = self.read(message) else { continue };
                match self.queue.offer(&topic, message) {
                    Offer::Taken => {}
                    Offer::Busy(message) => {
                        let mut backlog = VecDeque::new();
                        come.by_ref().for_each(|message| self.keep(message, &mut backlog));
                        self.wait(Received { topic, message }, backlog).await;
                    }
                    Offer::Refused(_) => return,
                }
            }
        }
    }

    /// The queue is full: waits for room, and meanwhile keeps what comes.
    async fn wait(&mut self, first: Received, mut backlog: VecDeque<Received>) {
        let mut next = Some(first);
        while let Some(Received { topic, message }) = next {
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
                    Some(come) = self.messages.next() => {
                        come.into_iter().for_each(|message| self.keep(message, &mut backlog));
                    }
                }
            }
            next = backlog.pop_front();
        }
    }

    /// Keeps a message beside the queue, if there is room.
    fn keep(&self, message: Come, backlog: &mut VecDeque<Received>) {
        let Some(received) = self.read(message) else { return };
        if backlog.len() < self.backlog {
            backlog.push_back(received);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self, Come { is_keyed, message }: Come) -> Option<Received> {
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
