//! Streams and consumers at the server.

use std::time::Duration;

use async_nats::jetstream::stream::{RetentionPolicy, StorageType};
use echo_bus::{Receiver, Settlement, Transport};
use echo_nats::{DurableOptions, NatsError, NatsTransport, Storage};

use crate::server::NatsServer;
use crate::support::*;

#[tokio::test]
async fn a_stream_is_made_as_the_options_say() {
    let server = NatsServer::start();
    let mut options = options(&server.url());
    options.durable.storage = Storage::Memory;
    options.durable.max_age = Some(Duration::from_secs(3600));
    options.durable.max_bytes = Some(1 << 20);
    let _host = NatsTransport::connect(options).await.unwrap();
    let made = stream_info(&server.url(), STREAM).await.config;
    assert_eq!(made.subjects, ["orders.>", "_ECHO.K.*.orders.>"]);
    assert_eq!((made.storage, made.retention), (StorageType::Memory, RetentionPolicy::Interest));
    assert_eq!((made.max_age, made.max_bytes), (Duration::from_secs(3600), 1 << 20));
    assert_eq!(made.duplicate_window, Duration::from_secs(120));
    let dead = stream_info(&server.url(), "ECHO_DEAD").await.config;
    assert_eq!((dead.subjects[0].as_str(), dead.retention), ("dead.>", RetentionPolicy::Limits));
}

