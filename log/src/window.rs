//! The ids that came of late, by which a second message of the same id is known.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Remembers a bounded number of ids for a bounded time.
///
/// Each id has a number, counted up. The numbers tell which segments hold ids that are still remembered. Ids stand in
/// the order of their numbers; the table that finds them holds the numbers alone, so that it stays small.
#[derive(Debug)]
pub(crate) struct Window {
    /// The numbers of those that are known, without their upper half: less than 2^32 are remembered at a time.
    known: HashTable<u32>,
    hasher: RandomState,
    /// Oldest first. One that was taken back since is not in `known` under its number any more.
    order: VecDeque<Remembered>,
    /// The number of the oldest of `order`.
    first: u64,
    capacity: usize,
    /// In seconds.
    age: u32,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    id: [u8; 16],
    seq: u64,
    time: u32,
}

impl Window {
    pub(crate) fn new(capacity: usize, age: std::time::Duration) -> Self {
        Self {
            known: HashTable::new(),
            hasher: RandomState::default(),
            order: VecDeque::new(),
            first: 0,
            capacity: capacity.min(u32::MAX as usize - 1),
            age: u32::try_from(age.as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// The message that came with this id.
    pub(crate) fn seq_of(&self, id: &[u8; 16]) -> Option<u64> {
        let (order, first) = (&self.order, self.first);
        let found = self.known.find(self.hasher.hash_one(id), |number| {
            at(order, first, *number).is_some_and(|it| it.id == *id)
        });
        found.and_then(|number| at(order, first, *number)).map(|it| it.seq)
    }

    /// Remembers an id; of one that is remembered already, nothing changes.
    pub(crate) fn insert(&mut self, id: [u8; 16], seq: u64, time: u32) {
        let number = self.next_number() as u32;
        let (order, first, hasher) = (&self.order, self.first, &self.hasher);
        let is_this = |number: &u32| at(order, first, *number).is_some_and(|it| it.id == id);
        let hash = |number: &u32| at(order, first, *number).map_or(0, |it| hasher.hash_one(it.id));
        if let Entry::Vacant(free) = self.known.entry(hasher.hash_one(id), is_this, hash) {
            free.insert(number);
            self.order.push_back(Remembered { id, seq, time });
        }
        self.expire(time);
    }

    /// Forgets an id whose message was not kept.
    pub(crate) fn take_back(&mut self, id: &[u8; 16]) {
        let (order, first) = (&self.order, self.first);
        let found = self.known.find_entry(self.hasher.hash_one(id), |number| {
            at(order, first, *number).is_some_and(|it| it.id == *id)
        });
        if let Ok(found) = found {
            found.remove();
        }
    }

    /// Forgets what is too old at `now`, or too many.
    pub(crate) fn expire(&mut self, now: u32) {
        while let Some(oldest) = self.order.front() {
            if self.order.len() <= self.capacity && now.saturating_sub(oldest.time) <= self.age {
                return;
            }
            let (hash, number) = (self.hasher.hash_one(oldest.id), self.first as u32);
            if let Ok(found) = self.known.find_entry(hash, |other| *other == number) {
                found.remove();
            }
            self.order.pop_front();
            self.first += 1;
        }
    }

    /// The number that the next id gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.order.len() as u64
    }

    /// The lowest number that is still remembered.
    pub(crate) fn first_number(&self) -> u64 {
        self.first
    }

    /// The ids with numbers from `from` to below `to`: number, id, sequence and time.
    pub(crate) fn range(
        &self,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (u64, [u8; 16], u64, u32)> {
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let numbered = (self.first..to).zip(&self.order).skip(skipped);
        numbered.filter_map(|(number, it)| {
            let is_this = |other: &u32| *other == number as u32;
            self.known.find(self.hasher.hash_one(it.id), is_this)?;
            Some((number, it.id, it.seq, it.time))
        })
    }
}

/// What is remembered under a number, of which the lower half is given.
fn at(order: &VecDeque<Remembered>, first: u64, number: u32) -> Option<&Remembered> {
    order.get(number.wrapping_sub(first as u32) as usize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(n: u8) -> [u8; 16] {
        [n; 16]
    }

    #[test]
    fn ids_are_forgotten_by_count_and_by_age() {
        let mut window = Window::new(2, Duration::from_secs(10));
        for n in 1..=3 {
            window.insert(id(n), u64::from(n), 100);
        }
        assert_eq!([1, 2, 3].map(|n| window.seq_of(&id(n))), [None, Some(2), Some(3)]);
        assert_eq!((window.first_number(), window.next_number()), (1, 3));
        window.insert(id(4), 4, 111);
        assert_eq!([3, 4].map(|n| window.seq_of(&id(n))), [None, Some(4)]);
        window.expire(121);
        assert_eq!(window.seq_of(&id(4)), Some(4));
        window.expire(122);
        assert_eq!(window.seq_of(&id(4)), None);
    }

    #[test]
    fn an_id_that_was_taken_back_may_come_again() {
        let mut window = Window::new(2, Duration::from_secs(10));
        window.insert(id(1), 1, 0);
        window.take_back(&id(1));
        assert_eq!(window.seq_of(&id(1)), None);
        window.insert(id(1), 2, 0);
        window.insert(id(2), 3, 0);
        // The first place of the id is gone, its second one is not.
        assert_eq!(window.seq_of(&id(1)), Some(2));
        assert_eq!(window.range(0, 2).collect::<Vec<_>>(), [(1, id(1), 2, 0)]);
    }
}
