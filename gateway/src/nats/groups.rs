//! Queue groups: subscriptions that share the messages of a pattern.
//!
//! A group is one slot on the bus, shared by its members on all connections of this host. Whichever member is
//! polled takes what the slot has and deals it out in turn, to members that keep up rather than to those that
//! do not; a member that gets something is woken. A message is settled when it is dealt out, as NATS has it.
//! The slot opens with the first member and closes with the last.
//!
//! All of a group's state is behind one lock that is never held across a wait. The slot wakes the member that
//! polled last; one that leaves wakes another, so no wake-up is lost, and hands what it had not taken to the
//! others.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use echo_bus::{BusError, Receiver, Settlement, Slot, SlotOptions, Transport};
use echo_sdk::{Overflow, Pattern, Received};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::congestion::Pressure;

/// How many messages wait in a group's slot, and how many in each member's hand, before publishers wait. They
/// wait for members to be polled, not for their sockets.
pub(super) const CAPACITY: usize = 16_384;

/// How many messages are dealt out before others have their turn at the lock.
const ROUND: usize = 256;

type Key = (Box<str>, Pattern);

/// The groups of a gateway.
#[derive(Debug, Default)]
pub(super) struct Groups {
    open: Mutex<HashMap<Key, Arc<OnceCell<Arc<Group>>>>>,
}

struct Group {
    slot: Arc<dyn Slot>,
    /// The member that is woken when the slot has something.
    on_duty: AtomicWaker,
    state: Mutex<State>,
}

struct State {
    receiver: Box<dyn Receiver>,
    /// What wakes the member on duty.
    waker: Waker,
    seats: Vec<Seat>,
    next_member: u64,
    /// Whose turn it is.
    turn: usize,
    is_over: bool,
}

struct Seat {
    member: u64,
    hand: VecDeque<Received>,
    waker: Option<Waker>,
    pressure: Arc<Pressure>,
}

/// Wakes whoever is on duty.
struct DutyBell(std::sync::Weak<Group>);

impl std::task::Wake for DutyBell {
    fn wake(self: Arc<Self>) {
        if let Some(group) = self.0.upgrade() {
            group.on_duty.wake();
        }
    }
}

impl Groups {
    /// Joins the group of this name and pattern.
    pub(super) async fn join(
        self: &Arc<Self>,
        transport: &Arc<dyn Transport>,
        name: &str,
        pattern: &Pattern,
        pressure: &Arc<Pressure>,
    ) -> Result<Member, BusError> {
        let key: Key = (name.into(), pattern.clone());
        loop {
            let cell = Arc::clone(self.open.lock().entry(key.clone()).or_default());
            let group = cell.get_or_try_init(|| Group::open(transport, &key)).await;
            let group = group.inspect_err(|_| self.forget(&key, &cell))?;
            if let Some(member) = group.seat(pressure) {
                let groups = Arc::clone(self);
                let group = Arc::clone(group);
                return Ok(Member { groups, key, cell, group, member, taken: VecDeque::new() });
            }
            // Its last member has left meanwhile.
            self.forget(&key, &cell);
        }
    }

    fn forget(&self, key: &Key, cell: &Arc<OnceCell<Arc<Group>>>) {
        let mut open = self.open.lock();
        if open.get(key).is_some_and(|known| Arc::ptr_eq(known, cell)) {
            open.remove(key);
        }
    }
}

impl Group {
    async fn open(transport: &Arc<dyn Transport>, key: &Key) -> Result<Arc<Self>, BusError> {
        let options = SlotOptions {
            name: slot_name(key),
            patterns: vec![key.1.clone()],
            capacity: CAPACITY,
            overflow: Overflow::Block,
        };
        let slot = transport.open_slot(options).await?;
        let mut receiver = slot.receiver();
        receiver.set_batch(ROUND);
        Ok(Arc::new_cyclic(|group| Self {
            slot,
            on_duty: AtomicWaker::new(),
            state: Mutex::new(State {
                receiver,
                waker: Waker::from(Arc::new(DutyBell(group.clone()))),
                seats: Vec::new(),
                next_member: 0,
                turn: 0,
                is_over: false,
            }),
        }))
    }

