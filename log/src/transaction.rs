//! What is handed to a log, and what it answers.

use smallvec::SmallVec;

use crate::Durable;

/// The number of a slot in its log. It stays the same over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub(crate) u32);

/// A message to be kept until each of its slots is done with it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its identity: a second message of the same id is dropped for as long as the id is remembered.
    pub id: [u8; 16],
    /// Who waits for it. A message that nobody waits for is not kept.
    pub slots: &'a [SlotId],
    /// What it says, in as many parts as is convenient; they are put together.
    pub body: &'a [&'a [u8]],
}

/// What takes effect together or not at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transaction<'a> {
    /// Messages to keep.
    pub messages: &'a [Message<'a>],
    /// Messages, by their sequence, that a slot is done with.
    pub done: &'a [(SlotId, u64)],
    /// Values to keep under a key until the next one, or `None` to remove it.
    pub state: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// What it builds on: with that not kept, this is not kept either.
    pub after: Option<&'a Durable>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It has this sequence. Sequences count up from 1 and are given out once.
    New(u64),
    /// It came before, under this sequence, and is not kept again.
    Duplicate(u64),
    /// Nobody waits for it.
    Unwanted,
}

/// A transaction that was taken in.
#[derive(Debug)]
pub struct Receipt {
    /// What became of each of its messages.
    pub placed: SmallVec<[Placed; 1]>,
    /// Resolves when all of it is on disk.
    pub durable: Durable,
}

/// What a slot says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with it.
    Done,
    /// It wants it again.
    Again {
        /// How often it was tried.
        attempts: u16,
        /// Not before this time, in milliseconds of Unix time.
        due: u64,
    },
}
