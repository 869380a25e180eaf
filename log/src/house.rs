//! What the writer does between batches: freeing segments, making room, opening and narrowing the gate.

use std::io;
use std::time::Instant;

use crate::LogError;
use crate::compact::Compaction;
use crate::frame;
use crate::front::Gate;
use crate::room::SPARES;
use crate::writer::{Failure, LOOK_FOR_ROOM, SETTLEMENT, Writer};

impl Writer {
    pub(crate) fn keep_house(&mut self) -> io::Result<()> {
        self.free_segments()?;
        if self.files.spares() >= SPARES || !self.is_stuck() {
            match self.look_for_spares(SPARES) {
                Ok(()) => self.open_gate(),
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

    /// Leaves what is left of the current segment to what makes room: half of it to commits, which take some
    /// as well, all of it to acknowledgements. The reserve behind it is not for commits.
    pub(crate) fn narrow_gate(&self, error: LogError) {
        let half = self.files.size / 2;
        let is_early = self.current.as_ref().is_some_and(|current| current.end <= half);
        let commits = is_early && self.files.spares() > 0;
        let mut front = self.shared.front.lock();
        if !matches!(front.gate, Gate::Shut(_)) {
            front.gate = Gate::Narrow { error, commits };
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
        let (first_id, next_id) = {
            let front = self.shared.front.lock();
            (front.window.first_number(), front.window.next_number())
        };
        let index = self.shared.index.lock();
        let sealed = index.segments.iter().filter(|(number, _)| **number != current.number);
        let size = u64::from(self.files.size);
        let garbage: u64 = sealed.clone().map(|(_, it)| size.saturating_sub(it.live)).sum();
        let Some((oldest, segment)) = sealed.clone().next() else { return };
        let ids = segment.ids_below.min(next_id).saturating_sub(first_id);
        let each = (frame::HEAD + SETTLEMENT) as u64;
        let cost = segment.live + segment.entries * each + ids * 32;
        let room = size.saturating_sub(current.end.into()) + self.files.spare_bytes();
        let begins = match self.files.spares() {
            SPARES.. => garbage > index.live_bytes() + 2 * size,
            // One that is more than half full would be moved for nothing, over and over.
            _ => garbage >= size && cost <= room.min(size / 2),
        };
        if begins {
            self.compaction = Some(Compaction::of(*oldest));
        }
    }
}
