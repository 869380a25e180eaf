//! Where records gather while the batch before them goes to disk.
//!
//! One lock, held for as long as it takes to copy a record. The writer takes all that has gathered at once
//! and leaves an empty buffer; the one that it took comes back to be filled again.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::batch::{Batch, Durable};
use crate::frame;
use crate::options::Options;
use crate::record::{MESSAGE_OVERHEAD, Op, Writer, ops};
use crate::window::Window;
use crate::{LogError, Placed, Receipt, Settlement, SlotId, Transaction};

/// The batch that is being gathered.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Whole frames, not stamped yet.
    pub(crate) frames: Vec<u8>,
    /// What slots said of messages; goes into one record at the end.
    pub(crate) settled: Vec<(SlotId, u64, Settlement)>,
    pub(crate) messages: usize,
    /// Transactions, for each of which somebody may wait.
    pub(crate) commits: usize,
    /// It holds messages or values that settle nothing.
    pub(crate) adds: bool,
    /// It holds some that come with the settlement of others.
    pub(crate) pays: bool,
    /// Somebody relies on what an earlier batch holds: waits for a message of it, or builds on it.
    pub(crate) relies: bool,
    /// Somebody waits, though there may be nothing to write; it waits for no company.
    pub(crate) is_awaited: bool,
    /// Told once it is written, without what slots said of messages.
    pub(crate) batch: Arc<Batch>,
    /// Told once all of it is synced, whatever the policy, if somebody waits for that.
    pub(crate) flushed: Option<Arc<Batch>>,
}

impl Gathered {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.settled.is_empty() && !self.is_awaited
    }

    /// Tells all who wait for any of it.
    pub(crate) fn complete(&self, result: Result<(), LogError>) {
        if let Some(flushed) = &self.flushed {
            flushed.complete(result.clone());
        }
        self.batch.complete(result);
    }
}

/// Why nothing is taken in, or little.
#[derive(Debug, Clone)]
pub(crate) enum Gate {
    Open,
    /// Only what makes room: there is none for more. `commits` says whether what settles a message may add some.
    Narrow {
        error: LogError,
        commits: bool,
    },
    Shut(LogError),
}

/// What wakes the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// It is awake.
    No,
    /// Whatever comes.
    Idle,
    /// So many transactions, or what waits for no company.
    ForCompany(usize),
}

/// A slot that is registered, or about to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) slot: u32,
    /// The bytes that it takes in the head of each segment.
    pub(crate) len: usize,
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) gathered: Gathered,
    /// Who is told of the batch that the writer has.
    pub(crate) writing: Arc<Batch>,
    pub(crate) next_seq: u64,
    pub(crate) next_slot: u32,
    pub(crate) names: BTreeMap<Box<str>, Name>,
    pub(crate) window: Window,
    pub(crate) gate: Gate,
    /// Completed when the gate opens.
    pub(crate) opening: Arc<Batch>,
    pub(crate) sleep: Sleep,
    /// The writer is to end once nothing is left.
    pub(crate) must_stop: bool,
    /// How the writer ended.
    pub(crate) ended: Option<Result<(), LogError>>,
    /// Messages that are on disk and wait for somebody, as of the last batch.
    pub(crate) live: usize,
    pub(crate) max_gathered: usize,
    pub(crate) max_record: usize,
    pub(crate) max_messages: usize,
}

