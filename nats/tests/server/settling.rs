//! What the server is told of messages.

use std::time::Duration;

use echo_bus::Settlement;
use echo_nats::NatsTransport;
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::server::NatsServer;
use crate::support::*;

#[tokio::test]
async fn a_confirmed_acknowledgement_is_with_the_server() {
    let server = NatsServer::start();
    let mut options = options(&server.url());
    options.durable.confirm_acks = true;
    let bus = NatsTransport::connect(options).await.unwrap();
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let mut receiver = slot.receiver();
    let tool = tool(&server.url()).await;
    let mut acks = tool.subscribe("$JS.ACK.ORDERS.>").await.unwrap();
    listens(&tool).await;
    publish(&bus, "orders.a", message(1)).await;
    take(&mut receiver).await;
    receiver.commit(Vec::new()).await.unwrap();
    let pending = |made: &[async_nats::jetstream::consumer::Info]| {
        made.iter().map(|it| it.num_ack_pending).sum::<usize>()
    };
    assert_eq!(pending(&consumers(&server.url(), STREAM).await), 0, "known once commit returns");
    let ack = acks.next().await.unwrap();
    assert_eq!(&ack.payload[..], b"+ACK");
    assert!(ack.reply.is_some(), "an answer was asked for");
    assert_eq!(stream_info(&server.url(), STREAM).await.state.messages, 0, "nobody needs it");
}

#[tokio::test]
async fn a_retry_waits_at_the_server() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let mut receiver = slot.receiver();
    let tool = tool(&server.url()).await;
    let mut acks = tool.subscribe("$JS.ACK.ORDERS.>").await.unwrap();
    listens(&tool).await;
    publish(&bus, "orders.a", message(1)).await;
    assert_eq!(take(&mut receiver).await, (1, 1));
    let delay = Duration::from_millis(400);
    let asked = Instant::now();
    receiver.settle(Settlement::Again(delay));
    assert_eq!(&acks.next().await.unwrap().payload[..], b"-NAK {\"delay\":400000000}");
    assert_eq!(slot.stats().held, 0, "this host holds it no more");
    assert_eq!(take(&mut receiver).await, (1, 2));
    assert!(asked.elapsed() >= delay);
    receiver.settle(Settlement::Done);
}

#[tokio::test]
async fn a_dead_letter_is_stored_and_then_its_message_is_terminated() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let mut receiver = slot.receiver();
    let tool = tool(&server.url()).await;
    let mut terminated =
        tool.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>").await.unwrap();
    listens(&tool).await;
    publish(&bus, "orders.a", message(7)).await;
    take(&mut receiver).await;
    receiver.bury(to("dead.one.orders.a", message(7))).await.unwrap();
    assert!(receiver.current().is_none());
    let advisory = terminated.next().await.unwrap();
    assert!(advisory.subject.contains("ORDERS.one-"), "{}", advisory.subject);
    assert_eq!(stream_info(&server.url(), "ECHO_DEAD").await.state.messages, 1);
    assert_eq!(stream_info(&server.url(), STREAM).await.state.messages, 0);
    assert!(stays_empty(&mut receiver, Duration::from_millis(200)).await);
}

/// The acknowledgement is lost on its way; what was forwarded before is not forwarded a second time.
#[tokio::test]
async fn what_was_forwarded_is_stored_once_however_often_its_message_comes() {
    let server = NatsServer::start();
    let tool = tool(&server.url()).await;
    let mut forwarded = tool.subscribe("orders.next").await.unwrap();
    listens(&tool).await;
    let proxy = crate::wire::Proxy::start(server.port(), b"+ACK").await;
    let bus = host(&proxy.url()).await;
    let slot = slot(&bus, "one", &["orders.first"]).await;
    let mut receiver = slot.receiver();
    publish(&bus, "orders.first", message(1)).await;
    assert_eq!(take(&mut receiver).await, (1, 1));
    receiver.commit(vec![to("orders.next", message(2))]).await.unwrap();
    assert_eq!(take(&mut receiver).await, (1, 2), "the server knows of no acknowledgement");
    assert!(proxy.has_cut(), "the acknowledgement was cut off");
    receiver.commit(vec![to("orders.next", message(2))]).await.unwrap();
    let ids: Vec<String> = [forwarded.next().await, forwarded.next().await]
        .into_iter()
        .map(|it| it.unwrap().headers.unwrap().get("Nats-Msg-Id").unwrap().to_string())
        .collect();
    assert_eq!(ids[0], ids[1], "published twice under one id");
    let stored = stream_info(&server.url(), STREAM).await.state;
    assert_eq!(stored.last_sequence, 2, "the first message and one that it led to");
}

#[tokio::test]
async fn a_message_in_hand_is_kept_alive_for_as_long_as_it_takes() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let here = slot(&one, "one", &["orders.>"]).await;
    let mut in_hand = here.receiver();
    publish(&one, "orders.a", message(1)).await;
    assert_eq!(take(&mut in_hand).await, (1, 1));
    let there = slot(&other, "one", &["orders.>"]).await;
    let mut idle = there.receiver();
    let longer = Duration::from_secs(5);
    assert!(longer > 2 * options("").durable.ack_wait);
    assert!(stays_empty(&mut idle, longer).await, "another host got it meanwhile");
    in_hand.settle(Settlement::Done);
    in_hand.flush();
    until("it is acknowledged", async || {
        stream_info(&server.url(), STREAM).await.state.messages == 0
    })
    .await;
    assert!(stays_empty(&mut idle, Duration::from_millis(100)).await);
}
