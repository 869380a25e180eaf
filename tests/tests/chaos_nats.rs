//! Three hosts on one NATS server, killed and started at random: every durable message is acknowledged, none is lost,
//! what each led to is there once, and the managed state of each key has counted each message once.
//!
//! A host is this test's own program, started once more as [`host`]. Some thousand messages by default;
//! `CHAOS_MESSAGES=500000 cargo test -p echo-tests --release --test chaos_nats -- --nocapture` is the long run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer, stream};
use echo_bus::{Receiver, Settlement, SlotOptions, Transport};
use echo_core::{Config, Host};
use echo_nats::{DurableOptions, DurableTopics, NatsOptions, NatsTransport};
use echo_sdk::{
    BaseMessage, Manifest, Overflow, Pattern, ProcessingStatus, Received, StateKind, Topic,
};
use echo_tests::scripted::{WithHandler, handler, manifest, workers};
use echo_tests::server::NatsServer;
use futures_util::TryStreamExt;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Where the server of a host is; whoever sets it makes the program a host.
const URL: &str = "CHAOS_URL";

/// How many hosts there are at a time.
const HOSTS: usize = 3;

/// How many kills there are.
const KILLS: u64 = 20;

/// One message of so many has an ordering key.
const KEYED: u64 = 20;

/// One message of so many without a key counts in the state that these share.
const SHARED: u64 = 40;

/// How long without any progress is too long.
const PATIENCE: Duration = Duration::from_secs(60);

fn messages() -> u64 {
    std::env::var("CHAOS_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(4000)
}

fn durable(stream: &str, pattern: &str) -> DurableTopics {
    DurableTopics { stream: stream.into(), patterns: vec![Pattern::new(pattern).unwrap()] }
}

async fn connect(url: String) -> NatsTransport {
    let durable = DurableOptions {
        topics: vec![durable("WORK", "work.>"), durable("DONE", "done.>")],
        // What a killed host held comes back this soon.
        ack_wait: Duration::from_secs(1),
        ..DurableOptions::default()
    };
    let options = NatsOptions { urls: vec![url], durable, ..NatsOptions::default() };
    NatsTransport::connect(options).await.unwrap()
}

/// What a host is, until it is killed: says on `done.…` what it has handled, with its acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host() {
    let Ok(url) = std::env::var(URL) else { return };
    let handling = handler(|context, _, message| async move {
        let number: u64 = message.json()?;
        if message.key().is_some() || number % SHARED == 1 {
            let count = context.state().get::<u64>("count").await?.unwrap_or_default();
            context.state().set("count", &(count + 1)).await?;
        }
        let done = context.message_builder().data(&number);
        let done = message.key().into_iter().fold(done, |done, key| done.key(key)).build()?;
        context.publish(&format!("done.{}", number % 10), done).await?;
        Ok(ProcessingStatus::Acknowledged)
    });
    let bus = connect(url).await;
    let host = Host::builder().config(Config::default()).transport(Arc::new(bus));
    let worker = manifest("worker", &["work.>"], workers(8));
    let host = host.with(Manifest { state: StateKind::Shared, ..worker }, handling);
    let _host = host.start().await.unwrap();
    println!("\nready");
    // Ends with whoever started it.
    let waiting = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(waiting).await.unwrap().unwrap();
}

async fn start(url: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["host", "--exact", "--nocapture"])
        .env(URL, url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready =
        async { while lines.next_line().await.unwrap().expect("the host runs") != "ready" {} };
    timeout(PATIENCE, ready).await.expect("a host is ready in time");
    child
}

fn message(number: u64) -> Received {
    let builder = BaseMessage::builder("chaos").data(&number);
    let message = match number.is_multiple_of(KEYED) {
        true => builder.key(&format!("k{}", number / KEYED % 40)).build(),
        false => builder.build(),
    };
    let topic = Topic::new(format!("work.{}", number % 10)).unwrap();
    Received { topic, message: message.unwrap() }
}

/// Counts what is done: how often each, and the order of each key.
#[derive(Default)]
struct Judge {
    times: Vec<u8>,
    by_key: BTreeMap<String, Vec<u64>>,
}

async fn judge(mut done: Box<dyn Receiver>, all: u64, count: Arc<AtomicU64>) -> Judge {
    let mut judge = Judge { times: vec![0; usize::try_from(all).unwrap()], ..Judge::default() };
    let mut distinct = 0;
    while distinct < all {
        let received = timeout(PATIENCE, std::future::poll_fn(|cx| done.poll_recv(cx))).await;
        let received = received.unwrap_or_else(|_| panic!("{distinct} of {all} are done"));
        assert!(received, "the slot is open");
        let message = &done.current().unwrap().message;
        let number: u64 = message.json().unwrap();
        let times = &mut judge.times[usize::try_from(number).unwrap()];
        *times += 1;
        if *times == 1 {
            distinct += 1;
            count.store(distinct, Ordering::Release);
            if let Some(key) = message.key() {
                judge.by_key.entry(key.to_owned()).or_default().push(number);
            }
        }
        done.settle(Settlement::Done);
        done.flush();
    }
    judge
}

