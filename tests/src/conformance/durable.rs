//! Topics that outlive their hosts.

use std::time::Duration;

use echo_bus::Settlement;
use serde_json::json;
use tokio::time::Instant;

use super::bed::until_behind;
use super::state::{change, entry};
use super::subscribing::{none_is_lost_or_doubled, resubscribe};
use super::{Bed, keyed, message, take, take_all};

/// Once `publish` has returned, a host that is killed loses nothing.
pub async fn what_was_published_outlives_the_host(bed: Bed) {
    let slot = bed.slot("one", &["durable.>"], 100).await;
    for number in 0..50 {
        bed.publish("durable.a", message(number)).await;
    }
    bed.publish("durable.b", keyed("k", 50)).await;
    drop(slot);
    let bed = bed.kill_and_start_again().await;
    let slot = bed.slot("one", &["durable.>"], 100).await;
    let mut all = take_all(&mut slot.receiver(), 51).await;
    // Where there are several hosts, nothing is said of messages with a key and messages without one together.
    let keyed = all.iter().position(|number| *number == 50);
    assert!(bed.connects_hosts() || keyed == Some(50), "{keyed:?}");
    all.remove(keyed.unwrap());
    assert_eq!(all, (0..50).collect::<Vec<_>>());
}

/// What was settled as done does not come back after a restart.
pub async fn what_was_settled_does_not_come_back(bed: Bed) {
    let slot = bed.slot("one", &["durable.>"], 100).await;
    for number in 0..10 {
        bed.publish("durable.a", message(number)).await;
    }
    assert_eq!(take_all(&mut slot.receiver(), 6).await, [0, 1, 2, 3, 4, 5]);
    bed.bus.close();
    bed.bus.closed().await;
    drop(slot);
    let bed = bed.kill_and_start_again().await;
    let slot = bed.slot("one", &["durable.>"], 100).await;
    let mut receiver = slot.receiver();
    assert_eq!(take_all(&mut receiver, 4).await, [6, 7, 8, 9]);
    assert!(bed.never(take(&mut receiver)).await);
}

/// What was in hand when the host was killed comes back, one attempt older where attempts outlive the host.
pub async fn what_was_in_hand_comes_back(bed: Bed) {
    let slot = bed.slot("one", &["durable.>"], 100).await;
    bed.publish("durable.a", message(1)).await;
    let mut receiver = slot.receiver();
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    // In this order: while the slot is open, it would take back what its receivers drop.
    drop(slot);
    drop(receiver);
    let bed = bed.kill_and_start_again().await;
    let slot = bed.slot("one", &["durable.>"], 100).await;
    let (number, attempt) = take(&mut slot.receiver()).await.unwrap();
    assert!(number == 1 && (1..=2).contains(&attempt), "{number}, attempt {attempt}");
}

/// The id deduplicates: a second message of the same id is dropped.
pub async fn a_second_message_of_an_id_is_dropped(bed: Bed) {
    let slot = bed.slot("one", &["durable.>"], 100).await;
    let twice = message(1);
    bed.publish("durable.a", twice.clone()).await;
    bed.publish("durable.a", twice).await;
    bed.publish("durable.a", message(2)).await;
    let mut receiver = slot.receiver();
    assert_eq!(take_all(&mut receiver, 2).await, [1, 2]);
    assert!(bed.never(take(&mut receiver)).await);
}

/// A slot is behind by what is kept for it, however much of that it holds, and is after a restart too.
pub async fn how_far_a_slot_is_behind_outlives_the_host(bed: Bed) {
    let slot = bed.slot("one", &["durable.>"], 4).await;
    let quick = bed.slot("quick", &["durable.a"], 100).await;
    slot.pause();
    for number in 0..10 {
        bed.publish("durable.a", message(number)).await;
    }
    bed.publish("durable.b", keyed("k", 10)).await;
    bed.publish("durable.b", keyed("k", 11)).await;
    take_all(&mut quick.receiver(), 10).await;
    until_behind(&slot, 12).await;
    until_behind(&quick, 0).await;
    slot.resume();
    take_all(&mut slot.receiver(), 3).await;
    until_behind(&slot, 9).await;
    drop((slot, quick));
    let bed = bed.kill_and_start_again().await;
    let slot = bed.slot("one", &["durable.>"], 4).await;
    until_behind(&slot, 9).await;
    take_all(&mut slot.receiver(), 9).await;
    until_behind(&slot, 0).await;
}

