//! How many allocations something takes, in a program whose allocator counts them.

#![allow(unsafe_code, reason = "an allocator hands out memory")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// An allocator that counts while something is [measured](counted), and otherwise looks at one flag.
#[derive(Debug)]
pub struct Counted<A>(pub A);

// SAFETY: everything is what the allocator within gives and takes.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(place, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { self.0.realloc(place, layout, size) }
    }
}

#[inline]
fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `work` gives, and how many allocations the whole process made meanwhile; nothing in a program whose
/// allocator does not count.
pub(crate) async fn counted<T>(work: impl Future<Output = T>) -> (T, Option<u64>) {
    let before = COUNT.load(Ordering::SeqCst);
    COUNTS.store(true, Ordering::SeqCst);
    // One that is known, to see whether anybody counts.
    drop(std::hint::black_box(Box::new(0_u8)));
    let done = work.await;
    COUNTS.store(false, Ordering::SeqCst);
    let count = COUNT.load(Ordering::SeqCst) - before;
    (done, count.checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counted<std::alloc::System> = Counted(std::alloc::System);

    #[tokio::test]
    async fn what_is_allocated_meanwhile_is_counted() {
        let allocating = async { (0..1_000).map(|_| Box::new([0_u8; 64])).collect::<Vec<_>>() };
        let (boxes, count) = counted(allocating).await;
        // Other tests may allocate at the same time.
        assert!(count.unwrap() >= boxes.len() as u64);
        assert!(!COUNTS.load(Ordering::SeqCst));
    }
}
