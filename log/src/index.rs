//! What the log holds: which messages wait for whom, and where each of them stands on disk.
//!
//! The index is what all records amount to, applied one after another: by the writer once they are on disk,
//! and at the start by reading them back. Payloads stay on disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::disk::DiskFile;
use crate::record::Op;

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    /// The offset of its frame.
    pub(crate) record: u32,
    /// Its place in the record's body.
    pub(crate) op: u32,
    pub(crate) len: u32,
}

/// A slot that is not done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) slot: u32,
    pub(crate) attempts: u16,
    /// Milliseconds of Unix time; 0 is at once.
    pub(crate) due: u64,
}

/// A message that somebody waits for.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) at: Location,
    pub(crate) waiting: SmallVec<[Waiting; 1]>,
}

/// A slot as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) name: Arc<str>,
    pub(crate) about: Arc<[u8]>,
}

/// A segment that is on disk.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    /// The bytes that it takes.
    pub(crate) len: u64,
    /// The bytes in it that are still needed.
    pub(crate) live: u64,
    /// The messages and values that these are.
    pub(crate) entries: u64,
    /// While ids below this number are remembered, some of them may stand in it alone.
    pub(crate) ids_below: u64,
}

#[derive(Default)]
pub(crate) struct Index {
    pub(crate) messages: BTreeMap<u64, Live>,
    pub(crate) state: BTreeMap<Box<[u8]>, Location>,
    pub(crate) slots: BTreeMap<u32, Registered>,
    /// How many of the messages wait for each slot.
    pub(crate) lags: BTreeMap<u32, usize>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// While records are read back, the registration of a slot may come later than its messages.
    pub(crate) replaying: bool,
    /// Messages and values that were given up.
    pub(crate) damaged: u64,
    /// The bytes of all messages that nobody waits for any more.
    pub(crate) settled: u64,
}

impl Index {
    /// Makes an operation count.
    pub(crate) fn apply(&mut self, op: &Op<'_>, at: Location) {
        match *op {
            Op::Head { .. } | Op::Seen { .. } => {}
            Op::Slot { slot, name, about } => {
                self.slots.insert(slot, Registered { name: name.into(), about: about.into() });
            }
            Op::Forget { slot } => {
                self.slots.remove(&slot);
                self.drop_waiting(|waiting| waiting.slot == slot);
                self.lags.remove(&slot);
            }
            Op::Message { seq, slots, .. } => {
                let is_known = |slot: &u32| self.replaying || self.slots.contains_key(slot);
                let waiting = |slot| Waiting { slot, attempts: 0, due: 0 };
                let mut waiting: SmallVec<[Waiting; 1]> =
                    slots.iter().filter(is_known).map(waiting).collect();
                waiting.sort_unstable_by_key(|waiting| waiting.slot);
                waiting.dedup_by_key(|waiting| waiting.slot);
                self.replace(seq, Live { at, waiting });
            }
            Op::Ack { slot, seq } => {
                let Some(live) = self.messages.get_mut(&seq) else { return };
                let before = live.waiting.len();
                live.waiting.retain(|waiting| waiting.slot != slot);
                let (is_acked, is_done) = (live.waiting.len() < before, live.waiting.is_empty());
                if is_acked {
                    self.count_done(slot);
                }
                if is_done {
                    self.remove(seq);
                }
            }
            Op::Nak { slot, seq, attempts, due } => {
                let live = self.messages.get_mut(&seq).into_iter();
                let waiting = live.flat_map(|live| &mut live.waiting);
                waiting
                    .filter(|waiting| waiting.slot == slot)
                    .for_each(|waiting| (waiting.attempts, waiting.due) = (attempts, due));
            }
            Op::Put { key, value } => {
                let before = match value {
                    Some(_) => self.state.insert(key.into(), at),
                    None => self.state.remove(key),
                };
                if value.is_some() {
                    self.add_live(at);
                }
                before.into_iter().for_each(|before| self.remove_live(before));
            }
        }
    }

    fn replace(&mut self, seq: u64, live: Live) {
        if live.waiting.is_empty() {
            return self.remove(seq);
        }
        self.add_live(live.at);
        for waiting in &live.waiting {
            *self.lags.entry(waiting.slot).or_default() += 1;
        }
        if let Some(before) = self.messages.insert(seq, live) {
            before.waiting.iter().for_each(|waiting| self.count_done(waiting.slot));
            self.remove_live(before.at);
        }
    }

