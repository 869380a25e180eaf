//! The log on a real directory: what goes in comes back, in order, once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};

use echo_log::{
    Log, LogError, Message, OpenError, Options, Pending, Placed, Recovery, Settlement, SlotId,
    Transaction,
};

fn small() -> Options {
    Options { segment_size: 64 << 10, max_bytes: 64 << 20, ..Options::default() }
}

fn open(dir: &Path) -> (Log, Recovery) {
    Log::open(dir, small()).unwrap()
}

fn id(n: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    id
}

async fn register(log: &Log, name: &str) -> SlotId {
    let (slot, durable) = log.register(name, b"about").unwrap();
    durable.await.unwrap();
    slot
}

async fn append(log: &Log, n: u64, slots: &[SlotId]) -> Placed {
    append_body(log, n, slots, n.to_string().as_bytes()).await
}

async fn append_body(log: &Log, n: u64, slots: &[SlotId], body: &[u8]) -> Placed {
    let message = Message { id: id(n), slots, body: &[body] };
    let transaction = Transaction { messages: &[message], ..Transaction::default() };
    let receipt = log.commit(&transaction).await.unwrap();
    receipt.durable.await.unwrap();
    receipt.placed[0]
}

fn waiting(log: &Log, slot: SlotId) -> Vec<u64> {
    log.pending(slot, 0, usize::MAX).iter().map(|pending| pending.seq).collect()
}

fn body(log: &Log, seq: u64) -> String {
    String::from_utf8(log.read(seq).unwrap().unwrap().body).unwrap()
}

#[tokio::test]
async fn what_waits_is_there_after_a_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let (a, b) = (register(&log, "a").await, register(&log, "b").await);
    for n in 1..=10 {
        assert_eq!(append(&log, n, &[a, b]).await, Placed::New(n));
    }
    for seq in [1, 2, 5] {
        log.settle(a, seq, Settlement::Done);
    }
    log.settle(b, 1, Settlement::Again { attempts: 3, due: 77 });
    log.settle(a, 3, Settlement::Again { attempts: 1, due: 0 });
    log.flush().await.unwrap();
    drop(log);

    let (log, report) = open(dir.path());
    assert_eq!((report.messages, report.damage, report.cut), (10, vec![], None));
    let names: Vec<_> = log.slots().iter().map(|slot| slot.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(&*log.slots()[0].about, b"about");
    assert_eq!(waiting(&log, a), [3, 4, 6, 7, 8, 9, 10]);
    assert_eq!((log.lag(a), log.lag(b)), (7, 10));
    assert_eq!(log.pending(a, 0, 1), [Pending { seq: 3, attempts: 1, due: 0 }]);
    assert_eq!(log.pending(b, 0, 1), [Pending { seq: 1, attempts: 3, due: 77 }]);
    assert_eq!(log.pending(a, 4, 2).iter().map(|p| p.seq).collect::<Vec<_>>(), [6, 7]);
    assert_eq!((body(&log, 3), body(&log, 10)), ("3".into(), "10".into()));
    // A slot that is registered again is the same one, and sequences go on.
    assert_eq!(register(&log, "b").await, b);
    assert_eq!(append(&log, 11, &[a]).await, Placed::New(11));
}

#[tokio::test]
async fn a_commit_is_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let slot = register(&log, "a").await;
    append(&log, 1, &[slot]).await;
    let effects = [2, 3].map(|n| Message {
        id: id(n),
        slots: std::slice::from_ref(&slot),
        body: &[b"e", b"f"],
    });
    let state: [(&[u8], Option<&[u8]>); 2] = [(b"k", Some(b"v")), (b"gone", None)];
    let transaction =
        Transaction { messages: &effects, done: &[(slot, 1)], state: &state, after: None };
    let receipt = log.try_commit(&transaction).unwrap();
    receipt.durable.await.unwrap();
    assert_eq!(receipt.placed[..], [Placed::New(2), Placed::New(3)]);
    drop(log);

    let (log, _) = open(dir.path());
    assert_eq!(waiting(&log, slot), [2, 3]);
    assert_eq!(body(&log, 3), "ef");
    assert_eq!(log.value(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!((log.value(b"gone").unwrap(), log.read(1).unwrap()), (None, None));
}

#[tokio::test]
async fn an_id_counts_once_over_restarts_too() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let slot = register(&log, "a").await;
    assert_eq!(append(&log, 1, &[slot]).await, Placed::New(1));
    assert_eq!(append(&log, 1, &[slot]).await, Placed::Duplicate(1));
    assert_eq!(append(&log, 2, &[]).await, Placed::Unwanted);
    log.settle(slot, 1, Settlement::Done);
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(append(&log, 1, &[slot]).await, Placed::Duplicate(1));
    assert_eq!(append(&log, 2, &[slot]).await, Placed::New(2));
}