/// How often each state was to count, by key.
fn counts(all: u64) -> BTreeMap<Option<String>, u64> {
    let mut counts = BTreeMap::new();
    for number in 0..all {
        let key = message(number).message.key().map(str::to_owned);
        if key.is_some() || number % SHARED == 1 {
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}

/// Waits until so many are done.
async fn reach(count: &AtomicU64, wanted: u64) {
    while count.load(Ordering::Acquire) < wanted {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How many messages wait at the server or in somebody's hands.
async fn left(url: &str, name: &str) -> u64 {
    let context = jetstream::new(async_nats::connect(url).await.unwrap());
    let stream = context.get_stream(name).await.unwrap();
    let consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.unwrap();
    consumers.iter().map(|it| it.num_pending + it.num_ack_pending as u64).sum()
}

async fn state(url: &str, name: &str) -> stream::State {
    let context = jetstream::new(async_nats::connect(url).await.unwrap());
    context.get_stream(name).await.unwrap().cached_info().state.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_killed_at_random_and_every_message_is_acknowledged() {
    let all = messages();
    let began = Instant::now();
    let server = NatsServer::start();
    let url = server.url();
    let bus = connect(url.clone()).await;
    let judging = bus.open_slot(SlotOptions {
        name: "judge".into(),
        patterns: vec![Pattern::new("done.>").unwrap()],
        capacity: 10_000,
        overflow: Overflow::Block,
    });
    let judging = judging.await.unwrap();
    let count = Arc::<AtomicU64>::default();
    let judged = tokio::spawn(judge(judging.receiver(), all, Arc::clone(&count)));
    let mut hosts = Vec::new();
    for _ in 0..HOSTS {
        hosts.push(start(&url).await);
    }
    let publisher = bus.clone();
    let publishing = tokio::spawn(async move {
        let mut number = 0;
        while number < all {
            let batch = (number..all.min(number + 256)).map(message).collect();
            publisher.publish_all(batch).await.unwrap();
            number += 256;
        }
    });
    let seed = rand_seed();
    println!("seed {seed:02x?}");
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    for kill in 1..=KILLS {
        // Anywhere between what was done by the last kill and a share more.
        let share = all / (KILLS + 1);
        let at = (kill - 1) * share + u64::from(random.next_u32()) % share;
        tokio::select! {
            () = reach(&count, at) => {}
            () = tokio::time::sleep(PATIENCE) => panic!("stuck before {at} of {all}"),
        }
        let victim = random.next_u32() as usize % hosts.len();
        let mut victim = hosts.swap_remove(victim);
        victim.kill().await.unwrap();
        hosts.push(start(&url).await);
    }
    publishing.await.unwrap();
    let Judge { times, by_key } = judged.await.unwrap();
    while left(&url, "WORK").await > 0 {
        assert!(began.elapsed() < PATIENCE * 20, "not all is acknowledged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed();
    assert!(times.iter().all(|times| *times >= 1), "something was lost");
    assert_eq!(state(&url, "ECHO_DEAD").await.messages, 0, "something is dead");
    assert_eq!(state(&url, "DONE").await.last_sequence, all, "effects are there once");
    assert!(
        by_key.values().all(|numbers| numbers.is_sorted()),
        "a key keeps its order: {by_key:?}"
    );
    let states = bus.states("worker");
    let expected = counts(all);
    let mut counted = BTreeMap::new();
    for key in expected.keys() {
        let document = states.load(key.as_deref()).await.unwrap();
        let count = document.entries.get("count").map(|json| serde_json::from_slice(json).unwrap());
        counted.insert(key.clone(), count.unwrap_or(0_u64));
    }
    assert_eq!(counted, expected, "each state has counted each message once");
    let twice = times.iter().filter(|times| **times > 1).count();
    println!(
        "{all} messages, {KILLS} kills, {took:?}: all acknowledged, {twice} seen twice by the judge; \
         {} states count exactly",
        counted.len()
    );
}

/// Another one each time.
fn rand_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let (low, high) = seed.split_at_mut(16);
    low.copy_from_slice(uuid::Uuid::now_v7().as_bytes());
    high.copy_from_slice(low);
    seed
}
