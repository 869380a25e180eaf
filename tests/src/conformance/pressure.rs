//! Queues that are full, where a transport can hold publishers back.

use std::sync::Arc;
use std::time::Duration;

use echo_bus::Settlement;
use echo_sdk::{ProcessingStatus, PublishError};
use serde_json::json;
use tokio::sync::Semaphore;

use super::bed::to;
use super::{Bed, message, now, take, take_all, topic};
use crate::scripted::{WithHandler, handler, manifest, workers};

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

/// Messages that are published together wait for room like any others, and come as there is some.
pub async fn what_is_published_together_waits_for_room(bed: Bed) {
    let slot = bed.slot("one", &["t"], 2).await;
    let t = topic("t");
    let mut waiting = std::pin::pin!(bed.bus.publish_batch(&t, (1..=7).map(message).collect()));
    assert!(bed.never(&mut waiting).await);
    assert_eq!(slot.stats().held, 2);
    let mut receiver = slot.receiver();
    let (published, came) = tokio::join!(waiting, take_all(&mut receiver, 7));
    published.unwrap();
    assert_eq!(came, [1, 2, 3, 4, 5, 6, 7]);
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

/// When a `commit` is dropped before it returns, the message is in hand as before.
pub async fn a_commit_that_is_dropped_leaves_the_message_in_hand(bed: Bed) {
    let asking = bed.slot("asking", &["in"], 10).await;
    let full = bed.slot("full", &["out"], 1).await;
    bed.publish("in", message(1)).await;
    bed.publish("out", message(0)).await;
    let mut receiver = asking.receiver();
    take(&mut receiver).await;
    assert!(now(receiver.commit(vec![to("out", message(2))])).await.is_none());
    assert_eq!(receiver.current().unwrap().message.json::<u64>().unwrap(), 1);
    receiver.settle(Settlement::Done);
    receiver.flush();
    assert_eq!(take_all(&mut full.receiver(), 1).await, [0]);
    assert!(bed.never(take(&mut full.receiver())).await, "an effect without its acknowledgement");
}

/// A full queue holds publishers back; `try_publish` says so and names the slot.
pub async fn a_full_queue_holds_publishers_back(bed: Bed) {
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let mut pool = workers(1);
    pool["queue_size"] = json!(2);
    let waiting = handler(move |_, _, _| {
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let host = bed.host().with(manifest("p", &["in"], pool), waiting).start().await.unwrap();
    let client = host.client("test");
    let message = || client.message_builder().build().unwrap();
    client.publish("in", message()).await.unwrap();
    client.publish("in", message()).await.unwrap();
    let full = client.try_publish("in", message()).unwrap_err().to_string();
    assert!(full.contains("`p`"), "{full}");
    let mut third = std::pin::pin!(client.publish("in", message()));
    assert!(bed.never(&mut third).await);
    gate.add_permits(1);
    third.await.unwrap();
    gate.add_permits(2);
    assert!(host.shutdown().await.is_clean());
}

/// After what was published past the bound, the bound holds again.
pub async fn the_bound_holds_again_after_what_went_past_it(bed: Bed) {
    let slot = bed.slot("one", &["dead.>"], 1).await;
    let dead = topic("dead.x");
    for number in 0..4 {
        bed.bus.publish_unbounded(&dead, message(number)).unwrap();
    }
    assert_eq!(take_all(&mut slot.receiver(), 4).await, [0, 1, 2, 3]);
    slot.idle().await;
    bed.publish("dead.x", message(4)).await;
    assert!(bed.bus.try_publish(&dead, message(5)).is_err());
}
