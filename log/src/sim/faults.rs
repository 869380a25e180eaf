//! A disk that fails: what publishers are told, and what is there afterwards.

use super::{Call, Fault, SimDisk};
use crate::{Log, LogError, Message, Options, Settlement, SlotId};

fn small() -> Options {
    Options { segment_size: 64 << 10, max_bytes: 1 << 20, remembered_ids: 4, ..Options::default() }
}

fn message<'a>(n: u128, slots: &'a [SlotId], body: &'a [&'a [u8]]) -> Message<'a> {
    Message { id: n.to_le_bytes(), slots, body }
}

async fn append(log: &Log, n: u128, slot: SlotId) -> Result<(), LogError> {
    log.try_append(message(n, &[slot], &[&[b'x'; 1000]]))?.durable.await
}

async fn open(disk: &SimDisk) -> (Log, SlotId) {
    let (log, report) = disk.open(&small()).unwrap();
    assert_eq!(report.damage, []);
    let (slot, durable) = log.register("a", b"").unwrap();
    durable.await.unwrap();
    (log, slot)
}

fn count(log: &Log, slot: SlotId) -> usize {
    log.pending(slot, 0, usize::MAX).len()
}

#[tokio::test]
async fn a_failed_sync_shuts_the_log_until_it_is_opened_again() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    append(&log, 1, slot).await.unwrap();
    disk.plan(Call::Sync, 0, Fault::Io);
    let error = append(&log, 2, slot).await.unwrap_err();
    assert!(matches!(error, LogError::Broken { .. }), "{error}");
    // The disk works again, as it seems; that proves nothing for what was written before.
    for result in [append(&log, 3, slot).await, log.flush().await, log.close().await] {
        assert!(matches!(result, Err(LogError::Broken { .. })), "{result:?}");
    }
    assert!(matches!(log.register("b", b""), Err(LogError::Broken { .. })));
    log.settle(slot, 1, Settlement::Done);
    drop(log);

    // What is read back of the failed batch is in the cache alone. It is confirmed by the time the log is
    // open, so it has to be on the disk by then.
    let disk = disk.after_kill();
    let (log, slot) = open(&disk).await;
    assert_eq!(count(&log, slot), 2);
    append(&log, 4, slot).await.unwrap();
    disk.crash();
    drop(log);
    for seed in 0..8 {
        let disk = disk.after_power_cut(seed);
        let (log, slot) = open(&disk).await;
        assert_eq!(count(&log, slot), 3);
    }
}

#[tokio::test]
async fn a_failed_write_shuts_the_log() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    append(&log, 1, slot).await.unwrap();
    disk.plan(Call::Write, 0, Fault::Io);
    assert!(matches!(append(&log, 2, slot).await, Err(LogError::Broken { .. })));
    assert!(matches!(append(&log, 3, slot).await, Err(LogError::Broken { .. })));
    drop(log);
    let (log, slot) = open(&disk.after_power_cut(3)).await;
    assert!((1..=2).contains(&count(&log, slot)));
}

#[tokio::test]
async fn a_write_without_room_leaves_no_trace() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    append(&log, 1, slot).await.unwrap();
    log.settle(slot, 1, Settlement::Again { attempts: 1, due: 9 });
    log.flush().await.unwrap();
    disk.plan(Call::Write, 0, Fault::NoSpace);
    assert!(matches!(append(&log, 2, slot).await, Err(LogError::NoSpace { .. })));
    let (log, slot) = {
        drop(log);
        open(&disk.after_kill()).await
    };
    assert_eq!(count(&log, slot), 1);

    // The same message is no duplicate now, and goes to the same place.
    append(&log, 2, slot).await.unwrap();
    assert_eq!(count(&log, slot), 2);
}

