//! Wakers that cross.
//!
//! `std`'s waker has no stable layout, so what crosses is a pointer to a [`ThinWaker`], an object of which
//! only the first field is known. The receiver wraps that one pointer into a `Waker` of its own, which needs
//! no memory; the maker allocates only when the receiver clones it. A waker that comes back to its maker, or
//! is passed on to the next call, is unwrapped again, so wrappers never pile up.

#![allow(unsafe_code, reason = "wakers are pointers with functions")]

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::guard::guarded;

/// The known head of a waker that crosses; what follows belongs to the side that made it.
#[repr(C)]
#[derive(Debug)]
pub struct ThinWaker {
    table: &'static WakerTable,
}

/// How a [`ThinWaker`] is used; each takes the object's address.
#[repr(C)]
#[derive(Debug)]
struct WakerTable {
    size: u32,
    clone: unsafe extern "C" fn(*const ThinWaker) -> *const ThinWaker,
    wake: unsafe extern "C" fn(*const ThinWaker),
    wake_by_ref: unsafe extern "C" fn(*const ThinWaker),
    drop: unsafe extern "C" fn(*const ThinWaker),
}

/// A waker of this side's that is lent for one poll; lies on the stack.
#[repr(C)]
struct Lent<'a> {
    head: ThinWaker,
    waker: &'a Waker,
}

/// A waker of this side's that the other one keeps; lies behind an `Arc`.
#[repr(C)]
struct Kept {
    head: ThinWaker,
    waker: Waker,
}

const TABLE_SIZE: u32 = size_of::<WakerTable>() as u32;

static LENT: WakerTable = WakerTable {
    size: TABLE_SIZE,
    clone: clone_lent,
    wake: wake_lent,
    wake_by_ref: wake_lent,
    drop: drop_lent,
};

static KEPT: WakerTable = WakerTable {
    size: TABLE_SIZE,
    clone: clone_kept,
    wake: wake_kept,
    wake_by_ref: wake_kept_by_ref,
    drop: drop_kept,
};

/// Makes a `Waker` of the other side's object.
static FOREIGN: RawWakerVTable =
    RawWakerVTable::new(foreign_clone, foreign_wake, foreign_wake_by_ref, foreign_drop);

/// Lends a waker to the other side for the length of `call`.
pub(super) fn lend<R>(waker: &Waker, call: impl FnOnce(*const ThinWaker) -> R) -> R {
    if ptr::eq(waker.vtable(), &FOREIGN) {
        return call(waker.data().cast());
    }
    let lent = Lent { head: ThinWaker { table: &LENT }, waker };
    call((&raw const lent).cast())
}

