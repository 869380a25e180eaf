//! A version with managed state takes another's place under traffic, and stays or is rolled back by itself; whichever it
//! is, each message is handled once and in the order of its key, and each sum is exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use echo_core::{Config, Host};
use echo_sdk::contract::transition::{TransitionEvent, TransitionStep};
use echo_sdk::{Pattern, PluginContext, Subscription, TransitionSettings, TransitionStrategy};
use serde_json::{Value, json};

use crate::kit::ledger;

const KEYS: u64 = 50;

/// How many messages are behind before the transition begins.
const BEFORE: usize = 5_000;

/// A host with the first version, whose second one has this fault.
async fn host(fault: &str) -> (tempfile::TempDir, Host) {
    let place = tempfile::tempdir().unwrap();
    let file = format!(
        r#"
        [plugins]
        dir = "{0}/enabled"
        [gateway]
        state_dir = "{0}/state"
        [[plugins.register]]
        id = "ledger"
        config = {{ work = "50us", fault = "{fault}" }}
        worker_pool.queue_size = 1000
        "#,
        place.path().display()
    );
    let config = Config::parse("echo-core.toml", &file).unwrap();
    let host = Host::builder().config(config).start().await.unwrap();
    host.load(&ledger().0.path()).await.unwrap();
    (place, host)
}

/// Publishes until it is to stop; gives how many messages that were.
async fn publish(client: PluginContext, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    for seq in 1.. {
        for key in 0..KEYS {
            let add = json!({ "key": key, "seq": seq, "amount": amount(key, seq) });
            let message =
                client.message_builder().data(&add).key(&key.to_string()).build().unwrap();
            client.publish("ledger.add", message).await.unwrap();
            count += 1;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tokio::task::yield_now().await;
    }
    count
}

fn amount(key: u64, seq: u64) -> i64 {
    i64::try_from(key * 7 + seq).unwrap()
}

/// What was added so far, by key: the last number, and the sum.
struct Book([(u64, i64); KEYS as usize]);

impl Book {
    /// Takes in so many of what was added.
    async fn read(&mut self, added: &mut Subscription, count: usize) {
        for _ in 0..count {
            let message = added.next().await.unwrap().message;
            let it: Value = message.json().unwrap();
            let (key, seq) = (it["key"].as_u64().unwrap(), it["seq"].as_u64().unwrap());
            let (last, sum) = &mut self.0[usize::try_from(key).unwrap()];
            assert_eq!(seq, *last + 1, "key {key}");
            (*last, *sum) = (seq, *sum + amount(key, seq));
            assert_eq!(it["last"], seq - 1, "key {key}");
            assert_eq!(it["sum"], *sum, "key {key}, number {seq}");
        }
    }
}

/// Has the second version take the first one's place under traffic.
async fn passed(strategy: TransitionStrategy, fault: &str) -> TransitionEvent {
    let (_place, host) = host(fault).await;
    let mut added = host.watch(&Pattern::new("ledger.added").unwrap(), 1 << 20).await.unwrap();
    let mut dead = host.watch(&Pattern::new("dead.>").unwrap(), 100).await.unwrap();
    let stop = Arc::<AtomicBool>::default();
    let publisher = tokio::spawn(publish(host.client("test"), Arc::clone(&stop)));
    let mut book = Book([(0, 0); KEYS as usize]);
    book.read(&mut added, BEFORE).await;
    let settings = TransitionSettings {
        strategy: Some(strategy),
        interval: Some(Duration::from_millis(500)),
        trial: Some(Duration::from_secs(2)),
        // Where nothing is wrong, a machine that has much else to do is not either.
        latency: (fault == "none").then_some(8.0),
        ..TransitionSettings::default()
    };
    let last = host.transition("ledger", &ledger().1.path(), settings).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let count = publisher.await.unwrap();
    book.read(&mut added, count - BEFORE).await;
    let entry = host.plugin("ledger").unwrap();
    let version = if last.step == TransitionStep::Committed { "2.0.0" } else { "1.0.0" };
    assert_eq!((entry.version.as_str(), entry.metrics.dead), (version, 0), "{last:?}");
    assert!(host.shutdown().await.is_clean());
    assert!(dead.next().await.is_none());
    last
}

const STRATEGIES: [TransitionStrategy; 4] = [
    TransitionStrategy::Immediate,
    TransitionStrategy::Graceful,
    TransitionStrategy::Gradual,
    TransitionStrategy::BlueGreen,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_as_well_stays() {
    for strategy in STRATEGIES {
        let last = passed(strategy, "none").await;
        assert_eq!(last.step, TransitionStep::Committed, "{strategy:?}: {last:?}");
        assert!(last.new.attempts > 0 && last.new.failed == 0, "{last:?}");
        assert_eq!(last.comparison.is_some(), strategy == TransitionStrategy::BlueGreen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_worse_is_rolled_back_by_itself() {
    for strategy in STRATEGIES {
        for (fault, words) in [
            ("panic", "panic"),
            ("errors", "fail"),
            ("slow", "times as long"),
            ("later", "wants messages later"),
            ("hang", "ended no attempt"),
        ] {
            let last = passed(strategy, fault).await;
            assert_eq!(last.step, TransitionStep::RolledBack, "{strategy:?}, {fault}: {last:?}");
            let reason = last.reason.as_deref().unwrap();
            // What was compared is told in other words.
            let is_told = reason.contains(words) || reason.contains("did something else");
            assert!(is_told, "{strategy:?}, {fault}: {reason}");
        }
    }
}
