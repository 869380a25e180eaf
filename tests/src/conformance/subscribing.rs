//! A slot that is given other patterns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::{BusError, Settlement, Slot};
use echo_sdk::Pattern;
use tokio::time::timeout;

use super::{Bed, keyed, message, take, take_all, topic};

pub(super) async fn resubscribe(slot: &Arc<dyn Slot>, patterns: &[&str]) -> Result<(), BusError> {
    let patterns = patterns.iter().map(|text| Pattern::new(text).unwrap()).collect();
    timeout(Duration::from_secs(30), slot.resubscribe(patterns)).await.expect("in time")
}

/// Other patterns take effect, as often as they change, and what the slot holds it keeps; a slot that is closed takes none.
pub async fn other_patterns_take_effect_and_what_is_held_stays(bed: Bed) {
    let slot = bed.slot("one", &["a.*", "both"], 10).await;
    let mut receiver = slot.receiver();
    bed.publish("a.1", message(1)).await;
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    bed.publish("a.2", message(2)).await;
    // Whoever says that it is idle has heard all of that.
    while slot.stats().held < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    resubscribe(&slot, &["b.>", "both", "b.c"]).await.unwrap();
    for (to, number) in [("a.3", 3), ("b.c", 4), ("both", 5)] {
        bed.publish(to, message(number)).await;
    }
    receiver.settle(Settlement::Done);
    assert_eq!(take(&mut receiver).await, Some((2, 1)));
    receiver.settle(Settlement::Done);
    let mut next = take_all(&mut receiver, 2).await;
    next.sort_unstable();
    assert_eq!(next, [4, 5]);
    assert!(bed.never(take(&mut receiver)).await);
    resubscribe(&slot, &["a.*"]).await.unwrap();
    for (to, number) in [("b.c", 6), ("both", 7), ("a.4", 8)] {
        bed.publish(to, message(number)).await;
    }
    assert_eq!(take_all(&mut receiver, 1).await, [8]);
    assert!(bed.never(take(&mut receiver)).await);
    slot.idle().await;
    slot.close();
    assert!(matches!(resubscribe(&slot, &["a.*"]).await, Err(BusError::SlotClosed(_))));
}

/// While patterns change again and again, no message on a topic that all of them match is lost or doubled.
pub async fn nothing_is_lost_or_doubled_while_patterns_change(bed: Bed) {
    let patterns: [&[&str]; 4] = [&["t.>", "else"], &["t.*"], &["*.x", "t.y"], &["t.x"]];
    // Where hosts know nothing of each other, subjects that overlap say nothing of the order.
    let in_order = bed.bus.features().back_pressure;
    none_is_lost_or_doubled(bed, "t.x", &patterns, in_order).await;
}

pub(super) async fn none_is_lost_or_doubled(
    bed: Bed,
    to: &'static str,
    patterns: &[&[&str]],
    in_order: bool,
) {
    const KEYS: u64 = 8;
    const EACH: u64 = 100;
    let slot = bed.slot("one", patterns[0], 10_000).await;
    let publishing = tokio::spawn({
        let bus = Arc::clone(&bed.bus);
        async move {
            for number in 0..EACH {
                for key in 0..KEYS {
                    let message = keyed(&format!("k{key}"), number);
                    bus.publish(&topic(to), message).await.unwrap();
                }
                bus.publish(&topic(to), message(number)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut round = 0;
    while !publishing.is_finished() || round < patterns.len() {
        round += 1;
        resubscribe(&slot, patterns[round % patterns.len()]).await.unwrap();
        // Publishers have their turn.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    publishing.await.unwrap();
    let mut all: BTreeMap<Option<String>, Vec<u64>> = BTreeMap::new();
    let mut receiver = slot.receiver();
    for _ in 0..(KEYS + 1) * EACH {
        let (number, _) = take(&mut receiver).await.unwrap();
        let key = receiver.current().unwrap().message.key().map(str::to_owned);
        receiver.settle(Settlement::Done);
        all.entry(key).or_default().push(number);
    }
    assert!(bed.never(take(&mut receiver)).await, "one came twice");
    for (key, mut numbers) in all {
        if !in_order || key.is_none() {
            numbers.sort_unstable();
        }
        assert!(numbers.iter().copied().eq(0..EACH), "{key:?}: {numbers:?}");
    }
}
