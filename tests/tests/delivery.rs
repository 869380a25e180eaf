//! The sentences of the delivery contract, each proven by its effect on a running host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use echo_core::{Config, Host, HostBuilder};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::{
    BaseMessage, BoxFuture, Manifest, Pattern, Plugin, PluginContext, PluginError,
    ProcessingStatus, Received, Subscription, Topic, WorkerPoolConfig,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

type Answer = Result<ProcessingStatus, PluginError>;
type Handler =
    Arc<dyn Fn(PluginContext, Topic, BaseMessage) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A plugin whose handler is a closure.
struct Scripted {
    context: PluginContext,
    handler: Handler,
}

impl Plugin for Scripted {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn process_message(&self, topic: &Topic, message: &BaseMessage) -> Answer {
        (self.handler)(self.context.clone(), topic.clone(), message.clone()).await
    }
}

fn handler<F>(f: impl Fn(PluginContext, Topic, BaseMessage) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |context, topic, message| Box::pin(f(context, topic, message)))
}

fn manifest(name: &str, patterns: &[&str], pool: Value) -> Manifest {
    let manifest = json!({
        "name": name,
        "version": "1.0.0",
        "description": "a plugin of a test",
        "subscriptions": patterns,
        "worker_pool": pool,
    });
    Manifest::from_json(&manifest.to_string()).unwrap()
}

trait With {
    fn with(self, manifest: Manifest, handler: Handler) -> Self;
}

impl With for HostBuilder {
    fn with(self, manifest: Manifest, handler: Handler) -> Self {
        self.plugin(manifest, move |context| {
            Ok(Scripted { context, handler: Arc::clone(&handler) })
        })
    }
}

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

