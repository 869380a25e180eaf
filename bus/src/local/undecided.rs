//! For tests: what a log has not decided on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::path::Path;

use echo_log::{Durable, Log, LogError, Message, Options};

/// Something that a log may keep or not: its turn comes when there is room, and that is not before it ends.
pub(super) async fn undecided(dir: &Path) -> (Log, Durable) {
    let options = Options { segment_size: 64 << 10, max_bytes: 6 << 16, ..Options::default() };
    let (log, _) = Log::open(dir, options).unwrap();
    let (slot, _) = log.register("slot", b"").unwrap();
    let (slots, body) = ([slot], [&[0; 10_000][..]]);
    for n in 0u128.. {
        let message = Message { id: n.to_le_bytes(), slots: &slots, body: &body };
        match log.try_append(message) {
            Ok(receipt) => drop(receipt.durable.await),
            Err(LogError::Quota { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let room = log.room();
    (log, room)
}
