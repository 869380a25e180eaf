//! The memory in which a plugin's future lies.

#![allow(unsafe_code, reason = "memory of a layout that a library declares")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;

/// How many buffers a thread keeps for its next calls.
const KEPT: usize = 32;

thread_local! {
    /// The buffers that are free. A thread works for one library, so they mostly have one layout.
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// A piece of memory for one future; it stays where it is.
#[derive(Debug)]
pub(super) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory as a box does.
unsafe impl Send for Buffer {}

impl Buffer {
    /// A buffer of this layout: one that this thread keeps, or else a new one.
    pub(super) fn take(layout: Layout) -> Self {
        let kept = FREE.try_with(|free| free.try_borrow_mut().ok()?.pop()).ok().flatten();
        kept.filter(|buffer| buffer.layout == layout).unwrap_or_else(|| Self::new(layout))
    }

    /// Keeps the buffer, whose future is gone, for a later call on this thread.
    pub(super) fn give_back(self) {
        // A thread that ends, or keeps enough, lets the buffer go.
        let _ = FREE.try_with(|free| {
            let mut free = free.try_borrow_mut().ok()?;
            (free.len() < KEPT).then(|| free.push(self))
        });
    }

    fn new(layout: Layout) -> Self {
        // SAFETY: `Instance` refuses a future without size.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }

    /// The buffer's address.
    pub(super) fn start(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_back_is_taken_again() {
        let layout = Layout::from_size_align(64, 16).unwrap();
        let first = Buffer::take(layout);
        let start = first.start();
        assert_eq!(start.addr() % 16, 0);
        first.give_back();
        assert_eq!(Buffer::take(layout).start(), start);
        let other = Buffer::take(Layout::from_size_align(128, 64).unwrap());
        assert_eq!(other.start().addr() % 64, 0);
    }
}
