//! Durable topics of the local transport: what the log keeps for whom, and what publishers are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_bus::{
    DurableLog, DurableOptions, LocalOptions, LocalTransport, LogOptions, OpenError, Receiver,
    Settlement, Slot, SlotOptions, SubscribeOptions, Transport,
};
use echo_sdk::{BaseMessage, Overflow, Pattern, PublishError, Received, Topic};

fn small() -> LogOptions {
    LogOptions { segment_size: 64 << 10, max_bytes: 4 << 20, ..LogOptions::default() }
}

/// A bus on the log in a directory; one that was let go of closes it first.
async fn bus(dir: &Path, log: LogOptions) -> LocalTransport {
    LocalTransport::durable(LocalOptions::default(), open(dir, log).await).unwrap()
}

async fn open(dir: &Path, log: LogOptions) -> DurableLog {
    let topics = vec![Pattern::new("kept.>").unwrap()];
    let options = DurableOptions { topics, dir: dir.to_owned(), log };
    let began = Instant::now();
    loop {
        match DurableLog::open(options.clone()) {
            Err(OpenError::InUse { .. }) if began.elapsed() < Duration::from_secs(10) => {
                tokio::task::yield_now().await;
            }
            opened => {
                let (log, report) = opened.unwrap();
                assert_eq!(report.damage, []);
                return log;
            }
        }
    }
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn message(data: u64) -> BaseMessage {
    BaseMessage::builder("test").data(&data).build().unwrap()
}

async fn slot(bus: &LocalTransport, name: &str, pattern: &str, capacity: usize) -> Arc<dyn Slot> {
    slot_with(bus, name, pattern, capacity, Overflow::Block).await
}

async fn slot_with(
    bus: &LocalTransport,
    name: &str,
    pattern: &str,
    capacity: usize,
    overflow: Overflow,
) -> Arc<dyn Slot> {
    let patterns = vec![Pattern::new(pattern).unwrap()];
    bus.open_slot(SlotOptions { name: name.into(), patterns, capacity, overflow }).await.unwrap()
}

async fn take(receiver: &mut Box<dyn Receiver>) -> (u64, u16) {
    let taken = std::future::poll_fn(|cx| receiver.poll_recv(cx));
    let taken = tokio::time::timeout(Duration::from_secs(30), taken).await;
    assert!(taken.unwrap(), "the slot is open");
    let message = &receiver.current().unwrap().message;
    (message.json().unwrap(), message.attempt())
}

async fn take_all(slot: &Arc<dyn Slot>, count: usize) -> Vec<u64> {
    let mut receiver = slot.receiver();
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(take(&mut receiver).await.0);
        receiver.settle(Settlement::Done);
    }
    receiver.flush();
    all
}

async fn publish(bus: &LocalTransport, to: &str, data: u64) {
    bus.publish(&topic(to), message(data)).await.unwrap();
}

fn to(topic_text: &str, message: BaseMessage) -> Received {
    Received { topic: topic(topic_text), message }
}

/// Whether something waits in the log for a slot, whose bus is gone.
async fn waits(dir: &Path, name: &str) -> bool {
    let bus = bus(dir, small()).await;
    let slot = slot(&bus, name, "kept.nothing", 10).await;
    let mut receiver = slot.receiver();
    let taken = std::future::poll_fn(|cx| receiver.poll_recv(cx));
    tokio::time::timeout(Duration::from_millis(100), taken).await.is_ok()
}

#[tokio::test]
async fn a_slow_slot_holds_nobody_up_and_gets_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path(), small()).await;
    let slow = slot(&bus, "slow", "kept.a", 4).await;
    let quick = slot(&bus, "quick", "kept.a", 1000).await;
    for data in 0..300 {
        publish(&bus, "kept.a", data).await;
    }
    assert_eq!(take_all(&quick, 300).await, (0..300).collect::<Vec<_>>());
    assert_eq!(slow.stats().held, 4);
    // What comes while it catches up stands behind.
    let mut all = take_all(&slow, 100).await;
    publish(&bus, "kept.a", 300).await;
    all.extend(take_all(&slow, 201).await);
    assert_eq!(all, (0..=300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_keep_their_order_between_publishers_and_feeder() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path(), LogOptions { max_bytes: 64 << 20, ..small() }).await;
    let slot = slot(&bus, "one", "kept.>", 8).await;
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let (key, topic) = (format!("k{publisher}"), topic("kept.a"));
                for data in 0..500 {
                    let data = publisher * 1000 + data;
                    let message = BaseMessage::builder("test").key(&key).data(&data).build();
                    bus.publish(&topic, message.unwrap()).await.unwrap();
                }
            })
        })
        .collect();
    let all = take_all(&slot, 2000).await;
    for publisher in publishers {
        publisher.await.unwrap();
    }
    for publisher in 0..4 {
        let own: Vec<_> = all.iter().filter(|data| **data / 1000 == publisher).collect();
        assert!(own.is_sorted() && own.len() == 500, "{own:?}");
    }
}

