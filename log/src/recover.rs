//! Reading a log back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::DiskFile;
use crate::files::{Files, name_of};
use crate::frame::{self, Frame, find_frame, frame_at};
use crate::index::{Index, Location, Segment};
use crate::options::Options;
use crate::record::{Op, ops};
use crate::window::Window;
use crate::writer::Current;

/// A place in a file whose bytes are not what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file's name.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes are lost; 0 where the file is gone altogether.
    pub len: u64,
}

/// What was found when a log was opened.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Segments read.
    pub segments: usize,
    /// Bytes of records read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Messages that wait for somebody.
    pub messages: usize,
    /// Where a batch that was never confirmed was cut away: usual after a crash, and nothing is lost.
    pub cut: Option<Damage>,
    /// What was confirmed and is lost. Everything else is there.
    pub damage: Vec<Damage>,
    /// How long it took.
    pub took: Duration,
}

/// What a log's files amount to.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) window: Window,
    pub(crate) next_seq: u64,
    pub(crate) next_slot: u32,
    /// Of records.
    pub(crate) next_number: u64,
    /// The last segment and where it ends.
    pub(crate) last: Option<(u32, u32)>,
    /// The same, when it can be gone on with.
    pub(crate) current: Option<Current>,
    pub(crate) report: Recovery,
    /// Up to where a later frame says that the segment at hand was synced.
    proven: u32,
}

/// Reads back all segments, in order.
pub(crate) fn recover(
    files: &mut Files,
    mut segments: Vec<u32>,
    options: &Options,
    now: u32,
) -> io::Result<Recovered> {
    let mut this = Recovered {
        index: Index { replaying: true, ..Index::default() },
        window: Window::new(options.remembered_ids, options.remembered_for),
        next_seq: 1,
        next_slot: 1,
        next_number: 1,
        last: None,
        current: None,
        report: Recovery::default(),
        proven: 0,
    };
    let mut bytes = Vec::new();
    drop_unwritten(files, &mut segments, &mut bytes)?;
    for (place, segment) in segments.iter().enumerate() {
        let next = segments.get(place + 1);
        this.note_gap(*segment, next.copied());
        let sealed_at = match next {
            Some(next) => seal_of(files, *next, *segment)?,
            None => None,
        };
        let file = files.disk.open(&name_of(*segment))?;
        read_all(&*file, &mut bytes)?;
        this.begin(*segment, &file, bytes.len());
        let end = this.replay(*segment, &bytes, sealed_at);
        if next.is_none() {
            this.go_on(*segment, file, &mut bytes, end, files.size)?;
        }
    }
    this.window.expire(now);
    this.index.replayed();
    this.report.messages = this.index.messages.len();
    Ok(this)
}

/// Lets go of the newest file when nothing was ever written to it: the crash came in between.
fn drop_unwritten(
    files: &mut Files,
    segments: &mut Vec<u32>,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    while let Some(last) = segments.last().copied() {
        read_all(&*files.disk.open(&name_of(last))?, bytes)?;
        if find_frame(bytes, 0, last).is_some() {
            break;
        }
        files.free(last)?;
        segments.pop();
    }
    Ok(())
}

fn read_all(file: &dyn DiskFile, bytes: &mut Vec<u8>) -> io::Result<()> {
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    bytes.clear();
    bytes.resize(len, 0);
    let got = file.read(bytes, 0)?;
    bytes.truncate(got);
    Ok(())
}

/// Where the head of segment `next` says that the one before it ended.
fn seal_of(files: &Files, next: u32, segment: u32) -> io::Result<Option<u32>> {
    let mut bytes = vec![0; frame::HEAD + 64];
    let file = files.disk.open(&name_of(next))?;
    let mut got = file.read(&mut bytes, 0)?;
    let claimed = bytes.get(..got).and_then(frame::claimed_len).unwrap_or_default();
    if claimed > bytes.len() {
        bytes.resize(claimed.min(files.size as usize), 0);
        got = file.read(&mut bytes, 0)?;
    }
    let head = frame_at(bytes.get(..got).unwrap_or_default(), 0, next);
    let first = head.and_then(|frame| ops(frame.body).next()?.ok());
    Ok(match first {
        Some((_, _, Op::Head { before, .. })) if segment.checked_add(1) == Some(next) => {
            Some(before)
        }
        _ => None,
    })
}

impl Recovered {
    fn note_gap(&mut self, segment: u32, next: Option<u32>) {
        for missing in segment.saturating_add(1)..next.unwrap_or(0) {
            self.report.damage.push(Damage { file: name_of(missing), offset: 0, len: 0 });
        }
    }

