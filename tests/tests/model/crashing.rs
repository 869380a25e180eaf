//! A transport whose workers die when the plan says so: their receivers are dropped with a message in hand, and
//! another takes their place.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use echo_bus::state::{Change, CommitError, States};
use echo_bus::store::SharedStore;
use echo_bus::{
    BusError, Features, Lent, LocalTransport, Receiver, Settlement, Side, Slot, SlotOptions,
    SlotStats, SubscribeOptions, Transport,
};
use echo_sdk::{
    BaseMessage, BoxFuture, Offer, Pattern, PublishError, Received, RequestError, Subscription,
    Topic,
};

use crate::plan::{Crash, Plan, SLOTS};

/// A local bus on which workers die.
pub struct Crashing {
    bus: LocalTransport,
    plan: Arc<Plan>,
}

impl Crashing {
    pub fn new(bus: LocalTransport, plan: Plan) -> Self {
        Self { bus, plan: Arc::new(plan) }
    }
}

impl Transport for Crashing {
    fn features(&self) -> Features {
        self.bus.features()
    }

    fn offer(&self, topic: &Topic, message: BaseMessage) -> Offer {
        self.bus.offer(topic, message)
    }

    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.bus.try_publish(topic, message)
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        self.bus.publish(topic, message)
    }

    fn publish_all(&self, batch: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        self.bus.publish_all(batch)
    }

    fn publish_unbounded(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        self.bus.publish_unbounded(topic, message)
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        self.bus.request(topic, message, timeout)
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
        options: SubscribeOptions,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        self.bus.subscribe(pattern, options)
    }

    fn open_slot(&self, options: SlotOptions) -> BoxFuture<'_, Result<Arc<dyn Slot>, BusError>> {
        let number = SLOTS.iter().position(|slot| slot.0 == options.name);
        let plan = Arc::clone(&self.plan);
        Box::pin(async move {
            let inner = self.bus.open_slot(options).await?;
            Ok(Arc::new(CrashingSlot { inner, number, plan }) as Arc<dyn Slot>)
        })
    }

    fn is_heard(&self, topic: &Topic) -> bool {
        self.bus.is_heard(topic)
    }

    fn store(&self) -> Arc<dyn SharedStore> {
        self.bus.store()
    }

    fn states(&self, slot: &str) -> Arc<dyn States> {
        self.bus.states(slot)
    }

    fn close(&self) {
        self.bus.close();
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.bus.closed()
    }
}

struct CrashingSlot {
    inner: Arc<dyn Slot>,
    number: Option<usize>,
    plan: Arc<Plan>,
}

impl Slot for CrashingSlot {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn receiver_of(&self, side: Side) -> Box<dyn Receiver> {
        Box::new(CrashingReceiver {
            hand: self.inner.receiver_of(side),
            slot: Arc::clone(&self.inner),
            side,
            number: self.number,
            plan: Arc::clone(&self.plan),
            batch: 1,
        })
    }

    fn resubscribe(&self, patterns: Vec<Pattern>) -> BoxFuture<'_, Result<(), BusError>> {
        self.inner.resubscribe(patterns)
    }

    fn divide(&self, second: u16) {
        self.inner.divide(second);
    }

    fn stats(&self) -> SlotStats {
        self.inner.stats()
    }

    fn has_ready(&self) -> bool {
        self.inner.has_ready()
    }

    fn has_ready_of(&self, side: Side) -> bool {
        self.inner.has_ready_of(side)
    }

    fn pause(&self) {
        self.inner.pause();
    }

    fn resume(&self) {
        self.inner.resume();
    }

    fn close(&self) {
        self.inner.close();
    }

    fn take_remaining(&self) -> Vec<Received> {
        self.inner.take_remaining()
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        self.inner.idle()
    }
}

struct CrashingReceiver {
    hand: Box<dyn Receiver>,
    slot: Arc<dyn Slot>,
    side: Side,
    number: Option<usize>,
    plan: Arc<Plan>,
    batch: usize,
}

impl CrashingReceiver {
    /// Whether the plan has the worker die now, and if so, the worker that takes its place.
    fn dies(&mut self, when: Crash) -> bool {
        let planned = self.hand.current().and_then(|delivery| {
            let message = self.plan.messages()[&delivery.message.json().unwrap()];
            message.attempt(self.number?, delivery.message.attempt())?.crash
        });
        let dies = planned == Some(when);
        if dies {
            self.hand = self.slot.receiver_of(self.side);
            self.hand.set_batch(self.batch);
        }
        dies
    }
}

impl Receiver for CrashingReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let more = ready!(self.hand.poll_recv(cx));
            if !more || !self.dies(Crash::Taking) {
                return Poll::Ready(more);
            }
        }
    }

    fn current(&self) -> Option<&Received> {
        self.hand.current()
    }

    fn lend(&mut self) -> Option<Lent<'_>> {
        self.hand.lend()
    }

    fn settle(&mut self, settlement: Settlement) {
        if !self.dies(Crash::Settling) {
            self.hand.settle(settlement);
        }
    }

    fn commit(&mut self, effects: Vec<Received>) -> BoxFuture<'_, Result<(), PublishError>> {
        if self.dies(Crash::Settling) {
            return Box::pin(async { Err(PublishError::Closed) });
        }
        self.hand.commit(effects)
    }

    fn commit_state(
        &mut self,
        effects: Vec<Received>,
        change: Change,
    ) -> BoxFuture<'_, Result<(), CommitError>> {
        if self.dies(Crash::Settling) {
            return Box::pin(async { Err(PublishError::Closed.into()) });
        }
        self.hand.commit_state(effects, change)
    }

    fn bury(&mut self, letter: Received) -> BoxFuture<'_, Result<(), PublishError>> {
        if self.dies(Crash::Settling) {
            return Box::pin(async { Err(PublishError::Transport("the worker died".into())) });
        }
        self.hand.bury(letter)
    }

    fn set_batch(&mut self, limit: usize) {
        self.batch = limit;
        self.hand.set_batch(limit);
    }

    fn flush(&mut self) {
        self.hand.flush();
    }
}
