//! What a Rust program does with the bus, over async-nats. Knows nothing of what answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

/// The library does not look for a token in the address.
fn options(url: &str) -> (ConnectOptions, String) {
    let (token, address) = url.trim_start_matches("nats://").split_once('@').unwrap();
    (ConnectOptions::with_token(token.to_owned()), address.to_owned())
}

async fn connect(url: &str) -> Client {
    let (options, address) = options(url);
    options.request_timeout(Some(PATIENCE)).connect(address).await.unwrap()
}

/// Resolves once the server has carried out all that the client has said: `flush` sees it into the socket alone.
async fn heard(client: &Client) {
    let nobody = client.request("rs.heard", "?".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), RequestErrorKind::NoResponders);
}

async fn take(subscription: &mut Subscriber, count: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    for _ in 0..count {
        let message = timeout(PATIENCE, subscription.next()).await;
        all.push(message.expect("a message in time").expect("an open subscription").payload);
    }
    all
}

fn numbers(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(number.to_string())).collect()
}

/// All flows that any server has to carry.
pub async fn all(server: &mut Server) {
    let url = server.url();
    publish_and_subscribe(&url).await;
    wildcards(&url).await;
    queue_groups(&url).await;
    request_and_reply(&url).await;
    no_responders(&url).await;
    headers(&url).await;
    unsubscribe_with_max(&url).await;
    drain(&url).await;
    reconnect(server).await;
    refused(&server.wrong_url()).await;
}

async fn publish_and_subscribe(url: &str) {
    let (one, other) = (connect(url).await, connect(url).await);
    let mut subscription = other.subscribe("rs.plain").await.unwrap();
    heard(&other).await;
    let mut sent = vec![
        Bytes::from("text"),
        Bytes::new(),
        Bytes::from("{\"a\": 1 }"),
        (0..=255).collect(),
        Bytes::from(vec![b'x'; 500_000]),
    ];
    sent.extend(numbers(500));
    for payload in &sent {
        one.publish("rs.plain", payload.clone()).await.unwrap();
    }
    assert_eq!(take(&mut subscription, sent.len()).await, sent);
}

async fn wildcards(url: &str) {
    let bus = connect(url).await;
    let mut subscriptions = Vec::new();
    for pattern in ["rs.wild.a.b", "rs.wild.*.b", "rs.wild.>"] {
        subscriptions.push(bus.subscribe(pattern).await.unwrap());
    }
    for end in ["a.b", "x.b", "a", "a.b.c"] {
        bus.publish(format!("rs.wild.{end}"), end.into()).await.unwrap();
    }
    let expected: [&[&str]; 3] = [&["a.b"], &["a.b", "x.b"], &["a.b", "x.b", "a", "a.b.c"]];
    for (subscription, expected) in subscriptions.iter_mut().zip(expected) {
        assert_eq!(take(subscription, expected.len()).await, expected);
        assert!(timeout(Duration::from_millis(200), subscription.next()).await.is_err());
    }
}

async fn queue_groups(url: &str) {
    let seen: Arc<[AtomicUsize; 3]> = Arc::default();
    let enough = Arc::new(Notify::new());
    let mut members = Vec::new();
    for member in 0..3 {
        let client = connect(url).await;
        let mut own = client.queue_subscribe("rs.queue", "workers".into()).await.unwrap();
        heard(&client).await;
        let (seen, enough) = (Arc::clone(&seen), Arc::clone(&enough));
        members.push(tokio::spawn(async move {
            let _connected = client;
            while own.next().await.is_some() {
                seen[member].fetch_add(1, Ordering::SeqCst);
                let all: usize = seen.iter().map(|own| own.load(Ordering::SeqCst)).sum();
                if all == 300 {
                    enough.notify_one();
                }
            }
        }));
    }
    let bus = connect(url).await;
    let mut everything = bus.subscribe("rs.queue").await.unwrap();
    for payload in numbers(300) {
        bus.publish("rs.queue", payload).await.unwrap();
    }
    assert_eq!(take(&mut everything, 300).await, numbers(300));
    timeout(PATIENCE, enough.notified()).await.expect("each message goes to one of the group");
    assert!(seen.iter().all(|own| own.load(Ordering::SeqCst) > 0), "{seen:?}");
    members.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn request_and_reply(url: &str) {
    let (bus, server) = (connect(url).await, connect(url).await);
    let mut asked = server.subscribe("rs.double").await.unwrap();
    heard(&server).await;
    let answering = tokio::spawn(async move {
        while let Some(question) = asked.next().await {
            let number: u64 = std::str::from_utf8(&question.payload).unwrap().parse().unwrap();
            let answer = (2 * number).to_string().into();
            server.publish(question.reply.unwrap(), answer).await.unwrap();
        }
    });
    let questions = numbers(100).into_iter().map(|payload| bus.request("rs.double", payload));
    let answers = futures_util::future::join_all(questions).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().payload, (2 * number).to_string());
    }
    answering.abort();
}