#[tokio::test]
async fn ids_are_remembered_when_their_segments_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let slot = register(&log, "a").await;
    // Some twenty segments' worth, all of it done with.
    for n in 1..=1000 {
        append_body(&log, n, &[slot], &[b'x'; 1200]).await;
        log.settle(slot, n, Settlement::Done);
    }
    log.flush().await.unwrap();
    assert!(log.stats().segments <= 6, "{:?}", log.stats());
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(append(&log, 1, &[slot]).await, Placed::Duplicate(1));
    assert_eq!(append(&log, 700, &[slot]).await, Placed::Duplicate(700));
}

#[tokio::test]
async fn one_stuck_message_does_not_pin_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { remembered_ids: 16, ..small() };
    let (log, _) = Log::open(dir.path(), options.clone()).unwrap();
    let slot = register(&log, "a").await;
    append(&log, 1, &[slot]).await;
    log.settle(slot, 1, Settlement::Again { attempts: 2, due: 5 });
    let state = [(&b"k"[..], Some(&b"v"[..]))];
    let put = Transaction { state: &state, ..Transaction::default() };
    log.try_commit(&put).unwrap().durable.await.unwrap();
    for n in 2..=1000 {
        append_body(&log, n, &[slot], &[b'x'; 1200]).await;
        log.settle(slot, n, Settlement::Done);
    }
    log.flush().await.unwrap();
    assert!(log.stats().segments <= 4, "{:?}", log.stats());
    assert_eq!(body(&log, 1), "1");
    drop(log);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 7, "{files} files");
    let (log, _) = Log::open(dir.path(), options).unwrap();
    assert_eq!(log.pending(slot, 0, 9), [Pending { seq: 1, attempts: 2, due: 5 }]);
    assert_eq!((body(&log, 1), log.value(b"k").unwrap()), ("1".into(), Some(b"v".to_vec())));
}

#[tokio::test]
async fn restarts_alone_do_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=40 {
        let (log, report) = open(dir.path());
        assert_eq!(report.messages, n - 1);
        let slot = register(&log, "a").await;
        append(&log, n as u64, &[slot]).await;
        log.flush().await.unwrap();
        assert!(log.stats().segments <= 6, "{:?}", log.stats());
    }
}

#[tokio::test]
async fn a_forgotten_slot_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let (a, b) = (register(&log, "a").await, register(&log, "b").await);
    append(&log, 1, &[a]).await;
    append(&log, 2, &[a, b]).await;
    log.forget(a).unwrap().await.unwrap();
    assert_eq!(append(&log, 3, &[a]).await, Placed::New(3));
    assert_eq!(log.stats().messages, 1);
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!((waiting(&log, a), waiting(&log, b)), (vec![], vec![2]));
    assert_ne!(register(&log, "a").await, a);
}

#[tokio::test]
async fn two_hosts_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let error = Log::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    assert!(error.to_string().contains("this very process"), "{error}");
    drop(log);
    open(dir.path());
}

