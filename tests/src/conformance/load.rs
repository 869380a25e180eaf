//! The contract under load: many threads at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::Settlement;

use super::bed::next;
use super::{Bed, keyed, message, take, topic};

/// Nothing is lost between publishers that come and receivers that idle.
pub async fn nothing_is_lost_between_publishers_that_come_and_receivers_that_idle(bed: Bed) {
    const EACH: u64 = 5000;
    let slot = bed.slot("one", &["t.*"], 32).await;
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let slot = Arc::clone(&slot);
            tokio::spawn(async move {
                let mut receiver = slot.receiver();
                receiver.set_batch(8);
                let mut sum = 0;
                while let Some((number, _)) = take(&mut receiver).await {
                    sum += number;
                    receiver.settle(Settlement::Done);
                }
                sum
            })
        })
        .collect();
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let bus = Arc::clone(&bed.bus);
            tokio::spawn(async move {
                let topic = topic(&format!("t.{publisher}"));
                for number in 1..=EACH {
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
    assert_eq!(sum, 4 * EACH * (EACH + 1) / 2);
}

/// Keys keep their order, however many receivers there are, through retries and receivers that are dropped.
pub async fn keys_keep_their_order_with_many_receivers_retries_and_dropped_hands(bed: Bed) {
    const KEYS: u64 = 50;
    const EACH: u64 = 40;
    let slot = bed.slot("one", &["t"], 64).await;
    let (seen_by, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let workers: Vec<_> = (0..4)
        .map(|worker: u64| {
            let (slot, seen_by) = (Arc::clone(&slot), seen_by.clone());
            tokio::spawn(async move {
                let mut receiver = slot.receiver();
                let mut handled = worker;
                receiver.set_batch(8);
                while let Some((number, attempt)) = take(&mut receiver).await {
                    handled += 1;
                    if attempt == 1 && handled.is_multiple_of(7) {
                        receiver.settle(Settlement::Again(Duration::from_millis(handled % 3)));
                    } else if attempt == 1 && handled.is_multiple_of(11) {
                        receiver = slot.receiver();
                    } else {
                        let key = receiver.current().unwrap().message.key().unwrap().to_owned();
                        seen_by.send((key, number)).unwrap();
                        receiver.settle(Settlement::Done);
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for number in 0..EACH {
        for key in 0..KEYS {
            bed.publish("t", keyed(&format!("k{key}"), number)).await;
        }
    }
    slot.idle().await;
    slot.close();
    for worker in workers {
        worker.await.unwrap();
    }
    drop(seen_by);
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    while let Some((key, number)) = seen.recv().await {
        by_key.entry(key).or_default().push(number);
    }
    assert_eq!(by_key.len() as u64, KEYS);
    for (key, numbers) in by_key {
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "{key}");
    }
}

/// A plain subscription has each message before what a handler that it goes to as well makes of it.
pub async fn a_subscription_has_a_message_before_what_a_handler_makes_of_it(bed: Bed) {
    const COUNT: u64 = 1000;
    let handler = bed.slot("handler", &["ask"], COUNT as usize).await;
    let mut receiver = handler.receiver();
    // Subscribed after the slot was opened, and before it all the same.
    let mut seen = bed.subscribe(">").await;
    let answering = tokio::spawn({
        let bus = Arc::clone(&bed.bus);
        async move {
            for _ in 0..COUNT {
                let (number, _) = take(&mut receiver).await.unwrap();
                bus.publish(&topic("answer"), message(number)).await.unwrap();
                receiver.settle(Settlement::Done);
            }
        }
    });
    for number in 0..COUNT {
        bed.publish("ask", keyed("k", number)).await;
    }
    answering.await.unwrap();
    let mut asked = 0;
    for _ in 0..2 * COUNT {
        let received = next(&mut seen).await;
        let number: u64 = received.message.json().unwrap();
        match received.topic.as_str() {
            "ask" => asked = number + 1,
            _ => assert!(number < asked, "the answer {number} came before its question"),
        }
    }
}
