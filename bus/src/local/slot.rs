//! A local queue as a slot.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use echo_sdk::{BoxFuture, Pattern, Received};

use super::kept::Kept;
use super::queue::{Queue, Ticket};
use super::receiver::LocalReceiver;
use super::side::SideQueue;
use super::subscribed::Subscribed;
use crate::transport::{BusError, Receiver, Side, Slot, SlotStats};

/// Counts somebody who waits for an empty queue.
struct Watching<'a>(&'a Queue);

impl<'a> Watching<'a> {
    fn new(queue: &'a Queue) -> Self {
        queue.watchers.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Self(queue)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A queue that is open as a slot.
#[derive(Debug)]
pub(super) struct LocalSlot {
    pub(super) queue: Arc<Queue>,
    /// Its place in the transport's routes.
    pub(super) place: Subscribed,
}

impl Drop for LocalSlot {
    fn drop(&mut self) {
        self.close();
    }
}

impl Slot for LocalSlot {
    fn name(&self) -> &str {
        self.queue.name()
    }

    fn receiver_of(&self, side: Side) -> Box<dyn Receiver> {
        Box::new(LocalReceiver::new(Arc::clone(&self.queue), side))
    }

    fn resubscribe(&self, patterns: Vec<Pattern>) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            let bus = self.queue.bus().map_err(|_| BusError::Closed)?;
            bus.resubscribe(self, patterns).await
        })
    }

    fn divide(&self, second: u16) {
        self.queue.divide(second);
    }

    fn stats(&self) -> SlotStats {
        SlotStats {
            held: usize::try_from(self.queue.room.held()).unwrap_or(usize::MAX),
            capacity: self.queue.capacity,
            accepted: self.queue.room.accepted(),
            dropped: self.queue.dropped(),
            delayed: self.queue.delayed.load(Ordering::Relaxed),
        }
    }

    fn lag(&self) -> BoxFuture<'_, Option<usize>> {
        let kept = self.queue.kept.get().map_or(0, Kept::lag);
        let lag = kept.max(self.stats().held);
        Box::pin(async move { Some(lag) })
    }

    fn has_ready(&self) -> bool {
        self.queue.sides().any(SideQueue::has_ready)
    }

    fn has_ready_of(&self, side: Side) -> bool {
        match side {
            Side::First => self.queue.first.has_ready(),
            Side::Second => self.queue.second.get().is_some_and(|second| second.has_ready()),
        }
    }

    fn pause(&self) {
        self.queue.gate.pause();
    }

    fn resume(&self) {
        self.queue.gate.resume();
        self.queue.wake_all();
    }

    fn close(&self) {
        self.place.end(&self.queue);
        self.queue.close();
    }

    fn take_remaining(&self) -> Vec<Received> {
        let mut entries = Vec::new();
        self.queue.gate.settled(|_| {
            let left = self.queue.sides().flat_map(|side| std::iter::from_fn(|| side.ready.pop()));
            for ticket in left {
                match ticket {
                    Ticket::Message(entry) => entries.push(entry),
                    Ticket::Batch(batch) => entries.extend(batch),
                    Ticket::Lane(_) => {}
                }
            }
        });
        entries.extend(self.queue.lanes.drain());
        entries.extend(self.queue.delays.take(&self.queue));
        self.queue.release(entries.len());
        entries.into_iter().map(|entry| entry.received).collect()
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _watching = Watching::new(&self.queue);
            loop {
                let emptied = self.queue.emptied.notified();
                if self.queue.room.held() == 0 {
                    return;
                }
                emptied.await;
            }
        })
    }
}
