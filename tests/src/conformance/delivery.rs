//! Who gets what.

use std::time::Duration;

use echo_bus::{BusError, Settlement, SlotOptions};
use echo_sdk::{BaseMessage, Overflow, Pattern, PublishError, Topic, TraceContext};
use serde_json::{Value, json};

use super::bed::{next, until_behind};
use super::{Bed, message, take, take_all, topic};

/// A published message reaches each slot whose patterns match its topic, and no other.
pub async fn each_matching_slot_gets_each_message(bed: Bed) {
    let exact = bed.slot("exact", &["a.b"], 10).await;
    let one_token = bed.slot("one-token", &["*.b"], 10).await;
    let tail = bed.slot("tail", &["a.>"], 10).await;
    let other = bed.slot("other", &["a", "b.>", "a.b.*"], 10).await;
    bed.publish("a.b", message(1)).await;
    bed.publish("a.c.d", message(2)).await;
    bed.publish("b", message(3)).await;
    bed.publish("x.b", message(4)).await;
    assert_eq!(take_all(&mut exact.receiver(), 1).await, [1]);
    assert_eq!(take_all(&mut one_token.receiver(), 2).await, [1, 4]);
    assert_eq!(take_all(&mut tail.receiver(), 2).await, [1, 2]);
    for slot in [exact, one_token, tail, other] {
        assert!(bed.never(take(&mut slot.receiver())).await, "{} got more", slot.name());
    }
}

/// The receivers of a slot share its messages.
pub async fn the_receivers_of_a_slot_share_its_messages(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let (mut first, mut second) = (slot.receiver(), slot.receiver());
    bed.publish("t", message(1)).await;
    bed.publish("t", message(2)).await;
    let mut both = [take(&mut first).await.unwrap(), take(&mut second).await.unwrap()];
    both.sort_unstable();
    assert_eq!(both, [(1, 1), (2, 1)], "one has each, while the other has the other in hand");
    assert!(bed.never(take(&mut slot.receiver())).await);
}

/// Messages that were published together are shared like any others, and one that is not taken ends them.
pub async fn the_receivers_of_a_slot_share_what_was_published_together(bed: Bed) {
    let bed = bed.with_payload(100_000).await;
    let slot = bed.slot("one", &["t"], 200).await;
    let mut hands: Vec<_> = (0..3).map(|_| slot.receiver()).collect();
    let large = BaseMessage::builder("test").data(&"x".repeat(200_000)).build().unwrap();
    let batch = vec![message(1), message(2), message(3), large, message(4)];
    let refused = bed.bus.publish_batch(&topic("t"), batch).await.unwrap_err();
    assert!(matches!(refused, PublishError::TooLarge { .. }), "{refused}");
    let mut taken = Vec::new();
    for hand in &mut hands {
        taken.push(take(hand).await.unwrap().0);
    }
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 3], "each hand has one, while the others have theirs");
    assert!(bed.never(take(&mut slot.receiver())).await, "what follows it is not published");
}

/// A slot gets a message once even if several of its patterns match.
pub async fn a_slot_gets_a_message_once_however_many_of_its_patterns_match(bed: Bed) {
    let slot = bed.slot("one", &["a.>", "a.b", "*.b", ">"], 10).await;
    let mut receiver = slot.receiver();
    bed.publish("a.b", message(1)).await;
    bed.publish("a.b", message(2)).await;
    assert_eq!(take_all(&mut receiver, 2).await, [1, 2]);
    assert!(bed.never(take(&mut receiver)).await);
}

