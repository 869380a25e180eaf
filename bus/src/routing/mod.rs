//! From a topic to the slots that it goes to.
//!
//! The [`trie`] holds the patterns; a change makes a new version that shares all but the changed path with
//! the old one, so publishers never wait for a subscriber. Each thread remembers the routes of the topics
//! that it published last and drops them when the version changes ([`cache`]): the common publish reads one
//! atomic and compares one topic.

mod cache;
mod children;
mod trie;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use echo_sdk::{Pattern, Topic};
use parking_lot::Mutex;
use smallvec::SmallVec;

pub use trie::Trie;

/// What a route leads to: distinguished by identity, one of each in a route.
pub trait Target: Send + Sync + 'static {
    /// The same for the same target, different for any two.
    fn id(&self) -> u64;
}

/// The targets of one topic.
pub type Route<T> = Arc<[Arc<T>]>;

/// The patterns of all targets, and the routes that threads remember.
#[derive(Debug)]
pub struct Router<T: Target> {
    /// Distinguishes routers in the threads' memories.
    id: u64,
    version: AtomicU64,
    trie: ArcSwap<Trie<Arc<T>>>,
    writers: Mutex<()>,
}

static NEXT_ROUTER: AtomicU64 = AtomicU64::new(1);

impl<T: Target> Default for Router<T> {
    fn default() -> Self {
        Self {
            id: NEXT_ROUTER.fetch_add(1, Ordering::Relaxed),
            version: AtomicU64::new(1),
            trie: ArcSwap::from_pointee(Trie::default()),
            writers: Mutex::new(()),
        }
    }
}

impl<T: Target> Router<T> {
    /// Adds a target under some patterns. Publishes that begin after it returns reach the target.
    pub fn add(&self, patterns: &[Pattern], target: &Arc<T>) {
        self.change(|trie| {
            for pattern in patterns {
                trie.insert(pattern, Arc::clone(target));
            }
        });
    }

    /// Takes a target away from some patterns.
    pub fn remove(&self, patterns: &[Pattern], target: &Arc<T>) {
        self.change(|trie| {
            for pattern in patterns {
                trie.remove(pattern, |other| other.id() == target.id());
            }
        });
    }

    /// Puts a target under other patterns, in one step: no publish misses it on a topic that both match.
    pub fn replace(&self, before: &[Pattern], after: &[Pattern], target: &Arc<T>) {
        self.change(|trie| {
            for pattern in before.iter().filter(|pattern| !after.contains(pattern)) {
                trie.remove(pattern, |other| other.id() == target.id());
            }
            for pattern in after.iter().filter(|pattern| !before.contains(pattern)) {
                trie.insert(pattern, Arc::clone(target));
            }
        });
    }

    fn change(&self, edit: impl FnOnce(&mut Trie<Arc<T>>)) {
        let _one_writer = self.writers.lock();
        let mut trie = Trie::clone(&self.trie.load());
        edit(&mut trie);
        self.trie.store(Arc::new(trie));
        // Threads look at the version before they trust a remembered route; it changes after the trie, so
        // a route found with the new version has seen the new trie.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Finds a topic's targets anew: each once, in the order in which they were added.
    pub fn find(&self, topic: &Topic) -> Route<T> {
        let trie = self.trie.load();
        let mut targets: SmallVec<[&Arc<T>; 16]> = SmallVec::new();
        trie.visit(topic, &mut |target| targets.push(target));
        targets.sort_unstable_by_key(|target| target.id());
        targets.dedup_by_key(|target| target.id());
        targets.as_slice().iter().map(|target| Arc::clone(target)).collect()
    }

    /// Calls `use_route` with the topic's targets, remembered by this thread where it can be.
    ///
    /// `use_route` must not publish.
    pub fn with_route<R>(&self, topic: &Topic, use_route: impl FnOnce(&[Arc<T>]) -> R) -> R {
        let version = self.version.load(Ordering::Acquire);
        cache::with(self.id, version, topic, || self.find(topic), use_route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(u64);

    impl Target for Number {
        fn id(&self) -> u64 {
            self.0
        }
    }

    fn ids(router: &Router<Number>, topic: &str) -> Vec<u64> {
        router.with_route(&Topic::new(topic).unwrap(), |targets| {
            targets.iter().map(|target| target.0).collect()
        })
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    #[test]
    fn a_target_with_several_matching_patterns_is_reached_once() {
        let router = Router::default();
        router.add(&patterns(&["a.>", "a.*", "a.b"]), &Arc::new(Number(1)));
        router.add(&patterns(&["*.b"]), &Arc::new(Number(2)));
        assert_eq!(ids(&router, "a.b"), [1, 2]);
        assert_eq!(ids(&router, "a.c"), [1]);
        assert_eq!(ids(&router, "b"), [0; 0]);
    }

    #[test]
    fn remembered_routes_follow_changes() {
        let router = Router::default();
        let first = Arc::new(Number(1));
        assert_eq!(ids(&router, "a.b"), [0; 0]);
        router.add(&patterns(&["a.*"]), &first);
        assert_eq!(ids(&router, "a.b"), [1]);
        assert_eq!(ids(&router, "a.b"), [1]);
        router.remove(&patterns(&["a.*"]), &first);
        assert_eq!(ids(&router, "a.b"), [0; 0]);
    }

    #[test]
    fn a_target_is_put_under_other_patterns() {
        let router = Router::default();
        let (first, other) = (Arc::new(Number(1)), Arc::new(Number(2)));
        router.add(&patterns(&["a.*", "b"]), &first);
        router.add(&patterns(&["a.*"]), &other);
        router.replace(&patterns(&["a.*", "b"]), &patterns(&["b", "a.c", "c"]), &first);
        let found = ["a.b", "a.c", "b", "c"].map(|topic| ids(&router, topic));
        assert_eq!(found, [vec![2], vec![1, 2], vec![1], vec![1]]);
    }

    #[test]
    fn routers_do_not_share_what_threads_remember() {
        let (one, other) = (Router::default(), Router::default());
        one.add(&patterns(&["t"]), &Arc::new(Number(1)));
        other.add(&patterns(&["t"]), &Arc::new(Number(2)));
        assert_eq!((ids(&one, "t"), ids(&other, "t")), (vec![1], vec![2]));
    }
}
