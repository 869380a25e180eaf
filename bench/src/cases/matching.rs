//! From a topic to who subscribes to it, with 10,000 patterns; and what that costs a publish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_bus::routing::{Router, Target};
use echo_bus::{LocalOptions, LocalTransport, SubscribeOptions, Transport as _};
use echo_sdk::{Overflow, Pattern, Subscription, Topic};
use tokio::runtime::Runtime;

use crate::BenchError;
use crate::harness::{Contender, OURS, Round};
use crate::work::{QUEUE, message};

/// How many patterns there are.
const PATTERNS: usize = 10_000;

/// How many topics take turns where routes are remembered; where they are not, all that there are.
const CACHED_TOPICS: usize = 64;

/// How many topics take turns in the cases of publishing.
const PUBLISHED_TOPICS: usize = 64;

/// How many messages are published before the subscription is emptied again, untimed.
const BURST: u64 = 1024;

/// A pattern of a plausible mix: of four, one is a plain topic, one has `*` in its middle, one begins with
/// `*`, one ends in `>`. Each of the topics below is matched by four of them.
pub(crate) fn pattern(number: usize) -> String {
    let of_its_kind = number / 4;
    match number % 4 {
        0 => format!("shop.{of_its_kind}.order.placed"),
        1 => format!("shop.{of_its_kind}.*.placed"),
        2 => format!("*.{of_its_kind}.order.placed"),
        _ => format!("shop.{of_its_kind}.>"),
    }
}

/// A topic that four patterns match.
pub(crate) fn topic(number: usize) -> String {
    format!("shop.{number}.order.placed")
}

/// The topics that patterns match, in an order in which neighbours have nothing in common.
pub(crate) fn topics(count: usize) -> impl Iterator<Item = String> {
    const STRIDE: usize = 1_009;
    (0..count).map(|place| topic(place * STRIDE % (PATTERNS / 4)))
}

struct Number(u64);

impl Target for Number {
    fn id(&self) -> u64 {
        self.0
    }
}

fn router() -> Result<Router<Number>, BenchError> {
    let router = Router::default();
    for number in 0..PATTERNS {
        let pattern = Pattern::new(pattern(number))?;
        router.add(&[pattern], &Arc::new(Number(number as u64)));
    }
    Ok(router)
}

fn parsed(count: usize) -> Result<Arc<[Topic]>, BenchError> {
    Ok(topics(count).map(Topic::new).collect::<Result<_, _>>()?)
}

pub(super) fn uncached(_: &Runtime) -> Result<Vec<Contender>, BenchError> {
    let (router, topics) = (Arc::new(router()?), parsed(PATTERNS / 4)?);
    #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
    let mut sides = vec![Contender::new(OURS, move |messages| {
        let (router, topics) = (Arc::clone(&router), Arc::clone(&topics));
        async move {
            let began = Instant::now();
            for topic in topics.iter().cycle().take(messages as usize) {
                std::hint::black_box(router.find(topic).len());
            }
            Ok(Round::since(began, messages))
        }
    })];
    #[cfg(feature = "bench-peers")]
    sides.extend(crate::peers::matching(PATTERNS)?);
    Ok(sides)
}

pub(super) fn cached(_: &Runtime) -> Result<Vec<Contender>, BenchError> {
    let (router, topics) = (Arc::new(router()?), parsed(CACHED_TOPICS)?);
    Ok(vec![Contender::new(OURS, move |messages| {
        let (router, topics) = (Arc::clone(&router), Arc::clone(&topics));
        async move {
            let began = Instant::now();
            for topic in topics.iter().cycle().take(messages as usize) {
                router.with_route(topic, |targets| std::hint::black_box(targets.len()));
            }
            Ok(Round::since(began, messages))
        }
    })])
}

pub(super) fn publish_1(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![runtime.block_on(publish(1))?])
}

pub(super) fn publish_100k(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![runtime.block_on(publish(100_000))?])
}

/// Publishing alone, to one subscription, beside which there are others that do not match: what is
/// delivered is taken out between the bursts, on the same thread and untimed.
async fn publish(subscriptions: usize) -> Result<Contender, BenchError> {
    let bus = LocalTransport::new(LocalOptions::default()).map_err(echo_core::HostError::from)?;
    let reader = subscribe(&bus, "bench.>").await?;
    let mut others = Vec::with_capacity(subscriptions);
    for number in 1..subscriptions {
        others.push(subscribe(&bus, &format!("shop.{number}.>")).await?);
    }
    let topics: Arc<[Topic]> = (0..PUBLISHED_TOPICS)
        .map(|number| Topic::new(format!("bench.{number}.order")))
        .collect::<Result<_, _>>()?;
    let prebuilt = message()?;
    let reader = Arc::new(tokio::sync::Mutex::new(reader));
    Ok(Contender::new(OURS, move |messages| {
        // They stay subscribed as long as the rounds last.
        let _others = &others;
        let (bus, topics, prebuilt) = (bus.clone(), Arc::clone(&topics), prebuilt.clone());
        let reader = Arc::clone(&reader);
        async move {
            let mut reader = reader.lock().await;
            let (mut took, mut left) = (Duration::ZERO, messages);
            while left > 0 {
                let burst = left.min(BURST);
                let began = Instant::now();
                for topic in topics.iter().cycle().take(burst as usize) {
                    bus.publish(topic, prebuilt.clone()).await?;
                }
                took += began.elapsed();
                for _ in 0..burst {
                    reader.next().await;
                }
                left -= burst;
            }
            Ok(Round { delivered: messages, took, ..Round::default() })
        }
    }))
}

async fn subscribe(bus: &LocalTransport, pattern: &str) -> Result<Subscription, BenchError> {
    let options = SubscribeOptions { capacity: QUEUE, overflow: Overflow::Block };
    let subscribed = bus.subscribe(&Pattern::new(pattern)?, options).await;
    Ok(subscribed.map_err(echo_core::HostError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_patterns_match_each_topic() {
        let router = router().unwrap();
        for topic in parsed(100).unwrap().iter() {
            assert_eq!(router.find(topic).len(), 4, "{topic}");
        }
    }
}
