//! Messages that wait for their retry: one task for the whole transport.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use echo_sdk::BaseMessage;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::{Entry, Queue};

/// What waits.
#[derive(Debug)]
pub(super) enum Wait {
    /// A message without a key.
    Message(Entry),
    /// The key of this message; the messages themselves are held back in their lane.
    Key(BaseMessage),
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// Keeps those that are due at the same time in order.
    number: u64,
    queue: Weak<Queue>,
    wait: Wait,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

#[derive(Debug, Default)]
pub(super) struct Delays {
    state: Mutex<State>,
    /// Told when the earliest changes.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    heap: BinaryHeap<Waiting>,
    next_number: u64,
}

impl Delays {
    pub(super) fn add(&self, queue: &Arc<Queue>, delay: Duration, wait: Wait) {
        let now = Instant::now();
        // A delay past what a clock can say is as good as a century.
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let due = now + delay.min(century);
        let is_first = {
            let mut state = self.state.lock();
            let number = state.next_number;
            state.next_number += 1;
            state.heap.push(Waiting { due, number, queue: Arc::downgrade(queue), wait });
            state.heap.peek().is_some_and(|first| first.number == number)
        };
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Takes out what a closed queue still has waiting here; held-back lanes are drained by themselves.
    pub(super) fn take(&self, queue: &Arc<Queue>) -> Vec<Entry> {
        let mut state = self.state.lock();
        let all = std::mem::take(&mut state.heap).into_vec();
        let own = Arc::downgrade(queue);
        let (taken, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiting| waiting.queue.ptr_eq(&own));
        state.heap = rest.into();
        let entry = |waiting: Waiting| match waiting.wait {
            Wait::Message(entry) => Some(entry),
            Wait::Key(_) => None,
        };
        taken.into_iter().inspect(|_| queue.count_delayed(false)).filter_map(entry).collect()
    }

    /// Puts messages back into their queues as they fall due. Runs until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let changed = self.earlier.notified();
            let due = self.state.lock().heap.peek().map(|first| first.due);
            match due {
                None => changed.await,
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => self.release_due(),
                        () = changed => {}
                    }
                }
            }
        }
    }

    fn release_due(&self) {
        let now = Instant::now();
        loop {
            let waiting = {
                let mut state = self.state.lock();
                if state.heap.peek().is_none_or(|first| first.due > now) {
                    return;
                }
                state.heap.pop()
            };
            let Some(Waiting { queue, wait, .. }) = waiting else {
                return;
            };
            let Some(queue) = queue.upgrade() else {
                continue;
            };
            queue.count_delayed(false);
            match wait {
                Wait::Message(entry) => queue.requeue(entry),
                Wait::Key(message) => {
                    let lane = queue.lanes.release(message.key().unwrap_or_default());
                    lane.into_iter().for_each(|lane| queue.call_out(lane));
                }
            }
        }
    }
}
