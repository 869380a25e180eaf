//! `[bus.durable]`: which topics last, and the log that a bus within the process keeps them in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use echo_bus::{DurableOptions, LogOptions, SyncPolicy};
use echo_sdk::{Pattern, Topic, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::size;

/// What a record takes beside its message.
const RECORD: usize = 8 << 10;

/// Which topics outlive the host: once a publish to one has returned, a crash loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DurableConfig {
    /// Patterns of topics.
    #[schemars(with = "Vec<String>")]
    pub topics: Vec<Pattern>,
    /// Where a local bus keeps them, seen from the working folder; a NATS server keeps them itself, and the keys
    /// below are not for it.
    pub dir: PathBuf,
    /// When a publish is confirmed: after its data is synced, or before.
    #[schemars(with = "String")]
    pub sync: DurableSync,
    /// The size of the log's files. A message, or all that a handler publishes, takes at most a quarter.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub segment_size: usize,
    /// The most that all files take; past that publishers get an error until messages are handled.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_size: usize,
    /// How many messages wait at most, each of which takes about 100 bytes of memory.
    #[schemars(range(min = 1))]
    pub max_messages: usize,
    /// How many messages' ids are remembered, so that one that is published twice is dropped; at most one for each
    /// 64 bytes of `segment_size`.
    pub remember_ids: usize,
    /// How long an id is remembered.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub remember_for: Duration,
    /// Plugins that are gone for good: what waits for their slots is let go of when the host starts. Without that
    /// a slot that is not open keeps its messages, and gets those that are published to its subscriptions.
    pub forget: Vec<String>,
}

impl Default for DurableConfig {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            dir: PathBuf::from("data/bus"),
            sync: DurableSync::EachBatch,
            segment_size: 64 << 20,
            max_size: 8 << 30,
            max_messages: 4 << 20,
            remember_ids: 1 << 17,
            remember_for: Duration::from_secs(120),
            forget: Vec::new(),
        }
    }
}

impl DurableConfig {
    /// Whether a topic is durable.
    pub fn holds(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|durable| durable.matches(topic))
    }

    /// What a log is opened with.
    pub(crate) fn options(&self) -> DurableOptions {
        let log = LogOptions {
            sync: self.sync.into(),
            segment_size: u32::try_from(self.segment_size).unwrap_or(u32::MAX),
            max_bytes: self.max_size as u64,
            max_messages: self.max_messages,
            remembered_ids: self.remember_ids,
            remembered_for: self.remember_for,
        };
        DurableOptions { topics: self.topics.clone(), dir: self.dir.clone(), log }
    }

    /// What is wrong beyond the form of single values, on a bus whose messages have at most so many bytes.
    pub(super) fn fault(&self, max_payload: usize) -> Option<(&'static str, &'static str)> {
        let within = (64 << 10)..=(1 << 30);
        if !within.contains(&self.segment_size) {
            let fault = "`bus.durable.segment_size` is not between 64kb and 1gb";
            return Some(("/bus/durable/segment_size", fault));
        }
        if self.max_size / 6 < self.segment_size {
            let fault = "`bus.durable.max_size` is less than six times `segment_size`; a log needs that many files";
            return Some(("/bus/durable/max_size", fault));
        }
        let is_small = !self.topics.is_empty() && self.segment_size / 4 < max_payload + RECORD;
        let fault = "a message of `bus.max_payload` is larger than a quarter of `bus.durable.segment_size`, which is what one may take; raise one or lower the other";
        is_small.then_some(("/bus/durable/segment_size", fault))
    }

    /// Whether every topic that the pattern matches is durable.
    ///
    /// Two patterns that cover it only together count as none.
    pub fn covers(&self, pattern: &Pattern) -> bool {
        self.topics.iter().any(|durable| covers(durable, pattern))
    }
}

