//! What a message costs from `publish` to its acknowledgement, with every feature on, and what a plugin costs
//! until it runs.
//!
//! `cargo bench -p echo-core --bench delivery`. Rates are messages a second.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use divan::counter::ItemsCount;
use echo_core::{Config, Host};
use echo_sdk::{
    BaseMessage, Manifest, Pattern, Plugin, PluginContext, PluginError, ProcessingStatus,
    StateKind, Topic,
};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

const MESSAGES: u64 = 100_000;

fn main() {
    divan::main();
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());

/// Counts messages and tells when a round is complete.
struct Round {
    handled: AtomicU64,
    of: u64,
    complete: Notify,
}

impl Default for Round {
    fn default() -> Self {
        Self { handled: AtomicU64::new(0), of: MESSAGES, complete: Notify::new() }
    }
}

struct Counting(Arc<Round>);

impl Plugin for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        divan::black_box(message);
        if self.0.handled.fetch_add(1, Ordering::Relaxed) + 1 == self.0.of {
            self.0.complete.notify_one();
        }
        Ok(ProcessingStatus::Acknowledged)
    }
}

fn manifest(workers: usize) -> Manifest {
    let manifest = json!({
        "name": "counting",
        "version": "1.0.0",
        "description": "counts",
        "subscriptions": ["bench.work"],
        "worker_pool": {
            "min_workers": workers, "max_workers": workers,
            "queue_size": 4096, "adaptive_scaling": false,
        },
    });
    Manifest::from_json(&manifest.to_string()).unwrap()
}

fn host(workers: usize, round: &Arc<Round>) -> Host {
    let round = Arc::clone(round);
    let builder =
        Host::builder().plugin(manifest(workers), move |_| Ok(Counting(Arc::clone(&round))));
    RUNTIME.block_on(builder.start()).unwrap()
}

fn work_queue(bencher: Bencher<'_, '_>, workers: usize, make: fn() -> BaseMessage) {
    let round = Arc::<Round>::default();
    let host = host(workers, &round);
    let client = host.client("bench");
    let topic = Topic::new("bench.work").unwrap();
    let prebuilt = make();
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        RUNTIME.block_on(async {
            round.handled.store(0, Ordering::Relaxed);
            let publishing = async {
                for _ in 0..MESSAGES {
                    client.publish(&topic, prebuilt.clone()).await.unwrap();
                }
            };
            tokio::join!(publishing, round.complete.notified());
        });
    });
    RUNTIME.block_on(host.shutdown());
}

fn message() -> BaseMessage {
    BaseMessage::builder("bench").data(&json!({"text": "x".repeat(100)})).build().unwrap()
}

#[divan::bench(args = [1, 8], sample_count = 20)]
fn work_queue_prebuilt(bencher: Bencher<'_, '_>, workers: usize) {
    work_queue(bencher, workers, message);
}

/// Counts messages in the managed state of their keys.
struct CountingByKey(PluginContext, Arc<Round>);

impl Plugin for CountingByKey {
    fn name(&self) -> &str {
        "counting"
    }

    async fn process_message(
        &self,
        _: &Topic,
        _: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let state = self.0.state();
        let count = state.get::<u64>("count").await?.unwrap_or_default();
        state.set("count", &(count + 1)).await?;
        if self.1.handled.fetch_add(1, Ordering::Relaxed) + 1 == self.1.of {
            self.1.complete.notify_one();
        }
        Ok(ProcessingStatus::Acknowledged)
    }
}

/// Each message changes the state of its key, one of 2,000, in memory.
#[divan::bench(args = [1, 8], sample_count = 20)]
fn managed_state(bencher: Bencher<'_, '_>, workers: usize) {
    count_by_key(bencher, workers, 2000, Config::default(), MESSAGES);
}

/// The same with eight workers and the state in a log on the disk, by the number of keys.
#[divan::bench(args = [1, 100, 2000], sample_count = 5)]
fn managed_state_in_a_log(bencher: Bencher<'_, '_>, keys: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.bus.durable.topics = vec![Pattern::new("kept.>").unwrap()];
    config.bus.durable.dir = dir.path().to_owned();
    count_by_key(bencher, 8, keys, config, 3000);
}

fn count_by_key(
    bencher: Bencher<'_, '_>,
    workers: usize,
    keys: usize,
    config: Config,
    messages: u64,
) {
    let round = Arc::new(Round { of: messages, ..Round::default() });
    let manifest = Manifest { state: StateKind::Keyed, ..manifest(workers) };
    let made = Arc::clone(&round);
    let builder = Host::builder()
        .config(config)
        .plugin(manifest, move |context| Ok(CountingByKey(context, Arc::clone(&made))));
    let host = RUNTIME.block_on(builder.start()).unwrap();
    let (client, topic) = (host.client("bench"), Topic::new("bench.work").unwrap());
    let keyed = |key| BaseMessage::builder("bench").key(&format!("k{key}")).data(&key).build();
    let prebuilt: Vec<_> = (0..keys).map(|key| keyed(key).unwrap()).collect();
    bencher.counter(ItemsCount::new(messages)).bench_local(|| {
        RUNTIME.block_on(async {
            round.handled.store(0, Ordering::Relaxed);
            let publishing = async {
                for message in prebuilt.iter().cycle().take(messages as usize) {
                    client.publish(&topic, message.clone()).await.unwrap();
                }
            };
            tokio::join!(publishing, round.complete.notified());
        });
    });
    RUNTIME.block_on(host.shutdown());
}

/// A host of so many plugins, made, initialised and running; the items are plugins.
#[divan::bench(args = [1, 1000], sample_count = 20)]
fn register_plugins(bencher: Bencher<'_, '_>, plugins: u64) {
    bencher.counter(ItemsCount::new(plugins)).bench_local(|| {
        let mut builder = Host::builder();
        for number in 0..plugins {
            let manifest = json!({
                "name": format!("plugin-{number}"),
                "version": "1.0.0",
                "description": "idles",
                "subscriptions": [format!("bench.{number}.>")],
            });
            let manifest = Manifest::from_json(&manifest.to_string()).unwrap();
            builder = builder.plugin(manifest, |_| Ok(Counting(Arc::default())));
        }
        RUNTIME.block_on(builder.start()).unwrap()
    });
}

#[divan::bench(sample_count = 20)]
fn build_and_drop(bencher: Bencher<'_, '_>) {
    let data = serde_json::value::to_raw_value(&json!({"text": "x".repeat(100)})).unwrap();
    bencher.bench_local(|| BaseMessage::builder("bench").data_raw(&data).build().unwrap());
}
