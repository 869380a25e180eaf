//! Who a client is, and what it may do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use echo_core::config::{Permissions, TopicRules};
use echo_sdk::{Pattern, Topic};

use super::covers::covers;

/// The first token of the topics at which NATS clients, and hosts, wait for answers.
const INBOX: &str = "_INBOX.";

/// Who a client is, and what it may do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    permissions: Permissions,
    expires: Option<SystemTime>,
}

impl Access {
    pub(super) fn new(name: &str, permissions: Permissions, expires: Option<SystemTime>) -> Self {
        Self(Arc::new(Inner { name: name.to_owned(), permissions, expires }))
    }

    /// Who has shown nothing, where that is enough, and may do nothing.
    pub(crate) fn nobody() -> Self {
        let nothing = || TopicRules { allow: Some(Vec::new()), deny: Vec::new() };
        let permissions =
            Permissions { publish: nothing(), subscribe: nothing(), allow_responses: false };
        Self::new("nobody", permissions, None)
    }

    /// Who it is: a user's or a token's name, `owner` for the holder of the host's token, `anyone` where the
    /// host lets everybody in.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it may publish to a topic. What it may answer besides, [`Responses`](super::Responses) knows.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        allows(&self.0.permissions.publish, topic)
    }

    /// Whether it may have a subscription: all that the pattern selects is allowed, and not all of it denied.
    ///
    /// Some of it may be denied, which is then kept back message by message: see
    /// [`may_receive`](Self::may_receive).
    pub fn may_subscribe(&self, pattern: &Pattern) -> bool {
        let TopicRules { allow, deny } = &self.0.permissions.subscribe;
        allow.as_ref().is_none_or(|allow| covers(allow, pattern)) && !covers(deny, pattern)
    }

    /// Whether a message of this topic may reach it.
    pub fn may_receive(&self, topic: &Topic) -> bool {
        allows(&self.0.permissions.subscribe, topic)
    }

    /// Whether it may have answers sent to a topic: else whoever answers it would publish there in its place.
    /// It may where it may publish itself, and at an inbox (`_INBOX.>`) that it may read.
    pub fn may_be_answered_at(&self, reply: &Topic) -> bool {
        self.may_publish(reply) || (reply.as_str().starts_with(INBOX) && self.may_receive(reply))
    }

    /// Whether it may answer requests that reach it, whatever it may publish besides.
    pub fn may_respond(&self) -> bool {
        self.0.permissions.allow_responses
    }

    /// Resolves when the access ends, and never for one that has no end. A connection ends with it.
    pub async fn expired(&self) {
        // In steps, so that a clock that is set shows, and a far end overflows no timer.
        const LONGEST_STEP: Duration = Duration::from_secs(60);
        let Some(end) = self.0.expires else { return std::future::pending().await };
        while let Ok(left) = end.duration_since(SystemTime::now()) {
            tokio::time::sleep(left.min(LONGEST_STEP)).await;
        }
    }
}

fn allows(TopicRules { allow, deny }: &TopicRules, topic: &Topic) -> bool {
    let among = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(topic));
    !among(deny) && allow.as_deref().is_none_or(among)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn access(permissions: Value) -> Access {
        Access::new("me", serde_json::from_value(permissions).unwrap(), None)
    }

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    #[test]
    fn what_is_not_restricted_is_allowed_and_an_empty_list_allows_nothing() {
        let all = access(json!({}));
        assert!(all.may_publish(&topic("test.run.start")) && all.may_receive(&topic("a")));
        assert!(all.may_subscribe(&Pattern::new(">").unwrap()));
        let none = access(json!({"publish": {"allow": []}, "subscribe": {"allow": []}}));
        assert!(!none.may_publish(&topic("a")) && !none.may_receive(&topic("a")));
        assert!(!none.may_subscribe(&Pattern::new("a").unwrap()));
    }

    #[test]
    fn what_is_denied_is_denied_whatever_is_allowed() {
        let some = access(json!({"publish": {"allow": ["a.>"], "deny": ["a.secret.>"]}}));
        assert!(some.may_publish(&topic("a.b")));
        assert!(!some.may_publish(&topic("a.secret.b")) && !some.may_publish(&topic("b")));
    }

    #[test]
    fn a_subscription_that_is_denied_in_part_is_filtered() {
        let some = access(json!({"subscribe": {"allow": ["a.>"], "deny": ["a.secret.>"]}}));
        let may = |text: &str| some.may_subscribe(&Pattern::new(text).unwrap());
        assert!(may("a.>") && may("a.*.b") && may("a.secret"));
        assert!(!may(">") && !may("*.b") && !may("a.secret.>") && !may("a.secret.*"));
        assert!(some.may_receive(&topic("a.b")) && !some.may_receive(&topic("a.secret.b")));
    }

    #[test]
    fn answers_go_only_where_the_asker_may_publish_or_read_its_inbox() {
        let some = access(json!({"publish": {"allow": ["a.>"]}}));
        assert!(some.may_be_answered_at(&topic("a.answers")));
        assert!(some.may_be_answered_at(&topic("_INBOX.x")));
        assert!(!some.may_be_answered_at(&topic("test.run.start")));
        let blind = access(json!({"publish": {"allow": ["a.>"]}, "subscribe": {"allow": []}}));
        assert!(!blind.may_be_answered_at(&topic("_INBOX.x")));
    }

    #[tokio::test]
    async fn an_access_with_an_end_expires() {
        let soon = SystemTime::now() + Duration::from_millis(20);
        Access::new("me", Permissions::default(), Some(soon)).expired().await;
        assert!(SystemTime::now() >= soon);
    }
}
