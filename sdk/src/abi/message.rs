//! Messages that cross: the block of one allocation that `message::raw` describes.

#![allow(unsafe_code, reason = "blocks that the other side of the library boundary made")]

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use serde_json::value::RawValue;

use super::bytes::Fault;
use crate::message::raw::{MessageRef, Part, RawMessage};
use crate::{BaseMessage, Topic};

/// A message as it crosses: where its block is, and what belongs to the delivery.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MessageView {
    block: *const c_void,
    attempt: u16,
    hops: u16,
}

// SAFETY: a pointer and two numbers; using the pointer is `unsafe` and has its own conditions.
unsafe impl Send for MessageView {}
// SAFETY: as above.
unsafe impl Sync for MessageView {}

impl MessageView {
    /// No message.
    pub const NONE: Self = Self { block: ptr::null(), attempt: 0, hops: 0 };

    /// Lends a message for as long as the caller keeps it.
    pub fn lend(message: &BaseMessage) -> Self {
        Self {
            block: message.content().as_raw().as_ptr().cast_const().cast(),
            attempt: message.attempt(),
            hops: message.hops(),
        }
    }

    fn block(self) -> Result<NonNull<RawMessage>, Fault> {
        let block = NonNull::new(self.block.cast_mut().cast::<RawMessage>());
        block.filter(|block| block.is_aligned()).ok_or(Fault::Message("place is none"))
    }

    fn message(self, content: MessageRef) -> BaseMessage {
        BaseMessage::from_content(content).with_attempt(self.attempt).with_hops(self.hops)
    }

    /// Whether there is a message.
    pub(super) fn is_there(self) -> bool {
        self.block().is_ok()
    }

    /// The lent message for the length of a call, without touching its count.
    ///
    /// # Safety
    /// There is a message, lent by a side that this one trusts, and it outlives what is returned.
    pub(super) unsafe fn borrow(self) -> LentMessage {
        // SAFETY: the caller vouches for the message. The count stays with the lender: `LentMessage` forgets
        // the handle.
        let content =
            unsafe { MessageRef::from_raw(NonNull::new_unchecked(self.block.cast_mut().cast())) };
        LentMessage(ManuallyDrop::new(self.message(content)))
    }

    /// A message of this side's own: shares a block that this side made, copies and checks any other.
    ///
    /// # Errors
    /// [`Fault::Message`] that says what is wrong with the block.
    ///
    /// # Safety
    /// The view is lent, or owned, by the caller: its block is alive.
    pub unsafe fn adopt(self) -> Result<BaseMessage, Fault> {
        // SAFETY: the count stays with the lender, the handle is never dropped.
        let foreign = ManuallyDrop::new(unsafe { MessageRef::from_raw(self.block()?) });
        if foreign.is_own() {
            return Ok(self.message(MessageRef::clone(&foreign)));
        }
        let copy = foreign.copied().ok_or(Fault::Message("parts do not fit together"))?;
        check(&copy)?;
        Ok(self.message(copy))
    }
}

/// Checks a fresh copy, which nobody else can change any more, before anybody reads it as text.
fn check(copy: &MessageRef) -> Result<(), Fault> {
    for part in
        [Part::Source, Part::Version, Part::Schema, Part::Key, Part::TraceState, Part::Fields]
    {
        if copy.part(part).is_some_and(|bytes| std::str::from_utf8(bytes).is_err()) {
            return Err(Fault::Message("texts are not UTF-8"));
        }
    }
    let data = copy.part(Part::Data).unwrap_or_default();
    if serde_json::from_slice::<&RawValue>(data).is_err() {
        return Err(Fault::Message("data is not JSON"));
    }
    match copy.part(Part::ReplyTo).map(std::str::from_utf8) {
        None => Ok(()),
        Some(Ok(topic)) => Ok(Topic::new(topic).map(drop)?),
        Some(Err(_)) => Err(Fault::NotUtf8),
    }
}

/// A message that is lent: reads as one, and leaves the block's count alone. Clones count as ever.
pub(super) struct LentMessage(ManuallyDrop<BaseMessage>);

impl Deref for LentMessage {
    type Target = BaseMessage;
    fn deref(&self) -> &BaseMessage {
        &self.0
    }
}

impl Drop for LentMessage {
    fn drop(&mut self) {
        // SAFETY: taken once, in drop. The parsed data goes, the block's count was never this side's.
        let message = unsafe { ManuallyDrop::take(&mut self.0) };
        message.into_content().into_raw();
    }
}

/// A message that the receiver owns, or none.
#[repr(transparent)]
#[derive(Debug)]
pub struct OwnedMessage(MessageView);

impl OwnedMessage {
    /// No message.
    pub const NONE: Self = Self(MessageView::NONE);

    /// Gives a message away.
    pub fn give(message: BaseMessage) -> Self {
        let view = MessageView::lend(&message);
        message.into_content().into_raw();
        Self(view)
    }

    /// A message of this side's own, see [`MessageView::adopt`].
    ///
    /// # Errors
    /// [`Fault::Message`] that says what is wrong with it.
    pub fn adopt(self) -> Result<BaseMessage, Fault> {
        // SAFETY: `self` owns a count until it is dropped, at the end of this call.
        unsafe { self.0.adopt() }
    }

    /// The message in the memory of the side that made it; for plugins, which the host outlives.
    ///
    /// # Errors
    /// [`Fault::Message`] when there is none.
    pub(super) fn keep(self) -> Result<BaseMessage, Fault> {
        let block = self.0.block()?;
        let view = self.0;
        std::mem::forget(self);
        // SAFETY: the count that `self` owned is taken over, and the host is trusted with its blocks.
        Ok(view.message(unsafe { MessageRef::from_raw(block) }))
    }
}

impl Drop for OwnedMessage {
    fn drop(&mut self) {
        if let Ok(block) = self.0.block() {
            // SAFETY: the count is owned and given up here, once.
            drop(unsafe { MessageRef::from_raw(block) });
        }
    }
}
