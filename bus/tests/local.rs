//! The local transport keeps the contract of `echo_bus::transport`, sentence by sentence.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use echo_bus::{
    BusError, LocalOptions, LocalTransport, Receiver, Settlement, Slot, SlotOptions,
    SubscribeOptions, Transport,
};
use echo_sdk::{BaseMessage, Overflow, Pattern, PublishError, Received, RequestError, Topic};

fn bus() -> LocalTransport {
    LocalTransport::new(LocalOptions::default()).unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn message(data: u64) -> BaseMessage {
    BaseMessage::builder("test").data(&data).build().unwrap()
}

fn keyed(key: &str, data: u64) -> BaseMessage {
    BaseMessage::builder("test").key(key).data(&data).build().unwrap()
}

async fn slot(
    bus: &LocalTransport,
    name: &str,
    patterns: &[&str],
    capacity: usize,
) -> Arc<dyn Slot> {
    slot_with(bus, name, patterns, capacity, Overflow::Block).await
}

async fn slot_with(
    bus: &LocalTransport,
    name: &str,
    patterns: &[&str],
    capacity: usize,
    overflow: Overflow,
) -> Arc<dyn Slot> {
    let patterns = patterns.iter().map(|text| Pattern::new(text).unwrap()).collect();
    bus.open_slot(SlotOptions { name: name.into(), patterns, capacity, overflow }).await.unwrap()
}

/// The next message's data and attempt.
async fn take(receiver: &mut Box<dyn Receiver>) -> Option<(u64, u16)> {
    if !std::future::poll_fn(|cx| receiver.poll_recv(cx)).await {
        return None;
    }
    let message = &receiver.current().unwrap().message;
    Some((message.json().unwrap(), message.attempt()))
}

/// What is ready right now, each settled as done.
async fn take_all(receiver: &mut Box<dyn Receiver>) -> Vec<u64> {
    let mut all = Vec::new();
    while let Some(Some((data, _))) = now(take(receiver)).await {
        receiver.settle(Settlement::Done);
        all.push(data);
    }
    all
}

/// Polls once; `None` when it would wait.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn each_matching_slot_gets_a_message_once_and_its_receivers_share() {
    let bus = bus();
    let one = slot(&bus, "one", &["a.>", "a.b"], 10).await;
    let other = slot(&bus, "other", &["*.b"], 10).await;
    let (mut first, mut second) = (one.receiver(), one.receiver());
    let mut third = other.receiver();
    bus.publish(&topic("a.b"), message(1)).await.unwrap();
    bus.publish(&topic("a.c"), message(2)).await.unwrap();
    assert_eq!(take(&mut first).await, Some((1, 1)));
    assert_eq!(take(&mut second).await, Some((2, 1)));
    assert_eq!(take_all(&mut third).await, [1]);
}

#[tokio::test]
async fn one_receiver_sees_the_order_of_publication() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 1000).await;
    let mut receiver = slot.receiver();
    receiver.set_batch(16);
    for number in 0..500 {
        bus.publish(&topic("t"), message(number)).await.unwrap();
    }
    assert_eq!(take_all(&mut receiver).await, (0..500).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_its_delay_and_counts_the_attempts() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 10).await;
    let mut receiver = slot.receiver();
    bus.publish(&topic("t"), message(1)).await.unwrap();
    bus.publish(&topic("t"), message(2)).await.unwrap();
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    let began = tokio::time::Instant::now();
    receiver.settle(Settlement::Again(Duration::from_secs(3)));
    assert_eq!(take(&mut receiver).await, Some((2, 1)), "without a key nobody waits behind it");
    receiver.settle(Settlement::Done);
    assert_eq!(slot.stats().delayed, 1);
    assert_eq!(take(&mut receiver).await, Some((1, 2)));
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert_eq!(slot.stats().delayed, 0);
}

