//! Queues that are full.

use std::time::Duration;

use echo_bus::Settlement;
use echo_sdk::{Overflow, PublishError};

use super::{Bed, message, now, take, take_all, topic};

/// `publish` waits for room in every matching slot that blocks.
pub async fn publish_waits_for_room(bed: Bed) {
    let full = bed.slot("full", &["t"], 2).await;
    let roomy = bed.slot("roomy", &["t"], 10).await;
    bed.publish("t", message(1)).await;
    bed.publish("t", message(2)).await;
    let t = topic("t");
    let mut waiting = std::pin::pin!(bed.bus.publish(&t, message(3)));
    assert!(bed.never(&mut waiting).await);
    let mut receiver = full.receiver();
    assert_eq!(take_all(&mut receiver, 1).await, [1]);
    waiting.await.unwrap();
    assert_eq!(take_all(&mut receiver, 2).await, [2, 3]);
    assert_eq!(take_all(&mut roomy.receiver(), 3).await, [1, 2, 3]);
}

/// What is in hand and what waits for its retry take room as what waits to be handed out does.
pub async fn what_is_in_hand_and_what_waits_for_its_retry_take_room(bed: Bed) {
    let slot = bed.slot("one", &["t"], 1).await;
    let mut receiver = slot.receiver();
    bed.publish("t", message(1)).await;
    let t = topic("t");
    let full = || bed.bus.try_publish(&t, message(2)).is_err();
    assert!(full(), "in the queue");
    take(&mut receiver).await;
    assert!(full(), "in hand");
    receiver.settle(Settlement::Again(Duration::from_millis(300)));
    receiver.flush();
    assert!(full(), "waiting for its retry");
    assert_eq!((slot.stats().held, slot.stats().capacity), (1, 1));
    assert_eq!(take(&mut receiver).await, Some((1, 2)));
    receiver.settle(Settlement::Done);
    receiver.flush();
    slot.idle().await;
    bed.publish("t", message(2)).await;
}

/// `try_publish` says `Full` with the slot's name and delivers to nobody.
pub async fn try_publish_says_full_and_delivers_to_nobody(bed: Bed) {
    let roomy = bed.slot("roomy", &["t"], 10).await;
    let full = bed.slot("full", &["t"], 2).await;
    let last = bed.slot("last", &["t"], 10).await;
    bed.publish("t", message(1)).await;
    bed.publish("t", message(2)).await;
    let refused = bed.bus.try_publish(&topic("t"), message(3)).unwrap_err();
    assert!(matches!(&refused, PublishError::Full { slot } if slot == "full"), "{refused}");
    for slot in [roomy, last] {
        let mut receiver = slot.receiver();
        assert_eq!(take_all(&mut receiver, 2).await, [1, 2]);
        assert!(bed.never(take(&mut receiver)).await, "{} got the refused message", slot.name());
    }
    assert_eq!(take_all(&mut full.receiver(), 2).await, [1, 2]);
}

/// A slot can ask for the oldest message to be dropped, and counts each drop.
pub async fn the_oldest_is_dropped_and_counted(bed: Bed) {
    let slot = bed.slot_with("one", &["t"], 2, Overflow::DropOldest).await;
    for number in 1..=5 {
        bed.publish("t", message(number)).await;
    }
    assert_eq!(take_all(&mut slot.receiver(), 2).await, [4, 5]);
    assert_eq!(slot.stats().dropped, 3);
}

/// A slot can ask for the newest message to be dropped, and counts each drop.
pub async fn the_newest_is_dropped_and_counted(bed: Bed) {
    let slot = bed.slot_with("one", &["t"], 2, Overflow::DropNewest).await;
    for number in 1..=5 {
        bed.publish("t", message(number)).await;
    }
    assert_eq!(take_all(&mut slot.receiver(), 2).await, [1, 2]);
    assert_eq!(slot.stats().dropped, 3);
}

/// A slot that drops holds neither publishers nor other slots back.
pub async fn a_slot_that_drops_holds_nobody_back(bed: Bed) {
    let slow = bed.slot_with("slow", &["t"], 1, Overflow::DropOldest).await;
    let other = bed.slot("other", &["t"], 100).await;
    let mut in_hand = slow.receiver();
    bed.publish("t", message(1)).await;
    take(&mut in_hand).await;
    for number in 2..=50 {
        bed.publish("t", message(number)).await;
    }
    assert_eq!(take_all(&mut other.receiver(), 50).await, (1..=50).collect::<Vec<_>>());
}

/// A `publish` that is dropped before it returns has been delivered to all matching slots or to none; here to
/// none, and it keeps no room.
pub async fn a_publish_that_is_dropped_delivers_to_nobody_and_keeps_no_room(bed: Bed) {
    let roomy = bed.slot("roomy", &["t"], 10).await;
    let full = bed.slot("full", &["t"], 1).await;
    bed.publish("t", message(1)).await;
    for _ in 0..3 {
        assert!(now(bed.bus.publish(&topic("t"), message(2))).await.is_none());
    }
    let mut receiver = full.receiver();
    assert_eq!(take_all(&mut receiver, 1).await, [1]);
    for number in 3..5 {
        bed.publish("t", message(number)).await;
        assert_eq!(take_all(&mut receiver, 1).await, [number]);
    }
    let mut receiver = roomy.receiver();
    assert_eq!(take_all(&mut receiver, 3).await, [1, 3, 4]);
    assert!(bed.never(take(&mut receiver)).await);
}

/// What the host itself has to say neither waits for room nor is dropped, and the bound holds again after it.
pub async fn what_is_published_past_the_bound_neither_waits_nor_is_lost(bed: Bed) {
    let slot = bed.slot("one", &["dead.>"], 1).await;
    let dead = topic("dead.x");
    for number in 0..4 {
        bed.bus.publish_unbounded(&dead, message(number)).unwrap();
    }
    let mut receiver = slot.receiver();
    assert_eq!(take_all(&mut receiver, 4).await, [0, 1, 2, 3]);
    slot.idle().await;
    bed.publish("dead.x", message(4)).await;
    assert!(bed.bus.try_publish(&dead, message(5)).is_err(), "the bound holds again");
}
