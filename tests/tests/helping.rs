//! Whoever makes a request does the work of an idle worker: what may be helped, and what happens when that goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use echo_core::{Config, Host, HostBuilder};
use echo_sdk::{BaseMessage, PluginContext, ProcessingStatus};
use echo_tests::scripted::{Handler, WithHandler, handler, manifest, workers};
use futures_util::poll;
use serde_json::{Value, json};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(30);

/// More than is handled so fast that others help.
const SLOW: Duration = Duration::from_micros(200);

/// Answers with the task that it is polled by.
async fn says_its_task(context: PluginContext, message: BaseMessage) {
    let task = tokio::task::try_id().map(|id| id.to_string());
    context.reply(&message, &task).await.unwrap();
}

/// Answers at once.
fn quick() -> Handler {
    handler(|context, _, message| async move {
        says_its_task(context, message).await;
        Ok(ProcessingStatus::Acknowledged)
    })
}

fn with_one_worker(handler: Handler) -> HostBuilder {
    Host::builder().with(manifest("one", &["ask"], workers(1)), handler)
}

async fn ask(client: &PluginContext, data: Value) -> Value {
    let question = client.message_builder().data(&data).build().unwrap();
    client.request("ask", question, PATIENCE).await.unwrap().json().unwrap()
}

/// This very task.
fn me() -> Value {
    json!(tokio::task::id().to_string())
}