#[tokio::test]
async fn a_full_queue_makes_publish_wait_and_try_publish_say_so() {
    let bus = bus();
    let full = slot(&bus, "full", &["t"], 2).await;
    let roomy = slot(&bus, "roomy", &["t"], 10).await;
    let mut receiver = full.receiver();
    bus.publish(&topic("t"), message(1)).await.unwrap();
    bus.publish(&topic("t"), message(2)).await.unwrap();
    let refused = bus.try_publish(&topic("t"), message(3)).unwrap_err();
    assert!(matches!(&refused, PublishError::Full { slot } if slot == "full"), "{refused}");
    assert_eq!(roomy.stats().held, 2, "nobody got the refused message");
    let t = topic("t");
    let mut waiting = std::pin::pin!(bus.publish(&t, message(3)));
    assert!(now(&mut waiting).await.is_none());
    take(&mut receiver).await;
    assert!(now(&mut waiting).await.is_none(), "a message in hand still takes room");
    receiver.settle(Settlement::Done);
    waiting.await.unwrap();
    assert_eq!((full.stats().held, roomy.stats().held), (2, 3));
}

#[tokio::test]
async fn overflow_drops_the_oldest_or_the_newest_and_counts() {
    let bus = bus();
    let oldest = slot_with(&bus, "oldest", &["t"], 2, Overflow::DropOldest).await;
    let newest = slot_with(&bus, "newest", &["t"], 2, Overflow::DropNewest).await;
    for number in 1..=5 {
        bus.try_publish(&topic("t"), message(number)).unwrap();
    }
    assert_eq!((oldest.stats().dropped, newest.stats().dropped), (3, 3));
    assert_eq!(take_all(&mut oldest.receiver()).await, [4, 5]);
    assert_eq!(take_all(&mut newest.receiver()).await, [1, 2]);
}

#[tokio::test]
async fn a_batch_goes_to_all_or_waits_even_when_it_is_larger_than_the_queue() {
    let bus = bus();
    let small = slot(&bus, "small", &["t"], 3).await;
    let batch = |from: u64, count: u64| {
        (from..from + count).map(|n| Received { topic: topic("t"), message: message(n) }).collect()
    };
    bus.publish_all(batch(0, 5)).await.unwrap();
    assert_eq!(small.stats().held, 5);
    let mut next = bus.publish_all(batch(5, 2));
    assert!(now(&mut next).await.is_none());
    let mut receiver = small.receiver();
    let mut all = take_all(&mut receiver).await;
    next.await.unwrap();
    all.extend(take_all(&mut receiver).await);
    assert_eq!(all, (0..7).collect::<Vec<_>>());
    assert!(bus.try_publish(&topic("t"), message(9)).is_ok(), "the room is all back");
}

