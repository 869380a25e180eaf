//! A host on durable topics that is killed with -9 at any moment: what was confirmed is handled in the end, and what
//! was acknowledged does not come back.
//!
//! The host is this program again, started with the name of its part and a variable that makes it act. It speaks a line
//! for each event: `+n` once the publish of message n is confirmed, `!n` when the handler has it in hand, `-n` when
//! what the handler published with its acknowledgement arrives, so that the acknowledgement is in the log. Messages
//! with a key count in its managed state, and that line then goes on with the key and the count that it came to: each
//! count of a key is one message's, and none is left out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its host speaks by standard output"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use echo_core::{Config, Host};
use echo_sdk::{Manifest, Pattern, PluginContext, PluginError, ProcessingStatus, StateKind};
use echo_tests::killed::{Running, rounds, say};
use echo_tests::scripted::{Answer, WithHandler, handler, manifest, workers};

/// Tells the host where its log is.
const DIR: &str = "LOG_OF_HOST";

/// The first number that it publishes; without it, it handles what there is.
const FIRST: &str = "FIRST_OF_HOST";

/// The ordering key of a message; every other one has one.
fn key(number: u64) -> Option<String> {
    number.is_multiple_of(2).then(|| format!("k{}", number % 16))
}

/// Handles a message: what it makes of it takes effect with its acknowledgement. Some are tried twice.
async fn work(context: PluginContext, number: u64, attempt: u16) -> Answer {
    say('!', number);
    match number % 10 {
        3 if attempt == 1 => return Ok(ProcessingStatus::RetryLater(Duration::from_millis(5))),
        7 if attempt == 1 => return Err(PluginError::ProcessingError("tried again".into())),
        _ => {}
    }
    let mut done = number.to_string();
    if let Some(key) = key(number) {
        let count = context.state().get::<u64>("count").await?.unwrap_or_default() + 1;
        context.state().set("count", &count).await?;
        done = format!("{number} {key} {count}");
    }
    context.publish_data("done.work", &done).await?;
    Ok(ProcessingStatus::Acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut config = Config::default();
    config.bus.durable.topics = ["work.>", "done.>"].map(|it| Pattern::new(it).unwrap()).into();
    config.bus.durable.dir = dir.into();
    config.bus.durable.segment_size = 256 << 10;
    config.bus.max_payload = 32 << 10;
    config.delivery.retry_base_delay = Duration::from_millis(5);
    let host = Host::builder()
        .config(config)
        .with(
            Manifest { state: StateKind::Keyed, ..manifest("work", &["work.in"], workers(4)) },
            handler(|context, _, message| async move {
                work(context, message.json()?, message.attempt()).await
            }),
        )
        .with(
            manifest("done", &["done.>"], workers(1)),
            handler(|_, _, message| async move {
                say('-', message.json::<String>()?);
                Ok(ProcessingStatus::Acknowledged)
            }),
        );
    let host = host.start().await.unwrap();
    let Some(first) = std::env::var(FIRST).ok() else {
        // Until it is killed.
        return std::future::pending().await;
    };
    let first: u64 = first.parse().unwrap();
    let publishers: Vec<_> = (0..32)
        .map(|at| tokio::spawn(publish(host.client("test"), first + at * 1_000_000)))
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

async fn publish(client: PluginContext, first: u64) {
    for number in first.. {
        let message = client.message_builder().data(&number);
        let key = key(number);
        let message = key.iter().fold(message, |message, key| message.key(key));
        client.publish("work.in", message.build().unwrap()).await.unwrap();
        say('+', number);
    }
}

/// Starts a host, which publishes where it is told the first number.
fn start(dir: &Path, first: Option<u64>) -> Running {
    let first = first.map(|first| OsString::from(first.to_string()));
    let first = first.iter().map(|first| (FIRST, &**first));
    Running::start(first.chain([(DIR, dir.as_os_str())]))
}

#[derive(Default)]
struct Heard {
    confirmed: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// Confirmed, and not acknowledged by now.
    lost: BTreeSet<u64>,
    /// By key, which message each count is of.
    counts: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl Heard {
    fn hear(&mut self, line: &str) {
        let number = |sign| line.strip_prefix(sign).and_then(|n: &str| n.parse::<u64>().ok());
        if let Some(number) = number('+') {
            self.confirmed.insert(number);
            if !self.acknowledged.contains(&number) {
                self.lost.insert(number);
            }
        } else if let Some(done) = line.strip_prefix('-') {
            self.hear_done(done);
        } else if let Some(number) = number('!') {
            assert!(!self.acknowledged.contains(&number), "{number} was acknowledged and is back");
        }
    }

    fn hear_done(&mut self, done: &str) {
        let mut words = done.split(' ');
        let Some(number) = words.next().and_then(|number| number.parse().ok()) else { return };
        self.acknowledged.insert(number);
        self.lost.remove(&number);
        if let (Some(key), Some(count)) = (words.next(), words.next()) {
            let counts = self.counts.entry(key.to_owned()).or_default();
            let other = *counts.entry(count.parse().unwrap()).or_insert(number);
            assert_eq!(number, other, "both came to {count} in {key}");
        }
    }

    /// Holds the counts to it that each message counted once: none is left out and none had two.
    fn check_counts(&self) {
        for (key, counts) in &self.counts {
            let all = counts.len() as u64;
            assert_eq!(counts.keys().next_back(), Some(&all), "{key} has counted something else");
            let messages: BTreeSet<_> = counts.values().collect();
            assert_eq!(messages.len() as u64, all, "{key} has counted a message twice");
        }
    }
}

#[test]
fn a_host_that_is_killed_loses_nothing_and_handles_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut heard = Heard::default();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let rounds = rounds(20);
    for round in 1..=rounds {
        let running = start(dir.path(), Some(round * 1_000_000_000));
        // By the amount of what it has said: at any moment of its work, whatever the machine's speed.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for _ in 0..10 + (random >> 33) % 4000 {
            heard.hear(&running.next());
        }
        running.kill().iter().for_each(|line| heard.hear(line));
        heard.check_counts();
    }
    let running = start(dir.path(), None);
    while !heard.lost.is_empty() {
        match running.lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => heard.hear(&line),
            Err(_) => panic!("confirmed and lost: {:?}", heard.lost),
        }
    }
    heard.check_counts();
    assert_eq!(heard.counts.len(), 8);
    let (confirmed, acknowledged) = (heard.confirmed.len(), heard.acknowledged.len());
    println!("{rounds} kills, {confirmed} confirmed, {acknowledged} acknowledged");
    assert!(confirmed as u64 > 10 * rounds, "only {confirmed} were confirmed");
}
