//! 256 publishes outstanding, each confirmed after its record is synced; beside a plain preallocated file that
//! is synced for each 256 records, which is as fast as this disk allows.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use echo_log::{Log, Message, Options, Settlement, SlotId, SyncPolicy, Transaction};

/// What is outstanding.
const OUTSTANDING: u64 = 256;

/// The bytes of a record's body.
const BODY: usize = 250;

const MESSAGES: u64 = 100_000;

fn main() {
    divan::main();
}

/// In the build's folder: a temporary folder may be in memory.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

struct Setup {
    log: Log,
    slot: SlotId,
    next: AtomicU64,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new(sync: SyncPolicy) -> Self {
        let dir = dir();
        let (log, _) = open(dir.path(), sync);
        let (slot, durable) = log.register("slot", b"").unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(durable).unwrap();
        Self { log, slot, next: AtomicU64::new(0), runtime, _dir: dir }
    }

    /// Publishes from `tasks` tasks, each with its share of what is outstanding.
    fn publish(&self, tasks: u64, acknowledge: bool) {
        let first = self.next.fetch_add(MESSAGES, Ordering::Relaxed);
        let tasks = (0..tasks).map(|task| {
            let (log, slot) = (self.log.clone(), self.slot);
            let numbers = (first + task..first + MESSAGES).step_by(tasks as usize);
            let outstanding = (OUTSTANDING / tasks) as usize;
            self.runtime.spawn(publisher(log, slot, numbers, outstanding, acknowledge))
        });
        let tasks: Vec<_> = tasks.collect();
        self.runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
}

async fn publisher(
    log: Log,
    slot: SlotId,
    numbers: impl Iterator<Item = u64>,
    outstanding: usize,
    acknowledge: bool,
) {
    let mut waiting = std::collections::VecDeque::with_capacity(outstanding);
    for n in numbers {
        if waiting.len() == outstanding {
            settled(&log, slot, waiting.pop_front(), acknowledge).await;
        }
        let message =
            Message { id: u128::from(n).to_le_bytes(), slots: &[slot], body: &[&[b'x'; BODY]] };
        let transaction = Transaction { messages: &[message], ..Transaction::default() };
        waiting.push_back(log.commit(&transaction).await.unwrap());
    }
    while let Some(receipt) = waiting.pop_front() {
        settled(&log, slot, Some(receipt), acknowledge).await;
    }
}

async fn settled(log: &Log, slot: SlotId, receipt: Option<echo_log::Receipt>, acknowledge: bool) {
    let Some(receipt) = receipt else { return };
    receipt.durable.await.unwrap();
    if let (true, echo_log::Placed::New(seq)) = (acknowledge, receipt.placed[0]) {
        log.settle(slot, seq, Settlement::Done);
    }
}

fn open(dir: &Path, sync: SyncPolicy) -> (Log, echo_log::Recovery) {
    Log::open(dir, Options { sync, ..Options::default() }).unwrap()
}

/// As many tasks as there are publishes outstanding, or fewer that have several each.
#[divan::bench(args = [1, 4, 256], sample_count = 10, sample_size = 1)]
fn publish_and_acknowledge(bencher: Bencher<'_, '_>, tasks: u64) {
    let setup = Setup::new(SyncPolicy::EachBatch);
    let bencher = bencher.counter(ItemsCount::new(MESSAGES));
    bencher.bench(|| setup.publish(tasks, true));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn publish(bencher: Bencher<'_, '_>) {
    let setup = Setup::new(SyncPolicy::EachBatch);
    bencher.counter(ItemsCount::new(MESSAGES)).bench(|| setup.publish(4, false));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn without_sync(bencher: Bencher<'_, '_>) {
    let setup = Setup::new(SyncPolicy::Never);
    bencher.counter(ItemsCount::new(MESSAGES)).bench(|| setup.publish(4, true));
}

/// The ceiling: no frames, no index, nobody to tell.
#[divan::bench(args = [false, true], sample_count = 10, sample_size = 1)]
fn plain_file(bencher: Bencher<'_, '_>, written_before: bool) {
    let dir = dir();
    let file = File::create(dir.path().join("plain")).unwrap();
    let size = MESSAGES * BODY as u64;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
    let batch = [b'x'; BODY * OUTSTANDING as usize];
    let write = || {
        for at in (0..size).step_by(batch.len()) {
            file.write_all_at(&batch, at).unwrap();
            rustix::fs::fdatasync(&file).unwrap();
        }
    };
    if written_before {
        write();
    }
    bencher.counter(ItemsCount::new(MESSAGES)).bench(write);
}

/// Opening a log in which a million messages wait.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn recovery(bencher: Bencher<'_, '_>) {
    let setup = Setup::new(SyncPolicy::Never);
    for _ in 0..10 {
        setup.publish(4, false);
    }
    let Setup { log, _dir: dir, .. } = setup;
    drop(log);
    bencher.counter(divan::counter::BytesCount::new(10 * MESSAGES * 327)).bench(|| {
        let (log, report) = open(dir.path(), SyncPolicy::Never);
        assert_eq!(report.messages as u64, 10 * MESSAGES);
        log
    });
}
