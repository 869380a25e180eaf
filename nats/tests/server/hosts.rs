//! Hosts that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use echo_bus::{Settlement, Transport};
use tokio::sync::mpsc;

use crate::server::NatsServer;
use crate::support::*;

/// Handles with two workers until it is told to go: tells each message's key and number.
async fn work(
    url: String,
    handled: mpsc::UnboundedSender<(Option<String>, u64)>,
    mut go: tokio::sync::oneshot::Receiver<()>,
) {
    let bus = host(&url).await;
    let slot = slot(&bus, "one", &["orders.>"]).await;
    let worker = async || {
        let mut receiver = slot.receiver();
        while std::future::poll_fn(|cx| receiver.poll_recv(cx)).await {
            let message = &receiver.current().unwrap().message;
            let told = (message.key().map(str::to_owned), message.json().unwrap());
            tokio::task::yield_now().await;
            handled.send(told).unwrap();
            receiver.settle(Settlement::Done);
        }
    };
    tokio::select! {
        _ = &mut go => {}
        _ = async { tokio::join!(worker(), worker()) } => {}
    }
    bus.close();
    drop(slot);
    bus.closed().await;
}

/// Hosts join and leave while others publish and handle: every message is handled, each key in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_come_and_go_and_the_work_is_done_in_order() {
    const MESSAGES: u64 = 1500;
    let server = NatsServer::start();
    let publisher = host(&server.url()).await;
    let (handled, mut told) = mpsc::unbounded_channel();
    let start = || {
        let (go, gone) = tokio::sync::oneshot::channel();
        (go, tokio::spawn(work(server.url(), handled.clone(), gone)))
    };
    // Until somebody has opened the slot, nobody gets anything.
    drop(slot(&publisher, "one", &["orders.>"]).await);
    let mut hosts = vec![start(), start()];
    let mut seen = BTreeSet::new();
    let mut by_key = BTreeMap::<String, Vec<u64>>::new();
    for number in 0..MESSAGES {
        let message = match number % 5 {
            0 => message(number),
            rest => keyed(&format!("k{rest}"), number),
        };
        publish(&publisher, "orders.a", message).await;
        if number % 250 == 249 {
            let (go, gone) = hosts.remove(0);
            go.send(()).unwrap();
            hosts.push(start());
            gone.await.unwrap();
        }
    }
    while (seen.len() as u64) < MESSAGES {
        let told = tokio::time::timeout(PATIENCE, told.recv()).await;
        let (key, number) = told.unwrap_or_else(|_| panic!("{} handled", seen.len())).unwrap();
        if seen.insert(number)
            && let Some(key) = key
        {
            by_key.entry(key).or_default().push(number);
        }
    }
    assert_eq!(by_key.len(), 4);
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "{by_key:?}");
    for (go, gone) in hosts {
        go.send(()).unwrap();
        gone.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_host_leaves_the_work_to_the_others() {
    let server = NatsServer::start();
    let (slow, quick) = (host(&server.url()).await, host(&server.url()).await);
    let stuck = slot(&slow, "one", &["orders.>"]).await;
    let mut in_hand = stuck.receiver();
    for number in 0..1000 {
        publish(&slow, "orders.a", message(number)).await;
    }
    take(&mut in_hand).await;
    let working = slot(&quick, "one", &["orders.>"]).await;
    let held = stuck.stats().held;
    assert!(held <= 128, "the slow host holds {held} of 1000");
    let mut all = take_all(&mut working.receiver(), 1000 - held).await;
    drop(stuck);
    drop(in_hand);
    all.extend(take_all(&mut working.receiver(), held).await);
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
}

/// A message's attempts are counted over all hosts.
#[tokio::test]
async fn attempts_are_counted_across_hosts() {
    let server = NatsServer::start();
    let (one, other) = (host(&server.url()).await, host(&server.url()).await);
    let here = slot(&one, "one", &["orders.>"]).await;
    let mut receiver = here.receiver();
    publish(&one, "orders.a", keyed("k", 1)).await;
    assert_eq!(take(&mut receiver).await, (1, 1));
    receiver.settle(Settlement::Again(Duration::from_millis(300)));
    receiver.flush();
    one.close();
    drop((receiver, here));
    one.closed().await;
    let there = slot(&other, "one", &["orders.>"]).await;
    assert_eq!(take(&mut there.receiver()).await, (1, 2));
}
