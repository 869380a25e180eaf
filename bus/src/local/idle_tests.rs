//! What [`Idle`] does step by step; `tests/idle_model.rs` has the interleavings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::idle::Idle;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn one_is_woken_at_a_time_the_last_to_park_first() {
    let (idle, first, second) = (Idle::default(), Arc::<Count>::default(), Arc::<Count>::default());
    idle.park(1, &Waker::from(Arc::clone(&first)));
    idle.park(2, &Waker::from(Arc::clone(&second)));
    idle.wake_one();
    idle.wake_one();
    let wakes = || (first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed));
    assert_eq!(wakes(), (0, 1));
    assert!(idle.unpark(2), "the second had been woken");
    idle.wake_one();
    assert_eq!(wakes(), (1, 1));
    assert!(!idle.unpark(2), "it was on no list any more");
}

#[test]
fn parking_again_renews_the_waker() {
    let (idle, old, new) = (Idle::default(), Arc::<Count>::default(), Arc::<Count>::default());
    idle.park(1, &Waker::from(Arc::clone(&old)));
    idle.park(1, &Waker::from(Arc::clone(&new)));
    idle.wake_all();
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
}
