//! Managed state of the local transport: under contention, in little memory, and over restarts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use echo_bus::state::{Change, CommitError, Document, Entries};
use echo_bus::{
    DurableLog, DurableOptions, LocalOptions, LocalTransport, LogOptions, OpenError, Receiver,
    Settlement, Slot, SlotOptions, Transport,
};
use echo_sdk::{BaseMessage, Overflow, Pattern, Received, Topic};

const KEYS: u64 = 20;

fn small() -> LogOptions {
    LogOptions { segment_size: 64 << 10, ..LogOptions::default() }
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

async fn open(dir: &Path, max_state: usize) -> LocalTransport {
    open_with(dir, max_state, small()).await
}

/// A bus on the log in a directory; one that was let go of closes it first.
async fn open_with(dir: &Path, max_state: usize, log: LogOptions) -> LocalTransport {
    let topics = vec![Pattern::new("durable.>").unwrap()];
    let options = DurableOptions { topics, dir: dir.to_owned(), log };
    let began = Instant::now();
    let log = loop {
        match DurableLog::open(options.clone()) {
            Err(OpenError::InUse { .. }) if began.elapsed() < Duration::from_secs(10) => {
                tokio::task::yield_now().await;
            }
            opened => break opened.unwrap().0,
        }
    };
    LocalTransport::durable(LocalOptions { max_state, ..LocalOptions::default() }, log).unwrap()
}

async fn slot(bus: &LocalTransport) -> Arc<dyn Slot> {
    let patterns = vec![Pattern::new("durable.>").unwrap(), Pattern::new("t").unwrap()];
    let (name, capacity, overflow) = ("counter".to_owned(), 10_000, Overflow::Block);
    bus.open_slot(SlotOptions { name, patterns, capacity, overflow }).await.unwrap()
}

async fn slot_of(bus: &LocalTransport, name: &str, pattern: &str) -> Arc<dyn Slot> {
    let (patterns, overflow) = (vec![Pattern::new(pattern).unwrap()], Overflow::Block);
    let options = SlotOptions { name: name.to_owned(), patterns, capacity: 1000, overflow };
    bus.open_slot(options).await.unwrap()
}

fn count(document: &Document) -> u64 {
    document.entries.get("count").map_or(0, |json| serde_json::from_slice(json).unwrap())
}

/// One more in the state of the message in hand, however often somebody else is quicker; gives how often.
async fn add_one(bus: &LocalTransport, receiver: &mut dyn Receiver) -> u64 {
    add_one_with(bus, receiver, Vec::new()).await
}

/// The same, with what follows from the message.
async fn add_one_with(
    bus: &LocalTransport,
    receiver: &mut dyn Receiver,
    effects: Vec<Received>,
) -> u64 {
    let key = receiver.current().unwrap().message.key().map(str::to_owned);
    for conflicts in 0.. {
        let base = bus.states("counter").load(key.as_deref()).await.unwrap();
        let mut entries = base.entries.clone();
        let json = (count(&base) + 1).to_string().into_bytes();
        entries.set("count", Some(json.into())).unwrap();
        // What takes most of the room, so that memory is scarce where it is to be.
        entries.set("text", Some(format!("{:?}", "x".repeat(200)).into_bytes().into())).unwrap();
        match receiver.commit_state(effects.clone(), Change { base, entries }).await {
            Ok(()) => return conflicts,
            Err(CommitError::Conflict) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("it ends by a return")
}

/// Four receivers count what is published; gives how often somebody was quicker.
async fn count_all(bus: &LocalTransport, topic: &str, messages: u64, is_keyed: bool) -> u64 {
    let slot = slot(bus).await;
    let (handled, conflicts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (bus, mut receiver) = (bus.clone(), slot.receiver());
            let (handled, conflicts) = (Arc::clone(&handled), Arc::clone(&conflicts));
            tokio::spawn(async move {
                while poll_fn(|cx| receiver.poll_recv(cx)).await {
                    let lost = add_one(&bus, &mut *receiver).await;
                    conflicts.fetch_add(lost, Ordering::Relaxed);
                    handled.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let topic = Topic::new(topic).unwrap();
    for number in 0..messages {
        let message = BaseMessage::builder("test").data(&number);
        let key = is_keyed.then(|| format!("k{}", number % KEYS));
        let message = key.iter().fold(message, |message, key| message.key(key)).build().unwrap();
        bus.publish(&topic, message).await.unwrap();
    }
    slot.idle().await;
    slot.close();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(handled.load(Ordering::Relaxed), messages);
    conflicts.load(Ordering::Relaxed)
}

async fn counts(bus: &LocalTransport) -> Vec<u64> {
    let states = bus.states("counter");
    let mut counts = vec![count(&states.load(None).await.unwrap())];
    for key in 0..KEYS {
        counts.push(count(&states.load(Some(&format!("k{key}"))).await.unwrap()));
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shared_state_counts_each_message_once_however_many_change_it() {
    let bus = LocalTransport::new(LocalOptions::default()).unwrap();
    count_all(&bus, "t", 5000, false).await;
    assert_eq!(counts(&bus).await[0], 5000);
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path(), 1 << 20).await;
    for topic in ["t", "durable.t"] {
        count_all(&bus, topic, 300, false).await;
    }
    assert_eq!(counts(&bus).await[0], 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_count_each_message_once_over_restarts_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        // Room for a few of the keys.
        let bus = open(dir.path(), 2500).await;
        for topic in ["t", "durable.t"] {
            // What was let go of between being read and being committed is read again.
            count_all(&bus, topic, 10 * KEYS, true).await;
        }
        let expected = [vec![0], vec![round * 20; KEYS as usize]].concat();
        assert_eq!(counts(&bus).await, expected);
        bus.close();
        bus.closed().await;
    }
    let bus = open(dir.path(), 1 << 20).await;
    assert_eq!(count_all(&bus, "durable.t", KEYS, true).await, 0, "nobody is quicker");
    assert_eq!(counts(&bus).await, [vec![0], vec![61; KEYS as usize]].concat());
}

/// What was committed is read at once, on disk yet or not.
#[tokio::test]
async fn a_state_is_read_before_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path(), 1 << 20).await;
    let slot = slot(&bus).await;
    let mut receiver = slot.receiver();
    let states = bus.states("counter");
    for number in 1..=50 {
        let message = BaseMessage::builder("test").key("k").build().unwrap();
        bus.publish(&Topic::new("t").unwrap(), message).await.unwrap();
        assert!(poll_fn(|cx| receiver.poll_recv(cx)).await);
        assert_eq!(add_one(&bus, &mut *receiver).await, 0);
        let mut loading = std::pin::pin!(states.load(Some("k")));
        let read = poll_fn(|cx| Poll::Ready(loading.as_mut().poll(cx))).await;
        let Poll::Ready(document) = read else { panic!("{number} is waited for") };
        assert_eq!(count(&document.unwrap()), number);
    }
    assert!(states.load(Some("k")).await.unwrap().lasts().await);
}

/// A message is gone and counted, or neither, though changes build on others that find no room in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_message_counts_once_where_the_log_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogOptions { max_bytes: 8 << 16, remembered_ids: 8, ..small() };
    let mut followed = 0;
    for round in 1..=4 {
        let bus = open_with(dir.path(), 1 << 20, log.clone()).await;
        let slot = slot_of(&bus, "counter", "durable.in").await;
        let out = slot_of(&bus, "out", "durable.out").await;
        for number in 0..150 {
            let message = BaseMessage::builder("test").key(&format!("k{}", number % 3)).build();
            bus.publish(&topic("durable.in"), message.unwrap()).await.unwrap();
        }
        let workers: Vec<_> =
            (0..4).map(|_| tokio::spawn(work(bus.clone(), slot.receiver()))).collect();
        for worker in workers {
            worker.await.unwrap();
        }
        slot.close();
        bus.closed().await;
        drop((slot, out, bus));

        let bus = open_with(dir.path(), 1 << 20, log.clone()).await;
        let slot = slot_of(&bus, "counter", "durable.in").await;
        let out = slot_of(&bus, "out", "durable.out").await;
        let follows = out.lag().await.unwrap();
        followed += follows as u64;
        assert_eq!(counts(&bus).await.iter().sum::<u64>(), followed, "round {round}");
        assert_eq!(followed + slot.lag().await.unwrap() as u64, round * 150);
        // There is room again for the next round.
        let mut receiver = out.receiver();
        for _ in 0..follows {
            assert!(poll_fn(|cx| receiver.poll_recv(cx)).await);
            receiver.settle(Settlement::Done);
        }
        receiver.flush();
        bus.close();
        bus.closed().await;
    }
    assert!(followed > 100, "{followed}");
}

/// Counts messages, and publishes a large one for each, until there is no room for a while.
async fn work(bus: LocalTransport, mut receiver: Box<dyn Receiver>) {
    let pad = "x".repeat(6000);
    let patience = Duration::from_millis(300);
    loop {
        match tokio::time::timeout(patience, poll_fn(|cx| receiver.poll_recv(cx))).await {
            Ok(true) => {}
            _ => return,
        }
        let effect = BaseMessage::builder("test").field("Pad", &pad).build().unwrap();
        let effects = vec![Received { topic: topic("durable.out"), message: effect }];
        let adding = add_one_with(&bus, &mut *receiver, effects);
        if tokio::time::timeout(patience, adding).await.is_err() {
            return;
        }
    }
}

/// With so little memory that documents are let go of all the time, and with those that were removed a moment ago.
#[tokio::test]
async fn every_key_is_listed_however_little_memory_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path(), 3000).await;
    let states = bus.states("counter");
    let mut expected = Vec::new();
    for number in 0..60 {
        let key = format!("k{number:02}");
        let base = states.load(Some(&key)).await.unwrap();
        let mut entries = base.entries.clone();
        entries.set("count", Some(b"1".as_slice().into())).unwrap();
        states.put(Some(&key), Change { base, entries }).await.unwrap();
        // The second third goes again.
        if (20..40).contains(&number) {
            let base = states.load(Some(&key)).await.unwrap();
            states.put(Some(&key), Change { base, entries: Entries::default() }).await.unwrap();
        } else {
            expected.push(Some(key));
        }
        for limit in [1, 7, 100] {
            let mut all: Vec<Option<String>> = Vec::new();
            loop {
                let page = states.keys(all.last(), limit).await.unwrap();
                if page.is_empty() {
                    break;
                }
                all.extend(page);
            }
            assert_eq!(all, expected, "{limit} at once");
        }
    }
}
