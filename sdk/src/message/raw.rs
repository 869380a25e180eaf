//! One allocation for a whole message, shared by reference count, laid out alike on both sides of the
//! library boundary.
//!
//! The block starts with [`RawMessage`], a `repr(C)` header; behind it stand the payload and all texts, one
//! after another, which the header locates by offset. The block names the function that frees it, so that
//! the side that allocated it frees it, whichever side lets go last. A handle is one pointer: queueing a
//! message, fanning it out or passing it to a plugin library copies nothing.
//!
//! Invariants, on which every `unsafe` here leans:
//! 1. A [`MessageRef`] points to a block that is alive, and owns one of the counts in `refs`.
//! 2. Nothing but `refs` is written once the block is built.
//! 3. Each [`Section`] lies within `total` bytes of the block's start; those read as text hold UTF-8.
//!    Blocks come from [`MessageRef::build`] alone, on either side, so this holds by construction. A host
//!    that is handed a plugin's block does not rely on it: it takes a checked copy ([`MessageRef::copied`]).

#![allow(unsafe_code, reason = "a reference-counted block with its own layout and free function")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use super::pool::{self, Size};

/// A part of the block behind the header: its offset from the block's start and its length.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Section {
    offset: u32,
    len: u32,
}

/// The head of a message's block. Later versions add fields at the end; `size` tells how far it reaches.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RawMessage {
    size: u32,
    total: u32,
    refs: AtomicUsize,
    free: Free,
    id: [u8; 16],
    timestamp_nanos: i64,
    trace: TraceIds,
    form: u8,
    reserved: [u8; 6],
    sections: [Section; SECTIONS],
}

/// Where in a trace a message was made, its trace state aside; all zero where it was made in none.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TraceIds {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) flags: u8,
}

pub(crate) const SECTIONS: usize = 8;

/// The variable parts of a message, in the order in which they stand in the block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Data = 0,
    Source = 1,
    Version = 2,
    Schema = 3,
    Key = 4,
    ReplyTo = 5,
    TraceState = 6,
    /// Lines of `Name: value`, each ended by CR LF.
    Fields = 7,
}

/// What a block is built from.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    pub(crate) id: [u8; 16],
    pub(crate) timestamp_nanos: i64,
    pub(crate) trace: TraceIds,
    pub(crate) form: u8,
}

/// The most bytes that payload and texts may have together.
pub(crate) const MAX_BODY: usize = u32::MAX as usize / 2;

/// A counted handle to a message's block.
#[derive(Debug)]
pub(crate) struct MessageRef(NonNull<RawMessage>);

// SAFETY: the block is immutable but for the atomic count (invariant 2), and any thread may free it.
unsafe impl Send for MessageRef {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for MessageRef {}

impl MessageRef {
    /// Builds a block from its parts; `parts` are indexed by [`Part`], an absent one is `None`.
    /// Gives `None` when the parts have more than [`MAX_BODY`] bytes together.
    pub(crate) fn build(fixed: &Fixed, parts: [Option<&[u8]>; SECTIONS]) -> Option<Self> {
        const HEAD: usize = size_of::<RawMessage>();
        let body: usize = parts.iter().flatten().map(|part| part.len()).sum();
        if body > MAX_BODY {
            return None;
        }
        let total = HEAD + body;
        let (start, free) = memory(total)?;
        let mut sections = [Section::default(); SECTIONS];
        let mut offset = HEAD;
        for (section, part) in sections.iter_mut().zip(parts) {
            let Some(part) = part else { continue };
            // SAFETY: `offset + part.len()` is at most `total`, the size of the fresh block, which does not
            // overlap with a borrowed slice.
            unsafe {
                start.as_ptr().add(offset).copy_from_nonoverlapping(part.as_ptr(), part.len());
            }
            // Both fit: `total` is below u32::MAX, checked above.
            *section = Section { offset: offset as u32, len: part.len() as u32 };
            offset += part.len();
        }
        let head = RawMessage {
            size: HEAD as u32,
            total: total as u32,
            refs: AtomicUsize::new(1),
            free,
            id: fixed.id,
            timestamp_nanos: fixed.timestamp_nanos,
            trace: fixed.trace,
            form: fixed.form,
            reserved: [0; 6],
            sections,
        };
        let raw = start.cast::<RawMessage>();
        // SAFETY: the block is large enough and aligned for the header by its layout, and not yet shared.
        unsafe { raw.write(head) };
        Some(Self(raw))
    }