#[tokio::test]
async fn a_slot_that_is_gone_keeps_its_messages_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let one = bus(dir.path(), small()).await;
    let gone = slot(&one, "gone", "kept.>", 10).await;
    publish(&one, "kept.a", 1).await;
    gone.close();
    publish(&one, "kept.a", 2).await;
    drop((gone, one));

    let log = open(dir.path(), small()).await;
    assert!(!log.forget("unknown").await.unwrap());
    let two = LocalTransport::durable(LocalOptions::default(), log).unwrap();
    publish(&two, "kept.a", 3).await;
    let back = slot(&two, "gone", "kept.>", 10).await;
    assert_eq!(take_all(&back, 2).await, [1, 2]);
    drop((back, two));

    let log = open(dir.path(), small()).await;
    assert!(log.forget("gone").await.unwrap());
    drop(log);
    assert!(!waits(dir.path(), "gone").await);
}

#[tokio::test]
async fn what_a_handler_makes_of_a_message_is_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let one = bus(dir.path(), small()).await;
    let (input, output) =
        (slot(&one, "in", "kept.in", 10).await, slot(&one, "out", "kept.out", 10).await);
    let mut beside =
        one.subscribe(&Pattern::new("plain").unwrap(), SubscribeOptions::default()).await.unwrap();
    publish(&one, "kept.in", 1).await;
    publish(&one, "kept.in", 2).await;
    let mut receiver = input.receiver();
    take(&mut receiver).await;
    let effects = vec![to("kept.out", message(10)), to("plain", message(11))];
    receiver.commit(effects).await.unwrap();
    assert!(receiver.current().is_none());
    // It is handed on before it counts as done here.
    take(&mut receiver).await;
    receiver.settle(Settlement::Again(Duration::ZERO));
    assert_eq!(beside.next().await.unwrap().message.json::<u64>().unwrap(), 11);
    assert_eq!(take_all(&output, 1).await, [10]);
    receiver.bury_first(to("dead.in.kept.in", message(20))).await;
    drop(receiver);
    drop((input, output, one));
    for name in ["in", "out"] {
        assert!(!waits(dir.path(), name).await, "{name}");
    }
}

/// Takes what is next in hand and buries it.
trait BuryFirst {
    async fn bury_first(&mut self, letter: Received);
}

impl BuryFirst for Box<dyn Receiver> {
    async fn bury_first(&mut self, letter: Received) {
        take(self).await;
        self.bury(letter).await.unwrap();
        self.flush();
    }
}