#[tokio::test]
async fn a_dropped_receiver_gives_back_what_it_had() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 10).await;
    for number in 1..=4 {
        bus.publish(&topic("t"), message(number)).await.unwrap();
    }
    let mut doomed = slot.receiver();
    doomed.set_batch(4);
    assert_eq!(take(&mut doomed).await, Some((1, 1)));
    let mut other = slot.receiver();
    drop(doomed);
    let mut all = Vec::new();
    while let Some(Some((data, attempt))) = now(take(&mut other)).await {
        all.push((data, attempt));
        other.settle(Settlement::Done);
    }
    all.sort_unstable();
    assert_eq!(all, [(1, 2), (2, 1), (3, 1), (4, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_the_first_answer_or_says_why_not() {
    let bus = bus();
    let asked = topic("math.double");
    let timeout = Duration::from_secs(1);
    let nobody = bus.request(&asked, message(1), timeout).await.unwrap_err();
    assert!(matches!(nobody, RequestError::NoResponders { .. }), "{nobody}");
    let slot = slot(&bus, "one", &["math.*"], 10).await;
    let silent = bus.request(&asked, message(1), timeout).await.unwrap_err();
    assert!(matches!(silent, RequestError::TimedOut { .. }), "{silent}");
    let mut receiver = slot.receiver();
    take(&mut receiver).await;
    receiver.settle(Settlement::Done);
    let answering = async {
        let (data, _) = take(&mut receiver).await.unwrap();
        let reply_to = receiver.current().unwrap().message.reply_to().unwrap();
        bus.publish(&reply_to, message(data * 2)).await.unwrap();
        bus.publish(&reply_to, message(0)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bus.request(&asked, message(21), timeout), answering);
    assert_eq!(answer.unwrap().json::<u64>().unwrap(), 42);
}

#[tokio::test]
async fn pausing_keeps_messages_until_resumed() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 10).await;
    let mut receiver = slot.receiver();
    slot.pause();
    bus.publish(&topic("t"), message(1)).await.unwrap();
    assert!(now(take(&mut receiver)).await.is_none());
    slot.resume();
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
}

#[tokio::test]
async fn closing_ends_receivers_and_publishers_and_shows_what_is_left() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 10).await;
    let mut subscription =
        bus.subscribe(&Pattern::new(">").unwrap(), SubscribeOptions::default()).await.unwrap();
    let mut receiver = slot.receiver();
    bus.publish(&topic("t"), message(1)).await.unwrap();
    bus.publish(&topic("t"), keyed("k", 2)).await.unwrap();
    bus.close();
    assert!(matches!(bus.try_publish(&topic("t"), message(3)), Err(PublishError::Closed)));
    assert!(subscription.next().await.is_some() && subscription.next().await.is_some());
    assert!(subscription.next().await.is_none());
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    receiver.settle(Settlement::Done);
    let left = slot.take_remaining();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].message.json::<u64>().unwrap(), 2);
    assert_eq!(take(&mut receiver).await, None);
    let again = bus.open_slot(SlotOptions {
        name: "two".into(),
        patterns: Vec::new(),
        capacity: 1,
        overflow: Overflow::Block,
    });
    assert!(matches!(again.await, Err(BusError::Closed)));
}

#[tokio::test]
async fn a_slots_name_is_taken_until_it_is_closed() {
    let bus = bus();
    let first = slot(&bus, "one", &["t"], 1).await;
    let options = || SlotOptions {
        name: "one".into(),
        patterns: vec![Pattern::new("t").unwrap()],
        capacity: 1,
        overflow: Overflow::Block,
    };
    assert!(
        matches!(bus.open_slot(options()).await, Err(BusError::SlotTaken(name)) if name == "one")
    );
    first.close();
    bus.open_slot(options()).await.unwrap();
}

#[tokio::test]
async fn what_was_taken_along_is_others_once_the_message_in_hand_takes_long() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 100).await;
    let (mut fast, mut other) = (slot.receiver(), slot.receiver());
    fast.set_batch(32);
    bus.publish_batch(&topic("t"), (0..10).map(message).collect()).await.unwrap();
    assert_eq!(take(&mut fast).await, Some((0, 1)));
    assert_eq!(
        take_all(&mut other).await,
        [0; 0],
        "a message that is handled soon is not worth a steal"
    );
    fast.settle(Settlement::Done);
    assert_eq!(take(&mut fast).await, Some((1, 1)));
    let lent = fast.lend().unwrap();
    lent.rest.unwrap().share();
    assert_eq!(lent.received.message.json::<u64>().unwrap(), 1, "it stays in hand");
    assert_eq!(take_all(&mut other).await, (2..10).collect::<Vec<_>>());
    assert_eq!(slot.stats().held, 1, "what was settled makes room at once");
    fast.settle(Settlement::Again(Duration::ZERO));
    assert_eq!(take(&mut other).await, Some((1, 2)));
}