/// Uses a waker that the other side lends.
///
/// # Safety
/// `thin` comes from [`lend`], on either side, and is lent until `poll` returns.
pub(super) unsafe fn borrow<R>(thin: *const ThinWaker, poll: impl FnOnce(&Waker) -> R) -> R {
    // SAFETY: the caller vouches for the object, and every one of them starts with its table.
    let table: *const WakerTable = unsafe { (*thin).table };
    if ptr::eq(table, &LENT) {
        // SAFETY: only `lend` of this side makes objects with this table, and they are `Lent`.
        return poll(unsafe { (*thin.cast::<Lent<'_>>()).waker });
    }
    if ptr::eq(table, &KEPT) {
        // SAFETY: only `clone_lent` of this side makes objects with this table, and they are `Kept`.
        return poll(unsafe { &(*thin.cast::<Kept>()).waker });
    }
    // SAFETY: the functions of `FOREIGN` do what a waker's have to, by way of the object's table. The object
    // is lent, so its wrapper is not dropped.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(thin.cast(), &FOREIGN)) });
    poll(&waker)
}

unsafe extern "C" fn clone_lent(thin: *const ThinWaker) -> *const ThinWaker {
    // SAFETY: called through the table of a `Lent` that is alive.
    let waker = unsafe { (*thin.cast::<Lent<'_>>()).waker };
    // A waker that cannot be cloned cannot wake either.
    let waker = guarded(|| waker.clone()).unwrap_or_else(|_| Waker::noop().clone());
    Arc::into_raw(Arc::new(Kept { head: ThinWaker { table: &KEPT }, waker })).cast()
}

unsafe extern "C" fn wake_lent(thin: *const ThinWaker) {
    // SAFETY: called through the table of a `Lent` that is alive.
    let waker = unsafe { (*thin.cast::<Lent<'_>>()).waker };
    // There is nobody on this side to tell of a waker that panics.
    let _ = guarded(|| waker.wake_by_ref());
}

unsafe extern "C" fn drop_lent(_: *const ThinWaker) {}

unsafe extern "C" fn clone_kept(thin: *const ThinWaker) -> *const ThinWaker {
    // SAFETY: called through the table of a `Kept`, which lies in an `Arc` that is alive.
    unsafe { Arc::increment_strong_count(thin.cast::<Kept>()) };
    thin
}

unsafe extern "C" fn wake_kept(thin: *const ThinWaker) {
    // SAFETY: the caller owns the object, and gives up one and the same count with this call.
    unsafe {
        wake_kept_by_ref(thin);
        drop_kept(thin);
    }
}

unsafe extern "C" fn wake_kept_by_ref(thin: *const ThinWaker) {
    // SAFETY: called through the table of a `Kept` that is alive.
    let waker = unsafe { &(*thin.cast::<Kept>()).waker };
    let _ = guarded(|| waker.wake_by_ref());
}

unsafe extern "C" fn drop_kept(thin: *const ThinWaker) {
    // SAFETY: the caller gives up a count, which `into_raw` or a clone made.
    let kept = unsafe { Arc::from_raw(thin.cast::<Kept>()) };
    let _ = guarded(|| drop(kept));
}

unsafe fn foreign_clone(data: *const ()) -> RawWaker {
    let thin = data.cast::<ThinWaker>();
    // SAFETY: a `Waker` of `FOREIGN` holds an object of the other side's that is alive.
    let clone = unsafe { ((*thin).table.clone)(thin) };
    RawWaker::new(clone.cast(), &FOREIGN)
}

unsafe fn foreign_wake(data: *const ()) {
    let thin = data.cast::<ThinWaker>();
    // SAFETY: as in `foreign_clone`; the `Waker` gives up its object.
    unsafe { ((*thin).table.wake)(thin) };
}

unsafe fn foreign_wake_by_ref(data: *const ()) {
    let thin = data.cast::<ThinWaker>();
    // SAFETY: as in `foreign_clone`.
    unsafe { ((*thin).table.wake_by_ref)(thin) };
}

unsafe fn foreign_drop(data: *const ()) {
    let thin = data.cast::<ThinWaker>();
    // SAFETY: as in `foreign_clone`; the `Waker` gives up its object.
    unsafe { ((*thin).table.drop)(thin) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wraps as the other side would, whose statics have other addresses.
    unsafe fn as_foreign(thin: *const ThinWaker) -> Waker {
        // SAFETY: as in `borrow`.
        let lent = unsafe { Waker::from_raw(RawWaker::new(thin.cast(), &FOREIGN)) };
        let clone = lent.clone();
        std::mem::forget(lent);
        clone
    }

    #[test]
    fn a_kept_waker_wakes_from_another_thread_and_is_freed() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        // SAFETY: lent for the length of the call.
        let kept = lend(&waker, |thin| unsafe { as_foreign(thin) });
        let second = kept.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                kept.wake_by_ref();
                kept.wake();
            });
        });
        second.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn a_waker_that_comes_home_is_the_one_that_left() {
        let waker = Waker::from(Arc::new(Count::default()));
        let home = |thin| {
            // SAFETY: lent for the length of the call.
            unsafe { borrow(thin, |back| back.will_wake(&waker)) }
        };
        assert!(lend(&waker, home));
        // SAFETY: as above.
        let kept = lend(&waker, |thin| unsafe { as_foreign(thin) });
        assert!(lend(&kept, home));
    }
}
