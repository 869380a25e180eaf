//! The routes that a thread remembers: one place for each hash of a topic, the newer one stays.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use echo_sdk::Topic;

use super::{Route, Target};

/// Places for remembered routes, a power of two. A thread seldom publishes to more topics at a time.
const PLACES: usize = 256;

struct Remembered {
    router: u64,
    version: u64,
    topic: Topic,
    /// A `Route<T>` of the router's own `T`.
    route: Box<dyn Any>,
}

thread_local! {
    static ROUTES: RefCell<Vec<Option<Remembered>>> = const { RefCell::new(Vec::new()) };
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
            routes.resize_with(PLACES, || None);
        }
        let place = hash(topic.as_str().as_bytes()) as usize % PLACES;
        let Some(place) = routes.get_mut(place) else {
            return use_route(&find());
        };
        if let Some(known) = place
            && known.version == version
            && known.router == router
            && known.topic == *topic
            && let Some(route) = known.route.downcast_ref::<Route<T>>()
        {
            return use_route(route);
        }
        let route = find();
        let kept = Box::new(Arc::clone(&route));
        *place = Some(Remembered { router, version, topic: topic.clone(), route: kept });
        use_route(&route)
    })
}

/// FxHash (Firefox, as in rustc) over words: topics are short and nobody gains from collisions, which cost
/// a look-up in the trie.
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0x51_7c_c1_b7_27_22_0a_95;
    let mut chunks = bytes.chunks_exact(8);
    let mut hash = bytes.len() as u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(SEED);
    for chunk in &mut chunks {
        mix(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    mix(chunks.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    hash ^ hash >> 32
}
