//! The thread that writes.
//!
//! It owns the files and everything that is known of their ends. A turn of its loop takes what has gathered,
//! writes it behind the last batch, syncs, makes it count in the index, and tells all who wait for it; what
//! comes in meanwhile is the next batch. Between batches it frees the oldest segments, sees to it that there
//! is a spare, and moves what old segments still hold.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::LogError;
use crate::compact::{Compaction, Moves};
use crate::company::Company;
use crate::disk::{DiskFile, is_no_space};
use crate::files::Files;
use crate::frame::{self, Stamp};
use crate::front::{Gathered, Sleep};
use crate::house::Around;
use crate::index::{Live, Location};
use crate::lock::DirectoryLock;
use crate::log::{Shared, unix_seconds};
use crate::options::SyncPolicy;
use crate::record::{self, Op, ops};
use crate::room::Content;
use crate::{Settlement, SlotId};

/// How often it looks for room when there was none.
pub(crate) const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);

/// The most bytes that a settlement takes.
pub(crate) const SETTLEMENT: usize = 23;

/// How far it writes ahead.
const AHEAD: u32 = 1 << 20;

/// The segment that is written to.
pub(crate) struct Current {
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    pub(crate) end: u32,
    pub(crate) synced: u32,
    /// Up to where something was written, perhaps by the segment that the file was before.
    pub(crate) written: u32,
}

/// What a slot said of a message, not written yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwritten {
    slot: SlotId,
    seq: u64,
    settlement: Settlement,
    /// Where the message stood when the index took notice: with that segment gone, there is nothing to write.
    pub(crate) on: Option<u32>,
}

impl From<(SlotId, u64, Settlement)> for Unwritten {
    fn from((slot, seq, settlement): (SlotId, u64, Settlement)) -> Self {
        Self { slot, seq, settlement, on: None }
    }
}