/// A message arrives with all that it was sent with, in slots and in subscriptions.
pub async fn a_message_arrives_as_it_was_sent(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let mut subscription = bed.subscribe("t").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::parse(trace).unwrap();
    let full = BaseMessage::builder("sender")
        .data(&json!({"text": "grün\n", "list": [1, 2.5, null]}))
        .version("2.1")
        .schema("order")
        .key("k")
        .field("Tenant", "a")
        .field("Tenant", "b")
        .reply_to(Topic::new("answers.here").unwrap())
        .trace_context(TraceContext { tracestate: Some("vendor=1".into()), ..trace })
        .build()
        .unwrap()
        .with_hops(3);
    let bare = BaseMessage::builder("sender").data(&Value::Null).build().unwrap();
    for sent in [full, bare] {
        bed.publish("t", sent.clone()).await;
        let heard = next(&mut subscription).await;
        assert_eq!((heard.topic.as_str(), &heard.message), ("t", &sent));
        let mut receiver = slot.receiver();
        std::future::poll_fn(|cx| receiver.poll_recv(cx)).await;
        let delivery = receiver.current().unwrap();
        assert_eq!((delivery.topic.as_str(), &delivery.message), ("t", &sent));
        assert_eq!((delivery.message.hops(), delivery.message.attempt()), (sent.hops(), 1));
        receiver.settle(Settlement::Done);
    }
}

/// A receiver that is dropped with a message in hand gives it back, one attempt older; what it had not come to
/// it gives back as it was.
pub async fn a_receiver_that_is_dropped_gives_back_what_it_had_one_attempt_older(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    for number in 1..=4 {
        bed.publish("t", message(number)).await;
    }
    let mut doomed = slot.receiver();
    doomed.set_batch(4);
    assert_eq!(take(&mut doomed).await, Some((1, 1)));
    drop(doomed);
    let mut other = slot.receiver();
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(take(&mut other).await.unwrap());
        other.settle(Settlement::Done);
    }
    all.sort_unstable();
    assert_eq!(all, [(1, 2), (2, 1), (3, 1), (4, 1)]);
    assert!(bed.never(take(&mut other)).await);
}

/// A slot's name is its host's alone until it is closed.
pub async fn a_slots_name_is_taken_until_the_slot_is_closed(bed: Bed) {
    let first = bed.slot("one", &["t"], 1).await;
    let options = SlotOptions {
        name: "one".into(),
        patterns: vec![Pattern::new("t").unwrap()],
        capacity: 1,
        overflow: Overflow::Block,
    };
    let refused = bed.bus.open_slot(options.clone()).await;
    assert!(matches!(&refused, Err(BusError::SlotTaken(name)) if name == "one"), "{refused:?}");
    first.close();
    bed.bus.open_slot(options).await.unwrap();
}

/// A message past the bus's largest is refused, with its size and the largest; nobody gets it.
pub async fn too_large_a_message_is_refused_with_both_sizes(bed: Bed) {
    let bed = bed.with_payload(100_000).await;
    let slot = bed.slot("one", &["t"], 10).await;
    let large = BaseMessage::builder("test").data(&"x".repeat(200_000)).build().unwrap();
    let t = topic("t");
    for refused in [
        bed.bus.try_publish(&t, large.clone()).unwrap_err(),
        bed.bus.publish(&t, large).await.unwrap_err(),
    ] {
        assert!(
            matches!(refused, PublishError::TooLarge { len, max: 100_000 } if len > 200_000),
            "{refused}"
        );
    }
    bed.publish("t", message(1)).await;
    assert_eq!(take_all(&mut slot.receiver(), 1).await, [1]);
}

/// A slot is behind by the messages that it has not acknowledged: waiting, in hand, or waiting for a retry.
pub async fn a_slot_is_behind_by_what_it_has_not_acknowledged(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    assert_eq!(slot.lag().await, Some(0));
    slot.pause();
    for number in 0..3 {
        bed.publish("t", message(number)).await;
    }
    until_behind(&slot, 3).await;
    slot.resume();
    let mut receiver = slot.receiver();
    take(&mut receiver).await;
    assert_eq!(slot.lag().await, Some(3));
    receiver.settle(Settlement::Done);
    receiver.flush();
    until_behind(&slot, 2).await;
    take(&mut receiver).await;
    receiver.settle(Settlement::Again(Duration::from_millis(100)));
    receiver.flush();
    assert_eq!(slot.lag().await, Some(2));
    take_all(&mut receiver, 2).await;
    until_behind(&slot, 0).await;
}
