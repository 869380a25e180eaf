//! Futures that cross: asking the other side to poll, and being asked.

#![allow(unsafe_code, reason = "functions of the other side of the library boundary")]

use std::ffi::c_void;
use std::ptr;
use std::task::{Context, Poll};

use super::answer::Answer;
use super::guard::guarded;
use super::waker::{self, ThinWaker};

/// What a polled future returns as long as it has no answer.
pub const PENDING: u32 = 0;

/// What it returns with its answer; the future is gone by then.
pub const READY: u32 = 1;

/// Has the other side poll: `call` gets the waker and the place for the answer, and returns the state.
///
/// The answer stays where it is: moving one costs as much as the call.
#[inline]
pub fn exchange(
    cx: &Context<'_>,
    answer: &mut Answer,
    call: impl FnOnce(*const ThinWaker, *mut Answer) -> u32,
) -> Poll<()> {
    match waker::lend(cx.waker(), |waker| call(waker, &raw mut *answer)) {
        PENDING => return Poll::Pending,
        READY => {}
        other => *answer = Answer::unknown("state of a future", other),
    }
    Poll::Ready(())
}

/// Polls for the other side, and writes the answer, or the text of a panic, to `out`.
///
/// # Safety
/// `waker` and `out` come from [`exchange`] on the other side, and last for this call.
pub unsafe fn respond(
    waker: *const ThinWaker,
    out: *mut Answer,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<Answer>,
) -> u32 {
    // SAFETY: the caller vouches for both.
    let polled = guarded(|| unsafe {
        waker::borrow(waker, |waker| match poll(&mut Context::from_waker(waker)) {
            Poll::Pending => PENDING,
            Poll::Ready(answer) => {
                answer.put(out);
                READY
            }
        })
    });
    polled.unwrap_or_else(|text| {
        // SAFETY: nothing was written, since the panic came before.
        unsafe { Answer::panicked(text).put(out) };
        READY
    })
}

/// A future, or a stream, that the other side owns; dropped when this is.
#[repr(C)]
#[derive(Debug)]
pub struct Poller {
    /// The future, in the memory of the side that made it; null stands for none.
    pub data: *mut c_void,
    /// Polls it; see [`respond`].
    pub poll: unsafe extern "C" fn(*mut c_void, *const ThinWaker, *mut Answer) -> u32,
    /// Drops it.
    pub drop: unsafe extern "C" fn(*mut c_void),
}

// SAFETY: whoever hands one out makes it of a future that is `Send`.
unsafe impl Send for Poller {}

impl Poller {
    /// No future.
    pub const NONE: Self = Self { data: ptr::null_mut(), poll: poll_none, drop: drop_none };

    /// Polls the future; one that is not there says so.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Answer> {
        let mut answer = Answer::done();
        // SAFETY: `data` belongs to `poll`, is alive until `drop`, and `&mut` rules out a second poll.
        let poll = |waker, out| unsafe { (self.poll)(self.data, waker, out) };
        exchange(cx, &mut answer, poll).map(|()| answer)
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // SAFETY: `data` belongs to `drop`, and this runs once.
        unsafe { (self.drop)(self.data) };
    }
}

unsafe extern "C" fn poll_none(_: *mut c_void, _: *const ThinWaker, out: *mut Answer) -> u32 {
    // SAFETY: called by `exchange` with a place for the answer.
    unsafe { Answer::unknown("future", 0).put(out) };
    READY
}

unsafe extern "C" fn drop_none(_: *mut c_void) {}
