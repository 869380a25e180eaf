//! The streams behind durable topics: made as the options say, or seen to be as the options say.
//!
//! A stream keeps a message until each slot that subscribes to it has acknowledged it, and nothing more, so its
//! size is that of the work left to do. Dead letters have no slot that takes them away: they stay until
//! somebody replays or deletes them. A stream that is full refuses publishers; it drops nothing.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use echo_sdk::{Pattern, Topic};

use crate::options::{DurableOptions, DurableTopics, Storage};
use crate::{NatsError, subject};

/// The stream of the dead letters, and what it keeps.
pub(crate) const DEAD: (&str, &str) = ("ECHO_DEAD", "dead.>");

/// Which topics are durable, and in which stream.
#[derive(Debug, Default)]
pub(crate) struct Streams(Vec<(Pattern, String)>);

impl Streams {
    /// Makes or checks all streams.
    pub(crate) async fn set_up(
        jetstream: Option<&Context>,
        options: &DurableOptions,
    ) -> Result<Self, NatsError> {
        check(options)?;
        let Some(jetstream) = jetstream else {
            return match options.topics.first() {
                Some(topics) => Err(NatsError::NoJetStream { stream: topics.stream.clone() }),
                None => Ok(Self::default()),
            };
        };
        let dead = Pattern::new(DEAD.1)
            .map(|dead| DurableTopics { stream: DEAD.0.to_owned(), patterns: vec![dead] });
        let mut all = Vec::new();
        for topics in options.topics.iter().cloned().chain(dead) {
            set_up(jetstream, wanted(&topics, options)).await?;
            all.extend(topics.patterns.into_iter().map(|it| (it, topics.stream.clone())));
        }
        Ok(Self(all))
    }

    /// Whether a topic is durable.
    pub(crate) fn keep(&self, topic: &Topic) -> bool {
        self.0.iter().any(|(pattern, _)| pattern.matches(topic))
    }

    /// Whether all topics of a pattern are durable, by one of the streams' patterns alone.
    pub(crate) fn cover(&self, pattern: &Pattern) -> bool {
        self.0.iter().any(|(kept, _)| subject::covers(kept, pattern))
    }

    /// What of a slot's patterns is durable: for each stream, filters of which none covers another.
    pub(crate) fn filters(&self, patterns: &[Pattern]) -> Vec<(&str, Pattern)> {
        let mut streams: Vec<&str> = self.0.iter().map(|(_, stream)| stream.as_str()).collect();
        streams.dedup();
        let mut all = Vec::new();
        for stream in streams {
            let own = self.0.iter().filter(|(_, other)| other == stream);
            let both: Vec<Pattern> = own
                .flat_map(|(kept, _)| {
                    patterns.iter().filter_map(|it| subject::intersection(it, kept))
                })
                .collect();
            all.extend(subject::reduced(&both).into_iter().map(|filter| (stream, filter)));
        }
        all
    }
}

/// Refuses settings that make no sense before the server does in its own words.
fn check(options: &DurableOptions) -> Result<(), NatsError> {
    let setting = |key, value: String, rule| Err(NatsError::Setting { key, value, rule });
    if options.partitions == 0 {
        return setting("partitions", "0".to_owned(), "write 1 or more");
    }
    if options.ack_wait < Duration::from_millis(100) {
        let value = echo_sdk::duration::format(options.ack_wait);
        return setting("ack_wait", value, "write 100ms or more");
    }
    if options.prefetch == 0 {
        return setting("prefetch", "0".to_owned(), "write 1 or more");
    }
    if let Some(age) = options.max_age.filter(|age| *age < Duration::from_millis(100)) {
        return setting("max_age", echo_sdk::duration::format(age), "write 100ms or more");
    }
    if options.max_bytes == Some(0) {
        return setting("max_bytes", "0".to_owned(), "write 1 or more, or leave it out");
    }
    for DurableTopics { stream, .. } in &options.topics {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if stream.is_empty() || !stream.chars().all(is_allowed) {
            return setting("stream", format!("`{stream}`"), "use letters, digits, `-` and `_`");
        }
    }
    Ok(())
}

/// A stream as the options ask for it.
fn wanted(topics: &DurableTopics, options: &DurableOptions) -> Config {
    let patterns = subject::reduced(&topics.patterns);
    let plain = patterns.iter().map(|pattern| pattern.as_str().to_owned());
    let keyed = patterns.iter().map(|pattern| subject::keyed_of_any(pattern.as_str()));
    let max_age = options.max_age.unwrap_or_default();
    Config {
        name: topics.stream.clone(),
        subjects: plain.chain(keyed).collect(),
        retention: if topics.stream == DEAD.0 {
            RetentionPolicy::Limits
        } else {
            RetentionPolicy::Interest
        },
        discard: DiscardPolicy::New,
        storage: match options.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        num_replicas: options.replicas.max(1),
        max_age,
        max_bytes: options.max_bytes.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX)),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        // The server refuses a window longer than the messages live.
        duplicate_window: match options.max_age {
            Some(age) => options.duplicate_window.min(age),
            None => options.duplicate_window,
        },
        // Hosts that count the partitions differently would break the order of keys.
        description: Some(format!("echo-core, {} partitions", options.partitions)),
        ..Config::default()
    }
}