#[tokio::test]
async fn what_is_published_together_goes_to_every_slot_in_order_as_there_is_room() {
    let bus = bus();
    let (small, roomy) =
        (slot(&bus, "small", &["t"], 4).await, slot(&bus, "roomy", &["t"], 100).await);
    let mut all =
        bus.subscribe(&Pattern::new(">").unwrap(), SubscribeOptions::default()).await.unwrap();
    let t = topic("t");
    let mut waiting = std::pin::pin!(bus.publish_batch(&t, (0..50).map(message).collect()));
    assert_eq!(now(waiting.as_mut()).await.map(drop), None);
    assert_eq!(small.stats().held, 4, "a queue is filled to its bound and no further");
    assert_eq!(roomy.stats().held, 4, "nobody gets what another has no room for");
    let mut receiver = small.receiver();
    let taking = async {
        let mut taken = Vec::new();
        while taken.len() < 50 {
            taken.push(take(&mut receiver).await.unwrap().0);
            receiver.settle(Settlement::Done);
            receiver.flush();
        }
        taken
    };
    let (published, taken) = tokio::join!(waiting, taking);
    published.unwrap();
    let expected: Vec<u64> = (0..50).collect();
    assert_eq!(taken, expected);
    assert_eq!(take_all(&mut roomy.receiver()).await, expected);
    for number in expected {
        assert_eq!(all.next().await.unwrap().message.json::<u64>().unwrap(), number);
    }
    // One that is gone holds nobody up.
    small.close();
    let batch = (0..20).map(message).collect();
    assert_eq!(now(bus.publish_batch(&t, batch)).await.map(Result::unwrap), Some(()));
    assert_eq!(roomy.stats().held, 20);
}

#[tokio::test]
async fn what_was_taken_along_comes_back_from_a_receiver_that_goes() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 100).await;
    let mut fast = slot.receiver();
    fast.set_batch(32);
    bus.publish_batch(&topic("t"), (0..5).map(message).collect()).await.unwrap();
    for number in 0..2 {
        assert_eq!(take(&mut fast).await, Some((number, 1)));
        fast.settle(Settlement::Done);
    }
    drop(fast);
    let mut other = slot.receiver();
    for number in 2..5 {
        let taken = take(&mut other).await;
        assert_eq!(taken, Some((number, 1)), "nobody had it in hand, so no attempt counts");
        other.settle(Settlement::Done);
    }
    assert_eq!(now(slot.idle()).await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn each_request_times_out_in_its_own_time() {
    let bus = bus();
    let _mute = slot(&bus, "mute", &["ask"], 100).await;
    let began = tokio::time::Instant::now();
    let ask = |millis: u64| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let timeout = Duration::from_millis(millis);
            let asked = bus.request(&topic("ask"), message(1), timeout).await;
            assert!(matches!(asked, Err(RequestError::TimedOut { .. })), "{asked:?}");
            let took = began.elapsed();
            assert!(took >= timeout, "{millis} ms were up after {took:?}");
            let most = timeout + (timeout / 100).max(Duration::from_millis(3));
            assert!(took <= most, "{millis} ms were up after {took:?} only");
        })
    };
    // Each of the later ones is up before the earlier ones.
    let asked: Vec<_> = [30_000, 5_000, 700, 50, 1, 20, 60_000].into_iter().map(ask).collect();
    for asked in asked {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_waits_when_the_bus_closes_is_told() {
    let bus = bus();
    let slot = slot(&bus, "mute", &["ask"], 100).await;
    let mut receiver = slot.receiver();
    let asking = tokio::spawn({
        let bus = bus.clone();
        async move { bus.request(&topic("ask"), message(1), Duration::from_secs(3600)).await }
    });
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    let reply_to = receiver.current().unwrap().message.reply_to().unwrap();
    assert!(bus.is_heard(&reply_to));
    bus.close();
    let asked = asking.await.unwrap();
    assert!(matches!(asked, Err(RequestError::Publish(PublishError::Closed))), "{asked:?}");
    assert!(!bus.is_heard(&reply_to));
}

#[tokio::test]
async fn an_answer_to_a_request_that_was_dropped_is_nobodys() {
    let bus = bus();
    let slot = slot(&bus, "mute", &["ask"], 100).await;
    let mut receiver = slot.receiver();
    let (subject, wait) = (topic("ask"), Duration::from_secs(3600));
    let mut asking = Box::pin(bus.request(&subject, message(1), wait));
    assert!(now(&mut asking).await.is_none());
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    let reply_to = receiver.current().unwrap().message.reply_to().unwrap();
    drop(asking);
    assert!(!bus.is_heard(&reply_to));
    bus.publish(&reply_to, message(2)).await.unwrap();
}
