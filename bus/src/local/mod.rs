//! The transport within one process.

mod delays;
mod durable;
mod feed;
mod idle;
#[cfg(test)]
mod idle_tests;
mod inbox;
mod kept;
mod lanes;
mod queue;
mod reader;
mod receiver;
mod reserved;
mod room;
mod stored;

/// What [`idle`] and [`room`] are made of; their model tests put other parts in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

    pub(super) use crossbeam::utils::CachePadded as Padded;

    pub(super) use parking_lot::Mutex;
}

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use echo_sdk::{
    BaseMessage, BoxFuture, Offer, Pattern, PublishError, Received, RequestError, Subscription,
    Topic,
};
use tokio::task::JoinHandle;

use self::delays::Delays;
use self::durable::{Durable, Line};
use self::inbox::Inboxes;
use self::queue::{LocalSlot, Queue, Reservation};
use self::reader::Reader;
use self::receiver::LocalStream;
use self::reserved::Reserved;
use crate::routing::{Router, Target};
use crate::store::{MemoryStore, SharedStore};
use crate::transport::{
    Admission, BusError, Features, Slot, SlotOptions, SubscribeOptions, Transport,
};

pub use self::durable::{DurableLog, DurableOptions};

/// Settings of the local transport.
#[derive(Clone)]
pub struct LocalOptions {
    /// The largest message that is taken, in bytes.
    pub max_payload: usize,
    /// Has a say in what is published.
    pub admission: Option<Arc<dyn Admission>>,
}

impl fmt::Debug for LocalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalOptions")
            .field("max_payload", &self.max_payload)
            .finish_non_exhaustive()
    }
}

impl Default for LocalOptions {
    /// 8 MiB a message.
    fn default() -> Self {
        Self { max_payload: 8 * 1024 * 1024, admission: None }
    }
}

/// Carries messages within one process. Cheap to clone; the last clone closes the bus.
#[derive(Clone)]
pub struct LocalTransport(Arc<Inner>);

struct Inner {
    options: LocalOptions,
    router: Arc<Router<Queue>>,
    slots: Arc<Slots>,
    next_subscription: AtomicU64,
    inboxes: Arc<Inboxes>,
    delays: Arc<Delays>,
    delays_task: JoinHandle<()>,
    closed: AtomicBool,
    store: MemoryStore,
    runtime: tokio::runtime::Handle,
    durable: Option<Arc<Durable>>,
    /// Hands round what the log has.
    line_task: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.delays_task.abort();
        self.line_task.iter().for_each(JoinHandle::abort);
    }
}

/// The open slots by name, subscriptions included.
type Slots = DashMap<String, Weak<Queue>>;

/// Takes a slot out of the routes and the list of open slots, once.
#[derive(Debug)]
struct Detach {
    router: Arc<Router<Queue>>,
    slots: Arc<Slots>,
    patterns: Vec<Pattern>,
    done: AtomicBool,
}

impl Detach {
    fn detach(&self, queue: &Arc<Queue>) {
        if !self.done.swap(true, Ordering::AcqRel) {
            self.router.remove(&self.patterns, queue);
            let this = Arc::downgrade(queue);
            self.slots.remove_if(queue.name(), |_, open| open.ptr_eq(&this));
            queue.kept.get().into_iter().for_each(|kept| kept.slot.close(queue));
        }
    }
}

/// Every so many messages of a thread, one has its time in the queue measured.
const MEASURE_EVERY: u32 = 32;

/// How many messages of a batch stand in a queue as one.
const BATCH: usize = 32;

/// How many messages of a batch go into the log at once.
const LASTING_BATCH: usize = 256;

thread_local! {
    static PUBLISHED: Cell<u32> = const { Cell::new(0) };
}

fn is_measured() -> bool {
    let count = PUBLISHED.get();
    PUBLISHED.set(count.wrapping_add(1));
    count.is_multiple_of(MEASURE_EVERY)
}

impl LocalTransport {
    /// Starts a bus on the tokio runtime that the caller runs in.
    ///
    /// # Errors
    /// [`BusError::NoRuntime`] outside of a tokio runtime.
    pub fn new(options: LocalOptions) -> Result<Self, BusError> {
        Self::start(options, None)
    }

