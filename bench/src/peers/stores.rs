//! What an embedded store, or a file, makes of 256 messages at a time that are on disk before they count.

use std::fmt::Display;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;
use redb::TableDefinition;
use tempfile::TempDir;

use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::work::{DATA, OUTSTANDING};

/// The length of the file that is written over and over.
const FILE: u64 = 64 * 1024 * 1024;

const TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("messages");

pub(super) fn durable() -> Result<Vec<Contender>, BenchError> {
    Ok(vec![fjall()?, redb()?, file()?])
}

/// Rounds in which a store takes batches, on a thread that may block.
fn batches(
    peer: &'static str,
    dir: TempDir,
    write: impl Fn(std::ops::Range<u64>) -> Result<(), BenchError> + Send + Sync + 'static,
) -> Contender {
    let (write, next) = (Arc::new(write), Arc::new(AtomicU64::new(0)));
    Contender::new(peer, move |messages| {
        // The files live as long as the rounds.
        let _dir = &dir;
        let (write, next) = (Arc::clone(&write), Arc::clone(&next));
        let round = move || {
            let began = Instant::now();
            let first = next.fetch_add(messages, Ordering::Relaxed);
            for from in (first..first + messages).step_by(OUTSTANDING) {
                write(from..(from + OUTSTANDING as u64).min(first + messages))?;
            }
            Ok(Round::since(began, messages))
        };
        async move {
            let round = tokio::task::spawn_blocking(round).await;
            round.map_err(|error| BenchError::peer(peer, error))?
        }
    })
}

fn failed<E: Display>(peer: &'static str) -> impl Fn(E) -> BenchError {
    move |error| BenchError::peer(peer, error)
}

/// fjall: a batch written to its journal, and the journal synced.
fn fjall() -> Result<Contender, BenchError> {
    const PEER: &str = "fjall";
    let dir = tempfile::tempdir()?;
    let database = Database::builder(dir.path()).open().map_err(failed(PEER))?;
    let messages = database.keyspace("messages", KeyspaceCreateOptions::default);
    let messages = messages.map_err(failed(PEER))?;
    Ok(batches(PEER, dir, move |numbers| {
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        for number in numbers {
            batch.insert(&messages, number.to_be_bytes(), DATA.as_slice());
        }
        batch.commit().map_err(failed(PEER))
    }))
}

/// redb: a transaction, which is on disk once it is committed.
fn redb() -> Result<Contender, BenchError> {
    const PEER: &str = "redb";
    let dir = tempfile::tempdir()?;
    let database = redb::Database::create(dir.path().join("bench.redb")).map_err(failed(PEER))?;
    Ok(batches(PEER, dir, move |numbers| {
        let transaction = database.begin_write().map_err(failed(PEER))?;
        {
            let mut table = transaction.open_table(TABLE).map_err(failed(PEER))?;
            for number in numbers {
                table.insert(number, DATA.as_slice()).map_err(failed(PEER))?;
            }
        }
        transaction.commit().map_err(failed(PEER))
    }))
}

/// A file that was written before, so that its space is there: appended to, and its data synced.
fn file() -> Result<Contender, BenchError> {
    let dir = tempfile::tempdir()?;
    let file = Mutex::new(preallocated(&dir.path().join("bench.log"))?);
    Ok(batches("hand_made", dir, move |numbers| {
        let mut file = file.lock();
        let mut batch = Vec::with_capacity(OUTSTANDING * (8 + DATA.len()));
        for number in numbers {
            batch.extend_from_slice(&number.to_be_bytes());
            batch.extend_from_slice(DATA);
        }
        if file.stream_position()? + batch.len() as u64 > FILE {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&batch)?;
        Ok(file.sync_data()?)
    }))
}

fn preallocated(path: &Path) -> Result<File, BenchError> {
    const CHUNK: usize = 1024 * 1024;
    let mut file = File::create(path)?;
    for _ in 0..FILE / CHUNK as u64 {
        file.write_all(&vec![0; CHUNK])?;
    }
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}
