//! Several messages that become visible together or not at all, where a transport can do that.

use super::bed::to;
use super::{Bed, message, now, take, take_all};

/// A batch waits for all of its room, and until then nobody sees a part of it.
pub async fn a_batch_waits_for_all_of_its_room_and_nobody_sees_a_part(bed: Bed) {
    let full = bed.slot("full", &["a"], 1).await;
    let roomy = bed.slot("roomy", &["b"], 10).await;
    bed.publish("a", message(0)).await;
    let batch = vec![to("b", message(1)), to("a", message(2)), to("b", message(3))];
    let mut waiting = bed.bus.publish_all(batch);
    assert!(bed.never(&mut waiting).await);
    assert!(bed.never(take(&mut roomy.receiver())).await, "a part of the batch was delivered");
    let mut receiver = full.receiver();
    assert_eq!(take_all(&mut receiver, 1).await, [0]);
    waiting.await.unwrap();
    assert_eq!(take_all(&mut receiver, 1).await, [2]);
    assert_eq!(take_all(&mut roomy.receiver(), 2).await, [1, 3]);
}

/// A batch that is dropped while it waits has been delivered to nobody and keeps no room.
pub async fn a_batch_that_is_dropped_delivers_to_nobody(bed: Bed) {
    let full = bed.slot("full", &["a"], 1).await;
    let roomy = bed.slot("roomy", &["b"], 2).await;
    bed.publish("a", message(0)).await;
    let batch = || vec![to("b", message(1)), to("a", message(2))];
    for _ in 0..3 {
        assert!(now(bed.bus.publish_all(batch())).await.is_none());
    }
    assert_eq!(take_all(&mut full.receiver(), 1).await, [0]);
    assert!(bed.never(take(&mut roomy.receiver())).await);
    bed.bus.publish_all(batch()).await.unwrap();
    assert_eq!(take_all(&mut roomy.receiver(), 1).await, [1]);
}

/// A batch larger than a queue waits for the whole queue, and then goes in as one.
pub async fn a_batch_larger_than_the_queue_waits_for_all_of_it(bed: Bed) {
    let small = bed.slot("small", &["t"], 3).await;
    let batch = |numbers: std::ops::Range<u64>| {
        numbers.map(|number| to("t", message(number))).collect::<Vec<_>>()
    };
    bed.bus.publish_all(batch(0..5)).await.unwrap();
    assert_eq!(small.stats().held, 5);
    let mut next = bed.bus.publish_all(batch(5..7));
    assert!(now(&mut next).await.is_none());
    let mut receiver = small.receiver();
    let mut all = take_all(&mut receiver, 5).await;
    next.await.unwrap();
    all.extend(take_all(&mut receiver, 2).await);
    assert_eq!(all, (0..7).collect::<Vec<_>>());
    bed.publish("t", message(9)).await;
}