#[tokio::test]
async fn attempts_and_delays_outlive_the_bus() {
    let dir = tempfile::tempdir().unwrap();
    let one = bus(dir.path(), small()).await;
    let first = slot(&one, "one", "kept.>", 10).await;
    publish(&one, "kept.a", 1).await;
    publish(&one, "kept.a", 2).await;
    let mut receiver = first.receiver();
    assert_eq!(take(&mut receiver).await, (1, 1));
    receiver.settle(Settlement::Again(Duration::ZERO));
    assert_eq!(take(&mut receiver).await, (2, 1));
    let asked = Instant::now();
    receiver.settle(Settlement::Again(Duration::from_millis(700)));
    assert_eq!(take(&mut receiver).await, (1, 2));
    receiver.settle(Settlement::Again(Duration::ZERO));
    drop((receiver, first, one));

    let two = bus(dir.path(), small()).await;
    let again = slot(&two, "one", "kept.>", 10).await;
    let mut receiver = again.receiver();
    assert_eq!(take(&mut receiver).await, (1, 3));
    receiver.settle(Settlement::Done);
    assert_eq!(again.stats().delayed, 1);
    assert_eq!(take(&mut receiver).await, (2, 2));
    assert!(asked.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn an_id_counts_once_at_a_place_over_restarts_too() {
    let dir = tempfile::tempdir().unwrap();
    let twice = message(1);
    for round in 0..2 {
        let bus = bus(dir.path(), small()).await;
        let slot = slot(&bus, "one", "kept.>", 10).await;
        let mut plain = bus
            .subscribe(&Pattern::new("kept.a").unwrap(), SubscribeOptions::default())
            .await
            .unwrap();
        bus.publish(&topic("kept.a"), twice.clone()).await.unwrap();
        bus.publish(&topic("kept.a"), twice.clone()).await.unwrap();
        // Forwarded, it is another publish.
        bus.publish(&topic("kept.b"), twice.clone().with_hops(1 + round)).await.unwrap();
        publish(&bus, "kept.a", 2).await;
        let expected: &[u64] = if round == 0 { &[1, 1, 2] } else { &[1, 2] };
        assert_eq!(take_all(&slot, expected.len()).await, expected);
        assert_eq!(slot.stats().held, 0);
        let heard = plain.next().await.unwrap().message.json::<u64>().unwrap();
        assert_eq!(heard, if round == 0 { 1 } else { 2 });
    }
}

#[tokio::test]
async fn drops_are_done_with_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let one = bus(dir.path(), small()).await;
    let oldest = slot_with(&one, "oldest", "kept.>", 2, Overflow::DropOldest).await;
    let newest = slot_with(&one, "newest", "kept.>", 2, Overflow::DropNewest).await;
    for data in 0..5 {
        publish(&one, "kept.a", data).await;
    }
    assert_eq!((oldest.stats().dropped, newest.stats().dropped), (3, 3));
    drop((oldest, newest, one));
    let two = bus(dir.path(), small()).await;
    for (name, expected) in [("oldest", [3, 4]), ("newest", [0, 1])] {
        let slot = slot(&two, name, "kept.>", 10).await;
        assert_eq!(take_all(&slot, 2).await, expected, "{name}");
        assert_eq!(slot.stats().held, 0);
    }
}

/// A log that is full tells publishers, and nothing of what it promised is lost, nor handled twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_log_tells_publishers_and_loses_nothing() {
    const LARGE: usize = 4000;
    let dir = tempfile::tempdir().unwrap();
    let log = LogOptions { max_bytes: 512 << 10, remembered_ids: 8, ..small() };
    let one = bus(dir.path(), log.clone()).await;
    let input = slot(&one, "in", "kept.in", 1000).await;
    let output = slot(&one, "out", "kept.out", 1000).await;
    let large = |data: u64| {
        let builder = BaseMessage::builder("test").data(&data);
        builder.field("Padding", &"x".repeat(LARGE)).build().unwrap()
    };
    let mut confirmed = BTreeSet::new();
    let error = loop {
        let data = confirmed.len() as u64;
        match one.publish(&topic("kept.in"), message(data)).await {
            Ok(()) if data < 200 => confirmed.insert(data),
            Ok(()) => panic!("{data} was not to come"),
            Err(error) => break Some(error),
        };
        if data == 199 {
            break None;
        }
    };
    assert!(error.is_none(), "{error:?}");
    // Several hands at once make more of it than there is room for: they wait, and then let go of it.
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let mut receiver = input.receiver();
            tokio::spawn(async move {
                loop {
                    let (data, _) = take(&mut receiver).await;
                    let effects = vec![to("kept.out", large(data))];
                    let committing = receiver.commit(effects);
                    match tokio::time::timeout(Duration::from_millis(500), committing).await {
                        Ok(committed) => committed.unwrap(),
                        Err(_) => return,
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let refused = one.publish(&topic("kept.in"), large(1000)).await.unwrap_err();
    assert!(refused.to_string().contains("max_bytes"), "{refused}");
    one.closed().await;
    drop((input, output, one));

    // What is handled makes room, within the same quota.
    let two = bus(dir.path(), log).await;
    let mut found = Vec::new();
    for name in ["in", "out"] {
        let slot = slot(&two, name, &format!("kept.{name}"), 1000).await;
        let mut receiver = slot.receiver();
        loop {
            let next = std::future::poll_fn(|cx| receiver.poll_recv(cx));
            if tokio::time::timeout(Duration::from_millis(300), next).await.is_err() {
                break;
            }
            found.push(receiver.current().unwrap().message.json::<u64>().unwrap());
            receiver.settle(Settlement::Done);
        }
    }
    found.sort_unstable();
    assert_eq!(found, confirmed.into_iter().collect::<Vec<_>>());
    // The log frees its files between batches.
    let began = Instant::now();
    while let Err(error) = two.publish(&topic("kept.in"), large(2000)).await {
        assert!(error.to_string().contains("max_bytes"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{error}");
        two.closed().await;
    }
}

#[test]
fn publishers_are_told_when_the_runtime_of_the_bus_ends() {
    let dir = tempfile::tempdir().unwrap();
    let of_bus = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bus = of_bus.block_on(bus(dir.path(), small()));
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(publish(&bus, "kept.a", 1));
    of_bus.shutdown_timeout(Duration::from_secs(10));
    let publishing = async {
        let kept = topic("kept.a");
        let published = bus.publish(&kept, message(2));
        tokio::time::timeout(Duration::from_secs(10), published).await.unwrap()
    };
    assert!(matches!(other.block_on(publishing), Err(PublishError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_is_emptied_by_a_slot_that_publishes_for_what_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogOptions { max_bytes: 1 << 20, remembered_ids: 8, ..small() };
    let bus = bus(dir.path(), log).await;
    let first = slot(&bus, "first", "kept.a", 64).await;
    let second = slot(&bus, "second", "kept.b.too", 64).await;
    let data = "x".repeat(500);
    let large = || BaseMessage::builder("test").data(&data).build().unwrap();
    let mut published = 0;
    while bus.publish(&topic("kept.a"), large()).await.is_ok() {
        published += 1;
    }
    assert!(published > 1000, "{published}");
    let forwarding = async {
        let mut receiver = first.receiver();
        // One whose record found no room after all comes again.
        while std::future::poll_fn(|cx| receiver.poll_recv(cx)).await {
            let effect = to("kept.b.too", receiver.current().unwrap().message.clone());
            receiver.commit(vec![effect]).await.unwrap();
        }
    };
    let taking = async {
        let mut receiver = second.receiver();
        for _ in 0..published {
            assert!(std::future::poll_fn(|cx| receiver.poll_recv(cx)).await);
            receiver.settle(Settlement::Done);
        }
        receiver.flush();
    };
    let both = async {
        tokio::select! {
            () = forwarding => panic!("the slot is open"),
            () = taking => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
}