    /// A block with the same content and one text besides, or in the place of another; `None` when it would have more
    /// than [`MAX_BODY`] bytes.
    pub(crate) fn with_text(&self, part: Part, text: &str) -> Option<Self> {
        let head = self.head();
        let (size, old) = (head.size as usize, head.total as usize);
        let has_it = head.sections[part as usize].offset != 0;
        if has_it || size != size_of::<RawMessage>() {
            let mut parts = self.parts();
            parts[part as usize] = Some(text.as_bytes());
            return Self::build(&self.fixed(), parts);
        }
        let total = old + text.len();
        if total - size > MAX_BODY {
            return None;
        }
        let (start, free) = memory(total)?;
        let raw = start.cast::<RawMessage>();
        // SAFETY: the fresh block has `total` bytes, and is aligned for the header. The old one, which is alive
        // (invariant 1) and of which nothing but `refs` is written (invariant 2), has `old` of them, its sections
        // among these (invariant 3); the text comes after them. Nobody shares the fresh block yet.
        unsafe {
            let (from, to) = (self.0.as_ptr().cast::<u8>(), start.as_ptr());
            to.add(size).copy_from_nonoverlapping(from.add(size), old - size);
            to.add(old).copy_from_nonoverlapping(text.as_ptr(), text.len());
            let mut sections = head.sections;
            // Both fit: `total` is below u32::MAX, checked above.
            sections[part as usize] = Section { offset: old as u32, len: text.len() as u32 };
            let Fixed { id, timestamp_nanos, trace, form } = self.fixed();
            raw.write(RawMessage {
                size: size as u32,
                total: total as u32,
                refs: AtomicUsize::new(1),
                free,
                id,
                timestamp_nanos,
                trace,
                form,
                reserved: [0; 6],
                sections,
            });
        }
        Some(Self(raw))
    }

    fn head(&self) -> &RawMessage {
        // SAFETY: invariant 1 keeps the block alive for as long as this handle.
        unsafe { self.0.as_ref() }
    }

    /// The bytes of a part, or `None` where the message has none.
    pub(crate) fn part(&self, part: Part) -> Option<&[u8]> {
        let Section { offset, len } = self.head().sections[part as usize];
        if offset == 0 {
            return None;
        }
        // SAFETY: invariants 1 and 3; the pointer keeps the provenance of the whole block.
        Some(unsafe {
            let start = self.0.as_ptr().cast::<u8>().add(offset as usize);
            std::slice::from_raw_parts(start, len as usize)
        })
    }

    /// A part that is text.
    pub(crate) fn text(&self, part: Part) -> Option<&str> {
        // SAFETY: invariant 3; the builder takes `&str` for these parts.
        self.part(part).map(|bytes| unsafe { std::str::from_utf8_unchecked(bytes) })
    }

    pub(crate) fn id(&self) -> [u8; 16] {
        self.head().id
    }

    pub(crate) fn timestamp_nanos(&self) -> i64 {
        self.head().timestamp_nanos
    }

    pub(crate) fn trace(&self) -> &TraceIds {
        &self.head().trace
    }

    pub(crate) fn form(&self) -> u8 {
        self.head().form
    }

    /// All that is not a part.
    pub(crate) fn fixed(&self) -> Fixed {
        let head = self.head();
        Fixed {
            id: head.id,
            timestamp_nanos: head.timestamp_nanos,
            trace: head.trace,
            form: head.form,
        }
    }