/// Asks until the question is handled by whoever asks: from then on the worker is idle and known to be quick. Another
/// that asks at the same time, or a worker that is not idle again yet, are no reason to fail.
async fn until_helped(client: &PluginContext) {
    let began = Instant::now();
    while ask(client, json!(null)).await != me() {
        assert!(began.elapsed() < PATIENCE, "nobody helps");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_does_the_work_of_an_idle_worker() {
    let host = with_one_worker(quick()).start().await.unwrap();
    let client = host.client("test");
    tokio::spawn(async move { until_helped(&client).await }).await.unwrap();
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn whoever_asks_again_and_again_lets_others_run() {
    let host = with_one_worker(quick()).start().await.unwrap();
    let client = host.client("test");
    let asking = tokio::spawn(async move {
        until_helped(&client).await;
        let other = tokio::spawn(async {});
        let began = Instant::now();
        while !other.is_finished() {
            ask(&client, json!(null)).await;
            assert!(began.elapsed() < PATIENCE, "the other never runs");
        }
    });
    asking.await.unwrap();
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handlers_keep_to_their_own_task() {
    let slow = handler(|context, _, message| async move {
        let began = Instant::now();
        while began.elapsed() < SLOW {
            std::hint::spin_loop();
        }
        says_its_task(context, message).await;
        Ok(ProcessingStatus::Acknowledged)
    });
    let host = with_one_worker(slow).start().await.unwrap();
    let client = host.client("test");
    let asking = async move {
        for _ in 0..100 {
            assert_ne!(ask(&client, json!(null)).await, me());
        }
    };
    tokio::spawn(asking).await.unwrap();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_may_block_keep_to_their_own_thread() {
    let pool = json!({"min_workers": 1, "max_workers": 1, "handler": "blocking"});
    let host =
        Host::builder().with(manifest("one", &["ask"], pool), quick()).start().await.unwrap();
    let client = host.client("test");
    let asking = async move {
        for _ in 0..200 {
            assert_ne!(ask(&client, json!(null)).await, me());
        }
    };
    tokio::spawn(asking).await.unwrap();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_helps_from_another_runtime() {
    let here = tokio::runtime::Handle::current().id();
    let local = handler(move |context, _, message| async move {
        assert_eq!(tokio::runtime::Handle::current().id(), here);
        says_its_task(context, message).await;
        Ok(ProcessingStatus::Acknowledged)
    });
    let host = with_one_worker(local).start().await.unwrap();
    let client = host.client("test");
    let near = client.clone();
    tokio::spawn(async move { until_helped(&near).await }).await.unwrap();
    let far = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..200 {
                assert_ne!(ask(&client, json!(null)).await, json!(null), "a task of the host's");
            }
        });
    });
    tokio::task::spawn_blocking(move || far.join().unwrap()).await.unwrap();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_waits_goes_on_in_its_own_task() {
    let signal = Arc::new(Notify::new());
    let waiting = {
        let signal = Arc::clone(&signal);
        handler(move |context, _, message| {
            let signal = Arc::clone(&signal);
            async move {
                if message.json::<Value>()? == json!("wait") {
                    signal.notified().await;
                }
                says_its_task(context, message).await;
                Ok(ProcessingStatus::Acknowledged)
            }
        })
    };
    let host = with_one_worker(waiting).start().await.unwrap();
    let client = host.client("test");
    let asking = async move {
        until_helped(&client).await;
        let mut asking = std::pin::pin!(ask(&client, json!("wait")));
        assert!(poll!(&mut asking).is_pending());
        // The request was dropped in the middle of what it helped with, and nothing is lost by that.
        let other = client.clone();
        let mut dropped = Box::pin(async move { ask(&other, json!("wait")).await });
        assert!(poll!(&mut dropped).is_pending());
        drop(dropped);
        signal.notify_one();
        assert_ne!(asking.await, me());
        signal.notify_one();
        until_helped(&client).await;
    };
    tokio::spawn(asking).await.unwrap();
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_the_handlers_and_not_of_whoever_asks() {
    let panicking = handler(|context, _, message| async move {
        if message.json::<Value>()? == json!("panic") {
            assert!(message.attempt() > 1, "not the first time");
        }
        says_its_task(context, message).await;
        Ok(ProcessingStatus::Acknowledged)
    });
    let host = with_one_worker(panicking).start().await.unwrap();
    let client = host.client("test");
    let asking = async move {
        until_helped(&client).await;
        ask(&client, json!("panic")).await;
        until_helped(&client).await;
    };
    tokio::spawn(asking).await.unwrap();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_ask_each_other_in_a_ring() {
    let depth = Arc::new(AtomicU32::new(0));
    let asking = {
        let depth = Arc::clone(&depth);
        handler(move |context, _, message| {
            let depth = Arc::clone(&depth);
            async move {
                let left: u32 = message.json()?;
                depth.fetch_max(left, Ordering::Relaxed);
                let answer = if left == 0 {
                    0
                } else {
                    let next = context.message_builder().data(&(left - 1)).build()?;
                    let topic = format!("ring.{}", (left - 1) % 3);
                    context.request(topic, next, PATIENCE).await?.json::<u32>()? + 1
                };
                context.reply(&message, &answer).await?;
                Ok(ProcessingStatus::Acknowledged)
            }
        })
    };
    let mut host = Host::builder();
    for place in 0..3 {
        let (name, pattern) = (format!("ring{place}"), format!("ring.{place}"));
        host = host.with(manifest(&name, &[&pattern], workers(20)), Arc::clone(&asking));
    }
    let host = host.start().await.unwrap();
    let client = host.client("test");
    let around = async move {
        for _ in 0..50 {
            let question = client.message_builder().data(&40).build().unwrap();
            let answer = client.request("ring.1", question, PATIENCE).await.unwrap();
            assert_eq!(answer.json::<u32>().unwrap(), 40);
        }
    };
    tokio::spawn(around).await.unwrap();
    assert_eq!(depth.load(Ordering::Relaxed), 40);
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_waited_for_while_somebody_helps() {
    let (entered, is_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let may_leave = Arc::new(Mutex::new(may_leave));
    let blocking = handler(move |context, _, message| {
        let (entered, may_leave) = (entered.clone(), Arc::clone(&may_leave));
        async move {
            if message.json::<Value>()? == json!("block") {
                entered.send(()).unwrap();
                may_leave.lock().unwrap().recv().unwrap();
            }
            says_its_task(context, message).await;
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let pool = json!({"min_workers": 1, "max_workers": 1, "shutdown_timeout": "50ms"});
    let mut config = Config::default();
    config.shutdown.timeout = Duration::from_millis(50);
    let host = Host::builder().config(config).with(manifest("one", &["ask"], pool), blocking);
    let host = host.start().await.unwrap();
    let client = host.client("test");
    let asking = tokio::spawn(async move {
        until_helped(&client).await;
        let question = client.message_builder().data(&json!("block")).build().unwrap();
        client.request("ask", question, PATIENCE).await
    });
    tokio::task::spawn_blocking(move || is_entered.recv().unwrap()).await.unwrap();
    // Nobody can end a handler that blocks its thread, whoever's thread that is: it is told.
    let ending = tokio::spawn(host.shutdown());
    let report = ending.await.unwrap();
    let fault = "1 handlers of `one` block their threads and go on".to_owned();
    assert!(report.faults.contains(&fault), "{report:?}");
    leave.send(()).unwrap();
    assert!(asking.await.unwrap().is_err(), "the bus is closed");
}
