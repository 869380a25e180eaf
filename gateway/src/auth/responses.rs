//! What a client may answer that it may not publish otherwise.

use std::collections::VecDeque;
use std::time::Duration;

use echo_sdk::Topic;
use tokio::time::Instant;

use super::Access;

/// How long a request may be answered.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many requests are remembered; past that the oldest can no longer be answered.
const REMEMBERED: usize = 1_024;

/// The requests that one connection got and has not answered, where its [`Access`] allows answers. Owned by
/// the connection.
#[derive(Debug, Default)]
pub struct Responses(VecDeque<(Topic, Instant)>);

impl Responses {
    /// Notes a request that is about to reach the client.
    pub fn note(&mut self, access: &Access, reply: &Topic) {
        if !access.may_respond() || access.may_publish(reply) {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((reply.clone(), Instant::now() + PATIENCE));
    }

    /// Whether the client may publish to a topic, as an answer or because it may anyway. An answer is spent
    /// by it.
    pub fn may_publish(&mut self, access: &Access, topic: &Topic) -> bool {
        access.may_publish(topic) || self.take(topic)
    }

    fn take(&mut self, topic: &Topic) -> bool {
        let now = Instant::now();
        let late = self.0.iter().take_while(|(_, until)| *until < now).count();
        self.0.drain(..late);
        let place = self.0.iter().position(|(reply, _)| reply == topic);
        place.and_then(|place| self.0.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn responder() -> Access {
        let permissions = json!({"publish": {"allow": []}, "allow_responses": true});
        Access::new("me", serde_json::from_value(permissions).unwrap(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_is_answered_once_and_in_time() {
        let (access, mut responses) = (responder(), Responses::default());
        let reply = Topic::new("_INBOX.1").unwrap();
        assert!(!responses.may_publish(&access, &reply));
        responses.note(&access, &reply);
        assert!(responses.may_publish(&access, &reply));
        assert!(!responses.may_publish(&access, &reply));
        responses.note(&access, &reply);
        tokio::time::advance(PATIENCE + Duration::from_secs(1)).await;
        assert!(!responses.may_publish(&access, &reply));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (access, mut responses) = (responder(), Responses::default());
        let reply = |n: usize| Topic::new(format!("_INBOX.{n}")).unwrap();
        (0..=REMEMBERED).for_each(|n| responses.note(&access, &reply(n)));
        assert_eq!(responses.0.len(), REMEMBERED);
        assert!(!responses.may_publish(&access, &reply(0)));
        assert!(responses.may_publish(&access, &reply(REMEMBERED)));
    }
}
