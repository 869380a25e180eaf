//! A host on NATS is gone between putting a state and acknowledging its message: whoever gets the message next finishes
//! it, and no handler runs for it again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use echo_bus::state::{Change, CommitError};
use echo_bus::{Settlement, SlotOptions, SubscribeOptions, Transport};
use echo_core::{Config, Host};
use echo_nats::{DurableOptions, DurableTopics, NatsOptions, NatsTransport};
use echo_sdk::{
    BaseMessage, Manifest, Overflow, Pattern, ProcessingStatus, Received, StateError, StateKind,
    Topic,
};
use echo_tests::scripted::{WithHandler, handler, manifest, workers};
use echo_tests::server::NatsServer;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(url: &str) -> NatsTransport {
    let durable = |stream: &str, pattern: &str| DurableTopics {
        stream: stream.into(),
        patterns: vec![Pattern::new(pattern).unwrap()],
    };
    let durable = DurableOptions {
        topics: vec![durable("WORK", "work.>"), durable("DONE", "done.>")],
        ack_wait: Duration::from_secs(1),
        ..DurableOptions::default()
    };
    let options = NatsOptions {
        urls: vec![url.to_owned()],
        durable,
        // What cannot be published is given up soon.
        publish_timeout: Duration::from_millis(300),
        ..NatsOptions::default()
    };
    NatsTransport::connect(options).await.unwrap()
}

fn keyed(number: u64) -> BaseMessage {
    BaseMessage::builder("test").key("k").data(&number).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_its_state_has_taken_in_is_finished_and_not_handled_again() {
    let server = NatsServer::start();
    let url = server.url();
    let (work, done) = (Topic::new("work.a").unwrap(), Topic::new("done.a").unwrap());

    // The first host puts the state of message 1, and can neither publish what follows nor acknowledge.
    let first = connect(&url).await;
    let slot = first.open_slot(SlotOptions {
        name: "counter".into(),
        patterns: vec![Pattern::new("work.>").unwrap()],
        capacity: 10,
        overflow: Overflow::Block,
    });
    let slot = slot.await.unwrap();
    first.publish(&work, keyed(1)).await.unwrap();
    let mut receiver = slot.receiver();
    assert!(timeout(PATIENCE, std::future::poll_fn(|cx| receiver.poll_recv(cx))).await.unwrap());
    let origin = receiver.origin().unwrap();
    let context = jetstream::new(async_nats::connect(&url).await.unwrap());
    context.delete_stream("DONE").await.unwrap();
    let base = first.states("counter").load(Some("k")).await.unwrap();
    let mut entries = base.entries.clone();
    entries.set("count", Some(b"1".as_slice().into())).unwrap();
    let effect = Received { topic: done, message: keyed(10) };
    let committed = receiver.commit_state(vec![effect], Change { base, entries }).await;
    assert!(
        matches!(committed, Err(CommitError::State(StateError::Failed(_)))),
        "nobody can publish what follows: {committed:?}"
    );
    let left = first.states("counter").load(Some("k")).await.unwrap();
    assert_eq!(left.taken(origin).unwrap().len(), 1, "what is to be published");
    receiver.settle(Settlement::Again(Duration::ZERO));
    first.close();
    first.closed().await;
    drop((receiver, slot, first));

    // The second one makes the stream again, and gets the message.
    let second = connect(&url).await;
    let all = Pattern::new("done.>").unwrap();
    let mut out = second.subscribe(&all, SubscribeOptions::default()).await.unwrap();
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let counting = handler(move |context, _, message| {
        let seen_by = seen_by.clone();
        async move {
            let count = context.state().get::<u64>("count").await?.unwrap_or_default();
            context.state().set("count", &(count + 1)).await?;
            context.publish("done.a", keyed(message.json::<u64>()? * 10)).await?;
            seen_by.send((message.json::<u64>()?, count + 1)).unwrap();
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let counter =
        Manifest { state: StateKind::Keyed, ..manifest("counter", &["work.>"], workers(2)) };
    let bus: Arc<dyn Transport> = Arc::new(second.clone());
    let host = Host::builder().config(Config::default()).transport(bus).with(counter, counting);
    let host = host.start().await.unwrap();
    second.publish(&work, keyed(2)).await.unwrap();
    let mut published = Vec::new();
    for _ in 0..2 {
        let received = timeout(PATIENCE, out.next()).await.unwrap().unwrap();
        published.push(received.message.json::<u64>().unwrap());
    }
    assert_eq!(published, [10, 20], "what followed from the first message came out, once");
    assert_eq!(seen.recv().await, Some((2, 2)), "no handler had the first one");
    assert!(host.shutdown().await.is_clean());
    assert!(seen.try_recv().is_err());

    // Of the first message that is left by which a host would be recognised that still had it.
    let third = connect(&url).await;
    let state = third.states("counter").load(Some("k")).await.unwrap();
    assert_eq!(state.done, [origin]);
    assert_eq!(state.taken.len(), 1, "the last one, whose acknowledgement came after it");
    assert_eq!(state.entries.get("count").map(|json| &**json), Some(&b"2"[..]));
    let mut stream = context.get_stream("WORK").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 0);
}
