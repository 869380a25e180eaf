//! A plain subscription.
//!
//! Whoever reads it takes what the client has read off the connection, many messages at a time; no task and no queue
//! stand between. As long as it is read, what waits is with the client, which drops what is newest past
//! [`NatsOptions::backlog`](crate::NatsOptions::backlog).
//!
//! A task looks after each subscription. One that drops messages by its own rule and was not read for a while has what
//! waits taken over by that task, which keeps to the rule. It asks the client on the reader's behalf, so that the
//! reader is still the one that is woken by the next message. When the subscription is dropped or the bus closed, the
//! task leaves the server; what has come by then can still be read. The state is behind one lock, which is held for a
//! few messages at a time and never across an await.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::Subscriber;
use echo_bus::SubscribeOptions;
use echo_sdk::{MessageStream, Overflow, Received};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::task::unconstrained;
use tokio::time::{MissedTickBehavior, interval};

use crate::ending::Ending;
use crate::sieve::Sieve;

/// How many messages are taken at once.
const TURN: usize = 64;

/// How long a subscription may be left alone before somebody sees to what waits for it: shorter than the client takes
/// to fill up.
const ALONE: Duration = Duration::from_millis(50);

/// A subscription at the server.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) subscriber: Subscriber,
    /// Whether it is one for the partitions of keys.
    pub(crate) is_keyed: bool,
}

/// The reader's end; leaves the server when it is dropped.
pub(crate) struct NatsStream {
    /// Messages that were taken over and not asked for yet.
    taken: VecDeque<Received>,
    shared: Arc<Shared>,
}

struct Shared {
    sieve: Sieve,
    options: SubscribeOptions,
    ending: Arc<Ending>,
    state: Mutex<State>,
}

struct State {
    heard: Vec<Heard>,
    /// What was taken over because nobody came for it.
    kept: VecDeque<Received>,
    /// Who waits for messages.
    reader: Waker,
    /// Whether it came for messages since somebody looked.
    was_read: bool,
    has_left: bool,
}

impl NatsStream {
    /// The stream, and what looks after it until the end.
    pub(crate) fn new(
        heard: Vec<Heard>,
        sieve: Sieve,
        options: SubscribeOptions,
        ending: &Arc<Ending>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let state = State {
            heard,
            kept: VecDeque::new(),
            reader: Waker::noop().clone(),
            was_read: true,
            has_left: false,
        };
        let (ending, state) = (Arc::clone(ending), Mutex::new(state));
        let shared = Arc::new(Shared { sieve, options, ending, state });
        (Self { taken: VecDeque::new(), shared: Arc::clone(&shared) }, shared.look_after())
    }
}

impl MessageStream for NatsStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        if let Some(received) = self.taken.pop_front() {
            return Poll::Ready(Some(received));
        }
        let (taken, shared) = (&mut self.taken, &self.shared);
        let mut state = shared.state.lock();
        state.was_read = true;
        let kept = state.kept.len().min(TURN);
        taken.extend(state.kept.drain(..kept));
        if kept == 0 {
            state.take(cx, &shared.sieve, |received| taken.push_back(received));
        }
        match taken.pop_front() {
            None if !(state.has_left && state.heard.is_empty()) => {
                state.reader.clone_from(cx.waker());
                Poll::Pending
            }
            received => Poll::Ready(received),
        }
    }
}

impl Drop for NatsStream {
    fn drop(&mut self) {
        self.shared.ending.end();
    }
}

impl State {
    /// Takes some of what has come and says how much; after nothing the context is woken by the next.
    fn take(
        &mut self,
        cx: &mut Context<'_>,
        sieve: &Sieve,
        mut give: impl FnMut(Received),
    ) -> usize {
        let mut given = 0;
        // Each comes first in turn.
        let turn = self.heard.len().min(1);
        self.heard.rotate_left(turn);
        self.heard.retain_mut(|Heard { subscriber, is_keyed }| {
            while given < TURN {
                match subscriber.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => {
                        let received = sieve.read(&message, *is_keyed);
                        given += usize::from(received.is_some());
                        received.into_iter().for_each(&mut give);
                    }
                    Poll::Ready(None) => return false,
                    Poll::Pending => return true,
                }
            }
            true
        });
        given
    }
}

impl Shared {
    /// Sees to what waits, until the end; then leaves the server.
    async fn look_after(self: Arc<Self>) {
        let ending = self.ending.token();
        ending.run_until_cancelled(self.keep_on()).await;
        let mut heard = std::mem::take(&mut self.state.lock().heard);
        for Heard { subscriber, .. } in &mut heard {
            // Without a connection there is nothing to leave.
            let _ = subscriber.unsubscribe().await;
        }
        {
            let mut state = self.state.lock();
            (state.heard, state.has_left) = (heard, true);
            state.reader.wake_by_ref();
        }
        self.ending.task_has_left();
    }

    async fn keep_on(&self) {
        if self.options.overflow == Overflow::Block {
            // The client keeps what waits.
            return std::future::pending().await;
        }
        let mut looks = interval(ALONE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if std::mem::take(&mut self.state.lock().was_read) {
                continue;
            }
            // All of it, however much that is for one task's share of time.
            while unconstrained(std::future::poll_fn(|_| Poll::Ready(self.keep()))).await {}
        }
    }

    /// Takes over some of what waits; says whether there may be more.
    fn keep(&self) -> bool {
        let mut state = self.state.lock();
        if state.was_read {
            return false;
        }
        let reader = state.reader.clone();
        let mut kept = std::mem::take(&mut state.kept);
        let given = state.take(&mut Context::from_waker(&reader), &self.sieve, |received| {
            if kept.len() >= self.options.capacity.max(1) {
                self.sieve.drop_one();
                if self.options.overflow == Overflow::DropNewest {
                    return;
                }
                kept.pop_front();
            }
            kept.push_back(received);
        });
        state.kept = kept;
        given > 0
    }
}
