//! The host as a plugin library sees it.

#![allow(unsafe_code, reason = "calls of the host through the library boundary")]

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::answer::Answer;
use super::bytes::Bytes;
use super::crossing::{Poller, exchange};
use super::message::MessageView;
use super::table::{HostCall, HostOp, HostTable, Measurement, Metric, SpanStart};
use super::telemetry::{Trace, lend_attributes};
use crate::{
    Attribute, BaseMessage, BoxFuture, LogLevel, MessageStream, MessageTransport, Pattern,
    PublishError, Received, RequestError, SpanHandle, StateAccess, StateError, Subscription,
    Telemetry, Topic, TraceContext,
};

/// The host's functions, and one count of what they take.
pub(super) struct RemoteHost {
    table: &'static HostTable,
    data: *const c_void,
    /// The lower of both sides' minor versions.
    minor: u32,
}

// SAFETY: the host's functions may be called from any thread.
unsafe impl Send for RemoteHost {}
// SAFETY: as above.
unsafe impl Sync for RemoteHost {}

impl RemoteHost {
    /// # Safety
    /// `table` is a host's and stays for good; `data` belongs to it, and its count is taken over.
    pub(super) unsafe fn new(table: *const HostTable, data: *const c_void, minor: u32) -> Self {
        // SAFETY: the caller vouches for the table.
        Self { table: unsafe { &*table }, data, minor }
    }

    fn call<'a>(&'a self, op: HostOp, topic: &'a str) -> RemoteCall<'a> {
        let timeout = Duration::ZERO;
        RemoteCall { host: self, op, topic, message: None, value: None, timeout, poller: None }
    }

    fn keeps_state(&self) -> Result<(), StateError> {
        if self.minor < 1 { Err(StateError::Unsupported) } else { Ok(()) }
    }

    fn measure(
        &self,
        metric: Metric,
        name: &str,
        (count, value): (u64, f64),
        attributes: &[Attribute<'_>],
    ) {
        let attributes = lend_attributes(attributes);
        let measurement = Measurement {
            size: size_of::<Measurement>() as u32,
            metric: metric.code(),
            name: Bytes::lend(name),
            count,
            value,
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len(),
        };
        // SAFETY: everything is lent for the length of the call.
        unsafe { (self.table.measure)(self.data, &raw const measurement) };
    }
}

impl Drop for RemoteHost {
    fn drop(&mut self) {
        // SAFETY: gives up the count that `new` took over, once.
        unsafe { (self.table.release)(self.data) };
    }
}

/// A future of the host's, from the first poll on.
struct RemoteCall<'a> {
    host: &'a RemoteHost,
    op: HostOp,
    topic: &'a str,
    message: Option<BaseMessage>,
    value: Option<Arc<[u8]>>,
    timeout: Duration,
    /// What is left to be polled after the first time.
    poller: Option<Poller>,
}

impl RemoteCall<'_> {
    fn start(&mut self, cx: &Context<'_>) -> Poll<Answer> {
        let message = self.message.take();
        let call = HostCall {
            size: size_of::<HostCall>() as u32,
            op: self.op.code(),
            topic: Bytes::lend(self.topic),
            message: message.as_ref().map_or(MessageView::NONE, MessageView::lend),
            timeout_nanos: u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX),
            value: Bytes::lend_bytes(self.value.as_deref().unwrap_or_default()),
        };
        let (table, data) = (self.host.table, self.host.data);
        let poller = self.poller.insert(Poller::NONE);
        let mut answer = Answer::done();
        // SAFETY: everything is lent for the length of the call; `data` is alive as long as the host.
        let start = |waker, out| unsafe {
            (table.call)(data, &raw const call, waker, out, &raw mut *poller)
        };
        exchange(cx, &mut answer, start).map(|()| answer)
    }
}

impl Future for RemoteCall<'_> {
    type Output = Answer;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = self.get_mut();
        match &mut this.poller {
            Some(poller) => poller.poll(cx),
            None => this.start(cx),
        }
    }
}