    /// Starts a bus whose durable topics a log keeps.
    ///
    /// # Errors
    /// [`BusError::NoRuntime`] outside of a tokio runtime.
    pub fn durable(options: LocalOptions, log: DurableLog) -> Result<Self, BusError> {
        Self::start(options, Some(log))
    }

    fn start(options: LocalOptions, log: Option<DurableLog>) -> Result<Self, BusError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BusError::NoRuntime)?;
        let delays = Arc::<Delays>::default();
        let delays_task = runtime.spawn(Arc::clone(&delays).run());
        let inboxes = Arc::<Inboxes>::default();
        let (durable, line_task) = log
            .map(|log| {
                let line = Line::new(Arc::clone(&inboxes));
                (Durable::new(log, Arc::clone(&line)), runtime.spawn(line.run()))
            })
            .unzip();
        Ok(Self(Arc::new(Inner {
            options,
            router: Arc::default(),
            slots: Arc::default(),
            next_subscription: AtomicU64::new(1),
            inboxes,
            delays,
            delays_task,
            closed: AtomicBool::new(false),
            store: MemoryStore::default(),
            runtime,
            durable,
            line_task,
        })))
    }

    fn check(&self, topic: &Topic, message: &BaseMessage) -> Result<(), PublishError> {
        let (len, max) = (message.size(), self.0.options.max_payload);
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        if self.0.closed.load(Ordering::Acquire) {
            return Err(PublishError::Closed);
        }
        match &self.0.options.admission {
            Some(admission) => admission.admit(topic, message),
            None => Ok(()),
        }
    }

    /// Delivers to every matching queue without waiting, or to none: then gives back the name of a full
    /// one and the message.
    fn deliver_now(
        &self,
        topic: &Topic,
        message: BaseMessage,
    ) -> Result<(), (String, BaseMessage)> {
        let Some(message) = self.0.inboxes.deliver(topic, message) else {
            return Ok(());
        };
        self.0.router.with_route(topic, |queues| match queues {
            [] => Ok(()),
            [queue] => match queue.reserve() {
                Reservation::Reserved => {
                    queue.push(topic, message, is_measured());
                    Ok(())
                }
                Reservation::Full => Err((queue.name().to_owned(), message)),
                Reservation::Drop | Reservation::Closed => Ok(()),
            },
            queues => {
                let mut reserved = Vec::with_capacity(queues.len());
                for queue in queues {
                    match queue.reserve() {
                        Reservation::Reserved => reserved.push(queue),
                        Reservation::Drop | Reservation::Closed => {}
                        Reservation::Full => {
                            reserved.iter().for_each(|queue| queue.unreserve(1));
                            return Err((queue.name().to_owned(), message));
                        }
                    }
                }
                push_all(&reserved, topic, message);
                Ok(())
            }
        })
    }

    /// The queue that messages on a topic can be pushed to several at once, if it is the only one.
    fn batch_queue(&self, topic: &Topic) -> Option<Arc<Queue>> {
        if inbox::is_inbox(topic) || self.lasts(topic).is_some() {
            return None;
        }
        self.0.router.with_route(topic, |queues| match queues {
            [queue] if queue.takes_batches() => Some(Arc::clone(queue)),
            _ => None,
        })
    }

    /// How many of these, from the first, are admitted.
    fn admitted(&self, topic: &Topic, messages: &[BaseMessage]) -> Result<usize, PublishError> {
        for (place, message) in messages.iter().enumerate() {
            match self.check(topic, message) {
                Err(error) if place == 0 => return Err(error),
                Err(_) => return Ok(place),
                Ok(()) => {}
            }
        }
        Ok(messages.len())
    }

    async fn deliver_batch(
        &self,
        topic: &Topic,
        messages: Vec<BaseMessage>,
    ) -> Result<(), PublishError> {
        let mut left = messages.into_iter();
        while self.lasts(topic).is_some() && left.len() > 0 {
            // What goes into the log together is confirmed together.
            let next = left.as_slice().get(..LASTING_BATCH).unwrap_or(left.as_slice());
            let admitted = self.admitted(topic, next)?;
            let received = |message| Received { topic: topic.clone(), message };
            self.publish_kept(left.by_ref().take(admitted).map(received).collect()).await?;
        }
        while left.len() > 0 {
            let room = match self.batch_queue(topic) {
                Some(queue) => {
                    let next = left.as_slice().get(..BATCH).unwrap_or(left.as_slice());
                    let admitted = self.admitted(topic, next)?;
                    let mut room = queue.room.reserve_some(admitted as u64) as usize;
                    if room == 0 {
                        room = queue.reserve_many(admitted).await.redeem().1;
                    }
                    if room > 0 {
                        // A batch that fits as a whole is passed on as it came.
                        let batch = if room == left.len() {
                            std::mem::take(&mut left).collect()
                        } else {
                            left.by_ref().take(room).collect()
                        };
                        queue.push_batch(topic, batch);
                    }
                    room
                }
                None => 0,
            };
            if room == 0
                && let Some(message) = left.next()
            {
                self.publish(topic, message).await?;
            }
        }
        Ok(())
    }

    /// Reserves room for a batch in every queue that gets messages of it past the log, waiting where there is
    /// none: by queue, with the places of its messages.
    async fn reserve_all(
        &self,
        batch: &[Received],
    ) -> Result<Vec<(Reserved, Vec<usize>)>, PublishError> {
        // By queue, in the order of their ids: in one order for everybody, so that two publishers cannot
        // each hold what the other waits for.
        let mut wanted: BTreeMap<u64, (Arc<Queue>, Vec<usize>)> = BTreeMap::new();
        for (place, received) in batch.iter().enumerate() {
            self.check(&received.topic, &received.message)?;
            let lasts = self.lasts(&received.topic).is_some();
            for queue in self.0.router.find(&received.topic).iter() {
                if lasts && queue.kept.get().is_some() {
                    continue;
                }
                let (_, places) =
                    wanted.entry(queue.id()).or_insert_with(|| (Arc::clone(queue), Vec::new()));
                places.push(place);
            }
        }
        let mut reserved = Vec::with_capacity(wanted.len());
        for (queue, places) in wanted.into_values() {
            reserved.push((queue.reserve_many(places.len()).await, places));
        }
        Ok(reserved)
    }

    async fn deliver_waiting(&self, batch: Vec<Received>) -> Result<(), PublishError> {
        let reserved = self.reserve_all(&batch).await?;
        // From here on nothing waits: all of it is delivered.
        for (reserved, places) in reserved {
            let (queue, messages) = reserved.redeem();
            for received in places.iter().take(messages).filter_map(|place| batch.get(*place)) {
                queue.push(&received.topic, received.message.clone(), is_measured());
            }
        }
        for Received { topic, message } in batch {
            self.0.inboxes.deliver(&topic, message);
        }
        Ok(())
    }

    fn open(&self, options: SlotOptions, reader: Reader) -> Result<LocalSlot, BusError> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(BusError::Closed);
        }
        let delays = Arc::clone(&self.0.delays);
        let bus = Arc::downgrade(&self.0);
        let queue =
            Queue::new(&options.name, options.capacity, options.overflow, reader, delays, bus);
        match self.0.slots.entry(options.name) {
            dashmap::Entry::Occupied(taken) if taken.get().strong_count() > 0 => {
                return Err(BusError::SlotTaken(taken.key().clone()));
            }
            entry => drop(entry.insert(Arc::downgrade(&queue))),
        }
        let (router, slots) = (Arc::clone(&self.0.router), Arc::clone(&self.0.slots));
        let done = AtomicBool::new(false);
        let detach = Detach { router, slots, patterns: options.patterns, done };
        let slot = LocalSlot { queue, detach };
        let patterns = &slot.detach.patterns;
        if reader == Reader::Workers {
            self.register_kept(&slot.queue, patterns)?;
        }
        self.0.router.add(patterns, &slot.queue);
        Ok(slot)
    }
}