    /// All parts, indexed by [`Part`].
    pub(crate) fn parts(&self) -> [Option<&[u8]>; SECTIONS] {
        use Part::{Data, Fields, Key, ReplyTo, Schema, Source, TraceState, Version};
        [Data, Source, Version, Schema, Key, ReplyTo, TraceState, Fields]
            .map(|part| self.part(part))
    }

    /// The bytes that the block takes, header included.
    pub(crate) fn block_len(&self) -> usize {
        self.head().total as usize
    }

    /// Whether this side's allocator made the block, so that it stays when the other side goes.
    pub(crate) fn is_own(&self) -> bool {
        let free = self.head().free;
        std::ptr::fn_addr_eq(free, free_block as Free)
            || std::ptr::fn_addr_eq(free, recycle_block as Free)
    }

    /// A copy of a block of the other side's in memory of this side's, or `None` when its sections do not lie
    /// where they should. The texts are copied as they are: check them before they are read as text.
    pub(crate) fn copied(&self) -> Option<Self> {
        let head = self.head();
        let (size, total) = (head.size as usize, head.total as usize);
        if size < size_of::<RawMessage>() || total < size || total - size > MAX_BODY {
            return None;
        }
        let mut parts = [None; SECTIONS];
        for (part, Section { offset, len }) in parts.iter_mut().zip(head.sections) {
            let (offset, len) = (offset as usize, len as usize);
            if offset == 0 {
                continue;
            }
            if offset < size || offset.checked_add(len)? > total {
                return None;
            }
            // SAFETY: the section lies within the block, which is alive (invariant 1).
            *part = Some(unsafe {
                std::slice::from_raw_parts(self.0.as_ptr().cast::<u8>().add(offset), len)
            });
        }
        Self::build(&self.fixed(), parts)
    }

    /// Gives up the handle without letting go of its count, to hand it across the library boundary.
    pub(crate) fn into_raw(self) -> NonNull<RawMessage> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    /// Takes over a count that [`MessageRef::into_raw`] gave up.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, on either side of the boundary, and is taken over once.
    pub(crate) unsafe fn from_raw(raw: NonNull<RawMessage>) -> Self {
        Self(raw)
    }

    /// The block's address, to lend it across the library boundary.
    pub(crate) fn as_raw(&self) -> NonNull<RawMessage> {
        self.0
    }
}

/// Handles to one block whose counts were taken all at once, to be handed out one by one.
#[derive(Debug)]
pub(crate) struct Shares {
    block: NonNull<RawMessage>,
    left: usize,
}

// SAFETY: as for `MessageRef`, which each of the counts becomes.
unsafe impl Send for Shares {}

impl MessageRef {
    /// Shares the block among so many handles, this one included.
    pub(crate) fn shares(self, count: usize) -> Shares {
        match count {
            0 => Shares { block: self.0, left: 0 },
            count => {
                self.count_up(count - 1);
                Shares { block: self.into_raw(), left: count }
            }
        }
    }

    fn count_up(&self, by: usize) {
        let before = self.head().refs.fetch_add(by, Ordering::Relaxed);
        if before > usize::MAX / 2 {
            // A count that wraps would free a block in use; no real program comes near.
            std::process::abort();
        }
    }
}

impl Iterator for Shares {
    type Item = MessageRef;

    fn next(&mut self) -> Option<MessageRef> {
        self.left = self.left.checked_sub(1)?;
        // One of the counts that were taken, which keeps the block alive (invariant 1).
        Some(MessageRef(self.block))
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        if self.left > 0 {
            // SAFETY: these counts were taken and not handed out.
            unsafe { let_go(self.block, self.left) };
        }
    }
}

impl Clone for MessageRef {
    #[inline]
    fn clone(&self) -> Self {
        self.count_up(1);
        Self(self.0)
    }
}

impl Drop for MessageRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this handle owns one count (invariant 1).
        unsafe { let_go(self.0, 1) };
    }
}

