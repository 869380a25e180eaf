//! Messages with an ordering key.
//!
//! They are split by the hash of their key into lanes. A lane that has something to hand out stands in the
//! slot's ready queue once, as a ticket; the receiver that takes the ticket owns the lane until it gives
//! it back, so two messages of a key are never in hand at the same time. A message that waits for its
//! retry is set aside together with the later messages of its key, and the lane's other keys go on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::queue::Entry;

const LANES: usize = 256;

/// The number of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId(u8);

impl LaneId {
    /// What of the slot's messages it is.
    pub(super) fn bucket(self) -> u8 {
        self.0
    }
}

#[derive(Debug, Default)]
struct Lane {
    ready: VecDeque<Entry>,
    /// By key: the message that waits for its retry, then those behind it.
    held_back: HashMap<Box<str>, VecDeque<Entry>>,
    /// Whether a ticket for the lane is in the ready queue or in a receiver's hand.
    out: bool,
}

/// Allocated when the first message with a key comes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: OnceLock<Box<[Mutex<Lane>]>>,
    hasher: RandomState,
}

impl Lanes {
    fn lane_of(&self, key: &str) -> LaneId {
        // The low byte of a good hash is as good as any.
        LaneId((self.hasher.hash_one(key) & 0xff) as u8)
    }

    fn lane(&self, id: LaneId) -> parking_lot::MutexGuard<'_, Lane> {
        let lanes = self.lanes.get_or_init(|| (0..LANES).map(|_| Mutex::default()).collect());
        // A u8 is always below LANES.
        #[allow(clippy::indexing_slicing)]
        lanes[usize::from(id.0)].lock()
    }

    /// Adds a message; gives the lane when its ticket must go into the ready queue.
    pub(super) fn push(&self, entry: Entry) -> Option<LaneId> {
        let key = entry.key().unwrap_or_default();
        let id = self.lane_of(key);
        let mut lane = self.lane(id);
        match lane.held_back.get_mut(key) {
            Some(followers) => {
                followers.push_back(entry);
                None
            }
            None => {
                lane.ready.push_back(entry);
                lane.call_out().then_some(id)
            }
        }
    }

    /// The next message of a lane whose ticket the caller has; `None` gives the ticket back.
    pub(super) fn take(&self, id: LaneId) -> Option<Entry> {
        let mut lane = self.lane(id);
        let entry = lane.ready.pop_front();
        lane.out = entry.is_some();
        entry
    }

    /// Puts a message that was in hand back to the front; the caller keeps the ticket.
    pub(super) fn put_back(&self, id: LaneId, entry: Entry) {
        self.lane(id).ready.push_front(entry);
    }

    /// Puts messages that were settled too early back to the front, in their order, those of a lane at once; gives the
    /// lanes whose tickets must go out.
    pub(super) fn push_front(&self, entries: Vec<Entry>) -> Vec<LaneId> {
        let mut by_lane = BTreeMap::<u8, Vec<Entry>>::new();
        for entry in entries {
            let LaneId(id) = self.lane_of(entry.key().unwrap_or_default());
            by_lane.entry(id).or_default().push(entry);
        }
        let put = |(id, entries): (u8, Vec<Entry>)| {
            let mut lane = self.lane(LaneId(id));
            entries.into_iter().rev().for_each(|entry| lane.ready.push_front(entry));
            lane.call_out().then_some(LaneId(id))
        };
        by_lane.into_iter().filter_map(put).collect()
    }

    /// Sets a message aside until its retry, and with it what follows of its key.
    pub(super) fn hold_back(&self, entry: Entry) {
        let key: Box<str> = entry.key().unwrap_or_default().into();
        let mut lane = self.lane(self.lane_of(&key));
        if let Some(held) = lane.held_back.get_mut(&key) {
            // Another of its key waits already.
            return held.push_back(entry);
        }
        let ready = std::mem::take(&mut lane.ready);
        let (mut held, rest): (VecDeque<Entry>, VecDeque<Entry>) =
            ready.into_iter().partition(|other| other.key() == Some(&*key));
        held.push_front(entry);
        lane.ready = rest;
        lane.held_back.insert(key, held);
    }

    /// Ends what [`hold_back`](Self::hold_back) began; gives the lane when its ticket must go out.
    pub(super) fn release(&self, key: &str) -> Option<LaneId> {
        let id = self.lane_of(key);
        let mut lane = self.lane(id);
        let held = lane.held_back.remove(key)?;
        for entry in held.into_iter().rev() {
            lane.ready.push_front(entry);
        }
        lane.call_out().then_some(id)
    }

    /// Drops the oldest message that a lane could hand out, for queues that make room that way.
    pub(super) fn drop_oldest(&self, id: LaneId) -> Option<Entry> {
        self.lane(id).ready.pop_front()
    }

    /// Takes out everything, for a slot that is closed.
    pub(super) fn drain(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        for lane in self.lanes.get().into_iter().flatten() {
            let mut lane = lane.lock();
            all.extend(lane.ready.drain(..));
            all.extend(lane.held_back.drain().flat_map(|(_, held)| held));
        }
        all
    }
}

impl Lane {
    /// Marks the ticket as out; says whether it was not.
    fn call_out(&mut self) -> bool {
        !std::mem::replace(&mut self.out, true)
    }
}
