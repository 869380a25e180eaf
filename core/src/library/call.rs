//! A future of a plugin's, as the host polls it.

#![allow(unsafe_code, reason = "calls of a library's functions")]

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use echo_sdk::abi::{Answer, Bytes, Call, MessageView, Op, StateCall, exchange};
use echo_sdk::{BaseMessage, PluginError, ProcessingStatus, Topic};

use super::buffer::Buffer;
use super::plugin::Instance;

/// Something that a plugin is asked. It starts with the first poll, and ends with an answer, which is read as a
/// `T`, or when it is dropped. One crossing of the boundary is enough for a handler that never waits.
pub(super) struct Asking<'a, T> {
    instance: &'a Instance,
    call: Call,
    read: fn(Answer) -> T,
    /// Where the plugin's future lies, while there is one.
    future: Option<Buffer>,
    lent: PhantomData<(&'a Topic, &'a BaseMessage)>,
}

// SAFETY: the plugin's future is `Send`, which its side of the boundary checks, and so is what is lent.
unsafe impl<T> Send for Asking<'_, T> {}

impl<'a> Asking<'a, Answer> {
    /// Asks a plugin for what takes nothing.
    pub(super) fn op(instance: &'a Instance, op: Op) -> Self {
        Self::new(instance, Call { op: op.code(), ..Call::NONE }, std::convert::identity)
    }

    /// Asks a plugin what is about a state.
    pub(super) fn state(instance: &'a Instance, op: Op, state: &'a StateCall) -> Self {
        let call = Call { op: op.code(), state: &raw const *state, ..Call::NONE };
        Self::new(instance, call, std::convert::identity)
    }
}

impl<'a> Asking<'a, Result<ProcessingStatus, PluginError>> {
    /// Asks a plugin to handle a message.
    pub(super) fn handle(
        instance: &'a Instance,
        topic: &'a Topic,
        message: &'a BaseMessage,
    ) -> Self {
        let (topic, message) = (Bytes::lend(topic.as_str()), MessageView::lend(message));
        Self::new(
            instance,
            Call { op: Op::Process.code(), topic, message, ..Call::NONE },
            Answer::status,
        )
    }
}

impl<'a, T> Asking<'a, T> {
    fn new(instance: &'a Instance, call: Call, read: fn(Answer) -> T) -> Self {
        Self { instance, call, read, future: None, lent: PhantomData }
    }
}

impl<T> Future for Asking<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Instance { table, layout, .. } = this.instance;
        let mut answer = Answer::done();
        let (buffer, polled) = match this.future.take() {
            Some(buffer) => {
                // SAFETY: the plugin's future lies there, pending since the last poll.
                let poll = |waker, out| unsafe { (table.poll)(buffer.start(), waker, out) };
                let polled = exchange(cx, &mut answer, poll);
                (buffer, polled)
            }
            None => {
                let (buffer, plugin) = (Buffer::take(*layout), this.instance.plugin());
                // SAFETY: the buffer has the declared layout and stays where it is; plugin, topic and message
                // are borrowed for as long as this future lives, and it drops the plugin's.
                let start = |waker, out| unsafe {
                    (table.start)(plugin, &raw const this.call, buffer.start(), waker, out)
                };
                let polled = exchange(cx, &mut answer, start);
                (buffer, polled)
            }
        };
        if polled.is_pending() {
            this.future = Some(buffer);
            return Poll::Pending;
        }
        buffer.give_back();
        Poll::Ready((this.read)(answer))
    }
}

impl<T> Drop for Asking<'_, T> {
    fn drop(&mut self) {
        let Some(buffer) = self.future.take() else { return };
        let mut answer = Answer::done();
        // SAFETY: the plugin's future lies there, pending, and is not used again.
        unsafe { (self.instance.table.drop)(buffer.start(), &raw mut answer) };
        buffer.give_back();
        if let Err(error) = answer.finished() {
            let plugin = self.instance.name();
            tracing::warn!(plugin, %error, "a handler that was cut off panicked");
        }
    }
}