/// Drops handles; neighbours that share a block let go of it in one step.
pub(crate) fn let_go_all(handles: impl Iterator<Item = MessageRef>) {
    let mut run: Option<(NonNull<RawMessage>, usize)> = None;
    for block in handles.map(MessageRef::into_raw) {
        match &mut run {
            Some((same, count)) if *same == block => *count += 1,
            _ => {
                if let Some((block, count)) = run.replace((block, 1)) {
                    // SAFETY: each of the handles that were given up owned one of these counts.
                    unsafe { let_go(block, count) };
                }
            }
        }
    }
    if let Some((block, count)) = run {
        // SAFETY: as above.
        unsafe { let_go(block, count) };
    }
}

/// Gives up counts of a block, and frees it with the last.
///
/// # Safety
/// The caller owns so many counts of the block, at least one, and does not use them afterwards.
#[inline]
unsafe fn let_go(block: NonNull<RawMessage>, count: usize) {
    // SAFETY: the caller's counts keep the block alive.
    let head = unsafe { block.as_ref() };
    let free = head.free;
    if head.refs.fetch_sub(count, Ordering::Release) == count {
        fence(Ordering::Acquire);
        // SAFETY: these were the last counts, so nobody else reads the block; `free` belongs to it.
        unsafe { free(block) };
    }
}

fn layout(total: usize) -> Option<Layout> {
    Layout::from_size_align(total, align_of::<RawMessage>()).ok()
}

type Free = unsafe extern "C" fn(NonNull<RawMessage>);

/// Memory for a block of so many bytes, at least a header's, and what frees it.
fn memory(total: usize) -> Option<(NonNull<u8>, Free)> {
    if let Some(size) = Size::of_new(total) {
        return Some((pool::take(size), recycle_block));
    }
    let layout = layout(total)?;
    // SAFETY: a header has a size, so the layout has one.
    let block = unsafe { alloc(layout) };
    let Some(start) = NonNull::new(block) else { handle_alloc_error(layout) };
    Some((start, free_block))
}

/// Frees a block that this side's allocator made.
unsafe extern "C" fn free_block(raw: NonNull<RawMessage>) {
    // SAFETY: the caller holds the last count, so the header can be read.
    let total = unsafe { raw.as_ref() }.total as usize;
    if let Some(layout) = layout(total) {
        // SAFETY: allocated in `build` with this very layout.
        unsafe { dealloc(raw.as_ptr().cast(), layout) };
    }
}