impl Front {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            gathered: Gathered::default(),
            writing: Arc::default(),
            next_seq: 1,
            next_slot: 1,
            names: BTreeMap::new(),
            window: Window::new(options.remembered_ids, options.remembered_for),
            gate: Gate::Open,
            opening: Arc::default(),
            sleep: Sleep::No,
            must_stop: false,
            ended: None,
            live: 0,
            max_gathered: options.max_gathered(),
            max_record: options.max_record(),
            max_messages: options.max_messages,
        }
    }

    /// Whether the writer is to be woken; once for what has come.
    pub(crate) fn wakes(&mut self) -> bool {
        let wakes = match self.sleep {
            Sleep::No => false,
            Sleep::Idle => true,
            Sleep::ForCompany(enough) => {
                self.must_stop || self.gathered.is_awaited || self.gathered.commits >= enough
            }
        };
        if wakes {
            self.sleep = Sleep::No;
        }
        wakes
    }

    /// Whether a transaction may come in now.
    fn admit(&self, transaction: &Transaction<'_>) -> Result<(), LogError> {
        let is_founded = transaction.after.is_none_or(|after| self.may_be_kept(after));
        match &self.gate {
            Gate::Shut(error) => return Err(error.clone()),
            _ if !is_founded => return Err(LogError::Unfounded),
            Gate::Narrow { error, commits } => {
                let frees = !transaction.done.is_empty();
                if !(frees && *commits) && transaction.adds() {
                    return Err(error.clone());
                }
            }
            Gate::Open => {}
        }
        let len = transaction.len();
        if len > self.max_record {
            return Err(LogError::TooLarge { len, max: self.max_record });
        }
        let wanted = transaction.messages.len();
        let slots = transaction.messages.iter().map(|message| message.slots.len());
        let (most, max) = (slots.max().unwrap_or_default(), usize::from(u16::MAX));
        if most > max {
            return Err(LogError::TooLarge { len: most, max });
        }
        let waiting = self.live + self.gathered.messages + wanted;
        // Whoever takes as many away adds none, as far as it knows.
        if wanted > transaction.done.len() && waiting > self.max_messages {
            return Err(LogError::Full { messages: self.max_messages });
        }
        if self.gathered.frames.len() > self.max_gathered {
            return Err(LogError::Busy);
        }
        Ok(())
    }

    /// Whether something is kept, or may be yet. Of what is refused this is said no more from then on that what relies
    /// on it is refused as well, though nobody was told.
    fn may_be_kept(&self, durable: &Durable) -> bool {
        match durable.now() {
            Some(result) => result.is_ok(),
            None => durable.is_of(&self.gathered.batch) || durable.is_of(&self.writing),
        }
    }

    /// Adds a transaction to the batch.
    pub(crate) fn commit(
        &mut self,
        transaction: &Transaction<'_>,
        time: u32,
    ) -> Result<Receipt, LogError> {
        self.admit(transaction)?;
        let gathered = &mut self.gathered;
        let mut placed = SmallVec::new();
        let start = frame::begin(&mut gathered.frames);
        let body = gathered.frames.len();
        let mut writer = Writer(&mut gathered.frames);
        for message in transaction.messages {
            placed.push(if message.slots.is_empty() {
                Placed::Unwanted
            } else if let Some(seq) = self.window.seq_of(&message.id) {
                gathered.relies = true;
                gathered.is_awaited = true;
                Placed::Duplicate(seq)
            } else {
                let seq = self.next_seq;
                self.next_seq += 1;
                self.window.insert(message.id, seq, time);
                let slots = message.slots.iter().map(|slot| slot.0);
                writer.message(seq, message.id, time, slots, message.body);
                gathered.messages += 1;
                Placed::New(seq)
            });
        }
        transaction.done.iter().for_each(|(slot, seq)| writer.ack(slot.0, *seq));
        transaction.state.iter().for_each(|(key, value)| writer.value(key, *value));
        gathered.relies |= transaction.after.is_some_and(|after| after.is_of(&self.writing));
        let settles = !transaction.done.is_empty();
        gathered.adds |= transaction.adds() && !settles;
        gathered.pays |= transaction.adds() && settles;
        let durable = if gathered.frames.len() > body {
            gathered.commits += 1;
            frame::finish(&mut gathered.frames, start);
            Durable::of(&gathered.batch)
        } else {
            gathered.frames.truncate(start);
            match gathered.is_awaited {
                true => Durable::of(&gathered.batch),
                false => Durable::done(Ok(())),
            }
        };
        Ok(Receipt { placed, durable })
    }

    /// Registers a slot, or tells something else of it.
    pub(crate) fn register(
        &mut self,
        name: &str,
        about: &[u8],
    ) -> Result<(SlotId, Durable), LogError> {
        if let Gate::Shut(error) = &self.gate {
            return Err(error.clone());
        }
        let own = name.len() + about.len() + 16;
        let others = self.names.iter().filter(|(other, _)| ***other != *name);
        let (len, max) = (own + others.map(|(_, it)| it.len).sum::<usize>(), self.max_record / 8);
        if len > max {
            return Err(LogError::TooLarge { len, max });
        }
        let next = self.next_slot;
        let known = self.names.entry(name.into()).or_insert(Name { slot: next, len: own });
        known.len = own;
        let slot = known.slot;
        self.next_slot = next.max(slot + 1);
        let durable = self.record(|writer| writer.slot(slot, name, about));
        Ok((SlotId(slot), durable))
    }

    /// Forgets a slot and all that waits for it.
    pub(crate) fn forget(&mut self, slot: SlotId) -> Result<Durable, LogError> {
        if let Gate::Shut(error) = &self.gate {
            return Err(error.clone());
        }
        self.names.retain(|_, known| known.slot != slot.0);
        Ok(self.record(|writer| writer.forget(slot.0)))
    }

    fn record(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Durable {
        let gathered = &mut self.gathered;
        let start = frame::begin(&mut gathered.frames);
        write(&mut Writer(&mut gathered.frames));
        frame::finish(&mut gathered.frames, start);
        gathered.is_awaited = true;
        Durable::of(&gathered.batch)
    }

    /// Resolves once all that was handed over is synced.
    pub(crate) fn flush(&mut self) -> Durable {
        if let Some(result) = &self.ended {
            return Durable::done(result.clone());
        }
        self.gathered.is_awaited = true;
        Durable::of(self.gathered.flushed.get_or_insert_default())
    }

    /// Resolves when it is worth to try again what was refused for want of room; `settles` says that it is a
    /// transaction that settles messages.
    pub(crate) fn room(&mut self, settles: bool) -> Durable {
        match &self.gate {
            Gate::Narrow { commits: true, .. } if settles => self.turn(),
            Gate::Narrow { .. } => Durable::of(&self.opening),
            Gate::Shut(error) => Durable::done(Err(error.clone())),
            Gate::Open => self.turn(),
        }
    }

    /// Resolves when what has gathered by now is written, or refused.
    pub(crate) fn turn(&mut self) -> Durable {
        if let Gate::Shut(error) = &self.gate {
            return Durable::done(Err(error.clone()));
        }
        self.gathered.is_awaited = true;
        Durable::of(&self.gathered.batch)
    }

    /// Takes nothing more in, and lets the writer end.
    pub(crate) fn stop(&mut self) {
        self.must_stop = true;
        if !matches!(self.gate, Gate::Shut(_)) {
            self.gate = Gate::Shut(LogError::Closed);
        }
    }

    /// Takes what has gathered; `spare` is an empty one to go on with, whose memory is used again.
    pub(crate) fn take(&mut self, mut spare: Gathered) -> Gathered {
        spare.frames.clear();
        spare.settled.clear();
        mem::replace(
            &mut self.gathered,
            Gathered { frames: spare.frames, settled: spare.settled, ..Gathered::default() },
        )
    }

    /// Forgets what frames that did not reach the disk said, slots aside that were known before.
    pub(crate) fn take_back(&mut self, frames: &[u8], is_known: impl Fn(u32) -> bool) {
        for (_, body) in frame::bodies(frames) {
            for (_, _, op) in ops(body).filter_map(Result::ok) {
                match op {
                    Op::Message { id, .. } => self.window.take_back(id),
                    Op::Slot { slot, .. } if !is_known(slot) => {
                        self.names.retain(|_, known| known.slot != slot);
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Transaction<'_> {
    /// Whether it takes room that is not given back with it.
    fn adds(&self) -> bool {
        !self.messages.is_empty() || self.state.iter().any(|(_, value)| value.is_some())
    }

    /// The most bytes that its record's body may have.
    fn len(&self) -> usize {
        let parts = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
        let messages = self.messages.iter();
        let messages = messages.map(|it| MESSAGE_OVERHEAD + it.slots.len() * 4 + parts(it.body));
        let state = self.state.iter();
        let state = state.map(|(key, value)| 9 + key.len() + value.map_or(0, <[u8]>::len));
        messages.sum::<usize>() + state.sum::<usize>() + self.done.len() * 13
    }
}
