//! What a slot subscribes to at the server: plain subjects in its queue group, and consumers of streams.
//!
//! Other patterns take effect without a message lost or doubled on what both match:
//!
//! * **Plain subjects.** The new subscriptions are at the server before the old ones leave it. A queue group gets a
//!   message once, however many of its subscriptions match, and what the server sent to one that leaves still comes
//!   ([`feed`](crate::feed)). Messages that come by the one and the other meanwhile have no order.
//! * **Streams.** Consumers whose filter stays go on. All of them hold what comes while the new ones are made, and then the
//!   end of the stream is where the change takes effect ([`scope`](crate::scope)): before it messages are the old
//!   consumers', behind it the new ones'. An old one is emptied, and deleted. A partition of keys that a new consumer
//!   takes over goes on there once those of the old one are settled, so that each key keeps its order.
//! * **One at a time.** Whoever comes while the patterns change is told so. A change that fails, or is dropped, goes back
//!   to what it was for what had not changed, and can be made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::jetstream::consumer::{Consumer, pull};
use echo_bus::BusError;
use echo_sdk::Pattern;
use futures_util::future::try_join_all;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::feed::{Change, Coming};
use crate::held::Source;
use crate::pull::{Pull, Wanted};
use crate::scope::{Earlier, Scope};
use crate::slot::NatsSlot;
use crate::subject;

/// How many messages of a partition of keys are asked for at once; they come one at a time.
const PARTITION_BATCH: usize = 32;

/// A consumer that a slot takes messages from.
#[derive(Debug)]
pub(crate) struct Taking {
    pub(crate) wanted: Wanted,
    pub(crate) source: Arc<Source>,
    scope: Arc<Scope>,
    /// Told when its task has ended.
    gone: CancellationToken,
}

/// Consumers that hold what comes, for as long as this lives.
struct Holding(Vec<Arc<Taking>>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.iter().for_each(|taking| taking.scope.release());
    }
}

/// The patterns of a slot that are about to change; those that it had come back unless they are given up.
struct Changing<'a> {
    slot: &'a NatsSlot,
    patterns: Vec<Pattern>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        *self.slot.patterns.lock() = Some(std::mem::take(&mut self.patterns));
    }
}

fn failed(error: &dyn std::error::Error) -> BusError {
    BusError::Transport(error.to_string())
}

/// The filters of those among these that a message of a consumer may be in as well, and that come first.
fn elsewhere<'a>(wanted: &Wanted, first: impl Iterator<Item = &'a Wanted>) -> Vec<Pattern> {
    let shared = first.filter(|other| *other != wanted && wanted.has_in_common_with(other));
    shared.map(|other| other.topics.clone()).collect()
}

impl NatsSlot {
    /// The consumers that are at work.
    pub(crate) fn taking(&self) -> Vec<Arc<Taking>> {
        let mut all = self.taking.lock();
        all.retain(|taking| !taking.gone.is_cancelled());
        all.clone()
    }

    /// The subjects of what does not last. What the streams bring all of would only come twice.
    pub(crate) fn subjects(&self, patterns: &[Pattern]) -> Vec<String> {
        let reduced = subject::reduced(patterns).into_iter();
        let plain = reduced.filter(|pattern| !self.publisher.streams.cover(pattern));
        plain.map(|pattern| pattern.as_str().to_owned()).collect()
    }

    /// Subscribes to plain subjects, in the queue group of the slot's name.
    pub(crate) async fn subscribe(&self, subjects: &[String]) -> Result<Vec<Coming>, BusError> {
        // Nobody hears what was published before.
        self.publisher.lane.flushed().await;
        let client = &self.publisher.connection.client;
        let mut all = Vec::new();
        for subject in subjects.iter().cloned() {
            let group = self.inner_name();
            let subscriber = client.queue_subscribe(subject.clone(), group).await;
            let subscriber = subscriber.map_err(|error| failed(&error))?;
            all.push(Coming::new(subject, subscriber));
        }
        Ok(all)
    }

    fn inner_name(&self) -> String {
        self.inner.name().to_owned()
    }

