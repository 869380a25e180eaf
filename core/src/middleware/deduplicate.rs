//! Lets a message pass once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use echo_sdk::{BaseMessage, ProcessingStatus, duration};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{After, Attempt, Before, Ending, Memo, Middleware, Outgoing, Publishing};

/// What makes two messages the same, and how long that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeduplicateOptions {
    /// `id`, or a JSON pointer into the data, such as `/order/id`; a message that has nothing there passes.
    #[schemars(regex(pattern = "^(id|(/[^/]*)+)$"))]
    pub by: String,
    /// How many are remembered; past that the oldest is forgotten.
    #[schemars(range(min = 1))]
    pub max_entries: usize,
    /// How long one is remembered.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub window: Duration,
}

impl Default for DeduplicateOptions {
    /// By id, the last 100,000 of ten minutes.
    fn default() -> Self {
        let window = Duration::from_secs(600);
        Self { by: "id".to_owned(), max_entries: 100_000, window }
    }
}

/// Lets a message pass once. On delivery one that was acknowledged or forwarded before is acknowledged, and one
/// that is just being handled is waited for; any other ending is forgotten, so that a retry is no duplicate. On
/// publish a second one is dropped.
///
/// It is remembered in this process alone; a durable topic drops a second message of the same id by itself.
#[derive(Debug)]
pub struct Deduplicate {
    options: DeduplicateOptions,
    seen: Mutex<Seen>,
    settled: Arc<Notify>,
}

/// Stands for what makes messages the same: the id, or a hash that nobody finds another text for.
type Key = u128;

#[derive(Debug, Default)]
struct Seen {
    /// When each was done; `None` while it is being handled.
    keys: HashMap<Key, Option<Instant>>,
    /// Those that are done, oldest first.
    order: VecDeque<(Instant, Key)>,
}

impl Seen {
    fn forget_old(&mut self, now: Instant, options: &DeduplicateOptions) {
        while let Some((done, key)) = self.order.front().copied()
            && (self.order.len() > options.max_entries || now - done >= options.window)
        {
            self.order.pop_front();
            self.keys.remove(&key);
        }
    }

    fn done(&mut self, key: Key, options: &DeduplicateOptions) {
        let now = Instant::now();
        self.keys.insert(key, Some(now));
        self.order.push_back((now, key));
        self.forget_old(now, options);
    }
}

impl Deduplicate {
    /// Remembers by these options.
    pub fn new(options: DeduplicateOptions) -> Self {
        Self { options, seen: Mutex::default(), settled: Arc::default() }
    }

    fn key(&self, message: &BaseMessage) -> Option<Key> {
        if self.options.by == "id" {
            return Some(message.id().as_u128());
        }
        let text = message.data().ok()?.pointer(&self.options.by)?.to_string();
        let hash = Sha256::digest(text.as_bytes());
        hash.first_chunk().map(|start| Key::from_be_bytes(*start))
    }

    fn settle(&self, memo: &mut Memo, is_done: bool) {
        let Some(key) = memo.take::<Key>() else { return };
        let mut seen = self.seen.lock();
        if is_done {
            seen.done(key, &self.options);
        } else {
            seen.keys.remove(&key);
        }
        drop(seen);
        self.settled.notify_waiters();
    }
}

impl Middleware for Deduplicate {
    fn name(&self) -> &str {
        "deduplicate"
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        let Some(key) = self.key(&outgoing.message) else { return Publishing::Go };
        let mut seen = self.seen.lock();
        seen.forget_old(Instant::now(), &self.options);
        if seen.keys.contains_key(&key) {
            return Publishing::Drop;
        }
        seen.done(key, &self.options);
        Publishing::Go
    }

    fn before(&self, attempt: &mut Attempt<'_>, memo: &mut Memo) -> Before {
        let Some(key) = self.key(attempt.message()) else { return Before::Go };
        let mut seen = self.seen.lock();
        seen.forget_old(Instant::now(), &self.options);
        match seen.keys.get(&key) {
            Some(Some(_done)) => Before::Answer(Ending::Answered(ProcessingStatus::Acknowledged)),
            // Made under the lock, so whoever settles it after this wakes it.
            Some(None) => Before::AskAgain(Box::pin(Arc::clone(&self.settled).notified_owned())),
            None => {
                seen.keys.insert(key, None);
                memo.kept = Some(Box::new(key));
                Before::Go
            }
        }
    }

