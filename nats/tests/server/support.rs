//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use echo_bus::{Receiver, Settlement, Slot, SlotOptions, Transport};
use echo_nats::{DurableOptions, DurableTopics, NatsOptions, NatsTransport};
use echo_sdk::{BaseMessage, Overflow, Pattern, Received, Topic};
use tokio::time::timeout;

/// How long what must come may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The stream of [`options`], which keeps `orders.>`.
pub const STREAM: &str = "ORDERS";

pub fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

pub fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// A message with a number.
pub fn message(number: u64) -> BaseMessage {
    BaseMessage::builder("test").data(&number).build().unwrap()
}

pub fn keyed(key: &str, number: u64) -> BaseMessage {
    BaseMessage::builder("test").key(key).data(&number).build().unwrap()
}

pub fn to(text: &str, message: BaseMessage) -> Received {
    Received { topic: topic(text), message }
}

/// `orders.>` is durable, and what is lost comes again after two seconds.
pub fn options(url: &str) -> NatsOptions {
    let topics = DurableTopics { stream: STREAM.into(), patterns: vec![pattern("orders.>")] };
    let ack_wait = Duration::from_secs(2);
    NatsOptions {
        urls: vec![url.to_owned()],
        durable: DurableOptions { topics: vec![topics], ack_wait, ..DurableOptions::default() },
        ..NatsOptions::default()
    }
}

pub async fn host(url: &str) -> NatsTransport {
    NatsTransport::connect(options(url)).await.unwrap()
}

pub async fn slot(bus: &NatsTransport, name: &str, patterns: &[&str]) -> Arc<dyn Slot> {
    let patterns = patterns.iter().map(|text| pattern(text)).collect();
    let overflow = Overflow::Block;
    let options = SlotOptions { name: name.into(), patterns, capacity: 10_000, overflow };
    bus.open_slot(options).await.unwrap()
}

pub async fn publish(bus: &NatsTransport, to: &str, message: BaseMessage) {
    bus.publish(&topic(to), message).await.unwrap();
}

/// Takes the next message in hand: its number and attempt.
pub async fn take(receiver: &mut Box<dyn Receiver>) -> (u64, u16) {
    let received = timeout(PATIENCE, std::future::poll_fn(|cx| receiver.poll_recv(cx))).await;
    assert!(received.expect("a message in time"), "the slot is open");
    let message = &receiver.current().unwrap().message;
    (message.json().unwrap(), message.attempt())
}

/// Takes so many messages and settles each as done: their numbers.
pub async fn take_all(receiver: &mut Box<dyn Receiver>, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(take(receiver).await.0);
        receiver.settle(Settlement::Done);
    }
    receiver.flush();
    all
}

/// Whether a receiver gets nothing for so long.
pub async fn stays_empty(receiver: &mut Box<dyn Receiver>, time: Duration) -> bool {
    timeout(time, std::future::poll_fn(|cx| receiver.poll_recv(cx))).await.is_err()
}

/// Another tool's connection.
pub async fn tool(url: &str) -> async_nats::Client {
    async_nats::connect(url).await.unwrap()
}

/// Resolves once the server knows of all that the tool has subscribed to; `flush` sees it into the socket alone.
pub async fn listens(tool: &async_nats::Client) {
    let nobody = tool.request("nobody.hears", "?".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
}

pub async fn stream_info(url: &str, name: &str) -> jetstream::stream::Info {
    let context = jetstream::new(tool(url).await);
    context.get_stream(name).await.unwrap().cached_info().clone()
}

/// The consumers of a stream.
pub async fn consumers(url: &str, stream: &str) -> Vec<jetstream::consumer::Info> {
    use futures_util::TryStreamExt;
    let context = jetstream::new(tool(url).await);
    let stream = context.get_stream(stream).await.unwrap();
    stream.consumers().try_collect().await.unwrap()
}

/// Waits until something holds, looking again and again.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "in time: {what}");
}
