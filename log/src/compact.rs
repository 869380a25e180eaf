//! Moving what is still needed out of the oldest segment, so that the segment can be freed.
//!
//! A few records go along with each batch. They are written before what the batch brings, so that a message
//! that is done with in the same batch is not brought back.

use std::ops::Bound;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::frame;
use crate::index::{Index, Live, Location};
use crate::log::Shared;
use crate::read::{ReadError, with_op};
use crate::record::{Op, Writer};

/// How many entries of the index are looked at for each batch, so that publishers do not wait for long.
const LOOKED_AT: usize = 4096;

/// The segment that is being emptied, and how far that is.
#[derive(Debug)]
pub(crate) struct Compaction {
    victim: u32,
    next_id: u64,
    after_seq: u64,
    messages_done: bool,
    after_key: Option<Box<[u8]>>,
    values_done: bool,
}

/// What a step of a compaction found to move.
enum Found {
    Message(u64, Live),
    Value(Box<[u8]>, Location),
}

/// What a step comes to.
#[derive(Default)]
pub(crate) struct Moves {
    /// Finished frames.
    pub(crate) frames: Vec<u8>,
    /// All of the segment is moved once these are written.
    pub(crate) is_last: bool,
}

impl Compaction {
    pub(crate) fn of(victim: u32) -> Self {
        Self {
            victim,
            next_id: 0,
            after_seq: 0,
            messages_done: false,
            after_key: None,
            values_done: false,
        }
    }

    /// Moves about `budget` bytes.
    ///
    /// # Errors
    /// What the disk says. What is damaged is given up, and told.
    pub(crate) fn step(&mut self, shared: &Shared, budget: usize) -> Result<Moves, ReadError> {
        let mut moves = Moves::default();
        if self.move_ids(shared, &mut moves.frames, budget) {
            return Ok(moves);
        }
        let (found, file) = {
            let mut index = shared.index.lock();
            let Some(segment) = index.segments.get_mut(&self.victim) else {
                return Ok(Moves { is_last: true, ..moves });
            };
            // What earlier steps found is written: no ids stand in it alone any more, whatever comes.
            segment.ids_below = 0;
            let file = Arc::clone(&segment.file);
            let found = self.find(&index, budget);
            moves.is_last = self.values_done;
            (found, file)
        };
        for found in found {
            let start = frame::begin(&mut moves.frames);
            match found.write(&*file, &mut Writer(&mut moves.frames)) {
                Ok(()) => frame::finish(&mut moves.frames, start),
                Err(ReadError::Damaged { file, offset }) => {
                    moves.frames.truncate(start);
                    shared.give_up(&found, &file, offset);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(moves)
    }

    /// Moves ids that are still remembered; says whether there were any.
    fn move_ids(&mut self, shared: &Shared, frames: &mut Vec<u8>, budget: usize) -> bool {
        let below = shared.index.lock().segments.get(&self.victim).map_or(0, |it| it.ids_below);
        let front = shared.front.lock();
        let below = below.min(front.window.next_number());
        let start = frame::begin(frames);
        let mut writer = Writer(frames);
        let mut any = false;
        // An id takes 29 bytes.
        for (number, id, seq, time) in front.window.range(self.next_id, below).take(budget / 29) {
            writer.seen(id, seq, time);
            self.next_id = number + 1;
            any = true;
        }
        match any {
            true => frame::finish(frames, start),
            false => frames.truncate(start),
        }
        any
    }

    fn find(&mut self, index: &Index, budget: usize) -> Vec<Found> {
        let mut found = Vec::new();
        let mut bytes = 0;
        if !self.messages_done {
            let behind = (Bound::Excluded(self.after_seq), Bound::Unbounded);
            for (looked_at, (seq, live)) in index.messages.range(behind).enumerate() {
                if bytes >= budget || looked_at >= LOOKED_AT {
                    return found;
                }
                self.after_seq = *seq;
                if live.at.segment == self.victim {
                    bytes += live.at.len as usize;
                    found.push(Found::Message(*seq, live.clone()));
                }
            }
            self.messages_done = true;
        }
        let from = self.after_key.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let behind = index.state.range::<[u8], _>((from, Bound::Unbounded));
        let mut last: Option<&[u8]> = None;
        for (looked_at, (key, at)) in behind.enumerate() {
            if bytes >= budget || looked_at >= LOOKED_AT {
                self.after_key = last.map(Into::into).or(self.after_key.take());
                return found;
            }
            last = Some(key.as_ref());
            if at.segment == self.victim {
                bytes += at.len as usize;
                found.push(Found::Value(key.clone(), *at));
            }
        }
        self.values_done = true;
        found
    }
}

impl Found {
    fn write(&self, file: &dyn DiskFile, writer: &mut Writer<'_>) -> Result<(), ReadError> {
        match self {
            Self::Message(seq, live) => with_op(file, live.at, |op| match op {
                Op::Message { seq: found, id, time, body, .. } if found == *seq => {
                    let slots = live.waiting.iter().map(|waiting| waiting.slot);
                    writer.message(*seq, *id, time, slots, &[body]);
                    let tried = live.waiting.iter().filter(|it| it.attempts > 0 || it.due > 0);
                    tried.for_each(|it| writer.nak(it.slot, *seq, it.attempts, it.due));
                    Some(())
                }
                _ => None,
            }),
            Self::Value(key, at) => with_op(file, *at, |op| match op {
                Op::Put { key: found, value: Some(value) } if *found == **key => {
                    writer.value(key, Some(value));
                    Some(())
                }
                _ => None,
            }),
        }
    }
}

impl Shared {
    /// Takes what cannot be read any more out of the index: it would hold all later segments for ever.
    fn give_up(&self, found: &Found, file: &str, offset: u64) {
        let mut index = self.index.lock();
        match found {
            Found::Message(seq, live) => {
                tracing::error!(seq, file, offset, "a message in the log is damaged and lost");
                for waiting in &live.waiting {
                    index.apply(&Op::Ack { slot: waiting.slot, seq: *seq }, live.at);
                }
            }
            Found::Value(key, at) => {
                tracing::error!(?key, file, offset, "a value in the log is damaged and lost");
                index.apply(&Op::Put { key, value: None }, *at);
            }
        }
        index.damaged += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_looks_at_a_bounded_number_of_values_and_all_are_found() {
        let mut index = Index::default();
        let count = 3 * LOOKED_AT + 1;
        for n in 0..count {
            // A few of the values are in the segment.
            let segment = 1 + u32::from(!n.is_multiple_of(1000));
            let at = Location { segment, record: 0, op: 0, len: 10 };
            index.state.insert((n as u64).to_be_bytes().into(), at);
        }
        let mut compaction = Compaction::of(1);
        let (mut steps, mut found) = (0, 0);
        while !compaction.values_done {
            found += compaction.find(&index, 1 << 20).len();
            steps += 1;
        }
        assert_eq!((steps, found), (4, count.div_ceil(1000)));
        let mut compaction = Compaction::of(1);
        let mut found = Vec::new();
        while !compaction.values_done {
            found.extend(compaction.find(&index, 25).into_iter().map(|found| match found {
                Found::Value(key, _) => key,
                Found::Message(..) => panic!("there is none"),
            }));
        }
        assert!(found.is_sorted() && found.len() == count.div_ceil(1000));
    }
}