impl MessageTransport for RemoteHost {
    fn try_publish(&self, topic: &Topic, message: BaseMessage) -> Result<(), PublishError> {
        let mut call = self.call(HostOp::TryPublish, topic.as_str());
        call.message = Some(message);
        match call.start(&Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.published(),
            Poll::Pending => Answer::unknown("answer of a host", super::PENDING).published(),
        }
    }

    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        let call = self.call(HostOp::Publish, topic.as_str());
        let call = RemoteCall { message: Some(message), ..call };
        Box::pin(async move { call.await.published() })
    }

    fn publish_now<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        let call = self.call(HostOp::PublishNow, topic.as_str());
        let call = RemoteCall { message: Some(message), ..call };
        Box::pin(async move { call.await.published() })
    }

    fn request<'a>(
        &'a self,
        topic: &'a Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        let call = self.call(HostOp::Request, topic.as_str());
        let call = RemoteCall { message: Some(message), timeout, ..call };
        Box::pin(async move { call.await.reply(topic, timeout) })
    }

    fn subscribe<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        let mut call = self.call(HostOp::Subscribe, pattern.as_str());
        Box::pin(async move {
            (&mut call).await.published()?;
            Ok(Subscription::new(RemoteStream(call.poller.take().unwrap_or(Poller::NONE))))
        })
    }
}

impl StateAccess for RemoteHost {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, StateError>> {
        Box::pin(async move {
            self.keeps_state()?;
            self.call(HostOp::StateGet, name).await.entry()
        })
    }

    fn set<'a>(
        &'a self,
        name: &'a str,
        value: Option<Arc<[u8]>>,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(async move {
            self.keeps_state()?;
            let op = if value.is_some() { HostOp::StateSet } else { HostOp::StateDelete };
            RemoteCall { value, ..self.call(op, name) }.await.state_set()
        })
    }
}

/// A subscription of the host's.
struct RemoteStream(Poller);

impl MessageStream for RemoteStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.0.poll(cx).map(Answer::next)
    }
}

impl Telemetry for RemoteHost {
    fn counter(&self, name: &str, value: u64, attributes: &[Attribute<'_>]) {
        self.measure(Metric::Counter, name, (value, 0.0), attributes);
    }

    fn gauge(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        self.measure(Metric::Gauge, name, (0, value), attributes);
    }

    fn histogram(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        self.measure(Metric::Histogram, name, (0, value), attributes);
    }

    fn log(&self, level: LogLevel, text: &str) {
        // SAFETY: the text is lent for the length of the call.
        unsafe { (self.table.log)(self.data, level as u32, Bytes::lend(text)) };
    }

    fn start_span(
        &self,
        name: &str,
        parent: Option<&TraceContext>,
        attributes: &[Attribute<'_>],
    ) -> Box<dyn SpanHandle> {
        let attributes = lend_attributes(attributes);
        let parent = parent.map(Trace::lend);
        let start = SpanStart {
            size: size_of::<SpanStart>() as u32,
            name: Bytes::lend(name),
            parent: parent.as_ref().map_or(std::ptr::null(), |parent| &raw const *parent),
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len(),
        };
        // SAFETY: everything is lent for the length of the call.
        let span = unsafe { (self.table.span_start)(self.data, &raw const start) };
        Box::new(RemoteSpan { table: self.table, span })
    }

    fn current_trace(&self) -> Option<TraceContext> {
        let mut trace = Trace::empty();
        // SAFETY: the place is lent for the length of the call.
        let there = unsafe { (self.table.current_trace)(self.data, &raw mut trace) };
        if there == 0 { None } else { trace.read().ok().flatten() }
    }
}

/// A span of the host's.
struct RemoteSpan {
    table: &'static HostTable,
    /// Null when the host started none; its functions take that too.
    span: *mut c_void,
}

// SAFETY: the host's functions may be called from any thread, and its spans are `Send` and `Sync`.
unsafe impl Send for RemoteSpan {}
// SAFETY: as above.
unsafe impl Sync for RemoteSpan {}

impl SpanHandle for RemoteSpan {
    fn set_attribute(&mut self, key: &str, value: &str) {
        let attribute =
            super::table::Attribute { key: Bytes::lend(key), value: Bytes::lend(value) };
        // SAFETY: the span is alive and not shared, the attribute is lent for the length of the call.
        unsafe { (self.table.span_attribute)(self.span, &raw const attribute) };
    }

    fn set_error(&mut self, reason: &str) {
        // SAFETY: as above.
        unsafe { (self.table.span_error)(self.span, Bytes::lend(reason)) };
    }

    fn context(&self) -> Option<TraceContext> {
        let mut trace = Trace::empty();
        // SAFETY: the span is alive, the place is lent for the length of the call.
        let there = unsafe { (self.table.span_context)(self.span, &raw mut trace) };
        if there == 0 { None } else { trace.read().ok().flatten() }
    }
}

impl Drop for RemoteSpan {
    fn drop(&mut self) {
        // SAFETY: the span is alive and not used again.
        unsafe { (self.table.span_end)(self.span) };
    }
}