/// Keeps the memory of a block for another message.
unsafe extern "C" fn recycle_block(raw: NonNull<RawMessage>) {
    // SAFETY: the caller holds the last count, so the header can be read.
    let total = unsafe { raw.as_ref() }.total as usize;
    if let Some(size) = Size::of(total) {
        // SAFETY: taken in `build` with this very size, and the last count is gone.
        unsafe { pool::give(size, raw.cast()) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Counts the blocks of the other side's that were freed.
    pub(crate) static FOREIGN_FREED: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn free_foreign(raw: NonNull<RawMessage>) {
        FOREIGN_FREED.fetch_add(1, Ordering::SeqCst);
        // SAFETY: `foreign` made the block with this side's allocator, and kept its true length in the id.
        unsafe {
            let [a, b, c, d, ..] = raw.as_ref().id;
            (*raw.as_ptr()).total = u32::from_ne_bytes([a, b, c, d]);
            free_block(raw);
        }
    }

    /// What a block of the other side's may have wrong.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Flaw {
        None,
        Size(u32),
        Total(u32),
        Section(Part, u32, u32),
    }

    /// A block as the other side would make it.
    pub(crate) fn foreign(parts: [Option<&[u8]>; SECTIONS], flaw: Flaw) -> MessageRef {
        let fixed = Fixed { timestamp_nanos: 7, ..Fixed::default() };
        let message = MessageRef::build(&fixed, parts).unwrap();
        // SAFETY: nobody else knows the block yet.
        let head = unsafe { &mut *message.0.as_ptr() };
        head.free = free_foreign;
        head.id[..4].copy_from_slice(&head.total.to_ne_bytes());
        match flaw {
            Flaw::None => {}
            Flaw::Size(size) => head.size = size,
            Flaw::Total(total) => head.total = total,
            Flaw::Section(part, offset, len) => {
                head.sections[part as usize] = Section { offset, len };
            }
        }
        message
    }

    fn sample() -> MessageRef {
        let fixed = Fixed { id: [7; 16], timestamp_nanos: 42, ..Fixed::default() };
        let parts =
            [Some(&b"{}"[..]), Some(b"me"), Some(b"1.0"), None, Some(b""), None, None, None];
        MessageRef::build(&fixed, parts).unwrap()
    }

    #[test]
    fn parts_read_back_and_absent_is_not_empty() {
        let message = sample();
        assert_eq!(message.part(Part::Data), Some(&b"{}"[..]));
        assert_eq!(message.text(Part::Source), Some("me"));
        assert_eq!(message.text(Part::Schema), None);
        assert_eq!(message.text(Part::Key), Some(""));
        assert_eq!((message.id(), message.timestamp_nanos()), ([7; 16], 42));
    }

    #[test]
    fn shares_that_nobody_took_are_let_go() {
        let message = sample();
        let other = message.clone();
        let mut shares = message.shares(5);
        let taken = shares.next().unwrap();
        assert_eq!(other.head().refs.load(Ordering::Relaxed), 6);
        drop(shares);
        assert_eq!(other.head().refs.load(Ordering::Relaxed), 2);
        drop((taken.clone(), taken));
        other.clone().shares(0).for_each(drop);
        assert_eq!(other.head().refs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_last_of_many_threads_frees_the_block() {
        let message = sample();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let message = message.clone();
                scope.spawn(move || assert_eq!(message.clone().text(Part::Source), Some("me")));
            }
        });
        assert_eq!(message.head().refs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_text_is_added_or_takes_the_place_of_another() {
        let message = sample();
        let with = message.with_text(Part::ReplyTo, "inbox").unwrap();
        assert_eq!(with.text(Part::ReplyTo), Some("inbox"));
        assert_eq!(message.text(Part::ReplyTo), None);
        let other = with.with_text(Part::ReplyTo, "another").unwrap();
        assert_eq!(other.text(Part::ReplyTo), Some("another"));
        for part in [Part::Data, Part::Source, Part::Version, Part::Schema, Part::Key] {
            assert_eq!(with.part(part), message.part(part));
            assert_eq!(other.part(part), message.part(part));
        }
        assert_eq!((with.id(), other.timestamp_nanos()), (message.id(), message.timestamp_nanos()));
    }

    #[test]
    fn memory_that_is_kept_serves_the_next_message() {
        let part = |data: &'static [u8]| [Some(data), None, None, None, None, None, None, None];
        pool::turn_on();
        // A size that no other test's messages have.
        let data = &[b' '; 700];
        let message = MessageRef::build(&Fixed::default(), part(data)).unwrap();
        let place = message.as_raw();
        assert!(message.is_own());
        drop(message);
        let next = MessageRef::build(&Fixed::default(), part(&data[..690])).unwrap();
        assert_eq!(next.as_raw(), place);
        assert_eq!(next.part(Part::Data), Some(&data[..690]));
    }

    #[test]
    fn a_handle_survives_the_trip_through_a_raw_pointer() {
        let raw = sample().into_raw();
        // SAFETY: taken over once, from `into_raw`.
        let message = unsafe { MessageRef::from_raw(raw) };
        assert_eq!(message.text(Part::Version), Some("1.0"));
    }
}
