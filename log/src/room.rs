//! Where the next record goes: into the current segment, or into a spare that becomes the next one.
//!
//! The last spare is the reserve. What is added keeps off it, so that what settles messages, and what moves them
//! out of the oldest segments, still finds the room that makes room again. Of what the files may take, two more
//! segments are held back from what is added and settles nothing: handlers that publish for what they settle go on in
//! the first of them, and the second has room to move what a segment holds that is needed altogether.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::disk::is_no_space;
use crate::frame::{self, Stamp};
use crate::index::Segment;
use crate::log::unix_seconds;
use crate::record;
use crate::writer::{Current, Failure, Writer};

/// How many spares there are to be: messages begin a segment only if one is left then, the reserve.
pub(crate) const SPARES: usize = 2;

/// How many more segments what is added leaves for what settles messages.
pub(crate) const HELD: usize = 2;

/// What is written, by how much of the room it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Messages and values keep off the reserve, and off what is held.
    Added,
    /// Those that come with the settlement of others keep off the reserve, and off half of what is held.
    Paid,
    /// What settles, registers and forgets leaves half of the reserve.
    Said,
    /// What is moved so that a segment can be freed may take all of it.
    Moved,
}

impl Writer {
    /// The current segment if that much fits into it, or else the next one.
    pub(crate) fn room_for(&mut self, len: usize, content: Content) -> Result<&Current, Failure> {
        if !self.fits(len, content) {
            match content {
                Content::Added => self.look_for_spares(SPARES, HELD)?,
                Content::Paid => self.look_for_spares(SPARES, HELD / 2)?,
                Content::Said | Content::Moved => self.look_for_spares(1, 0)?,
            }
            self.begin_segment()?;
        }
        let missing = || Failure::Broken(io::ErrorKind::NotFound.into());
        self.current.as_ref().ok_or_else(missing)
    }

    /// Whether that much may go into the current segment, which is the reserve once no spare is left.
    pub(crate) fn fits(&self, len: usize, content: Content) -> bool {
        let size = self.files.size as usize;
        let limit = match content {
            _ if self.files.spares() > 0 => size,
            Content::Added | Content::Paid => 0,
            Content::Said => size / 2,
            Content::Moved => size,
        };
        self.current.as_ref().is_some_and(|current| current.end as usize + len <= limit)
    }

    /// Begins the next segment: what all later ones need to know stands at its head.
    pub(crate) fn begin_segment(&mut self) -> Result<(), Failure> {
        self.sync().map_err(Failure::Broken)?;
        self.look_for_spares(1, 0)?;
        let before = self.current.as_ref().map(|it| (it.number, it.end)).or(self.before);
        let (last, before) = before.unwrap_or((0, 0));
        let number = last + 1;
        let file = self.files.begin(number).map_err(Failure::Broken)?;
        let (file, written) =
            file.ok_or_else(|| Failure::Broken(io::ErrorKind::NotFound.into()))?;
        let (mut head, ids_below) = self.head(before);
        let stamp =
            Stamp { segment: number, synced: 0, time: unix_seconds(), number: self.next_number };
        self.next_number = frame::stamp_all(&mut head, stamp);
        file.write(&head, 0).map_err(Failure::Broken)?;
        let mut index = self.shared.index.lock();
        if let Some(segment) = index.segments.get_mut(&last) {
            segment.ids_below = segment.ids_below.min(ids_below);
        }
        let len = u64::from(self.files.size);
        let opened = Arc::clone(&file);
        let segment = Segment { file: opened, len, live: 0, entries: 0, ids_below: u64::MAX };
        index.segments.insert(number, segment);
        let end = head.len() as u32;
        self.current = Some(Current { number, file, end, synced: 0, written });
        self.unsynced_since = Some(Instant::now());
        Ok(())
    }

    fn head(&self, before: u32) -> (Vec<u8>, u64) {
        let mut head = Vec::new();
        let start = frame::begin(&mut head);
        let mut writer = record::Writer(&mut head);
        let ids_below = {
            let front = self.shared.front.lock();
            writer.head(front.next_seq, front.next_slot, before);
            front.window.next_number()
        };
        for (slot, registered) in &self.shared.index.lock().slots {
            writer.slot(*slot, &registered.name, &registered.about);
        }
        frame::finish(&mut head, start);
        (head, ids_below)
    }

    /// Sees to it that there are so many spares, and that the files may take so many `more` segments.
    pub(crate) fn look_for_spares(&mut self, wanted: usize, more: usize) -> Result<(), Failure> {
        if self.allowed() + self.files.spares() < wanted + more {
            return Err(Failure::NoRoom(self.shared.over_quota()));
        }
        while self.files.spares() < wanted {
            let made = self.files.make_spare();
            self.is_disk_full = made.as_ref().is_err_and(is_no_space);
            made.map_err(|error| match is_no_space(&error) {
                true => Failure::NoRoom(self.shared.no_space(error)),
                false => Failure::Broken(error),
            })?;
        }
        Ok(())
    }

    /// How many more segments the files may take.
    fn allowed(&self) -> usize {
        let taken: u64 = self.shared.index.lock().segments.values().map(|it| it.len).sum();
        let left = self.shared.options.max_bytes.saturating_sub(taken + self.files.spare_bytes());
        usize::try_from(left / u64::from(self.files.size)).unwrap_or(usize::MAX)
    }

    /// How many segments can still be begun.
    pub(crate) fn free(&self) -> usize {
        let allowed = if self.is_disk_full { 0 } else { self.allowed() };
        allowed.saturating_add(self.files.spares())
    }
}
