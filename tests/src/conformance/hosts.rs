//! Several hosts on one bus.

use std::time::Duration;

use echo_bus::{Settlement, SubscribeOptions};
use echo_sdk::{Overflow, Pattern};

use super::bed::open;
use super::{Bed, keyed, message, numbers, take, take_all, topic};

/// The hosts of a slot share its messages: each message goes to one of them.
pub async fn two_hosts_share_a_slot(bed: Bed) {
    let other = bed.join().await;
    let here = bed.slot("one", &["t"], 1000).await;
    let there = open(&*other, "one", &["t"], 1000, Overflow::Block).await;
    for number in 0..200 {
        bed.publish("t", message(number)).await;
    }
    let mut both = (here.receiver(), there.receiver());
    let mut all = Vec::new();
    let mut by_there = 0;
    while all.len() < 200 {
        let (number, from_there) = tokio::select! {
            Some((number, _)) = take(&mut both.0) => (number, false),
            Some((number, _)) = take(&mut both.1) => (number, true),
        };
        let receiver = if from_there { &mut both.1 } else { &mut both.0 };
        receiver.settle(Settlement::Done);
        by_there += usize::from(from_there);
        all.push(number);
    }
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    assert!((1..200).contains(&by_there), "{by_there} of 200 went to the other host");
}

/// What any host publishes, every host's subscriptions hear.
pub async fn every_host_hears_what_any_publishes(bed: Bed) {
    let other = bed.join().await;
    let all = Pattern::new("t.>").unwrap();
    let mut here = bed.subscribe("t.>").await;
    let mut there = other.subscribe(&all, SubscribeOptions::default()).await.unwrap();
    bed.publish("t.a", message(1)).await;
    assert_eq!((numbers(&mut here, 1).await, numbers(&mut there, 1).await), (vec![1], vec![1]));
    other.publish(&topic("t.b"), message(2)).await.unwrap();
    assert_eq!((numbers(&mut here, 1).await, numbers(&mut there, 1).await), (vec![2], vec![2]));
}

/// A request finds its answer on another host.
pub async fn a_request_is_answered_from_another_host(bed: Bed) {
    let other = bed.join().await;
    let slot = open(&*other, "one", &["math.double"], 10, Overflow::Block).await;
    let mut receiver = slot.receiver();
    let answering = async {
        let (number, _) = take(&mut receiver).await.unwrap();
        let reply_to = receiver.current().unwrap().message.reply_to().unwrap();
        other.publish(&reply_to, message(number * 2)).await.unwrap();
        receiver.settle(Settlement::Done);
    };
    let asked = topic("math.double");
    let asking = bed.bus.request(&asked, message(21), Duration::from_secs(20));
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap().json::<u64>().unwrap(), 42);
}

/// A host that goes leaves its slot to the others: what is published from then on they handle.
pub async fn a_host_that_goes_leaves_its_slot_to_the_others(bed: Bed) {
    let other = bed.join().await;
    let here = bed.slot("one", &["t"], 100).await;
    let there = open(&*other, "one", &["t"], 100, Overflow::Block).await;
    there.close();
    other.close();
    other.closed().await;
    drop((there, other));
    for number in 0..50 {
        bed.publish("t", message(number)).await;
    }
    assert_eq!(take_all(&mut here.receiver(), 50).await, (0..50).collect::<Vec<_>>());
}

/// With an ordering key the order is kept however many hosts share the slot.
pub async fn a_key_keeps_its_order_across_hosts(bed: Bed) {
    const KEYS: usize = 8;
    let other = bed.join().await;
    let here = bed.slot("one", &["durable.>"], 1000).await;
    let there = open(&*other, "one", &["durable.>"], 1000, Overflow::Block).await;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    for number in 0..20 {
        for key in &keys {
            bed.publish("durable.a", keyed(key, number)).await;
        }
    }
    let mut both = (here.receiver(), there.receiver());
    let mut by_key = std::collections::HashMap::<String, Vec<u64>>::new();
    for _ in 0..20 * KEYS {
        let (number, from_there) = tokio::select! {
            Some((number, _)) = take(&mut both.0) => (number, false),
            Some((number, _)) = take(&mut both.1) => (number, true),
        };
        let receiver = if from_there { &mut both.1 } else { &mut both.0 };
        let key = receiver.current().unwrap().message.key().unwrap().to_owned();
        receiver.settle(Settlement::Done);
        by_key.entry(key).or_default().push(number);
    }
    assert_eq!(by_key.len(), KEYS);
    by_key.values().for_each(|numbers| assert_eq!(*numbers, (0..20).collect::<Vec<_>>()));
}
