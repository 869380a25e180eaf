//! What comes before what.

use std::time::Duration;

use echo_bus::Settlement;

use super::{Bed, keyed, message, numbers, take, take_all};

/// With one receiver the order is that of publication, for each publisher and topic.
pub async fn one_receiver_gets_the_order_of_publication(bed: Bed) {
    const EACH: u64 = 250;
    let slot = bed.slot("one", &["t.*"], 1000).await;
    let mut receiver = slot.receiver();
    receiver.set_batch(16);
    let publish = async |publisher: u64| {
        for number in 0..EACH {
            bed.publish(&format!("t.{publisher}"), message(publisher * 1000 + number)).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(publish(0), publish(1));
    let all = take_all(&mut receiver, 2 * EACH as usize).await;
    for publisher in 0..2 {
        let own: Vec<_> = all.iter().filter(|number| *number / 1000 == publisher).collect();
        assert!(own.len() as u64 == EACH && own.is_sorted(), "{publisher}: {own:?}");
    }
}

/// Messages that were published together keep their order, among those that were not.
pub async fn what_is_published_together_keeps_its_order(bed: Bed) {
    let slot = bed.slot("one", &["t"], 1000).await;
    let mut subscription = bed.subscribe("t").await;
    let mut receiver = slot.receiver();
    receiver.set_batch(16);
    let t = super::topic("t");
    let mut next = 0;
    for size in [1, 100, 0, 33, 2, 64] {
        let batch = (next..next + size).map(message).collect();
        bed.bus.publish_batch(&t, batch).await.unwrap();
        bed.publish("t", message(next + size)).await;
        next += size + 1;
    }
    let all: Vec<u64> = (0..next).collect();
    assert_eq!(take_all(&mut receiver, all.len()).await, all);
    assert_eq!(numbers(&mut subscription, all.len()).await, all);
    let keys = (0..100).map(|number| keyed(["a", "b"][number as usize % 2], number)).collect();
    bed.bus.publish_batch(&t, keys).await.unwrap();
    let came = take_all(&mut receiver, 100).await;
    for parity in 0..2 {
        let own: Vec<_> = came.iter().filter(|number| *number % 2 == parity).collect();
        assert!(own.len() == 50 && own.is_sorted(), "{own:?}");
    }
}

/// Messages of a key are handed out one at a time, however many receivers there are.
pub async fn a_key_is_in_one_hand_at_a_time(bed: Bed) {
    let slot = bed.slot("one", &["t"], 100).await;
    let (mut one, mut other) = (slot.receiver(), slot.receiver());
    bed.publish("t", keyed("k", 1)).await;
    bed.publish("t", keyed("k", 2)).await;
    assert_eq!(take(&mut one).await, Some((1, 1)));
    assert!(bed.never(take(&mut other)).await, "the key is in hand already");
    one.settle(Settlement::Done);
    one.flush();
    drop(one);
    assert_eq!(take(&mut other).await, Some((2, 1)));
}

/// A message that waits for its retry holds back its own key and no other.
pub async fn a_key_that_waits_for_its_retry_holds_back_itself_and_no_other(bed: Bed) {
    let slot = bed.slot("one", &["t"], 1000).await;
    let mut receiver = slot.receiver();
    // Many keys, so that some share with the one that waits whatever keys may share.
    let keys: Vec<String> = (0..400).map(|number| format!("key-{number}")).collect();
    bed.publish("t", keyed("slow", 1)).await;
    bed.publish("t", keyed("slow", 2)).await;
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    receiver.settle(Settlement::Again(Duration::from_secs(3)));
    receiver.flush();
    bed.publish("t", keyed("slow", 3)).await;
    for (number, key) in (100..).zip(&keys) {
        bed.publish("t", keyed(key, number)).await;
    }
    let mut others = take_all(&mut receiver, 400).await;
    others.sort_unstable();
    assert_eq!(others, (100..500).collect::<Vec<_>>());
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(take(&mut receiver).await.unwrap());
        receiver.settle(Settlement::Done);
    }
    assert_eq!(order, [(1, 2), (2, 1), (3, 1)]);
}

/// A receiver that is dropped gives its message back in front of its key's others.
pub async fn a_key_keeps_its_order_when_a_receiver_is_dropped(bed: Bed) {
    let slot = bed.slot("one", &["t"], 100).await;
    for number in 1..=5 {
        bed.publish("t", keyed("k", number)).await;
    }
    for attempt in 1..=3 {
        let mut doomed = slot.receiver();
        doomed.set_batch(5);
        assert_eq!(take(&mut doomed).await, Some((1, attempt)));
    }
    assert_eq!(take_all(&mut slot.receiver(), 5).await, [1, 2, 3, 4, 5]);
}

/// A plain subscription gets its messages in the order of their publication, keys or not.
pub async fn a_subscription_keeps_the_order_of_publication_whatever_the_keys(bed: Bed) {
    let mut seen = bed.subscribe(">").await;
    for number in 0..100 {
        let message = if number % 3 == 0 { message(number) } else { keyed("k", number) };
        bed.publish(if number % 2 == 0 { "a" } else { "b.c" }, message).await;
    }
    assert_eq!(numbers(&mut seen, 100).await, (0..100).collect::<Vec<_>>());
}