async fn set_up(jetstream: &Context, wanted: Config) -> Result<(), NatsError> {
    let stream = wanted.name.clone();
    let failed = |reason: String| NatsError::Stream { stream: stream.clone(), reason };
    match jetstream.get_stream(&stream).await {
        Ok(found) => return compare(&wanted, &found.cached_info().config),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(failed(error.to_string())),
        },
    }
    let error = match jetstream.create_stream(wanted.clone()).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => match error.error_code() {
            ErrorCode::STREAM_SUBJECT_OVERLAP => Err(NatsError::StreamOverlap { stream }),
            // Another host was quicker.
            ErrorCode::STREAM_NAME_EXIST => {
                let found = jetstream.get_stream(&stream).await;
                let found = found.map_err(|error| failed(error.to_string()))?;
                compare(&wanted, &found.cached_info().config)
            }
            _ => Err(failed(error.to_string())),
        },
        _ => Err(failed(error.to_string())),
    }
}

/// Names the first thing in which a stream is not as it was asked for.
fn compare(wanted: &Config, found: &Config) -> Result<(), NatsError> {
    let sorted = |config: &Config| {
        let mut subjects = config.subjects.clone();
        subjects.sort_unstable();
        subjects.join(", ")
    };
    let age = |config: &Config| match config.max_age {
        Duration::ZERO => "none".to_owned(),
        age => echo_sdk::duration::format(age),
    };
    let bytes = |config: &Config| match config.max_bytes {
        ..=0 => "none".to_owned(),
        bytes => bytes.to_string(),
    };
    let window = |config: &Config| echo_sdk::duration::format(config.duplicate_window);
    let description = |config: &Config| config.description.clone().unwrap_or_default();
    let compared = [
        ("list of topics", sorted(found), sorted(wanted)),
        ("retention", format!("{:?}", found.retention), format!("{:?}", wanted.retention)),
        ("storage", format!("{:?}", found.storage), format!("{:?}", wanted.storage)),
        ("number of replicas", found.num_replicas.to_string(), wanted.num_replicas.to_string()),
        ("max_age", age(found), age(wanted)),
        ("max_bytes", bytes(found), bytes(wanted)),
        ("duplicate_window", window(found), window(wanted)),
        ("origin", description(found), description(wanted)),
    ];
    for (what, found, wanted_here) in compared {
        if found != wanted_here {
            let what = format!("{what} (`{found}`, asked for is `{wanted_here}`)");
            return Err(NatsError::StreamDiffers { stream: wanted.name.clone(), what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slots_filters_are_what_it_shares_with_each_stream() {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let streams = Streams(vec![
            (pattern("orders.>"), "ORDERS".to_owned()),
            (pattern("bills"), "ORDERS".to_owned()),
            (pattern("dead.>"), "ECHO_DEAD".to_owned()),
        ]);
        let filters = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
            let found = streams.filters(&patterns);
            found.iter().map(|(stream, filter)| format!("{stream}:{filter}")).collect()
        };
        assert_eq!(filters(&[">"]), ["ORDERS:orders.>", "ORDERS:bills", "ECHO_DEAD:dead.>"]);
        assert_eq!(
            filters(&["orders.a", "orders.*", "*.a"]),
            ["ORDERS:orders.*", "ECHO_DEAD:dead.a"]
        );
        assert!(filters(&["test.>"]).is_empty());
        assert!(streams.keep(&Topic::new("orders.a").unwrap()));
        assert!(!streams.keep(&Topic::new("orders").unwrap()));
        assert!(streams.cover(&pattern("orders.*")) && streams.cover(&pattern("bills")));
        assert!(!streams.cover(&pattern("*.a")) && !streams.cover(&pattern("orders")));
    }

    #[test]
    fn what_differs_is_named() {
        let topics =
            DurableTopics { stream: "S".into(), patterns: vec![Pattern::new("a.>").unwrap()] };
        let options = DurableOptions::default();
        let made = wanted(&topics, &options);
        compare(&made, &made.clone()).unwrap();
        let other = wanted(&topics, &DurableOptions { partitions: 8, ..options });
        let error = compare(&other, &made).unwrap_err().to_string();
        assert!(error.contains("16 partitions") && error.contains("8 partitions"), "{error}");
    }
}
