//! What a sentence works with.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use echo_bus::{Receiver, Settlement, Slot, SlotOptions, SubscribeOptions, Transport};
use echo_core::{Config, Host, HostBuilder};
use echo_sdk::{BaseMessage, Overflow, Pattern, Received, Subscription, Topic};
use tokio::time::timeout;

use super::{Ground, Joining};

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A bus that nobody else uses.
pub struct Bed {
    ground: Box<dyn Ground>,
    /// The first host's connection.
    pub bus: Arc<dyn Transport>,
}

impl fmt::Debug for Bed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bed").field("transport", &self.name()).finish_non_exhaustive()
    }
}

impl Bed {
    pub(super) async fn new(ground: Box<dyn Ground>) -> Self {
        let bus = ground.join(Joining::default()).await;
        Self { ground, bus }
    }

    /// The transport's name.
    pub fn name(&self) -> &'static str {
        self.ground.name()
    }

    /// Whether several hosts can join.
    pub fn connects_hosts(&self) -> bool {
        self.ground.connects_hosts()
    }

    /// One more host's connection.
    pub async fn join(&self) -> Arc<dyn Transport> {
        self.ground.join(Joining::default()).await
    }

    /// The same bus made anew, to take messages of at most so many bytes.
    pub async fn with_payload(self, max: usize) -> Self {
        let Self { ground, bus } = self;
        drop(bus);
        let bus = ground.join(Joining { max_payload: Some(max) }).await;
        Self { ground, bus }
    }

    /// Ends the first host as a kill would, without a word to anybody, and starts another in its place. Whoever
    /// calls this has let go of all that was opened on it.
    pub async fn kill_and_start_again(self) -> Self {
        let Self { ground, bus } = self;
        drop(bus);
        Self::new(ground).await
    }

    /// Opens a slot that holds publishers back when it is full.
    pub async fn slot(&self, name: &str, patterns: &[&str], capacity: usize) -> Arc<dyn Slot> {
        self.slot_with(name, patterns, capacity, Overflow::Block).await
    }

    /// Opens a slot.
    pub async fn slot_with(
        &self,
        name: &str,
        patterns: &[&str],
        capacity: usize,
        overflow: Overflow,
    ) -> Arc<dyn Slot> {
        open(&*self.bus, name, patterns, capacity, overflow).await
    }

    /// Subscribes beside all slots.
    pub async fn subscribe(&self, pattern: &str) -> Subscription {
        let pattern = Pattern::new(pattern).unwrap();
        self.bus.subscribe(&pattern, SubscribeOptions::default()).await.unwrap()
    }

    /// Publishes, waiting for room.
    pub async fn publish(&self, to: &str, message: BaseMessage) {
        self.bus.publish(&topic(to), message).await.unwrap();
    }

    /// A host on this bus.
    pub fn host(&self) -> HostBuilder {
        let mut config = Config::default();
        // Retries of failed attempts that a test waits for in real time are to be quick.
        config.delivery.retry_base_delay = Duration::from_millis(20);
        Host::builder().config(config).transport(Arc::clone(&self.bus))
    }

    /// Proves that something does not come: waits for it as long as it takes to be sure.
    pub async fn never<T>(&self, future: impl Future<Output = T>) -> bool {
        // Paused time moves only when nothing else can, so there any while is long enough.
        timeout(Duration::from_millis(200), future).await.is_err()
    }
}

/// Opens a slot on any host's connection.
pub(super) async fn open(
    bus: &dyn Transport,
    name: &str,
    patterns: &[&str],
    capacity: usize,
    overflow: Overflow,
) -> Arc<dyn Slot> {
    let patterns = patterns.iter().map(|text| Pattern::new(text).unwrap()).collect();
    bus.open_slot(SlotOptions { name: name.into(), patterns, capacity, overflow }).await.unwrap()
}

/// A topic.
pub fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// A message with a number.
pub fn message(number: u64) -> BaseMessage {
    BaseMessage::builder("test").data(&number).build().unwrap()
}

/// A message with an ordering key and a number.
pub fn keyed(key: &str, number: u64) -> BaseMessage {
    BaseMessage::builder("test").key(key).data(&number).build().unwrap()
}

/// A message on its way to a topic.
pub(super) fn to(text: &str, message: BaseMessage) -> Received {
    Received { topic: topic(text), message }
}

/// Takes the next message in hand: its number and attempt; `None` when the slot is closed and empty.
pub async fn take(receiver: &mut Box<dyn Receiver>) -> Option<(u64, u16)> {
    let received = timeout(PATIENCE, std::future::poll_fn(|cx| receiver.poll_recv(cx))).await;
    if !received.expect("a message or the end within half a minute") {
        return None;
    }
    let message = &receiver.current().unwrap().message;
    Some((message.json().unwrap(), message.attempt()))
}

/// Waits until a slot says that it is so many messages behind.
pub(super) async fn until_behind(slot: &Arc<dyn Slot>, expected: usize) {
    let mut said = None;
    let saying = async {
        while said != Some(expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            said = slot.lag().await;
        }
    };
    let is_in_time = timeout(PATIENCE, saying).await.is_ok();
    assert!(is_in_time, "`{}` is {said:?} behind and not {expected}", slot.name());
}

/// Takes so many messages, each settled as done: their numbers.
pub async fn take_all(receiver: &mut Box<dyn Receiver>, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        let (number, _) = take(receiver).await.expect("the slot is open");
        receiver.settle(Settlement::Done);
        all.push(number);
    }
    receiver.flush();
    all
}

/// The next so many messages of a subscription: their numbers.
pub async fn numbers(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(next(subscription).await.message.json().unwrap());
    }
    all
}

/// The next message of a subscription, which is open.
pub(super) async fn next(subscription: &mut Subscription) -> Received {
    timeout(PATIENCE, subscription.next()).await.expect("in time").expect("open")
}

/// Polls once; `None` when it would wait.
pub async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
