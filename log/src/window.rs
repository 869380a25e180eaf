//! The ids that came of late, by which a second message of the same id is known.

use std::collections::{HashMap, VecDeque};

/// Remembers a bounded number of ids for a bounded time.
///
/// Each id has a number, counted up. The numbers tell which segments hold ids that are still remembered.
#[derive(Debug)]
pub(crate) struct Window {
    known: HashMap<[u8; 16], Known>,
    /// Oldest first. One that was taken back since is not in `known` under its number any more.
    order: VecDeque<([u8; 16], u32)>,
    /// The number of the oldest of `order`.
    first: u64,
    capacity: usize,
    /// In seconds.
    age: u32,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    number: u64,
    seq: u64,
}

impl Window {
    pub(crate) fn new(capacity: usize, age: std::time::Duration) -> Self {
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        Self { known: HashMap::new(), order: VecDeque::new(), first: 0, capacity, age }
    }

    /// The message that came with this id.
    pub(crate) fn seq_of(&self, id: &[u8; 16]) -> Option<u64> {
        self.known.get(id).map(|known| known.seq)
    }

    /// Remembers an id; of one that is remembered already, nothing changes.
    pub(crate) fn insert(&mut self, id: [u8; 16], seq: u64, time: u32) {
        let number = self.next_number();
        if let std::collections::hash_map::Entry::Vacant(entry) = self.known.entry(id) {
            entry.insert(Known { number, seq });
            self.order.push_back((id, time));
        }
        self.expire(time);
    }

    /// Forgets an id whose message was not kept.
    pub(crate) fn take_back(&mut self, id: &[u8; 16]) {
        self.known.remove(id);
    }

    /// Forgets what is too old at `now`, or too many.
    pub(crate) fn expire(&mut self, now: u32) {
        while let Some((id, time)) = self.order.front() {
            if self.order.len() <= self.capacity && now.saturating_sub(*time) <= self.age {
                return;
            }
            if self.known.get(id).is_some_and(|known| known.number == self.first) {
                self.known.remove(id);
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
        numbered.filter_map(|(number, (id, time))| {
            let known = self.known.get(id).filter(|known| known.number == number)?;
            Some((number, *id, known.seq, *time))
        })
    }
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
