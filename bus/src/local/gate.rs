//! Whether a queue hands out, and to which of two sides.
//!
//! Both are one word, so that whoever has all of a queue to itself, and is not paused, learns that from one
//! comparison.
//!
//! * **Who may change it.** Anybody. The share changes under a lock, which whoever brings tickets over holds as well:
//!   while it is held, the share stays.
//! * **No ticket stays on the wrong side.** Whoever puts a ticket somewhere looks at the share, puts it, and looks again;
//!   whoever changes the share changes it, and then looks where tickets are. Both put a sequentially consistent fence
//!   between the two, so one of them sees the other: the ticket is found, or whoever put it brings it over.
//!   `tests/gate_model.rs` tries every interleaving of this.

use super::sync::{AtomicU32, Mutex, Ordering, fence};
use crate::transport::Side;

/// The share of the second side that is all.
const ALL: u32 = 256;

/// The bits that hold it.
const SHARE: u32 = 0x1ff;

const PAUSED: u32 = 1 << 31;

/// How the gate stood when somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look(u32);

impl Look {
    /// All is this side's, and nothing is paused.
    pub(super) fn whole(side: Side) -> Self {
        match side {
            Side::First => Self(0),
            Side::Second => Self(ALL),
        }
    }

    pub(super) fn is_paused(self) -> bool {
        self.0 & PAUSED != 0
    }

    /// Whether all is this side's.
    #[inline]
    pub(super) fn is_whole(self, side: Side) -> bool {
        self.0 & SHARE == Self::whole(side).0
    }

    /// The side that all is of; `None` where it is divided.
    #[inline]
    pub(super) fn owner(self) -> Option<Side> {
        match self.0 & SHARE {
            0 => Some(Side::First),
            ALL.. => Some(Side::Second),
            _ => None,
        }
    }

    /// The side that a bucket is of.
    pub(super) fn side(self, bucket: u8) -> Side {
        if u32::from(bucket) < self.0 & SHARE { Side::Second } else { Side::First }
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    word: AtomicU32,
    moving: Mutex<()>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { word: AtomicU32::new(0), moving: Mutex::default() }
    }
}

impl Gate {
    #[inline]
    pub(super) fn look(&self) -> Look {
        Look(self.word.load(Ordering::Acquire))
    }

    pub(super) fn pause(&self) {
        self.word.fetch_or(PAUSED, Ordering::AcqRel);
    }

    pub(super) fn resume(&self) {
        self.word.fetch_and(!PAUSED, Ordering::AcqRel);
    }

    /// Looks again, after something was put where it belonged at a first look, and behind a sequentially consistent fence:
    /// [`wake_one`](super::idle::Idle::wake_one) begins with one. Where the share has changed meanwhile `bring_over` sees
    /// to the tickets of both sides.
    #[inline]
    pub(super) fn look_again(&self, before: Look, bring_over: impl FnOnce(Look)) {
        if (self.look().0 ^ before.0) & SHARE != 0 {
            self.settled(bring_over);
        }
    }

    /// So much is the second side's from now on; `bring_over` sees to the tickets of both sides.
    pub(super) fn divide(&self, second: u16, bring_over: impl FnOnce(Look)) {
        let _one_change = self.moving.lock();
        let share = u32::from(second).min(ALL);
        // In one step, and whoever pauses meanwhile is not undone.
        self.word.fetch_xor((self.look().0 & SHARE) ^ share, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        bring_over(self.look());
    }

    /// Does something while the share stays as it is and nobody brings tickets over.
    #[cold]
    pub(super) fn settled<R>(&self, act: impl FnOnce(Look) -> R) -> R {
        let _no_change = self.moving.lock();
        act(self.look())
    }
}