    /// A seat for one more member; `None` when the group has ended.
    fn seat(&self, pressure: &Arc<Pressure>) -> Option<u64> {
        let mut state = self.state.lock();
        if state.is_over {
            return None;
        }
        let member = state.next_member;
        state.next_member += 1;
        let (hand, pressure) = (VecDeque::new(), Arc::clone(pressure));
        state.seats.push(Seat { member, hand, waker: None, pressure });
        Some(member)
    }
}

impl State {
    /// Deals out what the slot has; says whether there may be more.
    fn deal(&mut self) -> bool {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..ROUND {
            let Some(place) = self.choose(None) else { return false };
            if !self.receiver.poll_recv(&mut cx).is_ready() {
                return false;
            }
            let Some(delivery) = self.receiver.current() else { return false };
            let received =
                Received { topic: delivery.topic.clone(), message: delivery.message.clone() };
            self.receiver.settle(Settlement::Done);
            self.hand_to(place, received);
        }
        true
    }

    fn seat_of(&mut self, member: u64) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.member == member)
    }

    /// The seat whose turn it is: of a member that keeps up, or else of any that has room.
    fn choose(&self, not: Option<u64>) -> Option<usize> {
        let count = self.seats.len();
        let turns = || (self.turn..self.turn + count).map(|turn| turn % count);
        let has_room = |seat: &Seat| seat.hand.len() < CAPACITY && Some(seat.member) != not;
        let find = |keeps_up: bool| {
            turns().find(|place| {
                let seat = self.seats.get(*place);
                seat.is_some_and(|seat| has_room(seat) && !(keeps_up && seat.pressure.is_high()))
            })
        };
        find(true).or_else(|| find(false))
    }

    fn hand_to(&mut self, place: usize, received: Received) {
        self.turn = place + 1;
        if let Some(seat) = self.seats.get_mut(place) {
            seat.hand.push_back(received);
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }
}

/// One subscription's place in a group.
pub(super) struct Member {
    groups: Arc<Groups>,
    key: Key,
    cell: Arc<OnceCell<Arc<Group>>>,
    group: Arc<Group>,
    member: u64,
    /// What was dealt to this member and is not delivered yet.
    taken: VecDeque<Received>,
}

impl Member {
    /// The next message for this member.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        if let Some(received) = self.taken.pop_front() {
            return Poll::Ready(Some(received));
        }
        self.group.on_duty.register(cx.waker());
        let mut state = self.group.state.lock();
        if let Some(seat) = state.seat_of(self.member) {
            // It is awake: what is dealt now need not wake it.
            seat.waker = None;
        }
        let has_more = state.deal();
        let Some(seat) = state.seat_of(self.member) else { return Poll::Ready(None) };
        std::mem::swap(&mut seat.hand, &mut self.taken);
        if has_more {
            cx.waker().wake_by_ref();
        }
        match self.taken.pop_front() {
            Some(received) => Poll::Ready(Some(received)),
            None => {
                seat.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Gives a message to another member; without one nobody gets it.
    pub(super) fn pass_on(&self, received: Received) {
        let mut state = self.group.state.lock();
        if let Some(other) = state.choose(Some(self.member)) {
            state.hand_to(other, received);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.group.state.lock();
        let place = state.seats.iter().position(|seat| seat.member == self.member);
        let seat = place.map(|place| state.seats.remove(place));
        state.turn = 0;
        let left = seat.map(|seat| seat.hand).unwrap_or_default();
        for received in self.taken.drain(..).chain(left) {
            match state.choose(None) {
                Some(other) => state.hand_to(other, received),
                None => break,
            }
        }
        // Somebody else takes over the duty.
        match state.seats.iter_mut().find_map(|seat| seat.waker.take()) {
            Some(waker) => waker.wake(),
            None if state.seats.is_empty() => {
                state.is_over = true;
                self.group.slot.close();
                drop(state);
                self.groups.forget(&self.key, &self.cell);
            }
            // The others are about to be polled.
            None => {}
        }
    }
}

/// The slot's name, the same on every host: the group's as far as it can stand in a topic, made unique for group
/// and pattern.
fn slot_name((name, pattern): &Key) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let readable: String = name.chars().take(40).map(plain).collect();
    let text = [name, " ", pattern.as_str()];
    format!("queue-{readable}-{:016x}", fnv(text.iter().flat_map(|part| part.bytes())))
}

/// FNV-1a.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("slot", &self.slot.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("group", &self.group).finish_non_exhaustive()
    }
}
