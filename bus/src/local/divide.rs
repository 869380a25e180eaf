//! A queue that two sides share.
//!
//! Each side has a ready queue, idle receivers and what these took along for itself ([`SideQueue`]); room, lanes, delays
//! and counters are the queue's. A ticket belongs to the side of its bucket: a lane's is its number, and a message
//! without a key has that of its id. A batch is one ticket while one side has all, and is unpacked otherwise. The second
//! side is made when somebody asks for it, and a queue that nobody divides looks at the share, and no further.
//!
//! * **Once, and in order.** Dividing moves tickets and copies nothing. A lane has one ticket wherever that lies, and
//!   whoever holds it gives it up only between two messages: so a key is in one hand at a time, and in order, while
//!   the share changes. Messages without a key are handed out in no order while a queue is divided, or was a moment ago.
//! * **Shared queues.** All that puts tickets there does so by [`place`](Queue::place) or as it does. After a change of the share each
//!   ticket that lay there is swept and put where it belongs, and what is put meanwhile by an old look is brought over by
//!   whoever put it ([`gate`](super::gate)).
//! * **Queues of receivers.** A receiver takes tickets along, looks at the share, and if that is no longer whole gives away
//!   what it took along before it does anything else. Between the two it puts the same fence: either it sees the change,
//!   or the sweep finds the tickets in its queue. It takes nothing along while the share is divided. So the sweep needs
//!   nobody's help: receivers of the other side may be gone, or in a handler that never ends.
//! * **What a receiver keeps.** The message in hand; the lane of that; and a batch that nobody can steal from, which it
//!   keeps only where handling is fast and gives away at its next look, or when a handler waits. A receiver that is
//!   dropped gives all of it to the side that it belongs to.
//! * **Wake-ups.** Each side has idle receivers of its own, so one that was woken and never looks holds up nobody of the other.
//! * **Cost of a change.** A sweep looks at each ticket once, under a lock that publishers do not take, those aside who
//!   looked at the share a moment before it changed.

use uuid::Uuid;

use super::gate::Look;
use super::queue::{Queue, Ticket};
use super::side::SideQueue;
use crate::transport::Side;

/// The bucket of a message without a key. Ids of one thread count up, and the golden ratio spreads what counts up as
/// evenly as can be.
#[inline]
pub(super) fn bucket(id: Uuid) -> u8 {
    let (high, low) = id.as_u64_pair();
    ((high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Ticket {
    /// The side that it belongs to; `None` for a batch that belongs to both.
    fn side(&self, look: Look) -> Option<Side> {
        look.owner().or_else(|| match self {
            Self::Message(entry) => Some(look.side(bucket(entry.received.message.id()))),
            Self::Batch(_) => None,
            Self::Lane(lane) => Some(look.side(lane.bucket())),
        })
    }

    /// The messages of a batch, each for itself.
    fn unpack(self) -> impl Iterator<Item = Self> {
        let (one, batch) = match self {
            Self::Batch(batch) => (None, Some(batch)),
            other => (Some(other), None),
        };
        one.into_iter().chain(batch.into_iter().flatten().map(Self::Message))
    }
}

impl Queue {
    #[inline]
    pub(super) fn side(&self, side: Side) -> &SideQueue {
        match side {
            Side::First => &self.first,
            Side::Second => self.second.get_or_init(Box::default),
        }
    }

    /// The sides that there are.
    pub(super) fn sides(&self) -> impl Iterator<Item = &SideQueue> {
        std::iter::once(&self.first).chain(self.second.get().map(|second| &**second))
    }

    /// Puts a ticket where it belongs, and wakes somebody for it. Most messages come by [`enqueue`](Self::enqueue), which
    /// does the same.
    pub(super) fn place(&self, ticket: Ticket) {
        let look = self.gate.look();
        self.put(look, ticket);
        self.look_again(look);
    }

    fn put(&self, look: Look, ticket: Ticket) {
        match ticket.side(look) {
            Some(side) => {
                let side = self.side(side);
                side.ready.push(ticket);
                side.idle.wake_one();
            }
            None => ticket.unpack().for_each(|ticket| self.put(look, ticket)),
        }
    }

    /// After something was put by a look.
    #[inline]
    pub(super) fn look_again(&self, before: Look) {
        self.gate.look_again(before, |look| self.bring_over(look));
    }

    /// The side of a bucket.
    #[inline]
    pub(super) fn side_at(&self, look: Look, bucket: impl FnOnce() -> u8) -> &SideQueue {
        // Without a further look, since that is most of them.
        if look.is_whole(Side::First) { &self.first } else { self.side(look.side(bucket())) }
    }

    /// So many buckets are the second side's from now on.
    pub(super) fn divide(&self, second: u16) {
        self.gate.divide(second, |look| self.bring_over(look));
        self.wake_all();
    }

    /// Puts all tickets where they belong.
    fn bring_over(&self, look: Look) {
        self.sides().for_each(|side| side.sweep(|ticket| self.put(look, ticket)));
    }

    pub(super) fn wake_all(&self) {
        self.sides().for_each(|side| side.idle.wake_all());
    }

    /// Whether a ticket is of this side, as the share is now.
    pub(super) fn is_of(&self, side: Side, ticket: &Ticket) -> bool {
        ticket.side(self.gate.look()) == Some(side)
    }
}