/// Why a batch did not get to the disk.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no room; that may pass.
    NoRoom(LogError),
    /// The disk cannot be trusted any more.
    Broken(io::Error),
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) files: Files,
    pub(crate) current: Option<Current>,
    /// The number and the end of the segment before.
    pub(crate) before: Option<(u32, u32)>,
    /// Of the next record.
    pub(crate) next_number: u64,
    /// Settlements that are not written yet; they wait for room if there is none.
    pub(crate) settled: Vec<Unwritten>,
    /// The disk had no room for the last file that was to be made.
    pub(crate) is_disk_full: bool,
    /// There was no room; when to look again.
    pub(crate) look_again: Option<Instant>,
    pub(crate) compaction: Option<Compaction>,
    pub(crate) around: Around,
    /// What was to be moved found no room; when to try again.
    pub(crate) move_again: Option<Instant>,
    /// Since when something is written and not synced.
    pub(crate) unsynced_since: Option<Instant>,
    /// How many transactions the last batch had.
    told: usize,
    /// Memory to be used again.
    used: Gathered,
    /// The batch that the disk failed under.
    failed: Option<Gathered>,
    /// The directory is ours for as long as something may be written: the last handle may go before.
    pub(crate) lock: Option<DirectoryLock>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        files: Files,
        before: Option<(u32, u32)>,
        next_number: u64,
    ) -> Self {
        Self {
            shared,
            files,
            current: None,
            before,
            next_number,
            settled: Vec::new(),
            is_disk_full: false,
            look_again: None,
            compaction: None,
            around: Around::default(),
            move_again: None,
            unsynced_since: None,
            told: 0,
            used: Gathered::default(),
            failed: None,
            lock: None,
        }
    }

    /// Runs until the log is closed or broken.
    pub(crate) fn run(mut self) {
        let ended = loop {
            let Some(gathered) = self.wait() else { break self.end() };
            if let Err(error) = self.turn(gathered) {
                break Err(error);
            }
        };
        let ended = ended.map_err(|error| self.shared.broken(error));
        self.shared.end(ended.clone());
        if let (Some(gathered), Err(error)) = (self.failed, ended) {
            gathered.complete(Err(error));
        }
    }

    /// Waits for something to do; `None` when that is to end.
    fn wait(&mut self) -> Option<Gathered> {
        let shared = Arc::clone(&self.shared);
        let mut front = shared.front.lock();
        let goes_on = self.compaction.is_some() || !(self.settled.is_empty() || self.is_stuck());
        let mut company = Company::of(self.told, shared.options.sync);
        loop {
            let is_empty = front.gathered.is_empty();
            let (sleep, until) = match company.wanted(&front) {
                _ if goes_on => break,
                _ if is_empty && front.must_stop => return None,
                _ if is_empty => (Sleep::Idle, self.deadline()),
                Some((enough, until)) => (Sleep::ForCompany(enough), Some(until)),
                None => break,
            };
            front.sleep = sleep;
            let timed_out = match until {
                Some(until) => shared.wake.wait_until(&mut front, until).timed_out(),
                None => {
                    shared.wake.wait(&mut front);
                    false
                }
            };
            front.sleep = Sleep::No;
            if timed_out && is_empty {
                break;
            }
        }
        self.told = front.gathered.commits;
        let gathered = front.take(std::mem::take(&mut self.used));
        front.writing = Arc::clone(&gathered.batch);
        Some(gathered)
    }

    /// Whether there was no room a moment ago.
    pub(crate) fn is_stuck(&self) -> bool {
        self.look_again.is_some_and(|until| Instant::now() < until)
    }

    /// When there is something to do even if nothing comes.
    fn deadline(&self) -> Option<Instant> {
        let room = self.look_again;
        let sync = match (self.shared.options.sync, self.unsynced_since) {
            (SyncPolicy::Interval(interval), Some(since)) => since.checked_add(interval),
            _ => None,
        };
        room.into_iter().chain(sync).min()
    }

    /// Writes a batch and tells how it went, then keeps house. An error means that the disk is broken; then
    /// nobody has been told yet.
    fn turn(&mut self, mut gathered: Gathered) -> io::Result<()> {
        let moves = match self.moves() {
            Ok(moves) => moves,
            Err(error) => {
                self.failed = Some(gathered);
                return Err(error);
            }
        };
        self.settled.extend(gathered.settled.drain(..).map(Unwritten::from));
        let written = match self.write(&moves, &mut gathered) {
            Ok(()) => self.write_settled(gathered.flushed.is_some()),
            Err(Failure::NoRoom(error)) => {
                self.refuse(&gathered, error);
                self.used = gathered;
                return self.keep_house();
            }
            Err(broken) => Err(broken),
        };
        match written {
            Ok(()) => {
                self.shared.after_batch();
                gathered.complete(Ok(()));
            }
            Err(Failure::NoRoom(error)) => {
                // The batch itself is written, so nobody may be told to try it again.
                self.stand_still(error.clone());
                self.count_settled();
                self.shared.after_batch();
                gathered.batch.complete(Ok(()));
                gathered.complete(Err(error));
            }
            Err(Failure::Broken(error)) => {
                self.failed = Some(gathered);
                return Err(error);
            }
        }
        self.used = gathered;
        self.keep_house()
    }

    fn moves(&mut self) -> io::Result<Moves> {
        let budget = (self.files.size as usize / 16).min(256 << 10);
        let Some(compaction) = &mut self.compaction else { return Ok(Moves::default()) };
        compaction.step(&self.shared, budget).map_err(io::Error::other)
    }

    /// Writes moved records and what has gathered, with some of what was settled, in this order.
    fn write(&mut self, moves: &Moves, gathered: &mut Gathered) -> Result<(), Failure> {
        let written = self.add_settled(&mut gathered.frames);
        let content = match gathered {
            Gathered { adds: true, .. } => Content::Added,
            Gathered { pays: true, .. } => Content::Paid,
            _ => Content::Said,
        };
        let len = moves.frames.len() + gathered.frames.len();
        if self.fits(len, content) {
            let done = self.write_part(&moves.frames, &mut gathered.frames, content);
            self.after_moves(moves, done.is_ok());
            done?;
        } else {
            // What is moved may go where the rest may not.
            match self.write_part(&moves.frames, &mut [], Content::Moved) {
                Err(Failure::Broken(error)) => return Err(Failure::Broken(error)),
                done => self.after_moves(moves, done.is_ok()),
            }
            self.write_part(&[], &mut gathered.frames, content)?;
        }
        self.settled.drain(..written);
        Ok(())
    }

    /// Writes what else was settled, and syncs when that is due or asked for.
    fn write_settled(&mut self, must_sync: bool) -> Result<(), Failure> {
        while !self.settled.is_empty() {
            let mut frames = Vec::new();
            let written = self.add_settled(&mut frames);
            self.write_part(&[], &mut frames, Content::Said)?;
            self.settled.drain(..written);
        }
        let is_due = match self.shared.options.sync {
            SyncPolicy::Interval(interval) => {
                self.unsynced_since.is_some_and(|since| since.elapsed() >= interval)
            }
            SyncPolicy::EachBatch | SyncPolicy::Never => false,
        };
        match must_sync || is_due {
            true => self.sync().map_err(Failure::Broken),
            false => Ok(()),
        }
    }

    /// Goes on with the compaction, or begins it anew later: it is not known any more what was moved.
    fn after_moves(&mut self, moves: &Moves, are_written: bool) {
        if !are_written && self.compaction.take().is_some() {
            self.move_again = Some(Instant::now() + LOOK_FOR_ROOM);
        }
        if moves.is_last {
            self.compaction = None;
        }
    }

    /// Appends a record of settlements, of a share of a segment at most; gives how many it holds.
    fn add_settled(&self, frames: &mut Vec<u8>) -> usize {
        let most = self.files.size as usize / 8 / SETTLEMENT;
        let settled = self.settled.get(..most).unwrap_or(&self.settled);
        if settled.is_empty() {
            return 0;
        }
        let start = frame::begin(frames);
        let mut writer = record::Writer(frames);
        for it in settled {
            match it.settlement {
                Settlement::Done => writer.ack(it.slot.0, it.seq),
                Settlement::Again { attempts, due } => writer.nak(it.slot.0, it.seq, attempts, due),
            }
        }
        frame::finish(frames, start);
        settled.len()
    }

    fn write_part(
        &mut self,
        moves: &[u8],
        frames: &mut [u8],
        content: Content,
    ) -> Result<(), Failure> {
        if moves.is_empty() && frames.is_empty() {
            return Ok(());
        }
        let mut moves = moves.to_vec();
        let len = moves.len() + frames.len();
        let current = self.room_for(len, content)?;
        let (segment, start, synced) = (current.number, current.end, current.synced);
        let file = Arc::clone(&current.file);
        let number = self.next_number;
        let stamp = |number| Stamp { segment, synced, time: unix_seconds(), number };
        let number = frame::stamp_all(&mut moves, stamp(number));
        let number = frame::stamp_all(frames, stamp(number));
        let mut end = start;
        for part in [&*moves, &*frames].into_iter().filter(|part| !part.is_empty()) {
            if let Err(error) = file.write(part, end.into()) {
                return Err(self.not_written(&*file, start, len, error));
            }
            // A batch is smaller than a segment.
            end += part.len() as u32;
        }
        if let Err(error) = self.write_ahead(end) {
            return Err(self.not_written(&*file, start, len, error));
        }
        if let Some(current) = &mut self.current {
            current.end = end;
        }
        self.next_number = number;
        self.unsynced_since.get_or_insert_with(Instant::now);
        if self.shared.options.sync == SyncPolicy::EachBatch {
            self.sync().map_err(Failure::Broken)?;
        }
        self.apply(segment, start, &[&moves, frames]);
        Ok(())
    }

    /// Writes zeros behind `end` where nothing was written before: a place that is written for the first time takes
    /// the file system longer to sync, and it takes many of them in one go as fast as one.
    fn write_ahead(&mut self, end: u32) -> io::Result<()> {
        let size = self.files.size;
        let Some(current) = self.current.as_mut().filter(|it| it.written < end.min(size)) else {
            return Ok(());
        };
        let until = end.saturating_add(AHEAD).min(size);
        current.file.write(&vec![0; (until - end) as usize], end.into())?;
        current.written = until;
        Ok(())
    }

    /// What a failed write means. Where it was for want of room, the next batch goes to the same place; until
    /// then nothing of this one shall be found there, if that can be had.
    fn not_written(
        &self,
        file: &dyn DiskFile,
        start: u32,
        len: usize,
        error: io::Error,
    ) -> Failure {
        if !is_no_space(&error) {
            return Failure::Broken(error);
        }
        match file.write(&vec![0; len], start.into()) {
            Err(other) if !is_no_space(&other) => Failure::Broken(other),
            _ => Failure::NoRoom(self.shared.no_space(error)),
        }
    }

    fn apply(&self, segment: u32, start: u32, parts: &[&[u8]]) {
        let mut index = self.shared.index.lock();
        let mut base = start;
        for part in parts {
            for (offset, body) in frame::bodies(part) {
                let record = base + offset as u32;
                for (at, len, op) in ops(body).filter_map(Result::ok) {
                    let at = Location { segment, record, op: at as u32, len: len as u32 };
                    index.apply(&op, at);
                }
            }
            base += part.len() as u32;
        }
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let Some(current) = &mut self.current
            && self.unsynced_since.take().is_some()
        {
            current.file.sync()?;
            current.synced = current.end;
        }
        Ok(())
    }

    /// Tells all of a batch that there was no room for it. What was settled waits to be written, and counts.
    fn refuse(&mut self, gathered: &Gathered, error: LogError) {
        self.stand_still(error.clone());
        let mut next = None;
        {
            let index = self.shared.index.lock();
            let slots: Vec<u32> = index.slots.keys().copied().collect();
            drop(index);
            let mut front = self.shared.front.lock();
            let is_known = |slot| slots.contains(&slot);
            front.take_back(&gathered.frames, is_known);
            front.writing = Arc::default();
            if front.gathered.relies {
                // On what is not kept after all.
                let mut taken = front.take(Gathered::default());
                front.take_back(&taken.frames, is_known);
                self.settled.extend(taken.settled.drain(..).map(Unwritten::from));
                next = Some(taken);
            }
        }
        self.count_settled();
        // Whoever looks at them in their order finds both.
        next.into_iter().for_each(|next| next.complete(Err(error.clone())));
        gathered.complete(Err(error));
    }

    /// Lets nothing in that would find no room either, for a while.
    fn stand_still(&mut self, error: LogError) {
        if !self.is_stuck() {
            self.look_again = Some(Instant::now() + LOOK_FOR_ROOM);
        }
        self.narrow_gate(error);
    }

    /// What was settled counts, though it waits to be written.
    fn count_settled(&mut self) {
        self.coalesce();
        self.apply_settled();
    }

    /// Of what a slot said of a message, the last counts.
    fn coalesce(&mut self) {
        let mut last = std::collections::BTreeMap::new();
        for it in self.settled.drain(..) {
            let known = last.entry((it.seq, it.slot)).or_insert(it);
            if known.settlement != Settlement::Done {
                *known = it;
            }
        }
        self.settled.extend(last.into_values());
    }

    /// Makes what was settled count before it is written, so that it makes room where there is none to write it:
    /// once the segment of a message that is done with is gone, the message does not come back.
    fn apply_settled(&mut self) {
        let mut index = self.shared.index.lock();
        for it in &mut self.settled {
            let live = index.messages.get(&it.seq);
            let waits = |live: &&Live| live.waiting.iter().any(|other| other.slot == it.slot.0);
            let Some(at) = live.filter(waits).map(|live| live.at) else { continue };
            it.on = Some(at.segment);
            let (slot, seq) = (it.slot.0, it.seq);
            match it.settlement {
                Settlement::Done => index.apply(&Op::Ack { slot, seq }, at),
                Settlement::Again { attempts, due } => {
                    index.apply(&Op::Nak { slot, seq, attempts, due }, at);
                }
            }
        }
    }

    /// Everything that is left; then the last sync.
    fn end(&mut self) -> io::Result<()> {
        let written = self.write(&Moves::default(), &mut Gathered::default());
        match written.and_then(|()| self.write_settled(true)) {
            Ok(()) | Err(Failure::NoRoom(_)) => self.sync(),
            Err(Failure::Broken(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::log::Shared;
    use crate::options::Options;
    use crate::recover::recover;
    use crate::sim::{Call, Fault, SimDisk};
    use crate::{Durable, Message, Receipt, SlotId, Transaction};

    fn options() -> Options {
        Options { segment_size: 64 << 10, max_bytes: 6 << 16, ..Options::default() }.checked()
    }

    /// A writer that does nothing by itself.
    fn writer() -> Writer {
        writer_on(&SimDisk::default())
    }

    fn writer_on(disk: &SimDisk) -> Writer {
        let (disk, options) = (Arc::new(disk.clone()), options());
        let (mut files, segments) = Files::find(disk, options.segment_size).unwrap();
        let recovered = recover(&mut files, segments, &options, 0).unwrap();
        crate::open::writer(files, recovered, options, Path::new("sim")).unwrap()
    }

    /// A slot is done with a message, and a value of so many bytes comes of it.
    fn put(
        shared: &Shared,
        done: (SlotId, u64),
        len: usize,
        after: Option<&Durable>,
    ) -> Result<Receipt, LogError> {
        let (key, value) = (done.1.to_le_bytes(), vec![1; len]);
        let state: [(&[u8], Option<&[u8]>); 1] = [(&key, Some(&value))];
        let transaction =
            Transaction { done: &[done], state: &state, after, ..Transaction::default() };
        shared.front.lock().commit(&transaction, 0)
    }

    #[test]
    fn what_builds_on_something_is_refused_with_it() {
        let mut writer = writer();
        let shared = Arc::clone(&writer.shared);
        let (slot, _) = shared.front.lock().register("slot", b"").unwrap();
        for n in 0..100u128 {
            let slots = [slot];
            let message = Message { id: n.to_le_bytes(), slots: &slots, body: &[] };
            let transaction = Transaction { messages: &[message], ..Transaction::default() };
            shared.front.lock().commit(&transaction, 0).unwrap();
        }
        let gathered = writer.wait().unwrap();
        writer.turn(gathered).unwrap();
        let mut last = None;
        for seq in (1..100).step_by(2) {
            let large = put(&shared, (slot, seq), 15_000, last.as_ref()).unwrap().durable;
            let gathered = writer.wait().unwrap();
            // The writer has the large one; there is room for a small one, whatever becomes of it.
            let small = put(&shared, (slot, seq + 1), 10, Some(&large)).unwrap().durable;
            writer.turn(gathered).unwrap();
            if large.now().unwrap().is_err() {
                assert!(small.now().unwrap().is_err());
                let third = put(&shared, (slot, seq + 1), 10, Some(&small));
                assert!(matches!(third, Err(LogError::Unfounded)), "{third:?}");
                return;
            }
            let gathered = writer.wait().unwrap();
            writer.turn(gathered).unwrap();
            small.now().unwrap().unwrap();
            last = Some(small);
        }
        panic!("there was room for all of them");
    }

    #[test]
    fn nothing_of_a_batch_that_found_no_room_is_there_after_the_next_one() {
        let disk = SimDisk::default();
        let mut writer = writer_on(&disk);
        let shared = Arc::clone(&writer.shared);
        let (slot, _) = shared.front.lock().register("slot", b"").unwrap();
        let turn = |writer: &mut Writer| {
            let gathered = writer.wait().unwrap();
            writer.turn(gathered).unwrap();
        };
        turn(&mut writer);
        let append = |n: u128| {
            let slots = [slot];
            let message = Message { id: n.to_le_bytes(), slots: &slots, body: &[] };
            let transaction = Transaction { messages: &[message], ..Transaction::default() };
            shared.front.lock().commit(&transaction, 0)
        };
        let refused: Vec<Durable> = (0..4).map(|n| append(n).unwrap().durable).collect();
        // Half of it is on the disk by then: two of the records.
        disk.plan(Call::Write, 0, Fault::NoSpace);
        turn(&mut writer);
        assert!(refused.iter().all(|refused| refused.now().unwrap().is_err()));
        shared.front.lock().gate = crate::front::Gate::Open;
        let kept = append(4).unwrap();
        turn(&mut writer);
        kept.durable.now().unwrap().unwrap();
        let (log, report) = disk.after_kill().open(&options()).unwrap();
        assert_eq!((log.lag(slot), report.damage), (1, vec![]));
    }

    #[test]
    fn what_is_refused_and_not_told_yet_is_built_on_by_nobody() {
        let mut writer = writer();
        let shared = Arc::clone(&writer.shared);
        let (slot, _) = shared.front.lock().register("slot", b"").unwrap();
        let first = put(&shared, (slot, 1), 10, None).unwrap().durable;
        let gathered = writer.wait().unwrap();
        let second = put(&shared, (slot, 2), 10, Some(&first)).unwrap().durable;
        // As a refusal does, before anybody is told.
        let mut front = shared.front.lock();
        front.writing = Arc::default();
        let next = front.take(Gathered::default());
        drop(front);
        for after in [&first, &second] {
            let third = put(&shared, (slot, 3), 10, Some(after));
            assert!(matches!(third, Err(LogError::Unfounded)), "{third:?}");
        }
        gathered.complete(Ok(()));
        next.complete(Ok(()));
        put(&shared, (slot, 3), 10, Some(&second)).unwrap();
    }
}
