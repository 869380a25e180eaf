//! What the host adds to the delivery contract, on the local transport. What holds on every transport is in
//! `tests/src/conformance`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use echo_bus::give_way;
use echo_core::{Config, Host};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::{
    Manifest, Pattern, ProcessingStatus, Received, Subscription, Topic, WorkerPoolConfig,
};
use echo_tests::scripted::{Handler, WithHandler, handler, manifest, workers};
use serde_json::{Value, json};
use tokio::time::timeout;

async fn host(manifest: Manifest, handler: Handler) -> Host {
    Host::builder().with(manifest, handler).start().await.unwrap()
}

async fn watch(host: &Host, pattern: &str) -> Subscription {
    host.watch(&Pattern::new(pattern).unwrap(), 100_000).await.unwrap()
}

async fn send(host: &Host, topic: &str, data: Value) {
    let client = host.client("test");
    client.publish(topic, client.message_builder().data(&data).build().unwrap()).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Received {
    timeout(Duration::from_secs(60), subscription.next()).await.expect("in time").expect("open")
}

async fn next_dead(subscription: &mut Subscription) -> (Topic, DeadLetter) {
    let Received { topic, message } = next(subscription).await;
    (topic, message.json().unwrap())
}

#[tokio::test(start_paused = true)]
async fn effects_that_find_no_room_fail_the_attempt_instead_of_hanging() {
    let mut config = Config::default();
    config.bus.commit_patience = Duration::from_secs(2);
    let mut pool = workers(1);
    pool["queue_size"] = json!(1);
    // Publishes to itself with a queue of one: there is never room for it.
    let host = Host::builder()
        .config(config)
        .with(
            manifest("p", &["in"], pool),
            handler(|context, _, _| async move {
                context.publish_data("in", &0).await?;
                Ok(ProcessingStatus::Acknowledged)
            }),
        )
        .start()
        .await
        .unwrap();
    let mut dead = watch(&host, "dead.>").await;
    send(&host, "in", json!(1)).await;
    let (_, letter) = next_dead(&mut dead).await;
    assert!(letter.reason.contains("no room within 2s"), "{}", letter.reason);
    assert_eq!(letter.attempts, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_what_follows_from_what_is_in_hand() {
    for _ in 0..100 {
        let arrived = Arc::new(AtomicUsize::new(0));
        // Names against the order of the chain, so that a look from the first to the last comes too early.
        let mut builder = Host::builder();
        for (name, from, to) in [("c", "one", "two"), ("b", "two", "three"), ("a", "three", "four")]
        {
            let forward = handler(move |_, _, message| async move {
                tokio::task::yield_now().await;
                Ok(ProcessingStatus::Forward(Topic::new(to)?, message))
            });
            builder = builder.with(manifest(name, &[from], workers(1)), forward);
        }
        let counter = Arc::clone(&arrived);
        let last = handler(move |_, _, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(ProcessingStatus::Acknowledged) }
        });
        let host = builder.with(manifest("0", &["four"], workers(1)), last).start().await.unwrap();
        for _ in 0..5 {
            send(&host, "one", json!(1)).await;
        }
        assert!(host.shutdown().await.is_clean());
        assert_eq!(arrived.load(Ordering::Relaxed), 5);
    }
}

#[tokio::test]
async fn a_trace_goes_on_from_message_to_message() {
    let host = host(
        manifest("p", &["in"], workers(1)),
        handler(|context, _, _| async move {
            context.publish_data("out", &0).await?;
            Ok(ProcessingStatus::Acknowledged)
        }),
    )
    .await;
    let mut out = watch(&host, "out").await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let client = host.client("test");
    let context = echo_sdk::TraceContext::parse(parent).unwrap();
    let message = client.message_builder().trace_context(context.clone()).build().unwrap();
    client.publish("in", message).await.unwrap();
    let carried = next(&mut out).await.message.trace_context().unwrap();
    assert_eq!(carried.trace_id, context.trace_id);
}

#[tokio::test]
async fn pools_grow_for_work_that_waits_and_not_for_work_that_computes() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let most = Arc::new(AtomicUsize::new(0));
    let pool = json!({"min_workers": 1, "max_workers": 32, "queue_size": 100_000});
    let computing = handler(|_, _, _| async {
        let until = std::time::Instant::now() + Duration::from_millis(1);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(ProcessingStatus::Acknowledged)
    });
    let running = Arc::new(AtomicUsize::new(0));
    let (most_at_once, now) = (Arc::clone(&most), Arc::clone(&running));
    let waiting = handler(move |_, _, _| {
        let (most, running) = (Arc::clone(&most_at_once), Arc::clone(&now));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let host = Host::builder()
        .with(manifest("computing", &["compute"], pool.clone()), computing)
        .with(manifest("waiting", &["wait"], pool), waiting)
        .start()
        .await
        .unwrap();
    let mut scaled = watch(&host, "system.pool.scaled").await;
    for _ in 0..1000 {
        send(&host, "compute", json!(0)).await;
        send(&host, "wait", json!(0)).await;
    }
    loop {
        let event: Value = next(&mut scaled).await.message.json().unwrap();
        let to = event["to"].as_u64().unwrap() as usize;
        if event["plugin"] == "computing" {
            assert!(to <= cores, "{event}");
        } else if to == 32 {
            break;
        }
    }
    assert!(most.load(Ordering::SeqCst) > 8);
    assert!(host.plugin("computing").unwrap().resources.workers <= cores);
}

/// The messages that a worker handles in a turn, at most.
const TURN: u64 = 512;

#[tokio::test]
async fn a_worker_whose_handler_never_waits_takes_turns_with_others() {
    let handled = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&handled);
    let quick = handler(move |_, _, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(ProcessingStatus::Acknowledged) }
    });
    let mut pool = workers(1);
    pool["queue_size"] = json!(100_000);
    let host = host(manifest("p", &["in"], pool), quick).await;
    for _ in 0..20 * TURN {
        send(&host, "in", json!(0)).await;
    }
    // One thread, on which the other task is as ready as the worker all the time.
    let other = tokio::spawn(async move {
        let (mut seen, mut in_vain) = (handled.load(Ordering::Relaxed), 0);
        while seen < 20 * TURN {
            give_way().await;
            let now = handled.load(Ordering::Relaxed);
            assert!(now - seen <= TURN, "{} messages in one turn", now - seen);
            in_vain = if now > seen { 0 } else { in_vain + 1 };
            assert!(in_vain <= 2, "the other task had {in_vain} turns, and the worker none");
            seen = now;
        }
    });
    timeout(Duration::from_secs(60), other).await.expect("in time").unwrap();
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn a_blocking_handler_blocks_nobody_else() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let mut pool = workers(1);
    pool["handler"] = json!("blocking");
    let blocking = handler(move |_, _, _| {
        let released = Arc::clone(&released);
        async move {
            released.lock().unwrap().recv().unwrap();
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let quick = handler(|context, _, message| async move {
        context.reply(&message, &1).await?;
        Ok(ProcessingStatus::Acknowledged)
    });
    // The test's own runtime has one thread: were the handler on it, the request could not be answered.
    let host = Host::builder()
        .with(manifest("blocking", &["block"], pool), blocking)
        .with(manifest("quick", &["ask"], workers(1)), quick)
        .start()
        .await
        .unwrap();
    send(&host, "block", json!(0)).await;
    let client = host.client("test");
    let ask = client.message_builder().build().unwrap();
    client.request("ask", ask, Duration::from_secs(10)).await.unwrap();
    release.send(()).unwrap();
    assert!(host.shutdown().await.is_clean());
}

#[test]
fn the_default_pool_is_what_the_manifest_says_it_is() {
    let default = WorkerPoolConfig::default();
    assert_eq!((default.max_attempts, default.min_workers), (5, 1));
}
