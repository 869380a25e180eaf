//! Brings the messages of plain NATS subscriptions into a slot's queue.
//!
//! NATS does not hold publishers back. A queue that blocks lets what finds it full wait beside it, up to a bound,
//! so that a burst loses nothing; what comes after that is dropped and counted. A queue that drops does so
//! itself.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::{Message, Subscriber};
use echo_bus::{LocalTransport, Transport};
use echo_sdk::{Offer, Received};
use futures_util::stream::{SelectAll, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::ending::Ending;
use crate::sieve::Sieve;

/// Asks a feed to say when all that the server has sent so far is in the queue.
pub(crate) type CaughtUp = oneshot::Sender<()>;

/// How many messages of a subscription are taken at once before another has its turn.
const TURN: usize = 64;

/// A subscription at the server: gives the messages that have come, so many at a time.
#[derive(Debug)]
pub(crate) struct Coming(pub(crate) Subscriber);

impl Stream for Coming {
    type Item = Vec<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Message>>> {
        let mut come = Vec::new();
        while come.len() < TURN {
            match self.0.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    if come.is_empty() {
                        come.reserve_exact(TURN);
                    }
                    come.push(message);
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

/// A task that fills a queue.
pub(crate) struct Feed {
    pub(crate) messages: SelectAll<Coming>,
    pub(crate) queue: LocalTransport,
    pub(crate) sieve: Sieve,
    /// How many messages wait beside a full queue.
    pub(crate) backlog: usize,
    pub(crate) asked: mpsc::UnboundedReceiver<CaughtUp>,
    pub(crate) ending: Arc<Ending>,
}

impl Feed {
    /// Fills the queue until it is told to end, or the queue is closed; then leaves the server.
    pub(crate) async fn run(mut self) {
        let ending = Arc::clone(&self.ending);
        ending.token().run_until_cancelled(self.fill()).await;
        self.queue.close();
        for Coming(mut subscriber) in std::mem::take(&mut self.messages) {
            // Without a connection there is nothing to leave.
            let _ = subscriber.unsubscribe().await;
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
                let received = self.sieve.read(&message, false);
                let Some(Received { topic, message }) = received else { continue };
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
    fn keep(&self, message: Message, backlog: &mut VecDeque<Received>) {
        let Some(received) = self.sieve.read(&message, false) else { return };
        if backlog.len() < self.backlog {
            backlog.push_back(received);
        } else {
            self.sieve.drop_one();
        }
    }
}
