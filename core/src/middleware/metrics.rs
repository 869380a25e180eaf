//! Counts by topic, beside what the host counts by slot.

use std::sync::Arc;

use dashmap::DashMap;
use echo_sdk::Topic;
use metrics::{counter, histogram};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{After, Attempt, Ending, Memo, Middleware, Outgoing, Publishing};
use crate::telemetry::Outcome;
use crate::telemetry::topic_metrics::{HANDLED, HANDLING, PUBLISHED};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsOptions {
    /// How many tokens of a topic are told apart; what follows is counted together, as `>`.
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// How many topics are told apart; those that come later are counted together, as `other`.
    #[schemars(range(min = 1))]
    pub max_topics: usize,
}

impl Default for MetricsOptions {
    /// Four tokens, 256 topics.
    fn default() -> Self {
        Self { tokens: 4, max_topics: 256 }
    }
}

/// Counts messages by topic: handled ones with their outcome and their time, published ones. The number of series
/// is bounded, whatever topics there are.
#[derive(Debug)]
pub struct Metrics {
    options: MetricsOptions,
    /// Each topic's label, as it was seen first.
    labels: DashMap<Topic, Arc<str>>,
    known: DashMap<Arc<str>, ()>,
}

/// What a cache of labels holds at most, for each label that there may be.
const TOPICS_A_LABEL: usize = 16;

impl Metrics {
    /// Counts by these options.
    pub fn new(options: MetricsOptions) -> Self {
        Self { options, labels: DashMap::new(), known: DashMap::new() }
    }

    fn label(&self, topic: &Topic) -> Arc<str> {
        if let Some(label) = self.labels.get(topic) {
            return Arc::clone(&label);
        }
        let label = self.fresh_label(topic);
        if self.labels.len() < self.options.max_topics.saturating_mul(TOPICS_A_LABEL) {
            self.labels.insert(topic.clone(), Arc::clone(&label));
        }
        label
    }

    fn fresh_label(&self, topic: &Topic) -> Arc<str> {
        let text = topic.as_str();
        let end = text.match_indices('.').nth(self.options.tokens.max(1) - 1);
        let label: Arc<str> = match end.and_then(|(at, _)| text.get(..at)) {
            Some(start) => format!("{start}.>").into(),
            None => text.into(),
        };
        if self.known.contains_key(&label) {
            return label;
        }
        if self.known.len() >= self.options.max_topics {
            return "other".into();
        }
        self.known.insert(Arc::clone(&label), ());
        label
    }

    fn count(&self, attempt: &Attempt<'_>, memo: &Memo, outcome: &'static str) {
        let (slot, topic) = (attempt.slot.to_owned(), self.label(attempt.topic));
        let seconds = memo.since.elapsed().as_secs_f64();
        histogram!(HANDLING, "slot" => slot.clone(), "topic" => Arc::clone(&topic)).record(seconds);
        counter!(HANDLED, "slot" => slot, "topic" => topic, "outcome" => outcome).increment(1);
    }
}

impl Middleware for Metrics {
    fn name(&self) -> &str {
        "metrics"
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        let (sender, topic) = (outgoing.sender.to_owned(), self.label(&outgoing.topic));
        counter!(PUBLISHED, "sender" => sender, "topic" => topic).increment(1);
        Publishing::Go
    }

    fn after(&self, attempt: &Attempt<'_>, memo: &mut Memo, ending: Ending) -> After {
        self.count(attempt, memo, Outcome::from(&ending).as_str());
        After::Done(ending)
    }

    fn cut_off(&self, attempt: &Attempt<'_>, memo: &mut Memo) {
        self.count(attempt, memo, "abandoned");
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::ProcessingStatus;
    use serde_json::json;

    use super::super::testing::{attempt, message, outgoing};
    use super::*;

    fn label(metrics: &Metrics, topic: &str) -> String {
        metrics.label(&Topic::new(topic).unwrap()).to_string()
    }

    #[test]
    fn long_topics_and_too_many_are_counted_together() {
        let metrics = Metrics::new(MetricsOptions { tokens: 2, max_topics: 3 });
        for (topic, expected) in [
            ("a", "a"),
            ("a.b", "a.b"),
            ("a.b.c", "a.b.>"),
            ("a.b.c.d", "a.b.>"),
            ("c.d", "other"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(label(&metrics, topic), expected, "{topic}");
        }
        for n in 0..1000 {
            assert_eq!(label(&metrics, &format!("n.{n}")), "other");
        }
        assert!(metrics.labels.len() <= 3 * TOPICS_A_LABEL);
        assert_eq!(metrics.known.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_and_publications_are_counted() {
        let recorder = crate::telemetry::recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let metrics = Metrics::new(MetricsOptions::default());
            let acknowledged = || Ending::Answered(ProcessingStatus::Acknowledged);
            metrics.after(&attempt(), &mut Memo::new(), acknowledged());
            metrics.after(&attempt(), &mut Memo::new(), acknowledged());
            metrics.cut_off(&attempt(), &mut Memo::new());
            metrics.publishing(&mut outgoing(message(&json!(1)), None));
        });
        let text = handle.render();
        for line in [
            r#"echo_topic_handled_total{slot="slot",topic="orders.placed",outcome="acknowledged"} 2"#,
            r#"echo_topic_handled_total{slot="slot",topic="orders.placed",outcome="abandoned"} 1"#,
            r#"echo_topic_published_total{sender="slot",topic="orders.placed"} 1"#,
            r#"echo_topic_handling_seconds_count{slot="slot",topic="orders.placed"} 3"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }
}
