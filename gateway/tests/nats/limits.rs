//! What one client may take, and what it is told.

use std::time::Duration;

use async_nats::ConnectOptions;
use echo_bus::{SlotOptions, Transport};
use echo_core::config::GatewayLimits;
use echo_gateway::GatewayOptions;
use echo_sdk::{BaseMessage, Overflow, Pattern, Topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Hub, arrived, next_text, options, soon};

const QUIET: &str = r#"{"verbose":false}"#;

async fn limited(set: impl FnOnce(&mut GatewayLimits)) -> Hub {
    let mut limits = GatewayLimits::default();
    set(&mut limits);
    Hub::with(GatewayOptions { limits, ..options() }).await
}

#[tokio::test]
async fn a_payload_past_the_limit_ends_the_connection() {
    let hub = limited(|limits| limits.max_payload = 100).await;
    let mut raw = hub.connected(QUIET).await;
    raw.say(format!("SUB t 1\r\nPUB t 100\r\n{}\r\n", "x".repeat(100))).await;
    raw.expect("MSG t 1 100").await;
    raw.expect(&"x".repeat(100)).await;
    // The error arrives although the payload is never read.
    raw.say(format!("PUB t 1000000\r\n{}", "x".repeat(100_000))).await;
    assert_eq!(raw.rest().await, "-ERR 'Maximum Payload Violation'\r\n");
    // Clients look at the limit before they send.
    let client = hub.client().await;
    assert!(client.publish("t", vec![0; 101].into()).await.is_err());
}

#[tokio::test]
async fn connections_past_the_limit_are_turned_away_until_one_leaves() {
    let hub = limited(|limits| limits.max_connections = 2).await;
    let (one, two) = (hub.connected(QUIET).await, hub.connected(QUIET).await);
    let (mut three, _) = hub.raw().await;
    assert_eq!(three.rest().await, "-ERR 'maximum connections exceeded'\r\n");
    drop(one);
    soon(async {
        loop {
            let (mut raw, _) = hub.raw().await;
            raw.0.get_mut().write_all(b"PING\r\n").await.unwrap();
            if !raw.line().await.starts_with("-ERR") {
                break;
            }
        }
    })
    .await;
    drop(two);
}

#[tokio::test]
async fn subscriptions_past_the_limit_are_refused() {
    let hub = limited(|limits| limits.max_subscriptions = 2).await;
    let mut raw = hub.connected(QUIET).await;
    raw.say("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n").await;
    raw.expect("-ERR 'maximum subscriptions exceeded'").await;
    raw.say("UNSUB 1\r\nSUB c 3\r\nPUB c 1\r\nx\r\n").await;
    raw.expect("MSG c 3 1").await;
}

#[tokio::test]
async fn who_publishes_too_fast_is_told_and_stays() {
    let hub = limited(|limits| limits.max_rate = Some(3)).await;
    let mut raw = hub.connected(QUIET).await;
    raw.say(format!("SUB t 1\r\n{}PING\r\n", "PUB t 1\r\nx\r\n".repeat(4))).await;
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "PONG") {
        lines.push(raw.line().await);
    }
    assert_eq!(lines.iter().filter(|line| *line == "MSG t 1 1").count(), 3, "{lines:?}");
    let error = "-ERR 'Permissions Violation for Publish to \"t\": Maximum Publish Rate Exceeded'";
    assert_eq!(lines.iter().filter(|line| *line == error).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_holds_back_nobody() {
    let hub = limited(|limits| limits.max_pending = 4 << 20).await;
    let mut stuck = hub.connected(QUIET).await;
    stuck.say("SUB t.> 1\r\nPING\r\n").await;
    stuck.expect("PONG").await;
    let options = ConnectOptions::new().subscription_capacity(100_000);
    let subscriber = hub.client_with(options).await;
    let mut heard = subscriber.subscribe("t.>").await.unwrap();
    arrived(&subscriber).await;
    let publisher = hub.client().await;
    let payload = bytes(10_000);
    // More than sockets and the bound hold together.
    for _ in 0..3_000 {
        publisher.publish("t.a", payload.clone().into()).await.unwrap();
    }
    publisher.publish("t.a", "last".into()).await.unwrap();
    while next_text(&mut heard).await != "last" {}
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = soon(stuck.0.read_to_end(&mut rest)).await;
    assert!(rest.len() < 20_000_000, "{} bytes were kept for it", rest.len());
}

fn bytes(len: usize) -> Vec<u8> {
    vec![b'x'; len]
}

#[tokio::test]
async fn a_plugin_that_publishes_faster_than_a_client_reads_does_not_lose_the_client() {
    const COUNT: u64 = 100_000;
    let hub = Hub::open().await;
    let mut raw = hub.connected(QUIET).await;
    raw.say("SUB t 1\r\nPING\r\n").await;
    raw.expect("PONG").await;
    let bus = std::sync::Arc::clone(&hub.bus);
    let publishing = tokio::spawn(async move {
        let topic = Topic::new("t").unwrap();
        for number in 0..COUNT {
            let message = BaseMessage::builder("plugin").data(&number).build().unwrap();
            bus.publish(&topic, message).await.unwrap();
        }
    });
    for number in 0..COUNT {
        assert!(raw.line().await.starts_with("MSG t 1 "));
        let message: BaseMessage = serde_json::from_str(&raw.line().await).unwrap();
        assert_eq!(message.json::<u64>().unwrap(), number);
    }
    publishing.await.unwrap();
}

#[tokio::test]
async fn a_full_slot_holds_back_its_publisher_and_not_what_goes_to_it() {
    let hub = Hub::open().await;
    let slot = SlotOptions {
        name: "busy".into(),
        patterns: vec![Pattern::new("work").unwrap()],
        capacity: 2,
        overflow: Overflow::Block,
    };
    let slot = hub.bus.open_slot(slot).await.unwrap();
    let mut raw = hub.connected(QUIET).await;
    raw.say("SUB news 1\r\n").await;
    raw.say("PUB work 1\r\n1\r\n".repeat(3)).await;
    raw.say("PING\r\n").await;
    let other = hub.client().await;
    // It waits for room for its third message, so nothing comes but news.
    soon(async {
        while slot.stats().held < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other.publish("news", "x".into()).await.unwrap();
    raw.expect("MSG news 1 1").await;
    raw.expect("x").await;
    let mut worker = slot.receiver();
    for _ in 0..3 {
        assert!(soon(std::future::poll_fn(|cx| worker.poll_recv(cx))).await);
        worker.settle(echo_bus::Settlement::Done);
        worker.flush();
    }
    raw.expect("PONG").await;
    assert_eq!(slot.stats().accepted, 3);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_asked_and_then_given_up() {
    let hub = limited(|limits| limits.ping_interval = Duration::from_millis(20)).await;
    let mut silent = hub.connected(QUIET).await;
    let rest = silent.rest().await;
    assert_eq!(rest, "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    let mut alive = hub.connected(QUIET).await;
    for _ in 0..5 {
        alive.expect("PING").await;
        alive.say("PONG\r\n").await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_in_the_middle_leaves_nothing_behind() {
    let hub = Hub::open().await;
    let topic = Topic::new("t").unwrap();
    let mut raw = hub.connected(QUIET).await;
    raw.say("SUB t 1\r\nSUB t g 2\r\nPING\r\n").await;
    raw.expect("PONG").await;
    assert!(hub.bus.is_heard(&topic));
    raw.say("PUB t 1000\r\nabc").await;
    drop(raw);
    let bus: &dyn Transport = &*hub.bus;
    soon(async {
        while bus.is_heard(&topic) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
