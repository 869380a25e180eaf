//! Memory of messages that were let go of, kept for the next ones.
//!
//! A message is mostly built on one core and let go of on another. Allocators take that hard: each block goes back by
//! itself, under a lock or an atomic that the building core needs at the same time. A process that has asked for it
//! keeps blocks instead, by size: each thread a few, and those that it has too many of it puts, many at a time, where
//! threads that have too few take as many (after Bonwick and Adams, *Magazines and Vmem*, 2001).
//!
//! * **Bounds.** A thread keeps [`KEPT`] blocks of a size, the process [`SHARED_BYTES`] of each size beside that; what is
//!   more goes back to the allocator. Larger blocks than [`LARGEST`] are never kept.
//! * **A thread that ends** hands on what it kept.
//! * **Plugin libraries** never ask for it: what threads of the host kept for one would outlive it, and a message of
//!   theirs is copied at the boundary by the thread that built it.

#![allow(unsafe_code, reason = "blocks of memory that change hands")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Sizes are multiples of this, so that a block serves messages that differ by a few bytes.
const STEP: usize = 64;

/// The largest size of which blocks are kept.
const LARGEST: usize = SIZES * STEP;

const SIZES: usize = 16;

/// How many blocks of a size a thread keeps at most.
const KEPT: usize = 2 * MOVED;

/// How many blocks threads pass on at a time.
const MOVED: usize = 64;

/// How many bytes of each size are kept for whichever thread needs them.
const SHARED_BYTES: usize = 1024 * 1024;

/// As the allocator gives out.
const ALIGN: usize = 16;

/// A block of memory that nobody uses.
struct Block(NonNull<u8>);

// SAFETY: nobody else has the block, and any thread may free or use it.
unsafe impl Send for Block {}

/// Whether this process keeps blocks.
static IS_ON: AtomicBool = AtomicBool::new(false);

static SHARED: [Mutex<Vec<Block>>; SIZES] = [const { Mutex::new(Vec::new()) }; SIZES];

thread_local! {
    static OWN: RefCell<Own> = const { RefCell::new(Own([const { Vec::new() }; SIZES])) };
}

/// Keeps blocks from now on.
pub(super) fn turn_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// One of the sizes of which blocks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(usize);

impl Size {
    /// The size that so many bytes fit in, whether blocks of it are kept in this process or not.
    #[inline]
    pub(super) fn of(bytes: usize) -> Option<Self> {
        (bytes <= LARGEST).then(|| Self(bytes.saturating_sub(1) / STEP))
    }

    /// The size of a new block for so many bytes, if it is to be one that is kept.
    #[inline]
    pub(super) fn of_new(bytes: usize) -> Option<Self> {
        if IS_ON.load(Ordering::Relaxed) { Self::of(bytes) } else { None }
    }

    fn bytes(self) -> usize {
        (self.0 + 1) * STEP
    }

    fn layout(self) -> Layout {
        // SAFETY: a power of two, and a size far from the largest.
        unsafe { Layout::from_size_align_unchecked(self.bytes(), ALIGN) }
    }

    fn allocate(self) -> Block {
        // SAFETY: the layout is not of size zero.
        let block = unsafe { alloc(self.layout()) };
        match NonNull::new(block) {
            Some(block) => Block(block),
            None => handle_alloc_error(self.layout()),
        }
    }

    fn free(self, Block(block): Block) {
        // SAFETY: nobody else has the block, which `allocate` made of this size.
        unsafe { dealloc(block.as_ptr(), self.layout()) }
    }