#[tokio::test]
async fn a_host_that_asks_for_another_stream_is_told_what_differs() {
    let server = NatsServer::start();
    let _first = host(&server.url()).await;
    let _same = host(&server.url()).await;
    let mut other = options(&server.url());
    other.durable.topics[0].patterns.push(pattern("bills.>"));
    let error = NatsTransport::connect(other).await.unwrap_err();
    assert!(matches!(error, NatsError::StreamDiffers { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("`ORDERS`") && text.contains("bills.>"), "{text}");
    let mut partitions = options(&server.url());
    partitions.durable.partitions = 4;
    let text = NatsTransport::connect(partitions).await.unwrap_err().to_string();
    assert!(text.contains("4 partitions"), "{text}");
    let mut overlapping = options(&server.url());
    overlapping.durable.topics[0].stream = "OTHER".into();
    let error = NatsTransport::connect(overlapping).await.unwrap_err();
    assert!(matches!(error, NatsError::StreamOverlap { .. }), "{error:?}");
}

#[tokio::test]
async fn where_jetstream_is_off_only_what_does_not_last_works() {
    let accounts = "accounts { A { users: [{ user: a, password: b }] } }";
    let server = NatsServer::start_with(accounts);
    let url = server.url().replace("nats://", "nats://a:b@");
    let error = NatsTransport::connect(options(&url)).await.unwrap_err();
    assert!(matches!(&error, NatsError::NoJetStream { stream } if stream == STREAM), "{error:?}");
    let mut without = options(&url);
    without.durable = DurableOptions::default();
    let bus = NatsTransport::connect(without).await.unwrap();
    assert!(!bus.features().durable);
    let slot = slot(&bus, "one", &["orders.>"]).await;
    publish(&bus, "orders.a", message(1)).await;
    assert_eq!(take_all(&mut slot.receiver(), 1).await, [1]);
}

#[tokio::test]
async fn a_slot_has_one_durable_consumer_and_one_for_each_partition_of_keys() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let here = slot(&one, "audit.log", &["orders.*", "orders.>", "test.>"]).await;
    let there = slot(&other, "audit.log", &["orders.*", "orders.>", "test.>"]).await;
    let made = consumers(&server.url(), STREAM).await;
    assert_eq!(made.len(), 17, "hosts of a slot share its consumers");
    let plain = made.iter().filter(|it| it.config.filter_subject == "orders.>");
    assert_eq!(plain.count(), 1, "a pattern that another covers has none");
    for consumer in &made {
        let config = &consumer.config;
        assert!(config.durable_name.as_ref().unwrap().starts_with("audit_log-"));
        assert_eq!(
            (config.deliver_subject.as_ref(), config.ack_wait),
            (None, Duration::from_secs(2))
        );
        let at_a_time = if config.filter_subject.starts_with("_ECHO") { 1 } else { -1 };
        assert_eq!(config.max_ack_pending, at_a_time, "{}", config.filter_subject);
    }
    drop((here, there, one, other));
    assert_eq!(consumers(&server.url(), STREAM).await.len(), 17, "they outlive their hosts");
}

#[tokio::test]
async fn a_full_stream_refuses_and_drops_nothing() {
    let server = NatsServer::start();
    let mut options = options(&server.url());
    options.durable.max_bytes = Some(20_000);
    let bus = NatsTransport::connect(options).await.unwrap();
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let mut taken = 0;
    let refused = loop {
        match bus.publish(&topic("orders.a"), message(taken)).await {
            Ok(()) => taken += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(taken > 10 && refused.contains("maximum bytes exceeded"), "{taken}: {refused}");
    let all = take_all(&mut slot.receiver(), usize::try_from(taken).unwrap()).await;
    assert_eq!(all, (0..taken).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_is_too_old_is_gone() {
    let server = NatsServer::start();
    let mut options = options(&server.url());
    options.durable.max_age = Some(Duration::from_secs(1));
    let bus = NatsTransport::connect(options).await.unwrap();
    drop(slot(&bus, "one", &["orders.>"]).await);
    publish(&bus, "orders.a", message(1)).await;
    assert_eq!(stream_info(&server.url(), STREAM).await.state.messages, 1);
    until("it is gone", async || stream_info(&server.url(), STREAM).await.state.messages == 0)
        .await;
}

#[tokio::test]
async fn what_is_kept_in_memory_ends_with_the_server() {
    for (storage, is_kept) in [(Storage::File, true), (Storage::Memory, false)] {
        let mut server = NatsServer::start();
        let mut options = options(&server.url());
        options.durable.storage = storage;
        let bus = NatsTransport::connect(options).await.unwrap();
        let slot = slot(&bus, "one", &["orders.>"]).await;
        publish(&bus, "orders.a", message(1)).await;
        drop((slot, bus));
        server.restart();
        let context = async_nats::jetstream::new(tool(&server.url()).await);
        assert_eq!(context.get_stream(STREAM).await.is_ok(), is_kept, "{storage:?}");
    }
}

#[tokio::test]
async fn a_server_without_a_cluster_keeps_no_replicas() {
    let server = NatsServer::start();
    let mut options = options(&server.url());
    options.durable.replicas = 3;
    let error = NatsTransport::connect(options).await.unwrap_err().to_string();
    assert!(error.contains(STREAM) && error.contains("replicas"), "{error}");
}

#[tokio::test]
async fn a_host_takes_no_more_ahead_than_it_is_told() {
    let server = NatsServer::start();
    let mut options = options(&server.url());
    options.durable.prefetch = 10;
    let bus = NatsTransport::connect(options).await.unwrap();
    let slot = slot(&bus, "one", &["orders.>"]).await;
    bus.publish_all((0..100).map(|number| to("orders.a", message(number))).collect())
        .await
        .unwrap();
    let out = async || {
        let all = consumers(&server.url(), STREAM).await;
        all.iter().map(|it| it.num_ack_pending).sum::<usize>()
    };
    until("it has taken as many as it may", async || out().await == 10).await;
    let mut receiver = slot.receiver();
    for number in 0..100 {
        assert_eq!(take(&mut receiver).await.0, number);
        assert!(out().await <= 10);
        receiver.settle(Settlement::Done);
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    type Change = fn(&mut DurableOptions);
    let server = NatsServer::start();
    let refused: [(&str, Change); 4] = [
        ("partitions", |it| it.partitions = 0),
        ("prefetch", |it| it.prefetch = 0),
        ("max_age", |it| it.max_age = Some(Duration::from_millis(1))),
        ("max_bytes", |it| it.max_bytes = Some(0)),
    ];
    for (key, change) in refused {
        let mut options = options(&server.url());
        change(&mut options.durable);
        let error = NatsTransport::connect(options).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
}

#[tokio::test]
async fn hosts_that_share_a_slot_are_behind_together() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let patterns = ["orders.>", "test.>"];
    let (here, there) = (slot(&one, "one", &patterns).await, slot(&other, "one", &patterns).await);
    assert_eq!((here.lag().await, there.lag().await), (Some(0), Some(0)));
    here.pause();
    there.pause();
    for number in 0..20 {
        publish(&one, "orders.a", message(number)).await;
        publish(&one, "orders.b", keyed("k", 100 + number)).await;
    }
    let both = async || (here.lag().await, there.lag().await);
    until("both say 40", async || both().await == (Some(40), Some(40))).await;
    here.resume();
    there.resume();
    let (mut a, mut b) = (here.receiver(), there.receiver());
    tokio::select! {
        _ = async { tokio::join!(drain(&mut a), drain(&mut b)) } => {}
        () = until("all are handled", async || both().await == (Some(0), Some(0))) => {}
    }
    drop(server);
    assert_eq!(here.lag().await, None, "nobody knows");
}

/// Handles what comes, without end.
async fn drain(receiver: &mut Box<dyn Receiver>) {
    loop {
        take_all(receiver, 1).await;
    }
}
