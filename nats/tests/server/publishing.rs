//! Batches, confirmations on their way, and a server that goes and comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_bus::{Settlement, SubscribeOptions, Transport};
use echo_sdk::{BaseMessage, Form, PublishError};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::server::NatsServer;
use crate::support::*;
use crate::wire::Proxy;

#[tokio::test]
async fn the_confirmations_of_a_batch_are_awaited_together() {
    let server = NatsServer::start();
    let far = Duration::from_millis(50);
    let proxy = Proxy::start_slow(server.port(), b"", far).await;
    let bus = host(&proxy.url()).await;
    let began = Instant::now();
    let batch = (0..1000).map(|number| to("orders.a", message(number))).collect();
    bus.publish_all(batch).await.unwrap();
    let all = (1000..2000).map(|number| publish(&bus, "orders.a", message(number)));
    join_all(all).await;
    assert!(began.elapsed() < 200 * far, "{:?} for 2000 round trips", began.elapsed());
    assert_eq!(stream_info(&server.url(), STREAM).await.state.last_sequence, 2000);
}

#[tokio::test]
async fn a_batch_of_durable_and_passing_messages_keeps_the_order_of_each_key() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["orders.>", "test.>"]).await;
    let batch = (0..300).map(|number| match number % 3 {
        0 => to("test.a", message(number)),
        1 => to("orders.a", keyed("x", number)),
        _ => to("orders.b", keyed("y", number)),
    });
    bus.publish_all(batch.collect()).await.unwrap();
    let all = take_all(&mut slot.receiver(), 300).await;
    for rest in 0..3 {
        let own: Vec<u64> = all.iter().copied().filter(|number| number % 3 == rest).collect();
        assert_eq!(own, (0..100).map(|number| 3 * number + rest).collect::<Vec<_>>());
    }
}

/// The server is killed and started again while a host publishes and handles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_loses_nothing() {
    const MESSAGES: u64 = 600;
    let mut server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let published = Arc::<AtomicU64>::default();
    let (publisher, counted) = (bus.clone(), Arc::clone(&published));
    let publishing = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let key = if number % 2 == 0 { "even" } else { "odd" };
            publish(&publisher, "orders.a", keyed(key, number)).await;
            counted.fetch_add(1, Ordering::Release);
        }
    });
    let mut receiver = slot.receiver();
    let (handled, mut told) = mpsc::unbounded_channel();
    // On and on: an acknowledgement that was lost with the server brings its message back.
    let handling = tokio::spawn(async move {
        loop {
            handled.send(take(&mut receiver).await.0).unwrap();
            receiver.settle(Settlement::Done);
        }
    });
    for restart_at in [MESSAGES / 4, MESSAGES / 2] {
        until("some are published", async || published.load(Ordering::Acquire) >= restart_at).await;
        server.restart();
    }
    publishing.await.unwrap();
    let mut seen = BTreeSet::new();
    let mut by_key = [Vec::new(), Vec::new()];
    while (seen.len() as u64) < MESSAGES {
        let number = timeout(PATIENCE, told.recv()).await.expect("all come in time").unwrap();
        if seen.insert(number) {
            by_key[usize::from(number % 2 == 1)].push(number);
        }
    }
    assert!(by_key.iter().all(|numbers| numbers.is_sorted()), "a key keeps its order: {by_key:?}");
    until("all of it is acknowledged", async || {
        let consumers = consumers(&server.url(), STREAM).await;
        consumers.iter().all(|it| it.num_pending == 0 && it.num_ack_pending == 0)
    })
    .await;
    handling.abort();
}

#[tokio::test]
async fn what_is_published_while_the_server_is_away_is_there_when_it_is_back() {
    let mut server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let mut heard = bus.subscribe(&pattern("test.>"), SubscribeOptions::default()).await.unwrap();
    publish(&bus, "orders.a", message(1)).await;
    // What is on its way when the server goes comes again once its time is up, after others.
    until("the slot has it", async || slot.stats().held == 1).await;
    server.restart();
    // The first of them may have gone into the connection that was cut off.
    bus.try_publish(&topic("orders.a"), message(2)).unwrap();
    publish(&bus, "orders.a", message(3)).await;
    let (mut receiver, mut taken) = (slot.receiver(), Vec::new());
    while taken.len() < 3 {
        let (number, _) = take(&mut receiver).await;
        receiver.settle(Settlement::Done);
        // What was on its way when the server went comes twice.
        if !taken.contains(&number) {
            taken.push(number);
        }
    }
    assert_eq!(taken, [1, 2, 3]);
    publish(&bus, "test.a", message(4)).await;
    assert_eq!(heard.next().await.unwrap().message.json::<u64>().unwrap(), 4);
    bus.close();
    bus.closed().await;
}

#[tokio::test]
async fn headers_count_in_what_the_server_takes() {
    let server = NatsServer::start_with("max_payload: 65536");
    let bus = host(&server.url()).await;
    let mut heard = bus.subscribe(&pattern("test.>"), SubscribeOptions::default()).await.unwrap();
    let with_field = |len: usize| {
        let message = BaseMessage::builder("test").form(Form::Json).data(&1);
        message.field("Note", &"x".repeat(len)).build().unwrap()
    };
    for to in ["test.a", "orders.a"] {
        let refused = bus.publish(&topic(to), with_field(65_536)).await;
        assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    }
    // Neither that nor what is as large as it may be keeps others from being published.
    for message in [with_field(65_000), message(2)] {
        publish(&bus, "test.a", message).await;
    }
    for number in [1, 2] {
        let received = timeout(PATIENCE, heard.next()).await.expect("in time").unwrap();
        assert_eq!(received.message.json::<u64>().unwrap(), number);
    }
}
