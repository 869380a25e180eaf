//! The log after a crash.

#[path = "../../log/src/frame.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod frame;

use echo_log::{Log, Options, Pending, SlotId, SyncPolicy};
use frame::Stamp;
use tempfile::TempDir;

/// The smallest that the log takes.
const SEGMENT: usize = 64 << 10;

/// Whatever stands in the files, the log opens and tells what is damaged, gives what it can, takes new messages, and
/// holds the same when it is opened again.
///
/// The first byte says how the rest is read: odd, as the bytes of a segment; even, as the bodies of records, each
/// after its length in two bytes, which are framed as the log does.
pub fn log_segment(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let mut segment = if kind % 2 == 1 { rest.to_vec() } else { framed(rest) };
    segment.resize(SEGMENT, 0);
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("0000000001.log"), &segment).unwrap();
    let first = state(&open(&folder));
    let log = open(&folder);
    assert_eq!(state(&log), first, "what was recovered stays");
    drop(log);
}

fn open(folder: &TempDir) -> Log {
    let options = Options {
        sync: SyncPolicy::Never,
        segment_size: SEGMENT as u32,
        max_bytes: 1 << 20,
        ..Options::default()
    };
    Log::open(folder.path(), options).expect("a damaged log opens").0
}

type State = Vec<(SlotId, String, Vec<(Pending, Option<Vec<u8>>)>)>;

fn state(log: &Log) -> State {
    let _ = log.stats();
    let slots = log.slots().into_iter().take(64);
    slots
        .map(|slot| {
            let pending = log.pending(slot.id, 0, 64).into_iter();
            let read = |pending: Pending| {
                let stored = log.read(pending.seq).ok().flatten();
                (pending, stored.map(|stored| format!("{stored:?}").into_bytes()))
            };
            (slot.id, slot.name.to_string(), pending.map(read).collect())
        })
        .collect()
}

fn framed(mut bodies: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    while let Some((len, rest)) = bodies.split_first_chunk::<2>() {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*len))));
        bodies = rest;
        if segment.len() + frame::frame_len(body.len()) > SEGMENT {
            break;
        }
        let start = frame::begin(&mut segment);
        segment.extend_from_slice(body);
        frame::finish(&mut segment, start);
    }
    let stamp = Stamp { segment: 1, synced: 0, time: 0, number: 1 };
    frame::stamp_all(&mut segment, stamp);
    segment
}
