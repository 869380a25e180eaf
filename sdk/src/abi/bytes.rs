//! Bytes that cross, lent or owned.

#![allow(unsafe_code, reason = "pointer and length from the other side of the library boundary")]

use std::ptr::{self, NonNull};

/// How the other side broke the boundary's rules; reads on from "it sent".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A length without bytes, or one that no memory has.
    #[error("bytes without a place in memory")]
    Bytes,
    /// A text that is none.
    #[error("a text that is not UTF-8")]
    NotUtf8,
    /// A number that stands for nothing here.
    #[error("the number {found}, which is no {what}")]
    Number {
        /// What it should have been.
        what: &'static str,
        /// What was sent.
        found: u64,
    },
    /// A message that cannot be read.
    #[error("a message whose {0}")]
    Message(&'static str),
    /// A text that is no topic.
    #[error("what is no topic: {0}")]
    Topic(#[from] crate::TopicError),
    /// A text that is not JSON.
    #[error("what is not JSON: {0}")]
    Json(String),
}

/// Bytes that are lent for as long as the call lasts, or for good when they are a library's own.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    ptr: *const u8,
    len: usize,
}

// SAFETY: pointer and length are plain values; reading them is `unsafe` and has its own conditions.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// Lends a text.
    pub const fn lend(text: &str) -> Self {
        Self { ptr: text.as_ptr(), len: text.len() }
    }

    /// Lends bytes.
    pub const fn lend_bytes(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`Fault::Bytes`] when there is a length but no place.
    ///
    /// # Safety
    /// What `ptr` and `len` describe stays as it is for `'a`.
    pub unsafe fn slice<'a>(self) -> Result<&'a [u8], Fault> {
        match self.len {
            0 => Ok(&[]),
            len if self.ptr.is_null() || len > isize::MAX as usize => Err(Fault::Bytes),
            // SAFETY: the caller vouches for the place, and neither null nor too long was just checked.
            len => Ok(unsafe { std::slice::from_raw_parts(self.ptr, len) }),
        }
    }

    /// Reads the bytes as a text.
    ///
    /// # Errors
    /// [`Fault`] when they are no UTF-8, or have no place.
    ///
    /// # Safety
    /// As [`Bytes::slice`].
    pub unsafe fn text<'a>(self) -> Result<&'a str, Fault> {
        // SAFETY: the caller's promise is the same.
        let bytes = unsafe { self.slice() }?;
        std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)
    }

    /// Reads a text that this side trusts.
    ///
    /// # Safety
    /// As [`Bytes::slice`], and the bytes come from a `str`.
    pub(super) unsafe fn trusted<'a>(self) -> &'a str {
        // SAFETY: `lend` took pointer and length from a `str`, and the caller vouches for its life.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(self.ptr, self.len)) }
    }
}

/// Bytes that the receiver owns and gives back to whoever made them. Null stands for no text at all.
#[repr(C)]
#[derive(Debug)]
pub struct OwnedBytes {
    ptr: *mut u8,
    len: usize,
    free: Option<unsafe extern "C" fn(*mut u8, usize)>,
}

// SAFETY: it owns its bytes as a box does, and `free` may run on any thread.
unsafe impl Send for OwnedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for OwnedBytes {}

impl OwnedBytes {
    /// No text.
    pub const NONE: Self = Self { ptr: ptr::null_mut(), len: 0, free: None };

    /// Gives a text away.
    pub fn give(text: String) -> Self {
        let bytes = Box::leak(text.into_bytes().into_boxed_slice());
        Self { ptr: bytes.as_mut_ptr(), len: bytes.len(), free: Some(free_bytes) }
    }

    /// Describes a text that stays where it is; the caller keeps it for as long.
    pub(super) fn lend(text: &str) -> Self {
        Self { ptr: text.as_ptr().cast_mut(), len: text.len(), free: None }
    }

    /// Copies the text out; `None` when there is none.
    ///
    /// # Errors
    /// [`Fault`] when it is no text.
    pub fn read(&self) -> Result<Option<String>, Fault> {
        if self.ptr.is_null() && self.len == 0 {
            return Ok(None);
        }
        let lent = Bytes { ptr: self.ptr, len: self.len };
        // SAFETY: the bytes live until `self` is dropped; that whoever made this value described its own
        // bytes is what the boundary is built on.
        unsafe { lent.text() }.map(|text| Some(text.to_owned()))
    }
}

impl Drop for OwnedBytes {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: pointer and length are those that belong to `free`, and this runs once.
            unsafe { free(self.ptr, self.len) };
        }
    }
}

unsafe extern "C" fn free_bytes(ptr: *mut u8, len: usize) {
    if let Some(ptr) = NonNull::new(ptr) {
        // SAFETY: `give` took both from a leaked box of this side's.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(ptr.as_ptr(), len)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_survives_the_crossing() {
        assert_eq!(OwnedBytes::give("häl".into()).read(), Ok(Some("häl".into())));
        assert_eq!(OwnedBytes::give(String::new()).read(), Ok(Some(String::new())));
        assert_eq!(OwnedBytes::NONE.read(), Ok(None));
    }

    #[test]
    fn bytes_without_a_place_are_refused() {
        let nowhere = Bytes { ptr: ptr::null(), len: 3 };
        let endless = Bytes { ptr: b"abc".as_ptr(), len: usize::MAX };
        let wrong = Bytes { ptr: b"\xff\xfe".as_ptr(), len: 2 };
        // SAFETY: the first two are refused before they are read, the third is two bytes.
        let read = unsafe { [nowhere.text(), endless.text(), wrong.text()] };
        assert_eq!(read, [Err(Fault::Bytes), Err(Fault::Bytes), Err(Fault::NotUtf8)]);
    }
}
