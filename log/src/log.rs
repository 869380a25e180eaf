//! The log as it is used.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use crate::batch::Durable;
use crate::front::{Front, Gate};
use crate::index::Index;
use crate::options::Options;
use crate::read::{ReadError, Stored, with_op};
use crate::record::Op;
use crate::{Message, Receipt, Settlement, SlotId, Transaction};

/// Why a log did not take something in. Nothing of it was kept, but for [`Broken`](Self::Broken) and a
/// process that ended meanwhile: then it may have been.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk is full.
    #[error("there is no space left for the log in {dir}; free some on its disk")]
    NoSpace {
        /// The log's directory.
        dir: Arc<str>,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// The files have the size that they may have.
    #[error(
        "the log in {dir} takes the {max} bytes that it may; raise max_bytes, or see to it that its messages are handled"
    )]
    Quota {
        /// The log's directory.
        dir: Arc<str>,
        /// The most bytes that its files may take.
        max: u64,
    },
    /// As many messages wait as may.
    #[error(
        "{messages} messages wait in the log, as many as may; see to it that they are handled, or raise max_messages"
    )]
    Full {
        /// The most messages that may wait.
        messages: usize,
    },
    /// Too much waits to be written; wait for [`Log::turn`] and try again.
    #[error("the log is busy; wait for room")]
    Busy,
    /// The record is larger than a segment takes.
    #[error(
        "the record of {len} bytes is larger than the {max} that the log takes; raise segment_size"
    )]
    TooLarge {
        /// The record's size in bytes.
        len: usize,
        /// The largest size, in bytes.
        max: usize,
    },
    /// What the transaction builds on was not kept.
    #[error("what this builds on was not kept; read it again")]
    Unfounded,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The disk failed.
    #[error(
        "the disk under the log in {dir} failed; what was confirmed is kept, look after the disk and open the log again"
    )]
    Broken {
        /// The log's directory.
        dir: Arc<str>,
        /// What the disk said.
        source: Arc<io::Error>,
    },
}

/// A slot that a log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// Its name.
    pub name: Arc<str>,
    /// What was said of it when it was registered last.
    pub about: Arc<[u8]>,
}

/// A message that waits for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Its sequence.
    pub seq: u64,
    /// How often the slot tried it.
    pub attempts: u16,
    /// Not before this time, in milliseconds of Unix time; 0 is at once.
    pub due: u64,
}

/// What a log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that wait for somebody.
    pub messages: usize,
    /// The bytes that are needed.
    pub live_bytes: u64,
    /// The bytes that the segments take, spares aside.
    pub disk_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Messages and values that were given up since the log was opened, because they could not be read.
    pub damaged: u64,
}

/// What the writer and the handles share.
pub(crate) struct Shared {
    pub(crate) front: Mutex<Front>,
    pub(crate) index: Mutex<Index>,
    /// Wakes the writer.
    pub(crate) wake: Condvar,
    pub(crate) options: Options,
    pub(crate) dir: Arc<str>,
}

impl Shared {
    pub(crate) fn no_space(&self, error: io::Error) -> LogError {
        LogError::NoSpace { dir: Arc::clone(&self.dir), source: Arc::new(error) }
    }

    pub(crate) fn over_quota(&self) -> LogError {
        LogError::Quota { dir: Arc::clone(&self.dir), max: self.options.max_bytes }
    }

    pub(crate) fn broken(&self, error: io::Error) -> LogError {
        LogError::Broken { dir: Arc::clone(&self.dir), source: Arc::new(error) }
    }

    /// Brings the front up to date with what is on disk.
    pub(crate) fn after_batch(&self) {
        let live = self.index.lock().messages.len();
        let mut front = self.front.lock();
        front.live = live;
        front.window.expire(unix_seconds());
    }

    pub(crate) fn hand_over<T>(&self, with: impl FnOnce(&mut Front) -> T) -> T {
        let mut front = self.front.lock();
        let given = with(&mut front);
        let wakes = front.wakes();
        drop(front);
        if wakes {
            self.wake.notify_one();
        }
        given
    }
}

