//! What the writer does between batches: freeing segments, making room, opening and narrowing the gate.

use std::io;
use std::time::Instant;

use crate::LogError;
use crate::compact::Compaction;
use crate::front::Gate;
use crate::writer::{Failure, LOOK_FOR_ROOM, Writer};

impl Writer {
    pub(crate) fn keep_house(&mut self) -> io::Result<()> {
        self.free_segments()?;
        if self.files.has_spare() || !self.is_stuck() {
            match self.look_for_spare() {
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
    /// as well, all of it to acknowledgements.
    pub(crate) fn narrow_gate(&self, error: LogError) {
        let half = self.files.size / 2;
        let commits = self.current.as_ref().is_some_and(|current| current.end <= half);
        let mut front = self.shared.front.lock();
        if !matches!(front.gate, Gate::Shut(_)) {
            front.gate = Gate::Narrow { error, commits };
        }
    }

    /// Begins to empty the oldest segment when more is garbage than not, or when there is no room otherwise.
    fn choose_victim(&mut self) {
        if self.compaction.is_some() || self.was_refused {
            return;
        }
        let Some(current) = &self.current else { return };
        let index = self.shared.index.lock();
        let sealed = index.segments.iter().filter(|(number, _)| **number != current.number);
        let size = u64::from(self.files.size);
        let garbage: u64 = sealed.clone().map(|(_, it)| size.saturating_sub(it.live)).sum();
        let Some((oldest, segment)) = sealed.clone().next() else { return };
        let room = u64::from(self.files.size - current.end);
        let is_worth = garbage > index.live_bytes() + 2 * size;
        let is_needed = !self.files.has_spare() && garbage >= size && segment.live < room / 2;
        if is_worth || is_needed {
            self.compaction = Some(Compaction::of(*oldest));
        }
    }

    /// All of a segment is moved: no ids stand in it alone.
    pub(crate) fn finish_compaction(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            let mut index = self.shared.index.lock();
            if let Some(segment) = index.segments.get_mut(&compaction.victim()) {
                segment.ids_below = 0;
            }
        }
    }
}