async fn send_keyed(host: &Host, topic: &str, key: &str, data: Value) {
    let client = host.client("test");
    let message = client.message_builder().key(key).data(&data).build().unwrap();
    client.publish(topic, message).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Received {
    timeout(Duration::from_secs(60), subscription.next()).await.expect("in time").expect("open")
}

async fn next_dead(subscription: &mut Subscription) -> (Topic, DeadLetter) {
    let Received { topic, message } = next(subscription).await;
    (topic, message.json().unwrap())
}

const ONE: fn() -> Value = || json!({"min_workers": 1, "max_workers": 1});

#[tokio::test]
async fn acknowledged_ends_it_and_what_was_published_takes_effect_with_it() {
    let gate = Arc::new(Notify::new());
    let entered = Arc::new(Notify::new());
    let (gated, enters) = (Arc::clone(&gate), Arc::clone(&entered));
    let host = host(
        manifest("p", &["in"], ONE()),
        handler(move |context, _, message| {
            let (gate, entered) = (Arc::clone(&gated), Arc::clone(&enters));
            async move {
                context.publish_data("out", &message.attempt()).await?;
                let now = context.message_builder().data(&"now").build()?;
                context.publish_now("progress", now).await?;
                entered.notify_one();
                gate.notified().await;
                Ok(ProcessingStatus::Acknowledged)
            }
        }),
    )
    .await;
    let mut all = watch(&host, ">").await;
    send(&host, "in", json!(1)).await;
    assert_eq!(next(&mut all).await.topic, "in");
    assert_eq!(next(&mut all).await.topic, "progress", "publish_now does not wait");
    entered.notified().await;
    let nothing_yet = timeout(Duration::ZERO, all.next()).await;
    assert!(nothing_yet.is_err(), "{nothing_yet:?}");
    gate.notify_one();
    assert_eq!(next(&mut all).await.topic, "out");
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn retry_later_delivers_again_no_earlier_and_counts_attempts_until_it_is_dead() {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let host = host(
        manifest("p", &["in"], ONE()),
        handler(move |context, _, message| {
            let seen_by = seen_by.clone();
            async move {
                seen_by.send((message.attempt(), Instant::now())).unwrap();
                context.publish_data("out", &0).await?;
                Ok(ProcessingStatus::RetryLater(Duration::from_secs(10)))
            }
        }),
    )
    .await;
    let mut dead = watch(&host, "dead.>").await;
    let mut out = watch(&host, "out").await;
    send(&host, "in", json!({"n": 7})).await;
    let mut before: Option<Instant> = None;
    for attempt in 1..=5 {
        let (seen_attempt, at) = seen.recv().await.unwrap();
        assert_eq!(seen_attempt, attempt);
        assert!(before.is_none_or(|before| at - before >= Duration::from_secs(10)));
        before = Some(at);
    }
    let (topic, letter) = next_dead(&mut dead).await;
    assert_eq!(topic, "dead.p.in");
    assert_eq!((letter.slot.as_str(), letter.attempts), ("p", 5));
    assert_eq!(letter.message.json::<Value>().unwrap(), json!({"n": 7}));
    assert!(letter.reason.contains("10s"), "{}", letter.reason);
    assert!(timeout(Duration::from_secs(1), out.next()).await.is_err(), "no effect of any attempt");
    assert_eq!(host.dead_letters().0, [letter]);
}

#[tokio::test]
async fn failed_is_dead_at_once_with_its_reason() {
    let host = host(
        manifest("p", &["in.>"], ONE()),
        handler(|context, _, _| async move {
            context.publish_data("out", &0).await?;
            Ok(ProcessingStatus::Failed("no such account".into()))
        }),
    )
    .await;
    let mut all = watch(&host, ">").await;
    send(&host, "in.account", json!(1)).await;
    assert_eq!(next(&mut all).await.topic, "in.account");
    let (topic, letter) = next_dead(&mut all).await;
    assert_eq!(topic, "dead.p.in.account");
    assert_eq!((letter.reason.as_str(), letter.attempts), ("no such account", 1));
    assert_eq!(host.plugin("p").unwrap().metrics.dead, 1);
}

#[tokio::test]
async fn forward_publishes_and_acknowledges_and_a_loop_ends_after_sixteen_hops() {
    let host = host(
        manifest("p", &["ping"], ONE()),
        handler(|_, topic, message| async move { Ok(ProcessingStatus::Forward(topic, message)) }),
    )
    .await;
    let mut pings = watch(&host, "ping").await;
    let mut dead = watch(&host, "dead.>").await;
    send(&host, "ping", json!(1)).await;
    for hops in 0..=16 {
        let message = next(&mut pings).await.message;
        assert_eq!((message.hops(), message.attempt()), (hops, 1));
    }
    let (_, letter) = next_dead(&mut dead).await;
    assert!(letter.reason.contains("16 hops"), "{}", letter.reason);
    assert_eq!(letter.message.hops(), 16);
    let metrics = host.plugin("p").unwrap().metrics;
    assert_eq!((metrics.forwarded, metrics.dead), (16, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_a_panic_and_a_passed_deadline_are_failed_attempts_with_growing_delay() {
    for fault in ["error", "panic", "deadline"] {
        let (seen_by, mut seen) = mpsc::unbounded_channel();
        let mut pool = ONE();
        pool["deadline"] = json!("1s");
        let host = host(
            manifest("p", &["in"], pool),
            handler(move |_, _, _| {
                let seen_by = seen_by.clone();
                async move {
                    seen_by.send(Instant::now()).unwrap();
                    match fault {
                        "error" => Err(PluginError::ProcessingError("no luck".into())),
                        "panic" => panic!("out of luck"),
                        _ => std::future::pending().await,
                    }
                }
            }),
        )
        .await;
        let mut dead = watch(&host, "dead.>").await;
        send(&host, "in", json!(1)).await;
        let (_, letter) = next_dead(&mut dead).await;
        assert_eq!(letter.attempts, 5, "{fault}");
        let said = match fault {
            "error" => "no luck",
            "panic" => "panicked: out of luck",
            _ => "longer than its deadline, 1s",
        };
        assert!(letter.reason.contains(said), "{}", letter.reason);
        let mut times = Vec::new();
        while let Ok(at) = seen.try_recv() {
            times.push(at);
        }
        let handled = if fault == "deadline" { Duration::from_secs(1) } else { Duration::ZERO };
        let delays: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0] - handled).collect();
        // 100 ms doubling, each jittered down by up to half; the timer's grain is a millisecond.
        for (delay, full) in delays.iter().zip([100, 200, 400, 800]) {
            let full = Duration::from_millis(full);
            assert!(*delay >= full / 2 && *delay <= full + Duration::from_millis(2), "{delays:?}");
        }
        // The worker lived on.
        send(&host, "in", json!(2)).await;
        seen.recv().await.unwrap();
        assert_eq!(host.plugin("p").unwrap().resources.workers, 1);
    }
}

#[tokio::test]
async fn a_slot_gets_each_message_once_its_workers_share_and_every_slot_gets_its_own() {
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let count = |which: usize| {
        let counts = Arc::clone(&counts);
        handler(move |_, _, _| {
            counts[which].fetch_add(1, Ordering::Relaxed);
            async { Ok(ProcessingStatus::Acknowledged) }
        })
    };
    let four = json!({"min_workers": 4, "max_workers": 4});
    let host = Host::builder()
        .with(manifest("one", &["a.>", "a.*"], four.clone()), count(0))
        .with(manifest("two", &["*.b"], four), count(1))
        .start()
        .await
        .unwrap();
    for _ in 0..1000 {
        send(&host, "a.b", json!(1)).await;
    }
    assert!(host.shutdown().await.is_clean());
    assert_eq!(
        counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>(),
        [1000; 2]
    );
}

#[tokio::test]
async fn one_worker_handles_in_the_order_of_publication() {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let host = host(
        manifest("p", &["in"], ONE()),
        handler(move |_, _, message| {
            seen_by.send(message.json::<u64>().unwrap()).unwrap();
            async { Ok(ProcessingStatus::Acknowledged) }
        }),
    )
    .await;
    for number in 0..2000 {
        send(&host, "in", json!(number)).await;
    }
    host.shutdown().await;
    for number in 0..2000 {
        assert_eq!(seen.recv().await, Some(number));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_order_through_retries_however_many_workers() {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let host = host(
        manifest("p", &["in"], json!({"min_workers": 8, "max_workers": 8})),
        handler(move |_, _, message| {
            let seen_by = seen_by.clone();
            async move {
                let number: u64 = message.json()?;
                if number.is_multiple_of(5) && message.attempt() < 3 {
                    return Ok(ProcessingStatus::RetryLater(Duration::from_millis(500)));
                }
                tokio::task::yield_now().await;
                seen_by.send((message.key().unwrap().to_owned(), number)).unwrap();
                Ok(ProcessingStatus::Acknowledged)
            }
        }),
    )
    .await;
    for number in 0..40 {
        for key in 0..20 {
            send_keyed(&host, "in", &format!("k{key}"), json!(number)).await;
        }
    }
    assert!(host.shutdown().await.is_clean());
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    while let Ok((key, number)) = seen.try_recv() {
        by_key.entry(key).or_default().push(number);
    }
    assert_eq!(by_key.len(), 20);
    by_key.values().for_each(|numbers| assert_eq!(*numbers, (0..40).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_full_queue_holds_publishers_back_and_try_publish_says_full() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let mut pool = ONE();
    pool["queue_size"] = json!(2);
    let host = host(
        manifest("p", &["in"], pool),
        handler(move |_, _, _| {
            let gate = Arc::clone(&gated);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(ProcessingStatus::Acknowledged)
            }
        }),
    )
    .await;
    let client = host.client("test");
    let message = || client.message_builder().build().unwrap();
    client.try_publish("in", message()).unwrap();
    client.try_publish("in", message()).unwrap();
    let full = client.try_publish("in", message()).unwrap_err().to_string();
    assert!(full.contains("`p`"), "{full}");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish("in", client.message_builder().build().unwrap()).await }
    });
    gate.add_permits(1);
    waiting.await.unwrap().unwrap();
    gate.add_permits(2);
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn drops_are_counted_where_the_policy_drops() {
    for (policy, left) in [("drop-oldest", [8, 9]), ("drop-newest", [0, 1])] {
        let (seen_by, mut seen) = mpsc::unbounded_channel();
        let mut pool = ONE();
        pool["queue_size"] = json!(2);
        pool["overflow"] = json!(policy);
        let host = host(
            manifest("p", &["in"], pool),
            handler(move |_, _, message| {
                seen_by.send(message.json::<u64>().unwrap()).unwrap();
                async { Ok(ProcessingStatus::Acknowledged) }
            }),
        )
        .await;
        host.pause("p").await.unwrap();
        for number in 0..10 {
            send(&host, "in", json!(number)).await;
        }
        assert_eq!(host.plugin("p").unwrap().metrics.dropped, 8, "{policy}");
        host.resume("p").await.unwrap();
        assert!(host.shutdown().await.is_clean());
        let seen: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
        assert_eq!(seen, left, "{policy}");
    }
}

#[tokio::test]
async fn a_request_is_answered_with_the_acknowledgement() {
    let host = host(
        manifest("p", &["math.double"], ONE()),
        handler(|context, _, message| async move {
            let number: i64 = message.json()?;
            context.reply(&message, &(number * 2)).await?;
            Ok(ProcessingStatus::Acknowledged)
        }),
    )
    .await;
    let client = host.client("test");
    let question = client.message_builder().data(&21).build().unwrap();
    let answer = client.request("math.double", question, Duration::from_secs(5)).await.unwrap();
    assert_eq!(answer.json::<i64>().unwrap(), 42);
    assert_eq!(answer.source(), "p");
}

#[tokio::test(start_paused = true)]
async fn effects_that_find_no_room_fail_the_attempt_instead_of_hanging() {
    let mut config = Config::default();
    config.bus.commit_patience = Duration::from_secs(2);
    let mut pool = ONE();
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

#[tokio::test(start_paused = true)]
async fn shutdown_stops_the_intake_drains_and_says_what_it_could_not_finish() {
    let mut config = Config::default();
    config.shutdown.timeout = Duration::from_secs(5);
    let mut pool = ONE();
    pool["deadline"] = json!(null);
    pool["shutdown_timeout"] = json!("1s");
    let stuck = handler(|_, _, message| async move {
        if message.json::<u64>()? >= 2 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(ProcessingStatus::Acknowledged)
    });
    let host = Host::builder().config(config).with(manifest("p", &["in"], pool), stuck);
    let host = host.start().await.unwrap();
    let client = host.client("test");
    for number in 0..4 {
        send(&host, "in", json!(number)).await;
    }
    let report = host.shutdown().await;
    let left: Vec<_> =
        report.unfinished.iter().map(|left| (left.slot.as_str(), left.topic.as_str())).collect();
    assert_eq!(left, [("p", "in"), ("p", "in")], "two were drained, two could not be");
    assert!(report.faults.iter().any(|fault| fault.contains("cut off")), "{report:?}");
    let refused = client.try_publish("in", client.message_builder().build().unwrap());
    assert!(refused.unwrap_err().to_string().contains("closed"));
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
            builder = builder.with(manifest(name, &[from], ONE()), forward);
        }
        let counter = Arc::clone(&arrived);
        let last = handler(move |_, _, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(ProcessingStatus::Acknowledged) }
        });
        let host = builder.with(manifest("0", &["four"], ONE()), last).start().await.unwrap();
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
        manifest("p", &["in"], ONE()),
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

#[tokio::test]
async fn a_blocking_handler_blocks_nobody_else() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let mut pool = ONE();
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
        .with(manifest("quick", &["ask"], ONE()), quick)
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