#[tokio::test]
async fn what_was_settled_without_room_is_kept_until_there_is_some() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    append(&log, 1, slot).await.unwrap();
    disk.plan_lasting(Call::Write, Fault::NoSpace);
    log.settle(slot, 1, Settlement::Done);
    assert!(matches!(log.flush().await, Err(LogError::NoSpace { .. })));
    disk.heal();
    log.flush().await.unwrap();
    assert_eq!(count(&log, slot), 0);
    drop(log);
    let (log, slot) = open(&disk.after_power_cut(1)).await;
    assert_eq!(count(&log, slot), 0);
}

#[tokio::test]
async fn without_room_for_a_segment_only_what_makes_room_is_taken_in() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    disk.plan_lasting(Call::Create, Fault::NoSpace);
    let mut kept = 0;
    let error = loop {
        match append(&log, kept, slot).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::NoSpace { .. }), "{error}");
    assert!(kept > 60, "{kept}");
    assert_eq!(count(&log, slot), kept as usize);

    // A commit that settles one for another finds room, and so do acknowledgements.
    let slots = [slot];
    let transaction = crate::Transaction {
        messages: &[message(1000, &slots, &[b"effect"])],
        done: &[(slot, 1)],
        ..crate::Transaction::default()
    };
    log.try_commit(&transaction).unwrap().durable.await.unwrap();
    for seq in 2..=kept as u64 {
        log.settle(slot, seq, Settlement::Done);
    }
    log.flush().await.unwrap();
    // Segments that are free now are used again: no room was needed on the disk.
    log.room().await.unwrap();
    append(&log, 1001, slot).await.unwrap();
    drop(log);
    let (log, slot) = open(&disk.after_power_cut(5)).await;
    assert_eq!(count(&log, slot), 2);
}

#[tokio::test]
async fn damage_is_told_and_everything_else_is_kept() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    for n in 0..100 {
        append(&log, n, slot).await.unwrap();
    }
    drop(log);
    let segments: Vec<_> = disk.names().into_iter().filter(|it| it.ends_with(".log")).collect();
    assert!(segments.len() >= 2, "{segments:?}");
    // One in a segment that is sealed, one in the last, well before its end.
    disk.flip(&segments[0], 20_000);
    disk.flip(segments.last().unwrap(), 5_000);
    let (log, report) = disk.after_kill().open(&small()).unwrap();
    assert_eq!(report.damage.len(), 2, "{report:?}");
    assert_eq!(report.damage[0].file, segments[0]);
    assert!((18_000..=20_000).contains(&report.damage[0].offset), "{report:?}");
    assert_eq!((report.messages, count(&log, slot)), (98, 98));
}

#[tokio::test]
async fn a_segment_that_is_gone_is_told() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    for n in 0..150 {
        append(&log, n, slot).await.unwrap();
    }
    drop(log);
    let segments: Vec<_> = disk.names().into_iter().filter(|it| it.ends_with(".log")).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    crate::disk::Disk::remove(&disk, &segments[1]).unwrap();
    let (log, report) = disk.after_kill().open(&small()).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].file, segments[1]);
    assert!(count(&log, slot) > 60);
}

#[tokio::test]
async fn what_is_damaged_while_the_log_is_open_is_given_up_when_it_is_moved() {
    let disk = SimDisk::default();
    let (log, slot) = open(&disk).await;
    append(&log, 0, slot).await.unwrap();
    append(&log, 1, slot).await.unwrap();
    disk.flip("0000000001.log", 500);
    let error = log.read(1).unwrap_err();
    assert!(error.to_string().contains("0000000001.log"), "{error}");
    for n in 2..600 {
        append(&log, n, slot).await.unwrap();
        log.settle(slot, n as u64 + 1, Settlement::Done);
    }
    log.flush().await.unwrap();
    assert_eq!(log.stats().damaged, 1);
    assert!(log.stats().segments <= 4, "{:?}", log.stats());
    assert_eq!(log.pending(slot, 0, 9).iter().map(|it| it.seq).collect::<Vec<_>>(), [2]);
}