    fn remove(&mut self, seq: u64) {
        if let Some(live) = self.messages.remove(&seq) {
            live.waiting.iter().for_each(|waiting| self.count_done(waiting.slot));
            self.settled += u64::from(live.at.len);
            self.remove_live(live.at);
        }
    }

    /// One message less waits for a slot.
    fn count_done(&mut self, slot: u32) {
        if let Some(lag) = self.lags.get_mut(&slot) {
            *lag = lag.saturating_sub(1);
        }
    }

    /// How many messages wait for a slot.
    pub(crate) fn lag(&self, slot: u32) -> usize {
        self.lags.get(&slot).copied().unwrap_or_default()
    }

    fn add_live(&mut self, at: Location) {
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live += u64::from(at.len);
            segment.entries += 1;
        }
    }

    fn remove_live(&mut self, at: Location) {
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live = segment.live.saturating_sub(u64::from(at.len));
            segment.entries = segment.entries.saturating_sub(1);
        }
    }

    /// Ends the replay: what waits for slots that nobody registered waits for nobody.
    pub(crate) fn replayed(&mut self) {
        self.replaying = false;
        let slots = std::mem::take(&mut self.slots);
        self.drop_waiting(|waiting| !slots.contains_key(&waiting.slot));
        self.lags.retain(|slot, _| slots.contains_key(slot));
        self.slots = slots;
    }

    /// Whoever calls sees to [`lags`](Self::lags): those that are over are of slots that are gone.
    fn drop_waiting(&mut self, is_over: impl Fn(&Waiting) -> bool) {
        let mut done = Vec::new();
        for (seq, live) in &mut self.messages {
            live.waiting.retain(|waiting| !is_over(waiting));
            if live.waiting.is_empty() {
                done.push(*seq);
            }
        }
        done.into_iter().for_each(|seq| self.remove(seq));
    }

    /// The bytes that are still needed.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live).sum()
    }

    /// The messages behind `after` that wait for a slot, oldest first.
    pub(crate) fn waiting_for(
        &self,
        slot: u32,
        after: u64,
    ) -> impl Iterator<Item = (u64, &Waiting)> {
        let behind = self.messages.range((Bound::Excluded(after), Bound::Unbounded));
        behind.filter_map(move |(seq, live)| {
            let waiting = live.waiting.iter().find(|waiting| waiting.slot == slot)?;
            Some((*seq, waiting))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Writer, ops};

    #[derive(Debug, Clone)]
    enum Step {
        Register(u32),
        Forget(u32),
        /// One that is known is moved.
        Message(u64, Vec<u32>),
        Ack(u32, u64),
        Nak(u32, u64),
        Replayed,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (slot, seq) = (1u32..5, 1u64..12);
        let step = prop_oneof![
            2 => slot.clone().prop_map(Step::Register),
            1 => slot.clone().prop_map(Step::Forget),
            8 => (seq.clone(), proptest::collection::vec(slot.clone(), 0..5))
                .prop_map(|(seq, slots)| Step::Message(seq, slots)),
            8 => (slot.clone(), seq.clone()).prop_map(|(slot, seq)| Step::Ack(slot, seq)),
            2 => (slot, seq).prop_map(|(slot, seq)| Step::Nak(slot, seq)),
            1 => Just(Step::Replayed),
        ];
        proptest::collection::vec(step, 0..80)
    }

    fn apply(index: &mut Index, step: &Step) {
        let mut body = Vec::new();
        let mut writer = Writer(&mut body);
        match step {
            Step::Register(slot) => writer.slot(*slot, "name", b""),
            Step::Forget(slot) => writer.forget(*slot),
            Step::Message(seq, slots) => {
                writer.message(*seq, [0; 16], 0, slots.iter().copied(), &[]);
            }
            Step::Ack(slot, seq) => writer.ack(*slot, *seq),
            Step::Nak(slot, seq) => writer.nak(*slot, *seq, 1, 1),
            Step::Replayed => index.replayed(),
        }
        let at = Location { segment: 1, record: 0, op: 0, len: 1 };
        ops(&body).for_each(|op| index.apply(&op.unwrap().2, at));
    }

    proptest! {
        #[test]
        fn the_lag_of_a_slot_is_what_waits_for_it(replaying: bool, steps in steps()) {
            let mut index = Index { replaying, ..Index::default() };
            for step in &steps {
                apply(&mut index, step);
                for slot in 1..5 {
                    prop_assert_eq!(index.lag(slot), index.waiting_for(slot, 0).count());
                }
            }
            index.replayed();
            prop_assert!(index.lags.keys().all(|slot| index.slots.contains_key(slot)));
        }
    }
}