#[tokio::test]
async fn limits_are_told_and_pass() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_messages: 2, ..small() };
    let (log, _) = Log::open(dir.path(), options).unwrap();
    let slot = register(&log, "a").await;
    append(&log, 1, &[slot]).await;
    append(&log, 2, &[slot]).await;
    let third = Message { id: id(3), slots: &[slot], body: &[b"3"] };
    assert!(matches!(log.try_append(third), Err(LogError::Full { messages: 2 })));
    log.settle(slot, 1, Settlement::Done);
    log.flush().await.unwrap();
    log.try_append(third).unwrap().durable.await.unwrap();

    // What comes of a message that is settled with it finds room, as far as it takes no more.
    let effects = [5, 6].map(|n| Message { id: id(n), slots: third.slots, body: &[] });
    let done = [(slot, 2)];
    let transaction = |messages| Transaction { messages, done: &done, ..Default::default() };
    let refused = log.try_commit(&transaction(&effects));
    assert!(matches!(refused, Err(LogError::Full { messages: 2 })));
    log.try_commit(&transaction(&effects[..1])).unwrap().durable.await.unwrap();
    assert_eq!(log.lag(slot), 2);

    let large = Message { id: id(4), slots: &[slot], body: &[&[0; 16 << 10]] };
    assert!(matches!(log.try_append(large), Err(LogError::TooLarge { .. })));
    log.close().await.unwrap();
    assert!(matches!(log.try_append(third), Err(LogError::Closed)));
    assert!(matches!(log.register("b", b""), Err(LogError::Closed)));
}

#[tokio::test]
async fn a_quota_leaves_room_for_acknowledgements() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 256 << 10, remembered_ids: 8, ..small() };
    let (log, _) = Log::open(dir.path(), options).unwrap();
    let slot = register(&log, "a").await;
    let body: [&[u8]; 1] = [&[b'x'; 4000]];
    let message = |n| Message { id: id(n), slots: std::slice::from_ref(&slot), body: &body };
    let mut kept = 0;
    let error = loop {
        match log.try_append(message(kept + 1)) {
            Ok(receipt) => match receipt.durable.await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            },
            Err(LogError::Busy) => log.room().await.unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::Quota { .. }), "{error}");
    assert_eq!(waiting(&log, slot), (1..=kept).collect::<Vec<_>>());
    assert!(kept > 20, "{kept}");
    for seq in 1..=kept {
        log.settle(slot, seq, Settlement::Done);
    }
    log.flush().await.unwrap();
    log.room().await.unwrap();
    assert_eq!(append(&log, 10_000, &[slot]).await, Placed::New(kept + 1));
}

#[tokio::test]
async fn many_publishers_at_once_all_get_their_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let slot = register(&log, "a").await;
    let publishers: Vec<_> = (0..64)
        .map(|publisher| {
            let log = log.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    let placed = append(&log, publisher * 100 + n, &[slot]).await;
                    assert!(matches!(placed, Placed::New(_)));
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_eq!(waiting(&log, slot), (1..=6400).collect::<Vec<_>>());
    drop(log);
    let (log, report) = open(dir.path());
    assert_eq!((report.messages, log.stats().messages), (6400, 6400));
}

/// Lets go of the log when it is woken, and looks whether somebody else may have it then.
struct LetsGo {
    log: Mutex<Option<Log>>,
    dir: PathBuf,
    found: mpsc::Sender<Result<(), OpenError>>,
}

impl Wake for LetsGo {
    fn wake(self: Arc<Self>) {
        let log = self.log.lock().unwrap().take();
        drop(log);
        let opened = Log::open(&self.dir, small()).map(drop);
        self.found.send(opened).unwrap();
    }
}

#[test]
fn a_log_is_its_writers_until_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (found, finding) = mpsc::channel();
    let lets_go = Arc::new(LetsGo { log: Mutex::default(), dir: dir.path().to_owned(), found });
    let waker = Waker::from(Arc::clone(&lets_go));
    let mut held = lets_go.log.lock().unwrap();
    let log = held.insert(open(dir.path()).0);
    // One that is ready at once wakes nobody.
    let mut flush = log.flush();
    while pin!(&mut flush).poll(&mut Context::from_waker(&waker)).is_ready() {
        flush = log.flush();
    }
    drop(held);
    assert!(matches!(finding.recv().unwrap(), Err(OpenError::InUse { .. })));
}
