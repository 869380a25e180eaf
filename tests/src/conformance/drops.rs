//! What happens to messages that find no room and are not to wait.

use echo_sdk::Overflow;

use super::{Bed, message, take, take_all, topic};

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

/// What the host itself has to say neither waits for room nor is dropped.
pub async fn what_is_published_past_the_bound_neither_waits_nor_is_lost(bed: Bed) {
    let slot = bed.slot("one", &["dead.>"], 1).await;
    let dead = topic("dead.x");
    for number in 0..4 {
        bed.bus.publish_unbounded(&dead, message(number)).unwrap();
    }
    let mut receiver = slot.receiver();
    assert_eq!(take_all(&mut receiver, 4).await, [0, 1, 2, 3]);
}