    fn after(&self, _attempt: &Attempt<'_>, memo: &mut Memo, ending: Ending) -> After {
        self.settle(memo, ending.is_done());
        After::Done(ending)
    }

    fn cut_off(&self, _attempt: &Attempt<'_>, memo: &mut Memo) {
        self.settle(memo, false);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{attempt_at, message, outgoing};
    use super::*;

    fn by(by: &str, max_entries: usize) -> Deduplicate {
        let window = Duration::from_secs(60);
        Deduplicate::new(DeduplicateOptions { by: by.to_owned(), max_entries, window })
    }

    fn go(deduplicate: &Deduplicate, data: &Value) -> Option<Memo> {
        let mut memo = Memo::new();
        let before = deduplicate.before(&mut attempt_at(message(data), 5), &mut memo);
        matches!(before, Before::Go).then_some(memo)
    }

    fn handled(deduplicate: &Deduplicate, data: &Value, status: ProcessingStatus) -> bool {
        let Some(mut memo) = go(deduplicate, data) else { return false };
        let attempt = attempt_at(message(data), 5);
        deduplicate.after(&attempt, &mut memo, Ending::Answered(status));
        true
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_handled_passes_once_and_what_was_not_again() {
        let deduplicate = by("/order", 10);
        let order = json!({"order": {"id": 1}, "n": 1});
        let later = json!({"order": {"id": 1}, "n": 2});
        let failed = ProcessingStatus::Failed("no".into());
        assert!(handled(&deduplicate, &order, failed));
        assert!(handled(&deduplicate, &later, ProcessingStatus::RetryLater(Duration::ZERO)));
        assert!(handled(&deduplicate, &later, ProcessingStatus::Acknowledged));
        assert!(!handled(&deduplicate, &order, ProcessingStatus::Acknowledged));
        for other in [json!({"order": {"id": 2}}), json!({"n": 1}), json!({"n": 1})] {
            assert!(handled(&deduplicate, &other, ProcessingStatus::Acknowledged), "{other}");
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(handled(&deduplicate, &order, ProcessingStatus::Acknowledged), "it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_forgotten_when_there_are_too_many() {
        let deduplicate = by("/n", 3);
        for n in 0..1000 {
            assert!(handled(&deduplicate, &json!({ "n": n }), ProcessingStatus::Acknowledged));
        }
        let seen = deduplicate.seen.lock();
        assert_eq!((seen.keys.len(), seen.order.len()), (3, 3));
        drop(seen);
        assert!(go(&deduplicate, &json!({"n": 999})).is_none());
        assert!(go(&deduplicate, &json!({"n": 996})).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_being_handled_is_waited_for() {
        let deduplicate = by("id", 10);
        let message = message(&json!(1));
        let attempt = || attempt_at(message.clone(), 5);
        for cut_off in [true, false] {
            let mut memo = Memo::new();
            assert!(matches!(deduplicate.before(&mut attempt(), &mut memo), Before::Go));
            let second = deduplicate.before(&mut attempt(), &mut Memo::new());
            let Before::AskAgain(settled) = second else { panic!("{second:?}") };
            if cut_off {
                deduplicate.cut_off(&attempt(), &mut memo);
            } else {
                let done = Ending::Answered(ProcessingStatus::Acknowledged);
                deduplicate.after(&attempt(), &mut memo, done);
            }
            tokio::time::timeout(Duration::from_secs(1), settled).await.expect("it was settled");
        }
        let third = deduplicate.before(&mut attempt(), &mut Memo::new());
        assert!(matches!(third, Before::Answer(Ending::Answered(ProcessingStatus::Acknowledged))));
    }

    #[tokio::test(start_paused = true)]
    async fn on_publish_a_second_one_is_dropped() {
        let deduplicate = by("/n", 10);
        let passes = |n| {
            let mut outgoing = outgoing(message(&json!({ "n": n })), None);
            matches!(deduplicate.publishing(&mut outgoing), Publishing::Go)
        };
        assert_eq!([1, 1, 2, 1].map(passes), [true, false, true, false]);
    }
}