/// Whether `outer` matches each topic that `inner` matches.
fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    let (mut outer, mut inner) = (outer.tokens(), inner.tokens());
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(">")) | (None, _) | (_, None) => return false,
            (Some("*"), Some(_)) => {}
            (Some(outer), Some(inner)) if outer == inner => {}
            _ => return false,
        }
    }
}

/// When the data of a publish is made to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DurableSync {
    /// `batch`: before the publish is confirmed, once for all that came together. It outlives a power cut.
    #[default]
    EachBatch,
    /// A duration: no later than this after it was confirmed. It outlives the process, and a power cut costs at most
    /// what was published in this time.
    Interval(Duration),
    /// `never`: when the operating system likes. It outlives the process.
    Never,
}

/// A text that says nothing of when to sync.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` says nothing of when to sync; write \"batch\", \"never\", or a duration such as \"250ms\""
)]
pub struct DurableSyncError(String);

impl FromStr for DurableSync {
    type Err = DurableSyncError;

    fn from_str(text: &str) -> Result<Self, DurableSyncError> {
        match text {
            "batch" => Ok(Self::EachBatch),
            "never" => Ok(Self::Never),
            other => duration::parse(other)
                .map(Self::Interval)
                .map_err(|_| DurableSyncError(other.to_owned())),
        }
    }
}

impl fmt::Display for DurableSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EachBatch => f.write_str("batch"),
            Self::Interval(interval) => f.write_str(&duration::format(*interval)),
            Self::Never => f.write_str("never"),
        }
    }
}

impl From<DurableSync> for SyncPolicy {
    fn from(sync: DurableSync) -> Self {
        match sync {
            DurableSync::EachBatch => Self::EachBatch,
            DurableSync::Interval(interval) => Self::Interval(interval),
            DurableSync::Never => Self::Never,
        }
    }
}

impl Serialize for DurableSync {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurableSync {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_sync_reads_back() {
        for (text, sync) in [
            ("batch", DurableSync::EachBatch),
            ("never", DurableSync::Never),
            ("250ms", DurableSync::Interval(Duration::from_millis(250))),
        ] {
            assert_eq!(text.parse(), Ok(sync));
            assert_eq!(sync.to_string(), text);
        }
        assert!("sometimes".parse::<DurableSync>().is_err());
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_told() {
        let config =
            DurableConfig { topics: vec![Pattern::new("a").unwrap()], ..Default::default() };
        assert_eq!(config.fault(8 << 20), None);
        assert_eq!(config.fault(16 << 20).unwrap().0, "/bus/durable/segment_size");
        let small = DurableConfig { max_size: 128 << 20, ..config.clone() };
        assert_eq!(small.fault(1).unwrap().0, "/bus/durable/max_size");
        let tiny = DurableConfig { segment_size: 1, ..config };
        assert_eq!(tiny.fault(1).unwrap().0, "/bus/durable/segment_size");
    }

    #[test]
    fn a_pattern_covers_what_it_matches_all_of() {
        let durable = |texts: &[&str]| DurableConfig {
            topics: texts.iter().map(|text| Pattern::new(text).unwrap()).collect(),
            ..DurableConfig::default()
        };
        let covers =
            |texts: &[&str], inner: &str| durable(texts).covers(&Pattern::new(inner).unwrap());
        for (outer, inner) in
            [(">", "dead.>"), ("dead.>", "dead.>"), ("*.a", "b.a"), ("a.*.>", "a.b.>"), ("a", "a")]
        {
            assert!(covers(&[outer], inner), "{outer} {inner}");
        }
        for (outer, inner) in [
            ("dead.a.>", "dead.>"),
            ("dead.*", "dead.>"),
            ("*.a", ">"),
            ("a", "a.b"),
            ("a.b", "a"),
            ("a.>", "a"),
            ("a.b", "a.*"),
        ] {
            assert!(!covers(&[outer], inner), "{outer} {inner}");
        }
        assert!(!covers(&[], "a") && covers(&["x", "a"], "a"));
    }
}
