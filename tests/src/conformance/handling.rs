//! What becomes of a message by the answer of its handler: a host on the transport.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use echo_core::{Config, Host};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::{
    BaseMessage, Pattern, PluginError, ProcessingStatus, Received, Subscription, Topic,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::Bed;
use super::bed::next;
use crate::scripted::{WithHandler, handler, manifest, workers};

async fn watch(host: &Host, pattern: &str) -> Subscription {
    host.watch(&Pattern::new(pattern).unwrap(), 100_000).await.unwrap()
}

async fn send(host: &Host, topic: &str, data: impl Into<Value>) {
    let client = host.client("test");
    client
        .publish(topic, client.message_builder().data(&data.into()).build().unwrap())
        .await
        .unwrap();
}

async fn next_dead(subscription: &mut Subscription) -> (Topic, DeadLetter) {
    let Received { topic, message } = next(subscription).await;
    (topic, message.json().unwrap())
}

/// `Acknowledged` ends a message; what its handler published takes effect with the acknowledgement, what it
/// published with `publish_now` at once.
pub async fn acknowledged_ends_it_and_its_effects_come_with_it(bed: Bed) {
    let (gate, handled) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (gated, counted) = (Arc::clone(&gate), Arc::clone(&handled));
    let answering = handler(move |context, _, message| {
        let (gate, handled) = (Arc::clone(&gated), Arc::clone(&counted));
        async move {
            handled.fetch_add(1, Ordering::Relaxed);
            context.publish_data("out", &message.attempt()).await?;
            let now = context.message_builder().data(&"now").build()?;
            context.publish_now("progress", now).await?;
            gate.notified().await;
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let host = bed.host().with(manifest("p", &["in"], workers(1)), answering);
    let host = host.start().await.unwrap();
    let mut all = watch(&host, ">").await;
    send(&host, "in", 1).await;
    assert_eq!(next(&mut all).await.topic, "in");
    assert_eq!(next(&mut all).await.topic, "progress", "publish_now does not wait");
    assert!(bed.never(all.next()).await, "an effect before its acknowledgement");
    gate.notify_one();
    assert_eq!(next(&mut all).await.topic, "out");
    assert!(host.shutdown().await.is_clean());
    assert_eq!(handled.load(Ordering::Relaxed), 1);
}

/// `RetryLater(d)` delivers again no earlier than `d`; attempts count up, and past `max_attempts` the message is
/// dead: published with the reason, the attempts and the original message, and remembered. No attempt had
/// effects.
pub async fn retry_later_delivers_again_no_earlier_until_it_is_dead(bed: Bed) {
    const DELAY: Duration = Duration::from_millis(250);
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let asking = handler(move |context, _, message| {
        let seen_by = seen_by.clone();
        async move {
            seen_by.send((message.attempt(), Instant::now())).unwrap();
            context.publish_data("out", &0).await?;
            Ok(ProcessingStatus::RetryLater(DELAY))
        }
    });
    let host = bed.host().with(manifest("p", &["in"], workers(1)), asking);
    let host = host.start().await.unwrap();
    let mut dead = watch(&host, "dead.>").await;
    let mut out = watch(&host, "out").await;
    send(&host, "in", json!({"n": 7})).await;
    let (topic, letter) = next_dead(&mut dead).await;
    let mut before: Option<Instant> = None;
    for attempt in 1..=5 {
        let (seen_attempt, at) = seen.recv().await.unwrap();
        assert_eq!(seen_attempt, attempt);
        assert!(before.is_none_or(|before| at - before >= DELAY), "attempt {attempt} came early");
        before = Some(at);
    }
    assert_eq!(topic, "dead.p.in");
    assert_eq!((letter.slot.as_str(), letter.topic.as_str(), letter.attempts), ("p", "in", 5));
    assert_eq!(letter.message.json::<Value>().unwrap(), json!({"n": 7}));
    assert!(letter.reason.contains("250ms"), "{}", letter.reason);
    assert!(bed.never(out.next()).await, "an effect of an attempt that did not end it");
    assert!(host.shutdown().await.is_clean());
}

/// `Failed` is dead at once, with its reason and without effects.
pub async fn failed_is_dead_at_once_with_its_reason_and_without_effects(bed: Bed) {
    let failing = handler(|context, _, _| async move {
        context.publish_data("out", &0).await?;
        Ok(ProcessingStatus::Failed("no such account".into()))
    });
    let host = bed.host().with(manifest("p", &["in.>"], workers(1)), failing);
    let host = host.start().await.unwrap();
    let mut all = watch(&host, ">").await;
    send(&host, "in.account", 1).await;
    assert_eq!(next(&mut all).await.topic, "in.account");
    let (topic, letter) = next_dead(&mut all).await;
    assert_eq!(topic, "dead.p.in.account");
    assert_eq!((letter.reason.as_str(), letter.attempts), ("no such account", 1));
    assert!(bed.never(all.next()).await);
    assert_eq!(host.dead_letters().0, [letter]);
}

/// `Forward` publishes and then acknowledges; hops count up, and past 16 the message is dead.
pub async fn forward_publishes_and_acknowledges_and_a_loop_ends_after_sixteen_hops(bed: Bed) {
    let forwarding =
        handler(|_, topic, message| async move { Ok(ProcessingStatus::Forward(topic, message)) });
    let host = bed.host().with(manifest("p", &["ping"], workers(1)), forwarding);
    let host = host.start().await.unwrap();
    let mut pings = watch(&host, "ping").await;
    let mut dead = watch(&host, "dead.>").await;
    send(&host, "ping", 1).await;
    for hops in 0..=16 {
        let message = next(&mut pings).await.message;
        assert_eq!((message.hops(), message.json::<u64>().unwrap()), (hops, 1));
    }
    let (_, letter) = next_dead(&mut dead).await;
    assert!(letter.reason.contains("16 hops"), "{}", letter.reason);
    assert_eq!((letter.message.hops(), letter.attempts), (16, 1));
    assert!(bed.never(pings.next()).await);
    assert!(host.shutdown().await.is_clean());
}

/// An error, a panic, or a handler past its deadline is a failed attempt: retried after a while, then dead; the
/// worker lives on.
pub async fn an_error_a_panic_and_a_passed_deadline_are_failed_attempts(bed: Bed) {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let faulty = handler(move |_, _, message| {
        seen_by.send((message.json::<String>().unwrap(), Instant::now())).unwrap();
        async move {
            match message.json::<&str>().unwrap() {
                "error" => Err(PluginError::ProcessingError("no luck".into())),
                "panic" => panic!("out of luck"),
                "deadline" => std::future::pending().await,
                _ => Ok(ProcessingStatus::Acknowledged),
            }
        }
    });
    let mut pool = workers(1);
    pool["deadline"] = json!("100ms");
    let host = bed.host().with(manifest("p", &["in"], pool), faulty).start().await.unwrap();
    let mut dead = watch(&host, "dead.>").await;
    for (fault, said) in [
        ("error", "no luck"),
        ("panic", "panicked: out of luck"),
        ("deadline", "longer than its deadline, 100ms"),
    ] {
        send(&host, "in", fault).await;
        let (_, letter) = next_dead(&mut dead).await;
        assert_eq!(letter.attempts, 5, "{fault}");
        assert!(letter.reason.contains(said), "{}", letter.reason);
        let mut times = Vec::new();
        while let Ok((of, at)) = seen.try_recv() {
            assert_eq!(of, fault);
            times.push(at);
        }
        // 20 ms doubling, each jittered down by up to half.
        for (pair, full) in times.windows(2).zip([20, 40, 80, 160]) {
            let delay = pair[1] - pair[0];
            assert!(delay >= Duration::from_millis(full / 2), "{fault}: again after {delay:?}");
        }
        assert_eq!(times.len(), 5, "{fault}");
    }
    send(&host, "in", "fine").await;
    assert_eq!(seen.recv().await.unwrap().0, "fine");
    assert_eq!(host.plugin("p").unwrap().resources.workers, 1);
    assert!(host.shutdown().await.is_clean());
}

/// The workers of a slot share its messages, and every slot gets its own.
pub async fn the_workers_of_a_slot_share_its_messages(bed: Bed) {
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let count = |which: usize| {
        let counts = Arc::clone(&counts);
        handler(move |_, _, _| {
            counts[which].fetch_add(1, Ordering::Relaxed);
            async { Ok(ProcessingStatus::Acknowledged) }
        })
    };
    let host = bed
        .host()
        .with(manifest("one", &["a.>", "a.*"], workers(4)), count(0))
        .with(manifest("two", &["*.b"], workers(4)), count(1))
        .start()
        .await
        .unwrap();
    for _ in 0..500 {
        send(&host, "a.b", 1).await;
    }
    assert!(host.shutdown().await.is_clean());
    assert_eq!(counts.each_ref().map(|count| count.load(Ordering::Relaxed)), [500; 2]);
}

/// One worker handles messages in the order of their publication.
pub async fn one_worker_handles_in_the_order_of_publication(bed: Bed) {
    const COUNT: u64 = 1000;
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let noting = handler(move |_, _, message| {
        seen_by.send(message.json::<u64>().unwrap()).unwrap();
        async { Ok(ProcessingStatus::Acknowledged) }
    });
    let host = bed.host().with(manifest("p", &["in"], workers(1)), noting).start().await.unwrap();
    for number in 0..COUNT {
        send(&host, "in", number).await;
    }
    assert!(host.shutdown().await.is_clean());
    for number in 0..COUNT {
        assert_eq!(seen.recv().await, Some(number));
    }
}

/// With an ordering key the order is that of publication always, however many workers, through retries.
pub async fn a_key_keeps_its_order_through_retries_however_many_workers(bed: Bed) {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let retrying = handler(move |_, _, message| {
        let seen_by = seen_by.clone();
        async move {
            let number: u64 = message.json()?;
            if number.is_multiple_of(5) && message.attempt() < 3 {
                return Ok(ProcessingStatus::RetryLater(Duration::from_millis(50)));
            }
            tokio::task::yield_now().await;
            seen_by.send((message.key().unwrap().to_owned(), number)).unwrap();
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let host = bed.host().with(manifest("p", &["in"], workers(8)), retrying).start().await.unwrap();
    let client = host.client("test");
    for number in 0..20 {
        for key in 0..20 {
            let key = format!("k{key}");
            let message = client.message_builder().key(&key).data(&number).build().unwrap();
            client.publish("in", message).await.unwrap();
        }
    }
    assert!(host.shutdown().await.is_clean());
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    while let Ok((key, number)) = seen.try_recv() {
        by_key.entry(key).or_default().push(number);
    }
    assert_eq!(by_key.len(), 20);
    by_key.values().for_each(|numbers| assert_eq!(*numbers, (0..20).collect::<Vec<_>>()));
}

/// A slot may drop the oldest or the newest message; every drop is counted.
pub async fn drops_are_counted_where_the_policy_drops(bed: Bed) {
    let noting = |seen_by: mpsc::UnboundedSender<u64>| {
        handler(move |_, _, message: BaseMessage| {
            seen_by.send(message.json().unwrap()).unwrap();
            async { Ok(ProcessingStatus::Acknowledged) }
        })
    };
    let pool = |policy: &str| {
        let mut pool = workers(1);
        pool["queue_size"] = json!(2);
        pool["overflow"] = json!(policy);
        pool
    };
    let (oldest_by, mut oldest) = mpsc::unbounded_channel();
    let (newest_by, mut newest) = mpsc::unbounded_channel();
    let host = bed
        .host()
        .with(manifest("oldest", &["in"], pool("drop-oldest")), noting(oldest_by))
        .with(manifest("newest", &["in"], pool("drop-newest")), noting(newest_by))
        .start()
        .await
        .unwrap();
    for plugin in ["oldest", "newest"] {
        host.pause(plugin).await.unwrap();
    }
    for number in 0..10 {
        send(&host, "in", number).await;
    }
    for (plugin, seen, left) in [("oldest", &mut oldest, [8, 9]), ("newest", &mut newest, [0, 1])] {
        host.resume(plugin).await.unwrap();
        let handled = timeout(Duration::from_secs(30), async {
            [seen.recv().await.unwrap(), seen.recv().await.unwrap()]
        });
        assert_eq!(handled.await.unwrap(), left, "{plugin}");
        assert_eq!(host.plugin(plugin).unwrap().metrics.dropped, 8, "{plugin}");
    }
    assert!(host.shutdown().await.is_clean());
    assert!(oldest.try_recv().is_err() && newest.try_recv().is_err());
}

/// A request is answered with the acknowledgement of its handler.
pub async fn a_request_is_answered_with_the_acknowledgement(bed: Bed) {
    let doubling = handler(|context, _, message| async move {
        let number: i64 = message.json()?;
        context.reply(&message, &(number * 2)).await?;
        if message.attempt() == 1 {
            return Ok(ProcessingStatus::RetryLater(Duration::from_millis(20)));
        }
        context.reply(&message, &"too late").await?;
        Ok(ProcessingStatus::Acknowledged)
    });
    let host = bed.host().with(manifest("p", &["math.double"], workers(1)), doubling);
    let host = host.start().await.unwrap();
    let client = host.client("test");
    let question = client.message_builder().data(&21).build().unwrap();
    let answer = client.request("math.double", question, Duration::from_secs(20)).await.unwrap();
    assert_eq!(answer.json::<i64>().unwrap(), 42);
    assert_eq!(answer.source(), "p");
}

/// Shutdown stops the intake, drains within its time, and says what it could not finish.
pub async fn shutdown_drains_and_says_what_it_could_not_finish(bed: Bed) {
    let mut config = Config::default();
    config.shutdown.timeout = Duration::from_secs(2);
    let mut pool = workers(1);
    pool["deadline"] = json!(null);
    pool["shutdown_timeout"] = json!("200ms");
    let sticking = handler(|_, _, message| async move {
        if message.json::<u64>()? >= 2 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(ProcessingStatus::Acknowledged)
    });
    let host = bed.host().config(config).with(manifest("p", &["in"], pool), sticking);
    let host = host.start().await.unwrap();
    let client = host.client("test");
    for number in 0..4 {
        send(&host, "in", number).await;
    }
    let report = host.shutdown().await;
    let left: Vec<_> =
        report.unfinished.iter().map(|left| (left.slot.as_str(), left.topic.as_str())).collect();
    assert_eq!(left, [("p", "in"), ("p", "in")], "two were drained, two could not be");
    assert!(report.faults.iter().any(|fault| fault.contains("cut off")), "{report:?}");
    let refused = client.try_publish("in", client.message_builder().build().unwrap());
    assert!(refused.unwrap_err().to_string().contains("closed"));
}