/// A message that waited for its retry when the host was killed comes back, no earlier than it was to.
pub async fn a_retry_outlives_the_host(bed: Bed) {
    let slot = bed.slot("one", &["durable.>"], 100).await;
    bed.publish("durable.a", message(1)).await;
    let mut receiver = slot.receiver();
    take(&mut receiver).await;
    let asked = Instant::now();
    receiver.settle(Settlement::Again(Duration::from_secs(1)));
    receiver.flush();
    bed.bus.close();
    bed.bus.closed().await;
    drop((receiver, slot));
    let bed = bed.kill_and_start_again().await;
    let slot = bed.slot("one", &["durable.>"], 100).await;
    let (number, _) = take(&mut slot.receiver()).await.unwrap();
    assert_eq!(number, 1);
    assert!(asked.elapsed() >= Duration::from_secs(1) || bed.name() == "local");
}

/// What was committed for a durable message outlives a host that is killed, and that message does not count again.
pub async fn state_outlives_the_host_and_counts_each_message_once(bed: Bed) {
    let slot = bed.slot("counter", &["durable.>"], 100).await;
    let mut receiver = slot.receiver();
    for number in 1..=5 {
        bed.publish("durable.a", keyed("k", number)).await;
        assert_eq!(take(&mut receiver).await.unwrap().0, number);
        let base = bed.bus.states("counter").load(Some("k")).await.unwrap();
        receiver.commit_state(Vec::new(), change(base, number)).await.unwrap();
    }
    bed.bus.close();
    bed.bus.closed().await;
    drop((receiver, slot));
    let bed = bed.kill_and_start_again().await;
    assert_eq!(entry(&*bed.bus, Some("k"), "count").await, Some(json!(5)));
    let slot = bed.slot("counter", &["durable.>"], 100).await;
    assert!(bed.never(take(&mut slot.receiver())).await);
}

/// Once it is put, a document outlives a host that is killed, and its key is still listed.
pub async fn a_document_that_was_put_outlives_the_host(bed: Bed) {
    let states = bed.bus.states("counter");
    for (key, value) in [(None, 1), (Some("k"), 2), (Some("k"), 3)] {
        let base = states.load(key).await.unwrap();
        states.put(key, change(base, value)).await.unwrap();
    }
    drop(states);
    let bed = bed.kill_and_start_again().await;
    let listed = bed.bus.states("counter").keys(None, 10).await.unwrap();
    assert_eq!(listed, [None, Some("k".to_owned())]);
    assert_eq!(entry(&*bed.bus, None, "count").await, Some(json!(1)));
    assert_eq!(entry(&*bed.bus, Some("k"), "count").await, Some(json!(3)));
}

/// A slot that leaves a durable topic still gets what was kept for it there, and nothing of what comes later; once it
/// comes back it gets what is published from then on, after a restart too.
pub async fn what_is_kept_of_a_topic_that_is_left_stays(bed: Bed) {
    let slot = bed.slot("one", &["durable.a"], 4).await;
    slot.pause();
    for number in 0..10 {
        bed.publish("durable.a", message(number)).await;
    }
    bed.publish("durable.a", keyed("k", 10)).await;
    resubscribe(&slot, &["durable.b"]).await.unwrap();
    bed.publish("durable.a", message(11)).await;
    bed.publish("durable.a", keyed("k", 12)).await;
    bed.publish("durable.b", keyed("k", 13)).await;
    bed.publish("durable.b", message(14)).await;
    slot.resume();
    let mut receiver = slot.receiver();
    let mut all = take_all(&mut receiver, 13).await;
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14]);
    assert!(bed.never(take(&mut receiver)).await);
    resubscribe(&slot, &["durable.a"]).await.unwrap();
    bed.publish("durable.b", message(15)).await;
    bed.publish("durable.a", message(16)).await;
    assert_eq!(take_all(&mut receiver, 1).await, [16]);
    slot.idle().await;
    drop(receiver);
    bed.publish("durable.a", message(17)).await;
    until_behind(&slot, 1).await;
    bed.bus.close();
    bed.bus.closed().await;
    drop(slot);
    let bed = bed.kill_and_start_again().await;
    let slot = bed.slot("one", &["durable.a"], 4).await;
    let mut receiver = slot.receiver();
    assert_eq!(take_all(&mut receiver, 1).await, [17]);
    assert!(bed.never(take(&mut receiver)).await);
}

/// While patterns change again and again, no message on a durable topic that all of them match is lost or doubled, and
/// keys keep their order.
pub async fn nothing_that_lasts_is_lost_or_doubled_while_patterns_change(bed: Bed) {
    let patterns: [&[&str]; 4] =
        [&["durable.>"], &["durable.*.x"], &["durable.t.*", "durable.y"], &["durable.t.x", "t"]];
    none_is_lost_or_doubled(bed, "durable.t.x", &patterns, true).await;
}