    fn shared<R>(self, what: impl FnOnce(&mut Vec<Block>) -> R) -> Option<R> {
        // Nothing in it panics halfway.
        SHARED.get(self.0).map(|it| what(&mut it.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Puts blocks where other threads find them; frees those that are too many.
    fn share(self, blocks: impl ExactSizeIterator<Item = Block>) {
        let mut blocks = blocks;
        self.shared(|shared| {
            let room = (SHARED_BYTES / self.bytes()).saturating_sub(shared.len());
            shared.extend(blocks.by_ref().take(room));
        });
        blocks.for_each(|block| self.free(block));
    }
}

/// Gives out memory for a message of a size. Give it back with [`give`].
#[inline]
pub(super) fn take(size: Size) -> NonNull<u8> {
    // A thread that ends keeps nothing any more.
    let kept = OWN.try_with(|own| own.borrow_mut().take(size)).ok().flatten();
    kept.unwrap_or_else(|| size.allocate()).0
}

/// Takes back the memory of a message.
///
/// # Safety
/// It came from [`take`] with this size, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give(size: Size, block: NonNull<u8>) {
    let mut block = Some(Block(block));
    let _ = OWN.try_with(|own| own.borrow_mut().give(size, &mut block));
    if let Some(block) = block {
        size.free(block);
    }
}

/// What a thread keeps, by size.
struct Own([Vec<Block>; SIZES]);

impl Own {
    #[inline]
    fn take(&mut self, size: Size) -> Option<Block> {
        let blocks = self.0.get_mut(size.0)?;
        blocks.pop().or_else(|| {
            size.shared(|shared| blocks.extend(shared.drain(shared.len().saturating_sub(MOVED)..)));
            blocks.pop()
        })
    }

    /// Keeps a block, if there is one and its size is one that is kept.
    #[inline]
    fn give(&mut self, size: Size, block: &mut Option<Block>) {
        let Some(blocks) = self.0.get_mut(size.0) else { return };
        if blocks.len() >= KEPT {
            size.share(blocks.drain(..MOVED));
        }
        blocks.extend(block.take());
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for (number, blocks) in self.0.iter_mut().enumerate() {
            Size(number).share(std::mem::take(blocks).into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test's own size: tests run side by side.
    fn take_all(size: Size, count: usize) -> Vec<NonNull<u8>> {
        (0..count).map(|_| take(size)).collect()
    }

    fn give_all(size: Size, blocks: Vec<NonNull<u8>>) {
        // SAFETY: taken with this size, and used by nobody.
        blocks.into_iter().for_each(|block| unsafe { give(size, block) });
    }

    fn shared(size: Size) -> usize {
        size.shared(|shared| shared.len()).unwrap()
    }

    #[test]
    fn a_size_holds_what_it_was_asked_for() {
        for bytes in 1..=LARGEST {
            let size = Size::of(bytes).unwrap();
            assert!(size.bytes() >= bytes && size.bytes() < bytes + STEP, "{bytes}");
        }
        assert_eq!(Size::of(LARGEST + 1), None);
    }

    #[test]
    fn a_thread_gets_back_what_it_gave() {
        let size = Size(14);
        let block = take(size);
        // SAFETY: taken above.
        unsafe { give(size, block) };
        assert_eq!(take(size), block);
        give_all(size, vec![block]);
    }

    #[test]
    fn one_thread_uses_what_others_gave_and_no_more_is_kept_than_there_may_be() {
        let size = Size(15);
        let most = SHARED_BYTES / size.bytes();
        let blocks = take_all(size, most + 3 * KEPT);
        let addresses: Vec<usize> = blocks.iter().map(|block| block.as_ptr().addr()).collect();
        let blocks: Vec<Block> = blocks.into_iter().map(Block).collect();
        let giving = std::thread::spawn(move || {
            give_all(size, blocks.into_iter().map(|block| block.0).collect());
        });
        giving.join().unwrap();
        // A thread that ended hands on what it kept.
        assert_eq!(shared(size), most);
        let again = take_all(size, MOVED);
        assert_eq!(shared(size), most - MOVED);
        assert!(again.iter().all(|block| addresses.contains(&block.as_ptr().addr())));
        give_all(size, again);
    }

    #[test]
    fn threads_that_pass_blocks_in_a_ring_write_what_is_theirs_alone() {
        let (size, rounds) = (Size(13), if cfg!(miri) { 300 } else { 20_000 });
        let (first, mut inlet) = std::sync::mpsc::sync_channel::<Block>(256);
        let mut threads = Vec::new();
        for number in 1..=3_u8 {
            let (next, outlet) = std::sync::mpsc::sync_channel::<Block>(256);
            let from = std::mem::replace(&mut inlet, outlet);
            threads.push(std::thread::spawn(move || {
                for block in from {
                    // SAFETY: whoever has the block is the only one; it has room for a byte.
                    unsafe {
                        assert_eq!(block.0.read(), number - 1);
                        give(size, block.0);
                        let other = take(size);
                        other.write(number);
                        next.send(Block(other)).unwrap();
                    }
                }
            }));
        }
        let source = std::thread::spawn(move || {
            for _ in 0..rounds {
                let block = take(size);
                // SAFETY: as above.
                unsafe { block.write(0) };
                first.send(Block(block)).unwrap();
            }
        });
        let mut passed = 0;
        for block in inlet {
            // SAFETY: as above.
            unsafe {
                assert_eq!(block.0.read(), 3);
                give(size, block.0);
            }
            passed += 1;
        }
        assert_eq!(passed, rounds);
        threads.into_iter().chain([source]).for_each(|thread| thread.join().unwrap());
    }
}