/// A log that is open. Cheap to clone; the last clone closes it, and waits for what was handed over.
#[derive(Clone)]
pub struct Log(pub(crate) Arc<Owner>);

/// Ends the writer when the last handle is gone.
pub(crate) struct Owner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.hand_over(Front::stop);
        let thread = self.thread.get_mut().take();
        // The writer itself may drop the last handle, when it wakes a task that has it.
        if let Some(thread) = thread.filter(|it| it.thread().id() != std::thread::current().id()) {
            // Whatever ended it was told to those who waited.
            let _ = thread.join();
        }
    }
}

impl Log {
    fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Registers a slot: messages may be for it from now on. `about` is kept for whoever opens the log next.
    /// A slot of this name that is known keeps its number and what waits for it.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] when there are too many slots for the head of a segment, or that the log is closed
    /// or broken.
    pub fn register(&self, name: &str, about: &[u8]) -> Result<(SlotId, Durable), LogError> {
        self.shared().hand_over(|front| front.register(name, about))
    }

    /// Forgets a slot and all that waits for it.
    ///
    /// # Errors
    /// That the log is closed or broken.
    pub fn forget(&self, slot: SlotId) -> Result<Durable, LogError> {
        self.shared().hand_over(|front| front.forget(slot))
    }

    /// Takes in what takes effect together or not at all.
    ///
    /// # Errors
    /// [`LogError`]; nothing of it was taken in.
    pub fn try_commit(&self, transaction: &Transaction<'_>) -> Result<Receipt, LogError> {
        let time = unix_seconds();
        self.shared().hand_over(|front| front.commit(transaction, time))
    }

    /// Takes in one message.
    ///
    /// # Errors
    /// As [`try_commit`](Self::try_commit).
    pub fn try_append(&self, message: Message<'_>) -> Result<Receipt, LogError> {
        self.try_commit(&Transaction { messages: &[message], ..Transaction::default() })
    }

    /// Takes in what takes effect together, waiting while the log is busy.
    ///
    /// # Errors
    /// [`LogError`], [`Busy`](LogError::Busy) aside; nothing of it was taken in.
    pub async fn commit(&self, transaction: &Transaction<'_>) -> Result<Receipt, LogError> {
        loop {
            match self.try_commit(transaction) {
                // What became of that batch does not matter here.
                Err(LogError::Busy) => drop(self.turn().await),
                done => return done,
            }
        }
    }

    /// Resolves when what has gathered is written, or was refused: what was refused as [`Busy`](LogError::Busy) is
    /// worth another try then. With no room for it, that says so.
    pub fn turn(&self) -> Durable {
        self.shared().hand_over(Front::turn)
    }

    /// Resolves when what was refused for want of space is worth another try.
    pub fn room(&self) -> Durable {
        self.shared().hand_over(|front| front.room(false))
    }

    /// The same for a transaction that settles messages: for those there is room earlier.
    pub fn room_to_settle(&self) -> Durable {
        self.shared().hand_over(|front| front.room(true))
    }

    /// Says what a slot makes of a message. It is written with the next batch, in the order of calls;
    /// [`flush`](Self::flush) waits for that. While there is no room it is kept in memory. A log that is closed or
    /// broken takes no notice: the slot gets the message again when it is opened.
    pub fn settle(&self, slot: SlotId, seq: u64, settlement: Settlement) {
        self.shared().hand_over(|front| {
            if front.ended.is_none() {
                front.gathered.settled.push((slot, seq, settlement));
            }
        });
    }

    /// Resolves once all that was handed over before is synced, whatever the policy.
    pub fn flush(&self) -> Durable {
        self.shared().hand_over(Front::flush)
    }

    /// Takes nothing more in; resolves once all that was handed over is synced.
    pub fn close(&self) -> Durable {
        self.shared().hand_over(|front| {
            let flushed = front.flush();
            if !matches!(front.gate, Gate::Shut(_)) {
                front.gate = Gate::Shut(LogError::Closed);
            }
            flushed
        })
    }

