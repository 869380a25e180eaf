//! Ends, pauses and quiet.

use echo_bus::{BusError, Settlement, SlotOptions, SubscribeOptions};
use echo_sdk::{Overflow, Pattern, PublishError};

use super::bed::next;
use super::{Bed, keyed, message, now, take, take_all, topic};

/// After `close`, publishing says `Closed` and nothing more is opened.
pub async fn after_close_nobody_publishes_and_nothing_more_is_opened(bed: Bed) {
    let t = topic("t");
    bed.publish("t", message(1)).await;
    bed.bus.close();
    let closed = |result| matches!(result, Err(PublishError::Closed));
    assert!(closed(bed.bus.try_publish(&t, message(2))));
    assert!(closed(bed.bus.publish(&t, message(2)).await));
    let options = SlotOptions {
        name: "one".into(),
        patterns: Vec::new(),
        capacity: 1,
        overflow: Overflow::Block,
    };
    assert!(matches!(bed.bus.open_slot(options).await, Err(BusError::Closed)));
    let all = Pattern::new(">").unwrap();
    let subscribed = bed.bus.subscribe(&all, SubscribeOptions::default()).await;
    assert!(matches!(subscribed, Err(BusError::Closed)));
    bed.bus.closed().await;
}

/// After `close`, receivers and subscriptions end when they have nothing left, and not before.
pub async fn receivers_and_subscriptions_end_when_they_have_nothing_left(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let mut subscription = bed.subscribe(">").await;
    let mut receiver = slot.receiver();
    bed.publish("t", message(1)).await;
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    assert_eq!(next(&mut subscription).await.topic, "t");
    bed.bus.close();
    assert!(subscription.next().await.is_none());
    receiver.settle(Settlement::Again(std::time::Duration::from_millis(100)));
    assert_eq!(take(&mut receiver).await, Some((1, 2)), "its retry is still to come");
    receiver.settle(Settlement::Done);
    assert_eq!(take(&mut receiver).await, None);
    assert_eq!(take(&mut slot.receiver()).await, None);
}

/// A closed slot takes nothing more in; what nobody handled can be taken out of it.
pub async fn a_closed_slot_takes_nothing_more_and_shows_what_is_left(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let mut receiver = slot.receiver();
    for number in 1..=3 {
        bed.publish("t", message(number)).await;
    }
    bed.publish("t", keyed("k", 4)).await;
    assert_eq!(take_all(&mut receiver, 1).await, [1]);
    assert_eq!(take(&mut receiver).await, Some((2, 1)));
    slot.close();
    bed.publish("t", message(5)).await;
    receiver.settle(Settlement::Done);
    receiver.flush();
    let left = slot.take_remaining();
    let mut left: Vec<u64> = left.iter().map(|left| left.message.json().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [3, 4]);
    assert_eq!(take(&mut receiver).await, None);
}

/// A paused slot keeps its messages and takes more, and hands them out once it is resumed.
pub async fn a_paused_slot_keeps_its_messages_until_it_is_resumed(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let mut receiver = slot.receiver();
    bed.publish("t", message(1)).await;
    slot.pause();
    bed.publish("t", message(2)).await;
    assert!(bed.never(take(&mut receiver)).await);
    slot.resume();
    assert_eq!(take_all(&mut receiver, 2).await, [1, 2]);
}

/// `idle` resolves once a slot holds nothing, what is in hand and what waits for a retry included.
pub async fn idle_resolves_once_a_slot_holds_nothing(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    slot.idle().await;
    let mut receiver = slot.receiver();
    bed.publish("t", message(1)).await;
    take(&mut receiver).await;
    assert!(bed.never(slot.idle()).await);
    receiver.settle(Settlement::Again(std::time::Duration::from_millis(300)));
    receiver.flush();
    assert!(now(slot.idle()).await.is_none());
    take(&mut receiver).await;
    receiver.settle(Settlement::Done);
    receiver.flush();
    slot.idle().await;
    assert_eq!(slot.stats().held, 0);
}

/// A subscription that is dropped hears nothing more, and nobody asks it.
pub async fn a_subscription_that_is_dropped_hears_nothing_more(bed: Bed) {
    let t = topic("t");
    let subscription = bed.subscribe("t").await;
    assert!(bed.bus.is_heard(&t));
    drop(subscription);
    let asking = bed.bus.request(&t, message(1), std::time::Duration::from_secs(20)).await;
    assert!(matches!(asking, Err(echo_sdk::RequestError::NoResponders { .. })), "{asking:?}");
}
