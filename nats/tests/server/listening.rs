//! Plain subscriptions: what waits for one that nobody reads.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use echo_bus::{SubscribeOptions, Transport};
use echo_nats::NatsTransport;
use echo_sdk::{Overflow, Subscription};

use crate::server::NatsServer;
use crate::support::*;

const BURST: u64 = 1000;

async fn subscribe(bus: &NatsTransport, capacity: usize, overflow: Overflow) -> Subscription {
    bus.subscribe(&pattern("test.>"), SubscribeOptions { capacity, overflow }).await.unwrap()
}

/// What can be read without waiting.
fn read_all(subscription: &mut Subscription) -> Vec<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Some(received)) = subscription.poll_next(&mut cx) {
        all.push(received.message.json().unwrap());
    }
    all
}

/// Publishes bursts for a subscription that is left alone meanwhile, until it holds ten of the last one.
async fn left_with(overflow: Overflow, expected: std::ops::Range<u64>) {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let mut alone = subscribe(&bus, 10, overflow).await;
    let mut read = subscribe(&bus, 65_536, Overflow::Block).await;
    until("the others are dropped", async || {
        for number in 0..BURST {
            publish(&bus, "test.a", message(number)).await;
        }
        while read.next().await.unwrap().message.json::<u64>().unwrap() < BURST - 1 {}
        // It is about how long nobody reads.
        tokio::time::sleep(Duration::from_millis(200)).await;
        read_all(&mut alone).into_iter().eq(expected.clone())
    })
    .await;
    publish(&bus, "test.a", message(BURST)).await;
    assert_eq!(alone.next().await.unwrap().message.json::<u64>().unwrap(), BURST);
}

#[tokio::test]
async fn a_subscription_that_nobody_reads_keeps_its_newest_messages() {
    left_with(Overflow::DropOldest, BURST - 10..BURST).await;
}

#[tokio::test]
async fn one_that_drops_the_newest_keeps_its_oldest() {
    left_with(Overflow::DropNewest, 0..10).await;
}

#[tokio::test]
async fn what_waits_for_a_subscription_can_be_read_after_the_bus_is_closed() {
    let server = NatsServer::start();
    let bus = host(&server.url()).await;
    let mut waiting = subscribe(&bus, 10_000, Overflow::Block).await;
    let mut read = subscribe(&bus, 10_000, Overflow::DropOldest).await;
    for number in 0..=BURST {
        publish(&bus, "test.a", message(number)).await;
    }
    // All but the last have come to both then.
    while read.next().await.unwrap().message.json::<u64>().unwrap() < BURST {}
    bus.close();
    bus.closed().await;
    assert!(read.next().await.is_none());
    for number in 0..BURST {
        let received = waiting.next().await.unwrap();
        assert_eq!(received.message.json::<u64>().unwrap(), number);
    }
    while waiting.next().await.is_some() {}
}
