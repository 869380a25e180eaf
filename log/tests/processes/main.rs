//! A log in another process: killed at any moment, and on a disk that is full.
//!
//! The other process is this program again, started with one test's name and a variable that makes it act.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its helper speaks by standard output"
)]

mod full_disk;
mod killed;

use std::path::PathBuf;
use std::process::Command;

use echo_log::{Log, Message, Options, SlotId};

/// Tells a helper where its log is.
const DIR: &str = "LOG_OF_HELPER";

/// This program, to run one of its tests as a helper.
fn helper(test: &str) -> [String; 4] {
    let program = std::env::current_exe().unwrap().display().to_string();
    [program, "--exact".into(), test.into(), "--nocapture".into()]
}

/// The directory of a helper; `None` in a usual run of the tests.
fn helper_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn options() -> Options {
    // Ids that are remembered take room as well: as many as usual would take half of this log's.
    Options {
        segment_size: 256 << 10,
        max_bytes: 8 << 20,
        remembered_ids: 4096,
        ..Options::default()
    }
}

fn message<'a>(n: u64, slots: &'a [SlotId], body: &'a [&'a [u8]]) -> Message<'a> {
    Message { id: u128::from(n).to_le_bytes(), slots, body }
}

/// The number of a message that a helper made.
fn number(log: &Log, seq: u64) -> u64 {
    let id = u128::from_le_bytes(log.read(seq).unwrap().unwrap().id);
    u64::try_from(id).unwrap()
}
