//! Delivering again.

use std::time::Duration;

use echo_bus::Settlement;
use tokio::time::Instant;

use super::{Bed, message, take, take_all};

const DELAY: Duration = Duration::from_millis(300);

/// `Again(d)` delivers again no earlier than `d`, and each delivery counts the attempt up.
pub async fn again_is_no_earlier_than_its_delay_and_counts_the_attempts(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let mut receiver = slot.receiver();
    bed.publish("t", message(1)).await;
    for attempt in 1..=6 {
        let asked = Instant::now();
        assert_eq!(take(&mut receiver).await, Some((1, attempt)));
        assert!(attempt == 1 || asked.elapsed() >= DELAY, "{:?} early", asked.elapsed());
        receiver.settle(Settlement::Again(DELAY));
        receiver.flush();
        assert_eq!(slot.stats().delayed, 1);
    }
    take(&mut receiver).await;
    assert_eq!(slot.stats().delayed, 0);
    receiver.settle(Settlement::Done);
    slot.idle().await;
    assert!(bed.never(take(&mut receiver)).await, "settled as done, it is over");
}

/// Without a key nobody waits behind a message that waits for its retry.
pub async fn without_a_key_nobody_waits_behind_a_retry(bed: Bed) {
    let slot = bed.slot("one", &["t"], 10).await;
    let mut receiver = slot.receiver();
    for number in 1..=3 {
        bed.publish("t", message(number)).await;
    }
    assert_eq!(take(&mut receiver).await, Some((1, 1)));
    receiver.settle(Settlement::Again(DELAY));
    let asked = Instant::now();
    assert_eq!(take_all(&mut receiver, 2).await, [2, 3]);
    assert!(asked.elapsed() < DELAY);
    assert_eq!(take(&mut receiver).await, Some((1, 2)));
}

/// The attempts belong to the delivery: a message that is published again starts over, in each slot for itself.
pub async fn what_is_published_again_starts_over(bed: Bed) {
    let one = bed.slot("one", &["t"], 10).await;
    let other = bed.slot("other", &["t", "u"], 10).await;
    let mut receiver = one.receiver();
    bed.publish("t", message(1)).await;
    take(&mut receiver).await;
    receiver.settle(Settlement::Again(Duration::ZERO));
    assert_eq!(take(&mut receiver).await, Some((1, 2)));
    let again = receiver.current().unwrap().message.clone();
    assert_eq!(take_all(&mut other.receiver(), 1).await, [1]);
    bed.publish("u", again).await;
    assert_eq!(take(&mut other.receiver()).await, Some((1, 1)));
}
