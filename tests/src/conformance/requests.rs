//! Questions and answers.

use std::time::Duration;

use echo_bus::Settlement;
use echo_sdk::RequestError;

use super::{Bed, message, take, topic};

const LONG: Duration = Duration::from_secs(20);

/// `request` publishes with a fresh reply topic and gets the first answer.
pub async fn a_request_gets_the_first_answer(bed: Bed) {
    let slot = bed.slot("one", &["math.*"], 10).await;
    let asked = topic("math.double");
    let mut receiver = slot.receiver();
    for number in 1..20 {
        let answering = async {
            let (data, _) = take(&mut receiver).await.unwrap();
            let reply_to = receiver.current().unwrap().message.reply_to().unwrap();
            bed.publish(reply_to.as_str(), message(data * 2)).await;
            bed.publish(reply_to.as_str(), message(0)).await;
            receiver.settle(Settlement::Done);
        };
        let asking = bed.bus.request(&asked, message(number), LONG);
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer.unwrap().json::<u64>().unwrap(), number * 2);
    }
}

/// Where nobody subscribes, a request says so without waiting.
pub async fn a_request_that_nobody_hears_says_so_at_once(bed: Bed) {
    let _other = bed.slot("one", &["math.*"], 10).await;
    let began = tokio::time::Instant::now();
    let nobody = bed.bus.request(&topic("physics"), message(1), LONG).await.unwrap_err();
    assert!(matches!(&nobody, RequestError::NoResponders { topic } if topic == "physics"));
    assert!(began.elapsed() < LONG / 2);
}

/// Where no answer comes in time, a request says so.
pub async fn a_request_that_nobody_answers_times_out(bed: Bed) {
    let slot = bed.slot("silent", &["math.*"], 10).await;
    let wait = Duration::from_millis(200);
    let silent = bed.bus.request(&topic("math.double"), message(1), wait).await.unwrap_err();
    assert!(matches!(silent, RequestError::TimedOut { timeout, .. } if timeout == wait));
    assert_eq!(take(&mut slot.receiver()).await, Some((1, 1)), "the question was asked");
}
