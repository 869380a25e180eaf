//! Buffers that busy connections pass around, so that idle ones hold none.
//!
//! A connection takes one when bytes come or go and gives it back when it has nothing left. Each thread keeps a
//! few; what is given back beyond that, or has grown, goes to the allocator.

use std::cell::RefCell;

/// How much a buffer holds.
pub(super) const SIZE: usize = 64 * 1024;

/// How many buffers a thread keeps.
const KEPT: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for [`SIZE`] bytes.
pub(super) fn take() -> Vec<u8> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(SIZE))
}

/// Gives a buffer back.
pub(super) fn give(mut buffer: Vec<u8>) {
    if (SIZE..=2 * SIZE).contains(&buffer.capacity()) {
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}