    fn begin(&mut self, segment: u32, file: &Arc<dyn DiskFile>, len: usize) {
        let file = Arc::clone(file);
        let len = len as u64;
        let segment_use = Segment { file, len, live: 0, entries: 0, ids_below: u64::MAX };
        self.index.segments.insert(segment, segment_use);
        self.report.segments += 1;
        self.proven = 0;
    }

    /// Applies all records of a segment; gives where they end.
    fn replay(&mut self, segment: u32, bytes: &[u8], sealed_at: Option<u32>) -> usize {
        let sealed_at = sealed_at.map(|end| end as usize);
        let bytes = bytes.get(..sealed_at.unwrap_or(bytes.len())).unwrap_or(bytes);
        let mut at = 0;
        loop {
            let next = match frame_at(bytes, at, segment) {
                Some(frame) => frame,
                None => match skip_damage(bytes, at, segment, sealed_at.is_some()) {
                    Some(frame) => {
                        self.note_damage(segment, at, frame.offset);
                        frame
                    }
                    None => break,
                },
            };
            self.apply(segment, &next);
            at = next.end();
        }
        if let Some(end) = sealed_at.filter(|end| *end > at) {
            self.note_damage(segment, at, end);
        }
        self.report.bytes += at as u64;
        if let Some(segment) = self.index.segments.get_mut(&segment) {
            segment.ids_below = self.window.next_number();
        }
        at
    }

    fn note_damage(&mut self, segment: u32, from: usize, to: usize) {
        let (offset, len) = (from as u64, to.saturating_sub(from) as u64);
        self.report.damage.push(Damage { file: name_of(segment), offset, len });
    }

    fn apply(&mut self, segment: u32, frame: &Frame<'_>) {
        self.report.records += 1;
        self.next_number = self.next_number.max(frame.number + 1);
        self.proven = self.proven.max(frame.synced);
        // Segments are smaller than what 32 bits can say.
        let record = frame.offset as u32;
        for op in ops(frame.body) {
            let Ok((at, len, op)) = op else {
                return self.note_damage(segment, frame.offset, frame.end());
            };
            let at = Location { segment, record, op: at as u32, len: len as u32 };
            match op {
                Op::Head { seq, slot, .. } => {
                    self.next_seq = self.next_seq.max(seq);
                    self.next_slot = self.next_slot.max(slot);
                }
                Op::Slot { slot, .. } => {
                    self.next_slot = self.next_slot.max(slot.saturating_add(1))
                }
                Op::Message { seq, id, time, .. } => {
                    self.next_seq = self.next_seq.max(seq.saturating_add(1));
                    self.window.insert(*id, seq, time);
                }
                Op::Seen { id, seq, time } => self.window.insert(*id, seq, time),
                _ => {}
            }
            self.index.apply(&op, at);
        }
    }

    /// Makes the last segment ready to be gone on with at `end`. What no later record vouches for is written
    /// once more and synced: it can be read, but whether it is on the disk nobody knows. Behind it, what a crash
    /// left of a batch is wiped out, so that it is never found where a later record ends.
    fn go_on(
        &mut self,
        segment: u32,
        file: Arc<dyn DiskFile>,
        bytes: &mut [u8],
        end: usize,
        size: u32,
    ) -> io::Result<()> {
        let is_torn = frame::is_torn(bytes.get(end..).unwrap_or_default(), segment);
        let mut rewritten = self.proven as usize..end;
        if is_torn || find_frame(bytes, end, segment).is_some() {
            let rest = bytes.get_mut(end..).unwrap_or_default();
            let (offset, len) = (end as u64, rest.len() as u64);
            self.report.cut = Some(Damage { file: name_of(segment), offset, len });
            rest.fill(0);
            rewritten.end = bytes.len();
        }
        if let Some(unproven) = bytes.get(rewritten) {
            file.write(unproven, self.proven.into())?;
        }
        file.sync()?;
        let (number, end) = (segment, end as u32);
        self.last = Some((number, end));
        if bytes.len() == size as usize {
            if let Some(segment) = self.index.segments.get_mut(&number) {
                segment.ids_below = u64::MAX;
            }
            self.current = Some(Current { number, file, end, synced: end, written: end });
        }
        Ok(())
    }
}

/// The frame to go on with behind a broken place, if that place is damage rather than the end.
fn skip_damage(bytes: &[u8], at: usize, segment: u32, is_sealed: bool) -> Option<Frame<'_>> {
    let first = find_frame(bytes, at, segment)?;
    let mut later = Some(first);
    while let Some(frame) = later {
        if is_sealed || frame.synced as usize > at {
            return Some(first);
        }
        later = frame_at(bytes, frame.end(), segment)
            .or_else(|| find_frame(bytes, frame.end(), segment));
    }
    None
}
