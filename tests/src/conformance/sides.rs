//! A slot whose messages are divided between two sides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use echo_bus::{BUCKETS, Settlement, Side, Slot};

use super::{Bed, keyed, message, now, take, take_all, topic};
use crate::until;

/// All that a side hands out now, each settled: by key and number.
async fn drained(slot: &Arc<dyn Slot>, side: Side) -> Vec<(Option<String>, u64)> {
    let mut receiver = slot.receiver_of(side);
    let mut all = Vec::new();
    while let Some(Some((number, _))) = now(take(&mut receiver)).await {
        let key = receiver.current().unwrap().message.key().map(str::to_owned);
        receiver.settle(Settlement::Done);
        all.push((key, number));
    }
    receiver.flush();
    all
}

/// Waits until a slot holds so many messages.
async fn until_held(slot: &Arc<dyn Slot>, count: usize) {
    until("all of it comes", async || slot.stats().held >= count).await;
}

/// A divided slot hands a key's messages out on one side, in their order, and those without a key on both; a larger share
/// takes nothing away from the second side.
pub async fn each_side_is_handed_its_own(bed: Bed) {
    const KEYS: u64 = 64;
    const PLAIN: u64 = 512;
    let slot = bed.slot("one", &["t"], 10_000).await;
    let mut before = BTreeSet::new();
    for share in [0, 3, BUCKETS / 4, BUCKETS / 2, BUCKETS, u16::MAX] {
        slot.divide(share);
        for number in 0..3 {
            for key in 0..KEYS {
                bed.publish("t", keyed(&format!("k{key}"), number)).await;
            }
        }
        let (one_by_one, together) = (0..PLAIN / 2, PLAIN / 2..PLAIN);
        for number in one_by_one {
            bed.publish("t", message(number)).await;
        }
        let batch = together.map(message).collect();
        bed.bus.publish_batch(&topic("t"), batch).await.unwrap();
        until_held(&slot, (3 * KEYS + PLAIN) as usize).await;
        let sides = [drained(&slot, Side::First).await, drained(&slot, Side::Second).await];
        let mut plain = Vec::new();
        let mut keys = [BTreeMap::new(), BTreeMap::new()];
        for (side, handed_out) in sides.iter().enumerate() {
            for (key, number) in handed_out {
                match key {
                    Some(key) => {
                        keys[side].entry(key.clone()).or_insert_with(Vec::new).push(*number)
                    }
                    None => plain.push((*number, side)),
                }
            }
        }
        assert!(keys[0].keys().all(|key| !keys[1].contains_key(key)), "a key is on one side");
        assert_eq!((keys[0].len() + keys[1].len()) as u64, KEYS);
        assert!(keys.iter().flat_map(BTreeMap::values).all(|numbers| numbers == &[0, 1, 2]));
        let now: BTreeSet<String> = keys[1].keys().cloned().collect();
        assert!(before.is_subset(&now), "a larger share takes no key away");
        before = now;
        plain.sort_unstable();
        assert!(plain.iter().map(|(number, _)| *number).eq(0..PLAIN));
        // What counts up is spread evenly, each time it begins anew.
        let second = plain.iter().filter(|(_, side)| *side == 1).count() as i64;
        let fair = (PLAIN * u64::from(share.min(BUCKETS)) / u64::from(BUCKETS)) as i64;
        assert!((second - fair).abs() <= PLAIN as i64 / 10, "{second} of {PLAIN} at {share}");
    }
    assert_eq!(before.len() as u64, KEYS);
    slot.idle().await;
}

/// What waits goes to the side that it belongs to now, though the other has no receivers, or some that never poll
/// again; and what they have in hand when they are dropped, or for a retry, comes back on that side.
pub async fn what_waits_goes_over_with_the_share(bed: Bed) {
    const COUNT: u64 = 40;
    let slot = bed.slot("one", &["t"], 1000).await;
    for (from, to, share) in [(Side::First, Side::Second, BUCKETS), (Side::Second, Side::First, 0)]
    {
        let mut stuck = slot.receiver_of(from);
        stuck.set_batch(16);
        for number in 0..COUNT {
            bed.publish("t", message(number)).await;
        }
        until_held(&slot, COUNT as usize).await;
        let (in_hand, _) = take(&mut stuck).await.unwrap();
        slot.divide(share);
        assert!(!slot.has_ready_of(from) && slot.has_ready_of(to));
        let mut receiver = slot.receiver_of(to);
        let mut rest = take_all(&mut receiver, COUNT as usize - 1).await;
        assert!(now(take(&mut receiver)).await.is_none());
        rest.sort_unstable();
        assert!(rest.into_iter().eq((0..COUNT).filter(|number| *number != in_hand)));
        drop(stuck);
        assert_eq!(take(&mut receiver).await, Some((in_hand, 2)));
        receiver.settle(Settlement::Done);
        drop(receiver);
        let mut late = slot.receiver_of(to);
        bed.publish("t", keyed("k", 1)).await;
        assert_eq!(take(&mut late).await, Some((1, 1)));
        // It waits for its retry while the share changes.
        late.settle(Settlement::Again(Duration::from_millis(50)));
        assert!(now(take(&mut late)).await.is_none());
        slot.divide(BUCKETS - share);
        assert_eq!(take(&mut slot.receiver_of(from)).await, Some((1, 2)));
        slot.divide(share);
        assert_eq!(take(&mut late).await, Some((1, 3)));
        late.settle(Settlement::Done);
        late.flush();
        slot.idle().await;
    }
}

/// A key goes on on its new side once no message of it is in hand on the old one.
pub async fn a_key_goes_over_between_two_messages(bed: Bed) {
    let slot = bed.slot("one", &["t"], 1000).await;
    for number in 1..=4 {
        bed.publish("t", keyed("k", number)).await;
    }
    let (mut old, mut new) = (slot.receiver(), slot.receiver_of(Side::Second));
    assert_eq!(take(&mut old).await, Some((1, 1)));
    slot.divide(BUCKETS);
    assert!(bed.never(take(&mut new)).await, "it is in hand on the other side");
    old.settle(Settlement::Done);
    assert!(now(take(&mut old)).await.is_none());
    assert_eq!(take(&mut new).await, Some((2, 1)));
    slot.divide(0);
    assert!(now(take(&mut old)).await.is_none());
    drop(new);
    assert_eq!(take(&mut old).await, Some((2, 2)));
    old.settle(Settlement::Done);
    assert_eq!(take_all(&mut old, 2).await, [3, 4]);
    slot.idle().await;
}

/// A divided slot that is closed shows what is left on both sides, and receivers of both end; one that is paused hands out
/// on neither.
pub async fn both_sides_pause_and_close(bed: Bed) {
    let slot = bed.slot("one", &["t"], 1000).await;
    slot.divide(BUCKETS / 2);
    slot.pause();
    for number in 0..100 {
        bed.publish("t", message(number)).await;
    }
    until_held(&slot, 100).await;
    let (mut first, mut second) = (slot.receiver(), slot.receiver_of(Side::Second));
    assert!(now(take(&mut first)).await.is_none() && now(take(&mut second)).await.is_none());
    slot.resume();
    let mut seen = take_all(&mut first, 5).await;
    seen.extend(take_all(&mut second, 5).await);
    assert_eq!(slot.stats().held, 90);
    slot.close();
    let left = slot.take_remaining();
    assert_eq!(left.len(), 90);
    seen.extend(left.iter().map(|left| left.message.json::<u64>().unwrap()));
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..100));
    assert_eq!((take(&mut first).await, take(&mut second).await), (None, None));
}
