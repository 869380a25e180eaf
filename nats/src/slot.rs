//! A slot on the bus of several hosts.
//!
//! What comes for it from the server, by plain subscriptions and from streams, goes into a queue of this host
//! alone, of the kind that a bus within one process has. That queue keeps ordering keys apart, counts the
//! attempts of what does not last and keeps its retries, is paused, drained and looked at. What came from a
//! stream is settled at the server besides.
//!
//! Its tasks end when the slot is closed or dropped. What it holds of streams by then goes back to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use echo_bus::{
    BusError, LocalOptions, LocalTransport, Receiver, Side, Slot, SlotOptions, SlotStats, Transport,
};
use echo_sdk::{BoxFuture, Overflow, Pattern, Received};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::ending::Ending;
use crate::feed::{CaughtUp, Change, Feed};
use crate::held::Table;
use crate::publish::Publisher;
use crate::receiver::NatsReceiver;
use crate::sieve::Sieve;
use crate::states::StateBucket;
use crate::subscribed::Taking;
use crate::transport::Hub;
use crate::{DurableOptions, lag};

pub(crate) struct NatsSlot {
    pub(crate) inner: Arc<dyn Slot>,
    pub(crate) queue: LocalTransport,
    pub(crate) table: Arc<Table>,
    pub(crate) publisher: Arc<Publisher>,
    states: Arc<StateBucket>,
    pub(crate) durable: DurableOptions,
    /// What it takes from streams.
    pub(crate) taking: Mutex<Vec<Arc<Taking>>>,
    /// What it subscribes to; nothing while that changes.
    pub(crate) patterns: Mutex<Option<Vec<Pattern>>>,
    pub(crate) is_paused: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    feed: mpsc::UnboundedSender<CaughtUp>,
    pub(crate) changes: mpsc::UnboundedSender<Change>,
    pub(crate) ending: Arc<Ending>,
}

/// A queue of this host that takes all that is given to it.
fn queue() -> Result<LocalTransport, BusError> {
    // What is taken off the wire was small enough for the wire.
    LocalTransport::new(LocalOptions { max_payload: usize::MAX, ..LocalOptions::default() })
}

/// The pattern of all topics.
fn all_topics() -> Result<Pattern, BusError> {
    Ok(Pattern::new(">")?)
}

impl NatsSlot {
    pub(crate) async fn open(
        hub: &Hub,
        ending: Arc<Ending>,
        options: SlotOptions,
    ) -> Result<Self, BusError> {
        let publisher = Arc::clone(&hub.publisher);
        let connection = &publisher.connection;
        let filters = publisher.streams.filters(&options.patterns);
        let queue = queue()?;
        let overflow = if filters.is_empty() { options.overflow } else { Overflow::Block };
        let inner = queue
            .open_slot(SlotOptions {
                name: options.name.clone(),
                patterns: vec![all_topics()?],
                capacity: options.capacity,
                overflow,
            })
            .await?;
        let (feed, asked) = mpsc::unbounded_channel();
        let (changes, changed) = mpsc::unbounded_channel();
        let slot = Self {
            inner,
            queue,
            table: Arc::new(Table::new(Arc::clone(connection), Arc::clone(&ending))),
            durable: hub.options.durable.clone(),
            taking: Mutex::default(),
            patterns: Mutex::new(Some(options.patterns.clone())),
            is_paused: Arc::default(),
            dropped: Arc::default(),
            feed,
            changes,
            ending,
            publisher: Arc::clone(&publisher),
            states: Arc::clone(&hub.states),
        };
        let pulls = slot.first_pulls(&options.patterns).await?;
        let messages = slot.subscribe(&slot.subjects(&options.patterns)).await?;
        for (pull, consumer) in pulls {
            slot.start(pull, consumer);
        }
        slot.ending.has_tasks(1);
        let feed = Feed {
            messages: messages.into_iter().collect(),
            queue: slot.queue.clone(),
            sieve: Sieve {
                patterns: options.patterns,
                is_strict: false,
                durable: Some(Arc::clone(&publisher.streams)),
                dropped: Arc::clone(&slot.dropped),
            },
            backlog: hub.options.backlog,
            asked,
            changes: changed,
            ending: Arc::clone(&slot.ending),
        };
        publisher.tasks.spawn(feed.run());
        connection.round_trip().await;
        Ok(slot)
    }

    /// Resolves once all that this host has published so far and that came to this slot is in its queue.
    async fn catch_up(&self) {
        self.publisher.lane.flushed().await;
        self.publisher.connection.round_trip().await;
        let (caught_up, done) = oneshot::channel();
        if self.feed.send(caught_up).is_ok() {
            // A feed that has ended has nothing more to bring.
            let _ = done.await;
        }
    }
}

impl Slot for NatsSlot {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn receiver_of(&self, side: Side) -> Box<dyn Receiver> {
        Box::new(NatsReceiver::new(
            self.inner.receiver_of(side),
            self.inner.name(),
            Arc::clone(&self.table),
            Arc::clone(&self.publisher),
            Arc::clone(&self.states),
            self.durable.confirm_acks,
        ))
    }

    fn resubscribe(&self, patterns: Vec<Pattern>) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.change_patterns(patterns))
    }

    fn divide(&self, second: u16) {
        self.inner.divide(second);
    }

    fn stats(&self) -> SlotStats {
        let stats = self.inner.stats();
        SlotStats { dropped: stats.dropped + self.dropped.load(Ordering::Relaxed), ..stats }
    }

    fn lag(&self) -> BoxFuture<'_, Option<usize>> {
        Box::pin(async {
            let places: Vec<_> = self.taking().iter().map(|taking| taking.wanted.place()).collect();
            let kept = lag::lag(&self.publisher.connection, &places).await?;
            Some(kept.max(self.stats().held))
        })
    }

    fn has_ready(&self) -> bool {
        self.inner.has_ready()
    }

    fn has_ready_of(&self, side: Side) -> bool {
        self.inner.has_ready_of(side)
    }

    fn pause(&self) {
        self.is_paused.store(true, Ordering::Release);
        self.inner.pause();
    }

    fn resume(&self) {
        self.is_paused.store(false, Ordering::Release);
        self.inner.resume();
        self.taking().iter().for_each(|taking| taking.source.ask.notify_one());
    }

    fn close(&self) {
        self.ending.end();
        self.inner.close();
    }

    fn take_remaining(&self) -> Vec<Received> {
        let remaining = self.inner.take_remaining();
        let held = remaining.iter().filter_map(|left| self.table.take(&left.message)).collect();
        self.table.give_back(held, Duration::ZERO);
        remaining
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                self.inner.idle().await;
                let before = self.inner.stats().accepted;
                if !self.ending.token().is_cancelled() {
                    self.catch_up().await;
                }
                let now = self.inner.stats();
                if now.held == 0 && now.accepted == before {
                    return;
                }
            }
        })
    }
}

impl Drop for NatsSlot {
    fn drop(&mut self) {
        self.close();
    }
}
