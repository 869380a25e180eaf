//! The transport within one process.

mod delays;
mod deliver;
mod deque;
mod divide;
mod durable;
mod feed;
mod gate;
mod idle;
#[cfg(test)]
mod idle_tests;
mod inbox;
mod kept;
mod lanes;
mod line;
mod queue;
mod reader;
mod receiver;
mod reserved;
mod rest;
mod room;
mod shelf;
mod side;
mod slot;
mod states;
pub(crate) mod stored;
mod subscribed;
#[cfg(test)]
mod undecided;

/// What [`gate`], [`idle`] and [`room`] are made of; their model tests put other parts in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    pub(super) use crossbeam::utils::CachePadded as Padded;

    pub(super) use parking_lot::Mutex;
}

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use dashmap::DashMap;
use echo_sdk::{
    Asked, BaseMessage, BoxFuture, Offer, Pattern, PublishError, Received, RequestError,
    Subscription, Topic,
};
use tokio::task::{JoinHandle, coop};

use self::delays::Delays;
use self::durable::Durable;
use self::inbox::Inboxes;
use self::line::Line;
use self::queue::Queue;
use self::reader::Reader;
use self::receiver::LocalStream;
use self::shelf::Shelf;
use self::slot::LocalSlot;
use self::states::SlotStates;
use self::subscribed::Subscribed;
use crate::helping;
use crate::routing::Router;
use crate::state::States;
use crate::store::{MemoryStore, SharedStore};
use crate::transport::{
    Admission, BusError, Features, Slot, SlotOptions, SubscribeOptions, Transport,
};

pub use self::durable::{DurableLog, DurableOptions};
pub use self::rest::Rest;

/// Settings of the local transport.
#[derive(Clone)]
pub struct LocalOptions {
    /// The largest message that is taken, in bytes.
    pub max_payload: usize,
    /// How many bytes managed state takes in memory at most: without a log a change past it is refused, with one
    /// what is on disk is let go of.
    pub max_state: usize,
    /// Has a say in what is published.
    pub admission: Option<Arc<dyn Admission>>,
}

impl fmt::Debug for LocalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalOptions")
            .field("max_payload", &self.max_payload)
            .field("max_state", &self.max_state)
            .finish_non_exhaustive()
    }
}

impl Default for LocalOptions {
    /// 8 MiB a message, 256 MiB of managed state.
    fn default() -> Self {
        Self { max_payload: 8 * 1024 * 1024, max_state: 256 * 1024 * 1024, admission: None }
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
    inboxes_task: JoinHandle<()>,
    delays: Arc<Delays>,
    delays_task: JoinHandle<()>,
    closed: AtomicBool,
    store: MemoryStore,
    shelf: Arc<Shelf>,
    runtime: tokio::runtime::Handle,
    durable: Option<Arc<Durable>>,
    /// Hands round what the log has.
    line_task: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.delays_task.abort();
        self.inboxes_task.abort();
        self.line_task.iter().for_each(JoinHandle::abort);
    }
}

/// The open slots by name, subscriptions included.
type Slots = DashMap<String, Weak<Queue>>;

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
        let inboxes = Inboxes::new();
        let inboxes_task = runtime.spawn(Arc::clone(&inboxes).run());
        let (durable, line_task) = log
            .map(|log| {
                let line = Line::new(Arc::clone(&inboxes));
                (Durable::new(log, Arc::clone(&line)), runtime.spawn(line.run()))
            })
            .unzip();
        let shelf = Shelf::new(options.max_state, durable.as_ref().map(Arc::downgrade));
        Ok(Self(Arc::new(Inner {
            options,
            router: Arc::default(),
            slots: Arc::default(),
            next_subscription: AtomicU64::new(1),
            inboxes,
            inboxes_task,
            delays,
            delays_task,
            closed: AtomicBool::new(false),
            store: MemoryStore::default(),
            shelf,
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

    /// [`offer`](Transport::offer)s to those who subscribe; `None` where nobody does.
    fn offer_heard(&self, topic: &Topic, message: BaseMessage) -> Option<Offer> {
        if let Err(error) = self.check(topic, &message) {
            return Some(Offer::Refused(error));
        }
        if self.lasts(topic).is_some() {
            let is_heard = self.0.router.with_route(topic, |queues| !queues.is_empty());
            return is_heard.then_some(Offer::Busy(message));
        }
        match self.deliver_now(topic, message) {
            Ok(is_heard) => is_heard.then_some(Offer::Taken),
            Err((_, message)) => Some(Offer::Busy(message)),
        }
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
        let slot = LocalSlot { queue, place: Subscribed::new(router, slots) };
        let (queue, is_worked) = (&slot.queue, reader == Reader::Workers);
        slot.place.change(queue, options.patterns, |patterns| {
            if is_worked { self.register_kept(queue, patterns) } else { Ok(()) }
        })?;
        Ok(slot)
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
            Ok(_) => Offer::Taken,
            Err((_, message)) => Offer::Busy(message),
        }
    }

    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.check(topic, &message)?;
        if let Some(durable) = self.lasts(topic) {
            return self.keep_now(durable, topic, message, false);
        }
        match self.deliver_now(topic, message) {
            Ok(_) => Ok(()),
            Err((slot, _)) => Err(PublishError::Full { slot }),
        }
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
                Ok(_) => Ok(()),
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
            coop::consume_budget().await;
            match self.ask(topic, message, timeout) {
                Asked::Done(answer) => answer,
                Asked::Waiting(answer) => answer.await,
            }
        })
    }

    fn ask<'a>(&'a self, topic: &'a Topic, message: BaseMessage, timeout: Duration) -> Asked<'a> {
        if !coop::has_budget_remaining() {
            // Whoever has each request answered at once must not keep the thread from others.
            return Asked::Waiting(self.request(topic, message, timeout));
        }
        let mut inbox = self.0.inboxes.open();
        let message = match message.with_reply_to(&inbox.topic()) {
            Ok(message) => message,
            Err(error) => return Asked::Done(Err(PublishError::from(error).into())),
        };
        let busy = match helping::after(|| self.offer_heard(topic, message)) {
            None => return Asked::Done(Err(RequestError::NoResponders { topic: topic.clone() })),
            Some(Offer::Refused(error)) => return Asked::Done(Err(error.into())),
            Some(Offer::Busy(message)) => Some(message),
            Some(Offer::Taken) => match inbox.take() {
                Some(answer) => return Asked::Done(Ok(answer)),
                None => None,
            },
        };
        Asked::Waiting(Box::pin(async move {
            let mut publishing = busy.map(|message| self.publish(topic, message));
            poll_fn(|cx| {
                if let Poll::Ready(answer) = inbox.poll(topic, timeout, cx) {
                    return Poll::Ready(answer);
                }
                if let Some(waiting) = &mut publishing {
                    ready!(waiting.as_mut().poll(cx))?;
                    publishing = None;
                }
                Poll::Pending
            })
            .await
        }))
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

    fn states(&self, slot: &str) -> Arc<dyn States> {
        Arc::new(SlotStates::new(&self.0.shelf, slot))
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
