//! Others that find who subscribes to a topic: a crate for MQTT's patterns, whose topics are parted by `/`.

use std::sync::Arc;
use std::time::Instant;

use mqtt_topic_engine::{QoS, TopicPath, TopicPatternPath, TopicRouter};

use crate::BenchError;
use crate::cases::matching::{pattern, topics};
use crate::harness::{Contender, Round};

const PEER: &str = "mqtt-topic-engine";

/// A pattern or a topic as MQTT writes it.
fn mqtt(text: &str) -> String {
    text.replace('.', "/").replace('*', "+").replace('>', "#")
}

/// As many patterns as ours has, the same topics, parsed before as ours are.
pub(super) fn uncached(patterns: usize) -> Result<Contender, BenchError> {
    let mut router = TopicRouter::new();
    for number in 0..patterns {
        let pattern = TopicPatternPath::try_from(mqtt(&pattern(number)));
        let pattern = pattern.map_err(|error| BenchError::peer(PEER, error))?;
        router.add_subscription(pattern, QoS::AtMostOnce, number);
    }
    let mut paths = Vec::new();
    for topic in topics(patterns / 4) {
        let path = TopicPath::new(mqtt(&topic)).map_err(|error| BenchError::peer(PEER, error))?;
        paths.push(path);
    }
    let (router, paths) = (Arc::new(router), Arc::new(paths));
    Ok(Contender::new(PEER, move |messages| {
        let (router, paths) = (Arc::clone(&router), Arc::clone(&paths));
        async move {
            let began = Instant::now();
            for path in paths.iter().cycle().take(messages as usize) {
                std::hint::black_box(router.get_subscribers(path).len());
            }
            Ok(Round::since(began, messages))
        }
    }))
}
