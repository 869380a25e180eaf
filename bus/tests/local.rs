//! The local transport keeps the contract of `echo_bus::transport`, sentence by sentence.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::HashMap;
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

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_for_its_retry_holds_back_itself_and_no_other() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 1000).await;
    let mut receivers = [slot.receiver(), slot.receiver()];
    // Many keys, so that some share a lane with the one that waits.
    let keys: Vec<String> = (0..400).map(|number| format!("key-{number}")).collect();
    bus.publish(&topic("t"), keyed("slow", 1)).await.unwrap();
    bus.publish(&topic("t"), keyed("slow", 2)).await.unwrap();
    assert_eq!(take(&mut receivers[0]).await, Some((1, 1)));
    assert_eq!(now(take(&mut receivers[1])).await, None, "the key is in hand already");
    receivers[0].settle(Settlement::Again(Duration::from_secs(1)));
    bus.publish(&topic("t"), keyed("slow", 3)).await.unwrap();
    for (number, key) in (100..).zip(&keys) {
        bus.publish(&topic("t"), keyed(key, number)).await.unwrap();
    }
    let mut others = take_all(&mut receivers[0]).await;
    others.extend(take_all(&mut receivers[1]).await);
    others.sort_unstable();
    assert_eq!(others, (100..500).collect::<Vec<_>>());
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(take(&mut receivers[0]).await.unwrap());
        receivers[0].settle(Settlement::Done);
    }
    assert_eq!(order, [(1, 2), (2, 1), (3, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_keep_their_order_with_many_receivers_retries_and_dropped_hands() {
    const KEYS: u64 = 50;
    const EACH: u64 = 40;
    let bus = bus();
    let slot = slot(&bus, "one", &["t"], 64).await;
    let (seen_by, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let workers: Vec<_> = (0..4)
        .map(|worker: u64| {
            let (slot, seen_by) = (Arc::clone(&slot), seen_by.clone());
            tokio::spawn(async move {
                let mut receiver = slot.receiver();
                let mut handled = worker;
                receiver.set_batch(8);
                while let Some((data, attempt)) = take(&mut receiver).await {
                    handled += 1;
                    if attempt == 1 && handled.is_multiple_of(7) {
                        receiver.settle(Settlement::Again(Duration::from_millis(handled % 3)));
                    } else if attempt == 1 && handled.is_multiple_of(11) {
                        receiver = slot.receiver();
                    } else {
                        let key = receiver.current().unwrap().message.key().unwrap().to_owned();
                        seen_by.send((key, data)).unwrap();
                        receiver.settle(Settlement::Done);
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for number in 0..EACH {
        for key in 0..KEYS {
            bus.publish(&topic("t"), keyed(&format!("k{key}"), number)).await.unwrap();
        }
    }
    slot.idle().await;
    slot.close();
    for worker in workers {
        worker.await.unwrap();
    }
    drop(seen_by);
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    while let Some((key, data)) = seen.recv().await {
        by_key.entry(key).or_default().push(data);
    }
    assert_eq!(by_key.len() as u64, KEYS);
    for (key, data) in by_key {
        assert_eq!(data, (0..EACH).collect::<Vec<_>>(), "{key}");
    }
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
async fn a_publish_that_is_dropped_delivers_to_nobody_and_keeps_no_room() {
    let bus = bus();
    let roomy = slot(&bus, "roomy", &["t"], 10).await;
    let full = slot(&bus, "full", &["t"], 1).await;
    bus.publish(&topic("t"), message(1)).await.unwrap();
    assert!(now(bus.publish(&topic("t"), message(2))).await.is_none());
    assert_eq!(roomy.stats().held, 1);
    let mut receiver = full.receiver();
    take(&mut receiver).await;
    receiver.settle(Settlement::Done);
    for number in 3..5 {
        bus.publish(&topic("t"), message(number)).await.unwrap();
        assert_eq!(take(&mut receiver).await, Some((number, 1)));
        receiver.settle(Settlement::Done);
    }
    assert_eq!(take_all(&mut roomy.receiver()).await, [1, 3, 4]);
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
async fn what_is_published_past_the_bound_neither_waits_nor_is_lost() {
    let bus = bus();
    let slot = slot(&bus, "one", &["dead.>"], 1).await;
    for number in 0..4 {
        bus.publish_unbounded(&topic("dead.x"), message(number)).unwrap();
    }
    let mut receiver = slot.receiver();
    assert_eq!(take_all(&mut receiver).await, [0, 1, 2, 3]);
    bus.try_publish(&topic("dead.x"), message(4)).unwrap();
    assert!(bus.try_publish(&topic("dead.x"), message(5)).is_err(), "the bound holds again");
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
async fn too_large_a_message_is_refused_with_both_sizes() {
    let bus =
        LocalTransport::new(LocalOptions { max_payload: 1000, ..Default::default() }).unwrap();
    let large = BaseMessage::builder("test").data(&"x".repeat(2000)).build().unwrap();
    let refused = bus.try_publish(&topic("t"), large).unwrap_err();
    assert!(
        matches!(refused, PublishError::TooLarge { len, max: 1000 } if len > 2000),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_publishers_that_come_and_receivers_that_idle() {
    let bus = bus();
    let slot = slot(&bus, "one", &["t.*"], 32).await;
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let slot = Arc::clone(&slot);
            tokio::spawn(async move {
                let mut receiver = slot.receiver();
                receiver.set_batch(8);
                let mut sum = 0;
                while let Some((data, _)) = take(&mut receiver).await {
                    sum += data;
                    receiver.settle(Settlement::Done);
                }
                sum
            })
        })
        .collect();
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let topic = topic(&format!("t.{publisher}"));
                for number in 1..=5000_u64 {
                    bus.publish(&topic, message(number)).await.unwrap();
                    if number % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    slot.idle().await;
    slot.close();
    let mut sum = 0;
    for worker in workers {
        sum += worker.await.unwrap();
    }
    assert_eq!(sum, 4 * 5000 * 5001 / 2);
}

#[tokio::test]
async fn a_subscription_keeps_the_order_of_publication_whatever_the_keys() {
    let bus = bus();
    let all = Pattern::new(">").unwrap();
    let mut seen = bus.subscribe(&all, SubscribeOptions::default()).await.unwrap();
    for data in 0..100 {
        let message = if data % 3 == 0 { message(data) } else { keyed("k", data) };
        bus.publish(&topic("a"), message).await.unwrap();
    }
    for expected in 0..100 {
        let received = seen.next().await.unwrap();
        assert_eq!(received.message.json::<u64>().unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_has_a_message_before_what_a_handler_makes_of_it() {
    let bus = bus();
    let handler = slot(&bus, "handler", &["ask"], 1000).await;
    let mut receiver = handler.receiver();
    let all = Pattern::new(">").unwrap();
    // Subscribed after the slot was opened, and before it all the same.
    let mut seen = bus.subscribe(&all, SubscribeOptions::default()).await.unwrap();
    let answering = tokio::spawn({
        let bus = bus.clone();
        async move {
            for _ in 0..1000 {
                let (data, _) = take(&mut receiver).await.unwrap();
                bus.publish(&topic("answer"), message(data)).await.unwrap();
                receiver.settle(Settlement::Done);
            }
        }
    });
    for data in 0..1000 {
        bus.publish(&topic("ask"), keyed("k", data)).await.unwrap();
    }
    answering.await.unwrap();
    let mut asked = 0;
    for _ in 0..2000 {
        let received = seen.next().await.unwrap();
        let data: u64 = received.message.json().unwrap();
        match received.topic.as_str() {
            "ask" => asked = data + 1,
            _ => assert!(data < asked, "the answer {data} came before its question"),
        }
    }
}