fn push_all(queues: &[&Arc<Queue>], topic: &Topic, message: BaseMessage) {
    let measured = is_measured();
    for (queue, message) in queues.iter().zip(message.shares(queues.len())) {
        queue.push(topic, message, measured);
    }
}

impl Transport for LocalTransport {
    fn features(&self) -> Features {
        let durable = self.0.durable.is_some();
        Features { atomic_batches: true, durable, back_pressure: true }
    }

    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        if let Err(error) = self.check(topic, &message) {
            return Offer::Refused(error);
        }
        if self.lasts(topic).is_some() {
            return Offer::Busy(message);
        }
        match self.deliver_now(topic, message) {
            Ok(()) => Offer::Taken,
            Err((_, message)) => Offer::Busy(message),
        }
    }

    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.check(topic, &message)?;
        if let Some(durable) = self.lasts(topic) {
            return self.keep_now(durable, topic, message, false);
        }
        self.deliver_now(topic, message).map_err(|(slot, _)| PublishError::Full { slot })
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            self.check(topic, &message)?;
            if self.lasts(topic).is_some() {
                return self.publish_kept(vec![Received { topic: topic.clone(), message }]).await;
            }
            match self.deliver_now(topic, message) {
                Ok(()) => Ok(()),
                Err((_, message)) => {
                    let topic = topic.clone();
                    self.deliver_waiting(vec![Received { topic, message }]).await
                }
            }
        })
    }

    fn publish_batch<'a>(
        &'a self,
        topic: &'a Topic,
        messages: Vec<BaseMessage>,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.deliver_batch(topic, messages))
    }

    fn publish_all(&self, batch: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            if batch.iter().any(|received| self.lasts(&received.topic).is_some()) {
                return self.publish_kept(batch).await;
            }
            self.deliver_waiting(batch).await
        })
    }

    fn publish_unbounded(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.check(topic, &message)?;
        if let Some(durable) = self.lasts(topic) {
            return self.keep_now(durable, topic, message, true);
        }
        for queue in self.0.router.find(topic).iter() {
            queue.push_unbounded(topic, message.clone());
        }
        Ok(())
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        Box::pin(async move {
            if self.0.router.with_route(topic, <[_]>::is_empty) {
                return Err(RequestError::NoResponders { topic: topic.clone() });
            }
            let inbox = self.0.inboxes.open()?;
            let message = message.with_reply_to(inbox.topic()).map_err(PublishError::from)?;
            let asking = async {
                match self.offer(topic, message) {
                    Offer::Taken => {}
                    Offer::Refused(error) => return Err(error),
                    Offer::Busy(message) => self.publish(topic, message).await?,
                }
                inbox.answer().await.ok_or(PublishError::Closed)
            };
            match tokio::time::timeout(timeout, asking).await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(RequestError::TimedOut { topic: topic.clone(), timeout }),
            }
        })
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
        options: SubscribeOptions,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        Box::pin(async move {
            let number = self.0.next_subscription.fetch_add(1, Ordering::Relaxed);
            let options = SlotOptions {
                name: format!("$subscription.{number}"),
                patterns: vec![pattern.clone()],
                capacity: options.capacity,
                overflow: options.overflow,
            };
            let slot = self.open(options, Reader::Subscription)?;
            Ok(Subscription::new(LocalStream::new(slot)))
        })
    }

    fn open_slot(&self, options: SlotOptions) -> BoxFuture<'_, Result<Arc<dyn Slot>, BusError>> {
        Box::pin(async move {
            let slot = self.open(options, Reader::Workers)?;
            self.bring_kept(&slot.queue).await?;
            Ok(Arc::new(slot) as Arc<dyn Slot>)
        })
    }

    fn is_heard(&self, topic: &Topic) -> bool {
        !self.0.router.with_route(topic, <[_]>::is_empty) || self.0.inboxes.is_open(topic)
    }

    fn store(&self) -> Arc<dyn SharedStore> {
        Arc::new(self.0.store.clone())
    }

    fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.inboxes.close();
        self.0.slots.iter().filter_map(|slot| slot.value().upgrade()).for_each(|q| q.close());
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end_kept())
    }
}

impl fmt::Debug for LocalTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTransport").field("slots", &self.0.slots.len()).finish_non_exhaustive()
    }
}
