//! The routes that a thread remembers: sets of a few places, one set for each hash of a topic; in a full set the
//! places are given away in turn.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use echo_sdk::Topic;

use super::{Route, Target};

/// Sets for remembered routes, a power of two.
const SETS: usize = 128;

/// Places of a set. Together a thread remembers 512 topics: it seldom publishes to more at a time.
const PLACES: usize = 4;

struct Remembered {
    hash: u64,
    router: u64,
    version: u64,
    topic: Topic,
    /// A `Route<T>` of the router's own `T`.
    route: Box<dyn Any>,
}

#[derive(Default)]
struct Set {
    places: [Option<Remembered>; PLACES],
    next: usize,
}

thread_local! {
    static ROUTES: RefCell<Vec<Set>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn with<T: Target, R>(
    router: u64,
    version: u64,
    topic: &Topic,
    find: impl FnOnce() -> Route<T>,
    use_route: impl FnOnce(&[Arc<T>]) -> R,
) -> R {
    ROUTES.with(|routes| {
        // Taken already when `use_route` publishes after all, which is slower but no harm.
        let Ok(mut routes) = routes.try_borrow_mut() else {
            return use_route(&find());
        };
        if routes.is_empty() {
            routes.resize_with(SETS, Set::default);
        }
        let hash = hash(topic.as_str().as_bytes());
        let Some(set) = routes.get_mut(hash as usize % SETS) else {
            return use_route(&find());
        };
        let is_it = |known: &&Remembered| {
            known.hash == hash && known.router == router && known.topic == *topic
        };
        let known = set.places.iter().flatten().find(is_it);
        if let Some(known) = known
            && known.version == version
            && let Some(route) = known.route.downcast_ref::<Route<T>>()
        {
            return use_route(route);
        }
        let place = set.places.iter().position(|place| place.as_ref().is_some_and(|p| is_it(&p)));
        let place = place.unwrap_or_else(|| {
            set.next = (set.next + 1) % PLACES;
            set.next
        });
        let route = find();
        let kept = Box::new(Arc::clone(&route));
        if let Some(place) = set.places.get_mut(place) {
            *place = Some(Remembered { hash, router, version, topic: topic.clone(), route: kept });
        }
        use_route(&route)
    })
}

/// FxHash (Firefox, as in rustc) over words: topics are short and nobody gains from collisions, which cost
/// a look-up in the trie.
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0x51_7c_c1_b7_27_22_0a_95;
    let mut hash = bytes.len() as u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(SEED);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    mix(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    // The high bits are the well mixed ones.
    hash ^ hash >> 32
}