    /// The sequence that was given out last; 0 when there was none.
    pub fn last_sequence(&self) -> u64 {
        self.shared().front.lock().next_seq.saturating_sub(1)
    }

    /// The slots that are known, by their numbers.
    pub fn slots(&self) -> Vec<Slot> {
        let index = self.shared().index.lock();
        let slot = |(id, it): (&u32, &crate::index::Registered)| Slot {
            id: SlotId(*id),
            name: Arc::clone(&it.name),
            about: Arc::clone(&it.about),
        };
        index.slots.iter().map(slot).collect()
    }

    /// At most `limit` of the messages behind the sequence `after` that wait for a slot and are on disk, oldest
    /// first.
    pub fn pending(&self, slot: SlotId, after: u64, limit: usize) -> Vec<Pending> {
        let index = self.shared().index.lock();
        // With all of them found, the rest is of others.
        let waiting = index.waiting_for(slot.0, after).take(limit.min(index.lag(slot.0)));
        waiting.map(|(seq, it)| Pending { seq, attempts: it.attempts, due: it.due }).collect()
    }

    /// How many messages that are on disk wait for a slot, in hand or not: all that it is not done with. Looks at no
    /// message; what was [settled](Self::settle) counts until that is written.
    pub fn lag(&self, slot: SlotId) -> usize {
        self.shared().index.lock().lag(slot.0)
    }

    /// Reads a message that waits for somebody and is on disk; `None` when nobody waits for it any more.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub fn read(&self, seq: u64) -> Result<Option<Stored>, ReadError> {
        let mut tried = None;
        loop {
            let (at, file) = {
                let index = self.shared().index.lock();
                let Some(live) = index.messages.get(&seq) else { return Ok(None) };
                let Some(segment) = index.segments.get(&live.at.segment) else { return Ok(None) };
                (live.at, Arc::clone(&segment.file))
            };
            let stored = with_op(&*file, at, |op| match op {
                Op::Message { seq: found, id, body, .. } if found == seq => {
                    Some(Stored { id: *id, body: body.to_vec() })
                }
                _ => None,
            });
            match stored {
                // It may have moved just now, and its file have become another.
                Err(_) if tried != Some(at) => tried = Some(at),
                done => return done.map(Some),
            }
        }
    }

    /// The value under a key, as of what is on disk.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let mut tried = None;
        loop {
            let (at, file) = {
                let index = self.shared().index.lock();
                let Some(at) = index.state.get(key).copied() else { return Ok(None) };
                let Some(segment) = index.segments.get(&at.segment) else { return Ok(None) };
                (at, Arc::clone(&segment.file))
            };
            let value = with_op(&*file, at, |op| match op {
                Op::Put { key: found, value: Some(value) } if found == key => Some(value.to_vec()),
                _ => None,
            });
            match value {
                Err(_) if tried != Some(at) => tried = Some(at),
                done => return done.map(Some),
            }
        }
    }

    /// The keys with a value on disk that begin with `prefix` and come behind it and behind `after`, in their order and at
    /// most `limit` of them.
    pub fn keys(&self, prefix: &[u8], after: &[u8], limit: usize) -> Vec<Box<[u8]>> {
        let index = self.shared().index.lock();
        let behind = (Bound::Excluded(after.max(prefix)), Bound::Unbounded);
        let behind = index.state.range::<[u8], _>(behind).map(|(key, _)| key);
        behind.take_while(|key| key.starts_with(prefix)).take(limit).cloned().collect()
    }

    /// What it holds.
    pub fn stats(&self) -> Stats {
        let index = self.shared().index.lock();
        Stats {
            messages: index.messages.len(),
            live_bytes: index.live_bytes(),
            disk_bytes: index.segments.values().map(|segment| segment.len).sum(),
            segments: index.segments.len(),
            damaged: index.damaged,
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = &self.shared().dir;
        f.debug_struct("Log").field("dir", dir).field("stats", &self.stats()).finish()
    }
}

/// Seconds of Unix time.
pub(crate) fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
