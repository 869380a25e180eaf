//! What the writer does between batches: freeing segments, making room, opening and narrowing the gate.

use std::io;
use std::time::Instant;

use crate::LogError;
use crate::compact::Compaction;
use crate::frame;
use crate::front::Gate;
use crate::index::Segment;
use crate::room::{HELD, SPARES};
use crate::writer::{Failure, LOOK_FOR_ROOM, SETTLEMENT, Writer};

/// A tour through the segments that moves what each of them holds.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// The last segment of the tour.
    until: u32,
    /// How many bytes have to be settled before the next one.
    settled: u64,
}

impl Writer {
    pub(crate) fn keep_house(&mut self) -> io::Result<()> {
        self.free_segments()?;
        if self.files.spares() >= SPARES || !self.is_stuck() {
            match self.look_for_spares(SPARES, HELD) {
                Ok(()) => {
                    self.look_again = None;
                    self.open_gate();
                }
                Err(Failure::NoRoom(error)) => {
                    self.look_again = Some(Instant::now() + LOOK_FOR_ROOM);
                    self.narrow_gate(error);
                }
                Err(Failure::Broken(error)) => return Err(error),
            }
        }
        self.choose_victim();
        Ok(())
    }

    /// Frees the oldest segments that nobody needs, in order.
    fn free_segments(&mut self) -> io::Result<()> {
        let Some(current) = self.current.as_ref().map(|current| current.number) else {
            return Ok(());
        };
        loop {
            let first_id = self.shared.front.lock().window.first_number();
            let mut index = self.shared.index.lock();
            let Some(oldest) = index.segments.first_entry() else { return Ok(()) };
            let (number, segment) = (*oldest.key(), oldest.get());
            if number == current || segment.live > 0 || segment.ids_below > first_id {
                return Ok(());
            }
            oldest.remove();
            drop(index);
            // What was moved out of it, or stands at the head of the current one, has to last first.
            self.sync()?;
            self.files.free(number)?;
            self.settled.retain(|it| it.on.is_none_or(|on| on > number));
        }
    }

    fn open_gate(&self) {
        let mut front = self.shared.front.lock();
        if matches!(front.gate, Gate::Narrow { .. }) {
            front.gate = Gate::Open;
            let opening = std::mem::take(&mut front.opening);
            drop(front);
            opening.complete(Ok(()));
        }
    }

    /// Lets nothing in that only adds. Commits, which take some room as well, come in while there is some of what is
    /// held, or else in the first half of the current segment: the rest is left to acknowledgements, and the reserve
    /// behind it.
    pub(crate) fn narrow_gate(&self, error: LogError) {
        let half = self.files.size / 2;
        let is_early = self.current.as_ref().is_some_and(|current| current.end <= half);
        let commits = self.free() > HELD || is_early && self.files.spares() > 0;
        let mut front = self.shared.front.lock();
        let began = commits && matches!(front.gate, Gate::Narrow { commits: false, .. });
        if !matches!(front.gate, Gate::Shut(_)) {
            front.gate = Gate::Narrow { error, commits };
        }
        if began {
            // Some of those who wait may come in.
            let opening = std::mem::take(&mut front.opening);
            drop(front);
            opening.complete(Ok(()));
        }
    }

    /// Begins to empty the oldest segment when more is garbage than not, or when there is no room otherwise and
    /// what is left is enough to move what it holds.
    fn choose_victim(&mut self) {
        let rests = self.move_again.is_some_and(|until| Instant::now() < until);
        if self.compaction.is_some() || rests {
            return;
        }
        let Some(current) = &self.current else { return };
        let (first_id, next_id, is_open) = {
            let front = self.shared.front.lock();
            let is_open = matches!(front.gate, Gate::Open);
            (front.window.first_number(), front.window.next_number(), is_open)
        };
        let size = u64::from(self.files.size);
        let room = size.saturating_sub(current.end.into()) + self.free() as u64 * size;
        let index = self.shared.index.lock();
        let sealed = index.segments.iter().filter(|(number, _)| **number != current.number);
        let garbage: u64 = sealed.clone().map(|(_, it)| size.saturating_sub(it.live)).sum();
        let Some((oldest, segment)) = sealed.clone().next() else { return };
        let each = (frame::HEAD + SETTLEMENT) as u64;
        let to_move = |it: &Segment| it.live + it.entries * each;
        let ids = segment.ids_below.min(next_id).saturating_sub(first_id);
        let cost = to_move(segment) + ids * 32;
        let begins = if is_open {
            garbage > index.live_bytes() + 2 * size
        } else if garbage >= size && cost <= room.min(size / 2) {
            true
        } else {
            // One that is more than half full is moved for what stands behind it alone; half a segment of that may
            // be ids. Once around is enough, until more was settled.
            let worth: u64 = sealed.map(|(_, it)| size.saturating_sub(to_move(it))).sum();
            let is_on = *oldest <= self.around.until;
            let may_begin = is_on || index.settled >= self.around.settled;
            let begins = may_begin && worth >= size + size / 2 && cost + size / 8 <= room;
            if begins && !is_on {
                self.around = Around { until: current.number, settled: index.settled + size };
            }
            begins
        };
        if begins {
            self.compaction = Some(Compaction::of(*oldest));
        }
    }
}
