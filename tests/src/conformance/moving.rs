//! A slot whose messages change sides under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use echo_bus::{BUCKETS, Receiver, Settlement, Side, Slot};
use tokio::time::timeout;

use super::{Bed, keyed, message, take, topic};

/// While the share changes at random, each message is handled once, the messages of a key in their order and in one hand
/// at a time, and nothing is left over: through retries, receivers that come and go on both sides, and batches.
pub async fn each_message_is_handled_once_while_the_share_changes(bed: Bed) {
    const KEYS: u64 = 40;
    const EACH: u64 = 60;
    const PLAIN: u64 = 3000;
    let slot = bed.slot("one", &["t"], 500).await;
    let seen = Arc::new(Seen::default());
    // Those that come and go, and those that stay to the end.
    let workers: Vec<_> = (0..6)
        .map(|worker: u64| {
            let side = if worker.is_multiple_of(2) { Side::First } else { Side::Second };
            let (slot, seen) = (Arc::clone(&slot), Arc::clone(&seen));
            tokio::spawn(async move { work(&slot, side, worker, &seen).await })
        })
        .collect();
    let dividing = tokio::spawn({
        let slot = Arc::clone(&slot);
        async move {
            // As random as a test may be that fails the same way twice.
            let mut number = 7_u64;
            loop {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let share = match number >> 60 {
                    0..4 => 0,
                    4..8 => BUCKETS,
                    _ => ((number >> 40) % u64::from(BUCKETS)) as u16,
                };
                slot.divide(share);
                tokio::time::sleep(Duration::from_micros(number >> 54)).await;
            }
        }
    });
    let publishing = [0, 1].map(|publisher| {
        let bus = Arc::clone(&bed.bus);
        tokio::spawn(async move {
            for number in 0..EACH {
                for key in 0..KEYS / 2 {
                    let key = format!("k{publisher}.{key}");
                    bus.publish(&topic("t"), keyed(&key, number)).await.unwrap();
                }
                let plain = (number * PLAIN / EACH)..((number + 1) * PLAIN / EACH);
                let plain = plain.map(|plain| message(publisher * PLAIN + plain)).collect();
                bus.publish_batch(&topic("t"), plain).await.unwrap();
            }
        })
    });
    for publisher in publishing {
        publisher.await.unwrap();
    }
    dividing.abort();
    let _ = dividing.await;
    // One side is left alone with all of it.
    slot.divide(BUCKETS);
    seen.first_ends.store(true, Ordering::SeqCst);
    timeout(Duration::from_secs(60), slot.idle()).await.expect("nothing is left over");
    slot.close();
    for worker in workers {
        worker.await.unwrap();
    }
    let plain = seen.plain.lock().unwrap();
    assert_eq!(plain.len() as u64, 2 * PLAIN, "each is handled");
    assert!(plain.iter().all(|(_, times)| *times == 1), "and once");
    let keyed = seen.keyed.lock().unwrap();
    assert_eq!(keyed.len() as u64, KEYS);
    for (key, numbers) in &*keyed {
        assert!(numbers.iter().copied().eq(0..EACH), "{key}: {numbers:?}");
    }
}

#[derive(Default)]
struct Seen {
    keyed: Mutex<BTreeMap<String, Vec<u64>>>,
    plain: Mutex<BTreeMap<u64, u64>>,
    in_hand: Mutex<BTreeSet<String>>,
    first_ends: AtomicBool,
}

async fn work(slot: &Arc<dyn Slot>, side: Side, worker: u64, seen: &Seen) {
    let new = || {
        let mut receiver: Box<dyn Receiver> = slot.receiver_of(side);
        receiver.set_batch(1 + worker as usize * 3);
        receiver
    };
    let (mut receiver, mut handled) = (new(), worker);
    loop {
        if side == Side::First && seen.first_ends.load(Ordering::SeqCst) {
            return;
        }
        // A receiver of a side that has nothing comes back to see whether it is to end.
        let Ok(next) = timeout(Duration::from_millis(20), take(&mut receiver)).await else {
            continue;
        };
        let Some((number, attempt)) = next else { return };
        let key = receiver.current().unwrap().message.key().map(str::to_owned);
        let is_alone = key.as_ref().map(|key| seen.in_hand.lock().unwrap().insert(key.clone()));
        assert_ne!(is_alone, Some(false), "{key:?} is in two hands");
        tokio::task::yield_now().await;
        if let Some(key) = &key {
            seen.in_hand.lock().unwrap().remove(key);
        }
        handled += 1;
        if attempt < 3 && handled.is_multiple_of(7) {
            receiver.settle(Settlement::Again(Duration::from_millis(handled % 3)));
        } else if handled.is_multiple_of(23) {
            receiver = new();
        } else {
            match key {
                Some(key) => seen.keyed.lock().unwrap().entry(key).or_default().push(number),
                None => *seen.plain.lock().unwrap().entry(number).or_default() += 1,
            }
            receiver.settle(Settlement::Done);
        }
    }
}