    /// The consumers that patterns ask for: for each filter one for messages without a key, and one for each partition
    /// of keys.
    fn wanted(&self, patterns: &[Pattern]) -> Vec<Wanted> {
        let filters = self.publisher.streams.filters(patterns).into_iter();
        let partitions = || std::iter::once(None).chain((0..self.durable.partitions).map(Some));
        let each = filters.flat_map(|filter| partitions().map(move |it| (filter.clone(), it)));
        let wanted = each.map(|((stream, topics), partition)| Wanted {
            stream: stream.to_owned(),
            slot: self.inner_name(),
            topics,
            partition,
            ack_wait: self.durable.ack_wait,
        });
        wanted.collect()
    }

    fn pull(&self, wanted: Wanted, filters: usize, scope: Scope) -> Pull {
        let share = self.inner.stats().capacity.min(self.durable.prefetch) / filters.max(1);
        Pull {
            budget: if wanted.partition.is_some() { PARTITION_BATCH } else { share.max(1) },
            source: Source::of(&wanted.stream),
            wanted,
            table: Arc::clone(&self.table),
            queue: self.queue.clone(),
            slot: Arc::clone(&self.inner),
            scope: Arc::new(scope),
            gone: CancellationToken::new(),
            is_paused: Arc::clone(&self.is_paused),
            ending: Arc::clone(&self.ending),
        }
    }

    async fn attach(&self, wanted: &[Wanted]) -> Result<Vec<Consumer<pull::Config>>, BusError> {
        let connection = &self.publisher.connection;
        try_join_all(wanted.iter().map(|wanted| wanted.attach(connection))).await
    }

    /// What takes messages from the streams when the slot is opened. Where a message is in several consumers the oldest
    /// of them has it, whichever host comes when.
    pub(crate) async fn first_pulls(
        &self,
        patterns: &[Pattern],
    ) -> Result<Vec<(Pull, Consumer<pull::Config>)>, BusError> {
        let wanted = self.wanted(patterns);
        let filters = self.publisher.streams.filters(patterns).len();
        let consumers = self.attach(&wanted).await?;
        let mut all: Vec<_> = wanted.into_iter().zip(consumers).collect();
        all.sort_by_key(|(wanted, consumer)| (consumer.cached_info().created, wanted.place()));
        let mut first: Vec<Wanted> = Vec::new();
        let mut pulls = Vec::new();
        for (wanted, consumer) in all {
            let scope = Scope::new(elsewhere(&wanted, first.iter()));
            first.push(wanted.clone());
            pulls.push((self.pull(wanted, filters, scope), consumer));
        }
        Ok(pulls)
    }

    /// Takes messages from a consumer from now on.
    pub(crate) fn start(&self, pull: Pull, consumer: Consumer<pull::Config>) {
        self.taking.lock().push(Arc::new(Taking {
            wanted: pull.wanted.clone(),
            source: Arc::clone(&pull.source),
            scope: Arc::clone(&pull.scope),
            gone: pull.gone.clone(),
        }));
        self.ending.has_tasks(1);
        self.publisher.tasks.spawn(pull.run(consumer));
    }

    pub(crate) async fn change_patterns(&self, patterns: Vec<Pattern>) -> Result<(), BusError> {
        let closed = || BusError::SlotClosed(self.inner_name());
        let before = self.patterns.lock().take();
        let before = before.ok_or_else(|| {
            let name = self.inner.name();
            BusError::Transport(format!("the slot `{name}` is being given other patterns; wait"))
        })?;
        let mut changing = Changing { slot: self, patterns: before };
        if self.ending.token().is_cancelled() {
            return Err(closed());
        }
        self.change_streams(&patterns).await?;
        let (before, after) = (self.subjects(&changing.patterns), self.subjects(&patterns));
        let added: Vec<String> = after.iter().filter(|it| !before.contains(it)).cloned().collect();
        let add = self.subscribe(&added).await?;
        self.publisher.connection.round_trip().await;
        let leave = before.into_iter().filter(|subject| !after.contains(subject)).collect();
        let (done, is_done) = oneshot::channel();
        let change = Change { add, leave, patterns: patterns.clone(), done };
        self.changes.send(change).map_err(|_| closed())?;
        is_done.await.map_err(|_| closed())?;
        changing.patterns = patterns;
        drop(changing);
        // Nothing more is sent to those that left.
        self.publisher.connection.round_trip().await;
        Ok(())
    }

