//! Values by a number that counts up, most of them gone before many others come.
//!
//! Each number has one place that it may stand in, by its last bits. Whoever finds that taken goes to a map, so any
//! number of values fit, and few that come and go one after the other touch nothing but their place.

use std::sync::OnceLock;

use dashmap::DashMap;
use parking_lot::Mutex;

/// How many places there are.
const PLACES: usize = 64;

type Place<T> = Mutex<Option<(u64, T)>>;

#[derive(Debug)]
pub(super) struct Places<T> {
    /// Made with the first value: most buses within a bus never have one.
    places: OnceLock<Box<[Place<T>]>>,
    /// The numbers are the bus's own, so nobody can aim at collisions.
    more: DashMap<u64, T, foldhash::fast::RandomState>,
}

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked<T> {
    Stays,
    Taken(T),
    Gone,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { places: OnceLock::new(), more: DashMap::default() }
    }
}

impl<T> Places<T> {
    /// Adds a value; a number is added once.
    pub(super) fn add(&self, number: u64, value: T) {
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| Mutex::new(None)).collect());
        if let Some(place) = places.get(number as usize % PLACES) {
            let mut place = place.lock();
            if place.is_none() {
                *place = Some((number, value));
                return;
            }
        }
        self.more.insert(number, value);
    }

    /// Looks at a value, if it is there.
    pub(super) fn look<R>(&self, number: u64, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        if let Some(place) = self.place(number) {
            match &mut *place.lock() {
                Some((its, value)) if *its == number => return Some(look(value)),
                _ => {}
            }
        }
        self.more.get_mut(&number).map(|mut value| look(&mut value))
    }

    /// Looks at a value, and takes it out if told to.
    pub(super) fn take_if(&self, number: u64, is_due: impl FnOnce(&mut T) -> bool) -> Looked<T> {
        if let Some(place) = self.place(number) {
            let mut place = place.lock();
            if let Some((its, value)) = &mut *place
                && *its == number
            {
                if !is_due(value) {
                    return Looked::Stays;
                }
                return place.take().map_or(Looked::Gone, |(_, value)| Looked::Taken(value));
            }
        }
        let mut stays = false;
        let taken = self.more.remove_if_mut(&number, |_, value| {
            stays = !is_due(value);
            !stays
        });
        match taken {
            Some((_, value)) => Looked::Taken(value),
            None if stays => Looked::Stays,
            None => Looked::Gone,
        }
    }

    /// Looks at all values that are there from the beginning to the end of it.
    pub(super) fn for_each(&self, mut look: impl FnMut(&mut T)) {
        for place in self.places.get().into_iter().flatten() {
            if let Some((_, value)) = &mut *place.lock() {
                look(value);
            }
        }
        self.more.iter_mut().for_each(|mut value| look(&mut value));
    }

    /// Takes all values out that are there from the beginning to the end of it.
    pub(super) fn clear(&self, mut taken: impl FnMut(T)) {
        for place in self.places.get().into_iter().flatten() {
            if let Some((_, value)) = place.lock().take() {
                taken(value);
            }
        }
        let numbers: Vec<u64> = self.more.iter().map(|entry| *entry.key()).collect();
        for number in numbers {
            if let Some((_, value)) = self.more.remove(&number) {
                taken(value);
            }
        }
    }

    fn place(&self, number: u64) -> Option<&Place<T>> {
        self.places.get()?.get(number as usize % PLACES)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add,
        Look(u64),
        Take(u64),
        Keep(u64),
        All,
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Add),
            2 => (0..200_u64).prop_map(Step::Look),
            4 => (0..200_u64).prop_map(Step::Take),
            1 => (0..200_u64).prop_map(Step::Keep),
            1 => Just(Step::All),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(step(), 0..400)) {
            let (places, mut map, mut next) = (Places::default(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    Step::Add => {
                        places.add(next, next * 10);
                        map.insert(next, next * 10);
                        next += 1;
                    }
                    Step::Look(number) => {
                        let looked = places.look(number, |value| {
                            *value += 1;
                            *value
                        });
                        let known = map.get_mut(&number).map(|value| {
                            *value += 1;
                            *value
                        });
                        assert_eq!(looked, known);
                    }
                    Step::Take(number) => {
                        let known = map.remove(&number).map_or(Looked::Gone, Looked::Taken);
                        assert_eq!(places.take_if(number, |_| true), known);
                    }
                    Step::Keep(number) => {
                        let stays = map.contains_key(&number);
                        let known = if stays { Looked::Stays } else { Looked::Gone };
                        assert_eq!(places.take_if(number, |_| false), known);
                    }
                    Step::All => {
                        let mut seen = Vec::new();
                        places.for_each(|value| seen.push(*value));
                        seen.sort_unstable();
                        let mut known: Vec<u64> = map.values().copied().collect();
                        known.sort_unstable();
                        assert_eq!(seen, known);
                    }
                    Step::Clear => {
                        let mut count = 0;
                        places.clear(|_| count += 1);
                        assert_eq!(count, map.len());
                        map.clear();
                    }
                }
            }
        }
    }
}
