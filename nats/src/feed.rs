//! Brings the messages of plain NATS subscriptions into a slot's queue.
//!
//! NATS does not hold publishers back. A queue that blocks lets what finds it full wait beside it, up to a bound,
//! so that a burst loses nothing; what comes after that is dropped and counted. A queue that drops does so
//! itself.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use echo_bus::{LocalTransport, Transport};
use echo_sdk::{Offer, Pattern, Received};
use futures_util::stream::{SelectAll, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::ending::Ending;
use crate::sieve::Sieve;

/// Asks a feed to say when all that the server has sent so far is in the queue.
pub(crate) type CaughtUp = oneshot::Sender<()>;

/// More messages than are on their way to a subscription at any time.
const MANY: u64 = 1 << 16;

/// How often it is looked whether a subscription that leaves still gets messages.
const QUIET: Duration = Duration::from_secs(1);

/// How many looks in a row have to find none before it is said to get no more. On a machine that has been away, one look
/// may come before what the server has sent.
const QUIET_LOOKS: u32 = 5;

/// How many messages of a subscription are taken at once before another has its turn.
const TURN: usize = 64;

/// Other subscriptions for a feed.
pub(crate) struct Change {
    pub(crate) add: Vec<Coming>,
    /// The subjects of those that leave.
    pub(crate) leave: Vec<String>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) done: oneshot::Sender<()>,
}

/// A subscription at the server: gives the messages that have come, so many at a time.
#[derive(Debug)]
pub(crate) struct Coming {
    subject: String,
    subscriber: Subscriber,
    /// How many messages have come.
    count: u64,
    leaving: Option<Leaving>,
}

/// How far a subscription that leaves the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It may get [`MANY`] more; so many had come when somebody looked last, as they had at so many looks before.
    Under { count: u64, quiet: u32 },
    /// It gets one more at most.
    Quiet,
}

impl Coming {
    pub(crate) fn new(subject: String, subscriber: Subscriber) -> Self {
        Self { subject, subscriber, count: 0, leaving: None }
    }

    /// Has the server let go of it. The client forgets a subscription as it says so, and what is on its way then is
    /// lost, unless it is still to get so many: so it is to get more than can be on their way, and once none have come for
    /// a while, one.
    async fn leave(&mut self) {
        let count = self.count;
        let more = match self.leaving {
            None => {
                self.leaving = Some(Leaving::Under { count, quiet: 0 });
                MANY
            }
            Some(Leaving::Under { count: before, quiet }) => {
                let quiet = if before == count { quiet + 1 } else { 0 };
                if quiet < QUIET_LOOKS {
                    self.leaving = Some(Leaving::Under { count, quiet });
                    return;
                }
                self.leaving = Some(Leaving::Quiet);
                1
            }
            Some(Leaving::Quiet) => return,
        };
        // Without a connection there is nothing to leave.
        let _ = self.subscriber.unsubscribe_after(count + more).await;
    }
}

impl Stream for Coming {
    type Item = Vec<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Message>>> {
        let mut come = Vec::new();
        while come.len() < TURN {
            match self.subscriber.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    self.count += 1;
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
    pub(crate) changes: mpsc::UnboundedReceiver<Change>,
    pub(crate) ending: Arc<Ending>,
}

impl Feed {
    /// Fills the queue until it is told to end, or the queue is closed; then leaves the server.
    pub(crate) async fn run(mut self) {
        let ending = Arc::clone(&self.ending);
        ending.token().run_until_cancelled(self.fill()).await;
        self.queue.close();
        for Coming { mut subscriber, .. } in std::mem::take(&mut self.messages) {
            // Without a connection there is nothing to leave.
            let _ = subscriber.unsubscribe().await;
        }
        ending.task_has_left();
    }

    async fn fill(&mut self) {
        let mut looks = interval(QUIET);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_leaving = |it: &Coming| matches!(it.leaving, Some(Leaving::Under { .. }));
            let some_leave = self.sieve.is_strict && self.messages.iter().any(is_leaving);
            let come = tokio::select! {
                biased;
                Some(change) = self.changes.recv() => {
                    self.change(change).await;
                    continue;
                }
                Some(come) = self.messages.next() => come,
                Some(caught_up) = self.asked.recv() => {
                    // Whoever asked may have stopped waiting.
                    let _ = caught_up.send(());
                    continue;
                }
                _ = looks.tick(), if some_leave => {
                    for coming in self.messages.iter_mut().filter(|it| is_leaving(it)) {
                        coming.leave().await;
                    }
                    continue;
                }
                // The slot is gone.
                else => return std::future::pending().await,
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
                    Some(change) = self.changes.recv() => self.change(change).await,
                    Some(come) = self.messages.next() => {
                        come.into_iter().for_each(|message| self.keep(message, &mut backlog));
                    }
                }
            }
            next = backlog.pop_front();
        }
    }

    /// Takes up other subscriptions, and lets go of some.
    async fn change(&mut self, change: Change) {
        let Change { add, leave, patterns, done } = change;
        let stays = |it: &&mut Coming| it.leaving.is_none() && leave.contains(&it.subject);
        for coming in self.messages.iter_mut().filter(stays) {
            coming.leave().await;
        }
        self.messages.extend(add);
        self.sieve.patterns = patterns;
        // Those that leave bring what nobody wants any more.
        self.sieve.is_strict = true;
        let _ = done.send(());
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