async fn no_responders(url: &str) {
    let bus = connect(url).await;
    let nobody = bus.request("rs.nobody", "?".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), RequestErrorKind::NoResponders);
}

async fn headers(url: &str) {
    let bus = connect(url).await;
    let mut subscription = bus.subscribe("rs.headers").await.unwrap();
    let mut sent = HeaderMap::new();
    sent.insert("Tenant", "a");
    sent.append("Many", "one");
    sent.append("Many", "two");
    sent.insert("traceparent", "of my own");
    bus.publish_with_headers("rs.headers", sent.clone(), "with".into()).await.unwrap();
    bus.publish("rs.headers", "without".into()).await.unwrap();
    let full = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert_eq!((&*full.payload, full.headers), (&b"with"[..], Some(sent)));
    let bare = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert_eq!((&*bare.payload, bare.headers), (&b"without"[..], None));
}

async fn unsubscribe_with_max(url: &str) {
    let bus = connect(url).await;
    let mut limited = bus.subscribe("rs.max").await.unwrap();
    limited.unsubscribe_after(3).await.unwrap();
    let mut everything = bus.subscribe("rs.max").await.unwrap();
    for payload in numbers(10) {
        bus.publish("rs.max", payload).await.unwrap();
    }
    assert_eq!(take(&mut everything, 10).await, numbers(10));
    assert_eq!(take(&mut limited, 3).await, numbers(3));
    assert!(timeout(PATIENCE, limited.next()).await.unwrap().is_none(), "it has ended");
    everything.unsubscribe().await.unwrap();
    heard(&bus).await;
    let nobody = bus.request("rs.max", "?".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), RequestErrorKind::NoResponders);
}

async fn drain(url: &str) {
    let (bus, other) = (connect(url).await, connect(url).await);
    let subscription = bus.subscribe("rs.drain").await.unwrap();
    heard(&bus).await;
    for payload in numbers(200) {
        other.publish("rs.drain", payload).await.unwrap();
    }
    // The client drains what has come in, and does not wait for what is on its way.
    let statistics = bus.statistics();
    let all_in = async {
        while statistics.in_messages.load(Ordering::Relaxed) < 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all_in).await.expect("all of it comes in");
    bus.drain().await.unwrap();
    let seen = timeout(PATIENCE, subscription.map(|message| message.payload).collect::<Vec<_>>());
    assert_eq!(seen.await.expect("the subscription ends"), numbers(200));
}

async fn reconnect(server: &mut Server) {
    let connects = Arc::new(AtomicUsize::new(0));
    let back = Arc::new(Notify::new());
    let (count, told) = (Arc::clone(&connects), Arc::clone(&back));
    let (options, address) = options(&server.url());
    let options = options.event_callback(move |event| {
        let (connects, back) = (Arc::clone(&count), Arc::clone(&told));
        async move {
            if matches!(event, Event::Connected) && connects.fetch_add(1, Ordering::SeqCst) == 1 {
                back.notify_one();
            }
        }
    });
    let bus = options.connect(address).await.unwrap();
    let mut subscription = bus.subscribe("rs.reconnect").await.unwrap();
    bus.publish("rs.reconnect", "before".into()).await.unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["before"]);
    server.restart().await;
    timeout(PATIENCE, back.notified()).await.expect("it comes back");
    bus.publish("rs.reconnect", "after".into()).await.unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["after"]);
}

async fn refused(wrong_url: &str) {
    let (options, address) = options(wrong_url);
    let refused = options.connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), async_nats::ConnectErrorKind::AuthorizationViolation);
}

/// Publishes a run of suites as plain JSON and follows it to its end; only a host can do that.
pub async fn run(server: &Server) {
    let bus = connect(&server.url()).await;
    let run_id = uuid::Uuid::now_v7().to_string();
    let step = json!({
        "name": "say it", "command": ["echo", "hello"], "expected_output_regex": "^hello\n$",
    });
    let tests = json!([
        {"name": "passes", "steps": [step]},
        {"name": "fails", "steps": [{"name": "say no", "command": ["false"]}]},
    ]);
    let start = json!({"run_id": run_id, "suites": [{"name": "from-rust", "tests": tests}]});
    let mut events = bus.subscribe("test.*.ended").await.unwrap();
    bus.publish("test.run.start", start.to_string().into()).await.unwrap();
    let mut outcomes = HashMap::new();
    let ended = loop {
        let message = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        let data = serde_json::from_slice::<Value>(&message.payload).unwrap()["data"].take();
        if data["run_id"] != *run_id {
            continue;
        }
        match message.subject.as_str() {
            "test.test.ended" => {
                outcomes.insert(data["test"].to_string(), data["outcome"].to_string());
            }
            "test.run.ended" => break data,
            _ => {}
        }
    };
    let expected = [("passes", "passed"), ("fails", "failed")];
    let expected = expected.map(|(test, outcome)| (format!("{test:?}"), format!("{outcome:?}")));
    assert_eq!(outcomes, expected.into_iter().collect());
    assert_eq!(ended["outcome"], "failed");
}