    async fn change_streams(&self, patterns: &[Pattern]) -> Result<(), BusError> {
        let (wanted, current) = (self.wanted(patterns), self.taking());
        let is_wanted = |taking: &Taking| wanted.contains(&taking.wanted);
        let is_there = |wanted: &Wanted| current.iter().any(|it| it.wanted == *wanted);
        let stays = |taking: &Taking| is_wanted(taking) == taking.scope.is_of_use();
        if current.iter().all(|taking| stays(taking)) && wanted.iter().all(is_there) {
            return Ok(());
        }
        let (held, over): (Vec<_>, Vec<_>) =
            current.into_iter().partition(|taking| taking.scope.hold());
        let holding = Holding(held);
        let (staying, leaving): (Vec<_>, Vec<_>) =
            holding.0.iter().partition(|taking| is_wanted(taking));
        let is_added = |wanted: &Wanted| !staying.iter().any(|it| it.wanted == *wanted);
        let added: Vec<Wanted> = wanted.iter().filter(|it| is_added(it)).cloned().collect();
        for ending in over.iter().filter(|taking| added.contains(&taking.wanted)) {
            // It is deleted before another of its name is made.
            let token = self.ending.token();
            let is_gone = token.run_until_cancelled(ending.gone.cancelled()).await;
            is_gone.ok_or_else(|| BusError::SlotClosed(self.inner_name()))?;
        }
        let consumers = self.attach(&added).await?;
        let cuts = self.ends(holding.0.iter().map(|it| &it.wanted).chain(&added)).await?;
        let cut = |wanted: &Wanted| cuts.get(&wanted.stream).copied().unwrap_or_default();
        // Messages without a key have no order to keep.
        let earlier = |wanted: &Wanted| -> Vec<Earlier> {
            let place = cut(wanted);
            let own = leaving.iter().filter(|it| wanted.has_in_common_with(&it.wanted));
            let own = own.filter(|_| wanted.partition.is_some());
            own.map(|it| Earlier { scope: Arc::clone(&it.scope), place }).collect()
        };
        let mut first: Vec<&Wanted> = Vec::new();
        for taking in &staying {
            let wanted = &taking.wanted;
            let others = elsewhere(wanted, first.iter().copied());
            taking.scope.cut(cut(wanted), Some(others), earlier(wanted));
            first.push(wanted);
        }
        for taking in &leaving {
            taking.scope.cut(cut(&taking.wanted), None, Vec::new());
        }
        let filters = self.publisher.streams.filters(patterns).len();
        for (wanted, consumer) in added.iter().zip(consumers) {
            let scope = Scope::new(elsewhere(wanted, holding.0.iter().map(|it| &it.wanted)));
            let others = elsewhere(wanted, first.iter().copied());
            scope.cut(cut(wanted), Some(others), earlier(wanted));
            first.push(wanted);
            self.start(self.pull(wanted.clone(), filters, scope), consumer);
        }
        Ok(())
    }

    /// The last sequence of each stream among these.
    async fn ends<'a>(
        &self,
        all: impl Iterator<Item = &'a Wanted>,
    ) -> Result<BTreeMap<String, u64>, BusError> {
        let mut ends = BTreeMap::new();
        let Some(jetstream) = &self.publisher.connection.jetstream else { return Ok(ends) };
        for wanted in all {
            if !ends.contains_key(&wanted.stream) {
                let stream = jetstream.get_stream(&wanted.stream).await;
                let stream = stream.map_err(|error| failed(&error))?;
                let last = stream.cached_info().state.last_sequence;
                ends.insert(wanted.stream.clone(), last);
            }
        }
        Ok(ends)
    }
}
