//! What a handler publishes, with its acknowledgement or not at all.

use echo_sdk::{BaseMessage, PublishError};

use super::bed::to;
use super::{Bed, message, take, take_all};

/// `commit` publishes the effects and settles the message in hand.
pub async fn a_commit_publishes_and_settles(bed: Bed) {
    let asking = bed.slot("asking", &["in"], 10).await;
    let told = bed.slot("told", &["out.*"], 10).await;
    let mut receiver = asking.receiver();
    bed.publish("in", message(1)).await;
    take(&mut receiver).await;
    let effects = vec![to("out.a", message(2)), to("out.b", message(3))];
    receiver.commit(effects).await.unwrap();
    assert!(receiver.current().is_none(), "it is settled");
    receiver.flush();
    assert_eq!(take_all(&mut told.receiver(), 2).await, [2, 3]);
    asking.idle().await;
    assert!(bed.never(take(&mut receiver)).await);
}

/// On an error of `commit` the message is in hand as before, and nothing was published.
pub async fn a_commit_that_fails_publishes_nothing_and_leaves_the_message_in_hand(bed: Bed) {
    let bed = bed.with_payload(100_000).await;
    let asking = bed.slot("asking", &["in"], 10).await;
    let told = bed.slot("told", &["out"], 10).await;
    let mut receiver = asking.receiver();
    bed.publish("in", message(1)).await;
    take(&mut receiver).await;
    let large = BaseMessage::builder("test").data(&"x".repeat(200_000)).build().unwrap();
    let effects = vec![to("out", message(2)), to("out", large)];
    let refused = receiver.commit(effects).await.unwrap_err();
    assert!(matches!(refused, PublishError::TooLarge { .. }), "{refused}");
    assert_eq!(receiver.current().unwrap().message.json::<u64>().unwrap(), 1);
    assert!(bed.never(take(&mut told.receiver())).await);
    receiver.commit(vec![to("out", message(3))]).await.unwrap();
    assert_eq!(take_all(&mut told.receiver(), 1).await, [3]);
}

/// `bury` publishes the dead letter past all bounds and settles the message in hand.
pub async fn bury_goes_past_all_bounds_and_settles(bed: Bed) {
    let asking = bed.slot("asking", &["in"], 10).await;
    let letters = bed.slot("letters", &["dead.>"], 1).await;
    let mut receiver = asking.receiver();
    for number in 1..=3 {
        bed.publish("in", message(number)).await;
        take(&mut receiver).await;
        receiver.bury(to("dead.asking.in", message(number))).await.unwrap();
        assert!(receiver.current().is_none(), "it is settled");
    }
    receiver.flush();
    asking.idle().await;
    assert_eq!(take_all(&mut letters.receiver(), 3).await, [1, 2, 3]);
}
