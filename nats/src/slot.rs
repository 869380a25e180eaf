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
use futures_util::future::try_join_all;
use futures_util::stream::SelectAll;
use tokio::sync::{mpsc, oneshot};

use crate::ending::Ending;
use crate::feed::{CaughtUp, Coming, Feed};
use crate::held::{Source, Table};
use crate::publish::Publisher;
use crate::pull::{Pull, Wanted};
use crate::receiver::NatsReceiver;
use crate::sieve::Sieve;
use crate::states::StateBucket;
use crate::transport::Hub;
use crate::{NatsOptions, lag, subject};

/// How many messages of a partition of keys are asked for at once; they come one at a time.
const PARTITION_BATCH: usize = 32;

pub(crate) struct NatsSlot {
    inner: Arc<dyn Slot>,
    queue: LocalTransport,
    table: Arc<Table>,
    publisher: Arc<Publisher>,
    states: Arc<StateBucket>,
    sources: Vec<Arc<Source>>,
    /// By stream and name.
    consumers: Vec<(String, String)>,
    is_paused: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    feed: mpsc::UnboundedSender<CaughtUp>,
    ending: Arc<Ending>,
    confirm: bool,
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
        let mut slot = Self {
            inner,
            queue,
            table: Arc::new(Table::new(Arc::clone(connection), Arc::clone(&ending))),
            sources: Vec::new(),
            consumers: Vec::new(),
            is_paused: Arc::default(),
            dropped: Arc::default(),
            feed,
            ending,
            confirm: hub.options.durable.confirm_acks,
            publisher: Arc::clone(&publisher),
            states: Arc::clone(&hub.states),
        };
        let pulls = slot.pulls(&options, &hub.options);
        slot.sources = pulls.iter().map(|pull| Arc::clone(&pull.source)).collect();
        slot.consumers = pulls.iter().map(|pull| pull.wanted.place()).collect();
        let consumers = try_join_all(pulls.iter().map(Pull::attach)).await?;
        let messages = slot.subscribe(hub, &options).await?;
        slot.ending.has_tasks(pulls.len() + 1);
        for (pull, consumer) in pulls.into_iter().zip(consumers) {
            publisher.tasks.spawn(pull.run(consumer));
        }
        let feed = Feed {
            messages,
            queue: slot.queue.clone(),
            sieve: Sieve {
                patterns: options.patterns,
                durable: Some(Arc::clone(&publisher.streams)),
                dropped: Arc::clone(&slot.dropped),
            },
            backlog: hub.options.backlog,
            asked,
            ending: Arc::clone(&slot.ending),
        };
        publisher.tasks.spawn(feed.run());
        connection.round_trip().await;
        Ok(slot)
    }

    /// Subscribes to what does not last, in the queue group of the slot's name. What its streams bring all of would
    /// only come twice.
    async fn subscribe(
        &self,
        hub: &Hub,
        options: &SlotOptions,
    ) -> Result<SelectAll<Coming>, BusError> {
        let mut messages = SelectAll::new();
        // Nobody hears what was published before.
        hub.publisher.lane.flushed().await;
        let client = &hub.publisher.connection.client;
        let streams = &hub.publisher.streams;
        let patterns = subject::reduced(&options.patterns).into_iter();
        for pattern in patterns.filter(|pattern| !streams.cover(pattern)) {
            let subscriber = client
                .queue_subscribe(pattern.as_str().to_owned(), options.name.clone())
                .await
                .map_err(|error| BusError::Transport(error.to_string()))?;
            messages.push(Coming(subscriber));
        }
        Ok(messages)
    }

    /// The consumers that the slot takes its durable messages from: for each filter one for messages without a
    /// key, and one for each partition of keys.
    fn pulls(&self, options: &SlotOptions, settings: &NatsOptions) -> Vec<Pull> {
        let filters = self.publisher.streams.filters(&options.patterns);
        let share = options.capacity.min(settings.durable.prefetch) / filters.len().max(1);
        let mut all = Vec::new();
        for (index, (stream, filter)) in filters.iter().enumerate() {
            let own = |(other, filter): &(&str, Pattern)| (other == stream).then(|| filter.clone());
            let elsewhere: Vec<Pattern> = filters.iter().take(index).filter_map(own).collect();
            let partitions = (0..settings.durable.partitions)
                .map(|partition| (subject::keyed(partition, filter.as_str()), true));
            let plain = (filter.as_str().to_owned(), false);
            for (filter, is_partition) in std::iter::once(plain).chain(partitions) {
                all.push(Pull {
                    wanted: Wanted {
                        stream: (*stream).to_owned(),
                        slot: options.name.clone(),
                        filter,
                        is_partition,
                        ack_wait: settings.durable.ack_wait,
                    },
                    table: Arc::clone(&self.table),
                    queue: self.queue.clone(),
                    slot: Arc::clone(&self.inner),
                    elsewhere: elsewhere.clone(),
                    source: Source::of(stream),
                    budget: if is_partition { PARTITION_BATCH } else { share.max(1) },
                    is_paused: Arc::clone(&self.is_paused),
                    ending: Arc::clone(&self.ending),
                });
            }
        }
        all
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
            self.confirm,
        ))
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
            let kept = lag::lag(&self.publisher.connection, &self.consumers).await?;
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
        self.sources.iter().for_each(|source| source.ask.notify_one());
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
