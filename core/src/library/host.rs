//! The host as a plugin library calls it.

#![allow(unsafe_code, reason = "called by a library through the boundary")]

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use echo_sdk::abi::{
    self, Answer, Bytes, HostCall, HostOp, HostTable, MINOR, Poller, Seat, ThinWaker,
};
use echo_sdk::{
    BaseMessage, JsonText, Manifest, Pattern, PluginContext, PublishError, StateError,
    Subscription, Topic, check_entry_name,
};

use super::telemetry;

/// What a plugin's calls reach: the context that the host gave it. The plugin holds one count.
#[derive(Debug)]
pub(super) struct Host {
    context: PluginContext,
}

static TABLE: HostTable = HostTable {
    size: size_of::<HostTable>() as u32,
    release,
    call,
    measure: telemetry::measure,
    log: telemetry::log,
    current_trace: telemetry::current_trace,
    span_start: telemetry::span_start,
    span_attribute: telemetry::span_attribute,
    span_error: telemetry::span_error,
    span_context: telemetry::span_context,
    span_end: telemetry::span_end,
};

impl Host {
    pub(super) fn new(context: PluginContext) -> Self {
        Self { context }
    }

    pub(super) fn context(&self) -> &PluginContext {
        &self.context
    }

    /// Describes this host for a plugin's constructor, which takes over one count of it.
    pub(super) fn seat<T>(
        self: &Arc<Self>,
        manifest: &Manifest,
        minor: u32,
        create: impl FnOnce(*const Seat) -> T,
    ) -> T {
        let config = serde_json::Value::from(self.context.config().clone()).to_string();
        let patience = manifest.worker_pool.shutdown_timeout;
        let seat = Seat {
            size: size_of::<Seat>() as u32,
            minor: MINOR.min(minor),
            table: &raw const TABLE,
            host: Arc::into_raw(Arc::clone(self)).cast(),
            name: Bytes::lend(self.context.plugin_name()),
            version: Bytes::lend(&manifest.version),
            config: Bytes::lend(&config),
            patience_nanos: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
        };
        create(&raw const seat)
    }

    /// Reads what a plugin asks for, and makes it a future.
    ///
    /// # Safety
    /// `call` and what it lends last for this call.
    unsafe fn start(self: Arc<Self>, call: &HostCall) -> Result<Started, Answer> {
        let unknown = || Answer::unknown("operation of a host", call.op);
        let op = HostOp::from_code(call.op).ok_or_else(unknown)?;
        // SAFETY: the caller vouches for what is lent.
        let text = unsafe { call.topic.text() }.map_err(|fault| Answer::fault(&fault))?;
        if op == HostOp::Subscribe {
            let pattern = Pattern::new(text).map_err(PublishError::from)?;
            let subscribe = async move { self.context.transport().subscribe(&pattern).await };
            return Ok(Started::Subscribing(Box::pin(subscribe)));
        }
        if matches!(op, HostOp::StateGet | HostOp::StateSet | HostOp::StateDelete) {
            // SAFETY: as above.
            let value = unsafe { call.value.slice() }.map_err(|fault| Answer::fault(&fault))?;
            return Ok(Started::Once(Box::pin(self.state(op, text.to_owned(), value.into()))));
        }
        let topic = Topic::new(text).map_err(PublishError::from)?;
        // SAFETY: as above; a block that is not the host's own is copied and checked.
        let message = unsafe { call.message.adopt() }.map_err(|fault| Answer::fault(&fault))?;
        let timeout = Duration::from_nanos(call.timeout_nanos);
        if op == HostOp::TryPublish {
            return Err(self.context.transport().try_publish(&topic, message).into());
        }
        Ok(Started::Once(Box::pin(self.publish(op, topic, message, timeout))))
    }

    /// Reads or changes the state of what the plugin has in hand.
    async fn state(self: Arc<Self>, op: HostOp, name: String, value: Arc<[u8]>) -> Answer {
        let Some(state) = self.context.state_access() else {
            return StateError::NoMessage.into();
        };
        if let Err(error) = check_entry_name(&name) {
            return error.into();
        }
        match op {
            HostOp::StateGet => match state.get(&name).await {
                Ok(json) => Answer::state_entry(json.as_deref()),
                Err(error) => error.into(),
            },
            HostOp::StateSet if JsonText::check(&value).is_none() => {
                StateError::NotJson("it is not one JSON value".to_owned()).into()
            }
            HostOp::StateSet => state.set(&name, Some(value)).await.into(),
            _ => state.set(&name, None).await.into(),
        }
    }

    async fn publish(
        self: Arc<Self>,
        op: HostOp,
        topic: Topic,
        message: BaseMessage,
        timeout: Duration,
    ) -> Answer {
        let transport = self.context.transport();
        match op {
            HostOp::Request => match transport.request(&topic, message, timeout).await {
                Ok(reply) => Answer::message(reply),
                Err(error) => error.into(),
            },
            HostOp::PublishNow => transport.publish_now(&topic, message).await.into(),
            _ => transport.publish(&topic, message).await.into(),
        }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future of the host's that a plugin polls.
enum Started {
    Once(Boxed<Answer>),
    Subscribing(Boxed<Result<Subscription, PublishError>>),
    Subscribed(Subscription),
}

impl Started {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self {
            Self::Once(future) => future.as_mut().poll(cx),
            Self::Subscribing(future) => match std::task::ready!(future.as_mut().poll(cx)) {
                Ok(subscription) => {
                    *self = Self::Subscribed(subscription);
                    Poll::Ready(Answer::done())
                }
                Err(error) => Poll::Ready(error.into()),
            },
            Self::Subscribed(subscription) => subscription.poll_next(cx).map(Answer::received),
        }
    }

    /// Whether there is anything left to poll after an answer.
    fn goes_on(&self) -> bool {
        matches!(self, Self::Subscribed(_))
    }

    /// Hands the future to the plugin.
    fn into_poller(self) -> Poller {
        Poller { data: Box::into_raw(Box::new(self)).cast(), poll, drop }
    }
}

unsafe extern "C" fn release(host: *const c_void) {
    // SAFETY: gives up the count that `seat` gave to the plugin.
    let host = unsafe { Arc::from_raw(host.cast::<Host>()) };
    // Whatever panics here does so in the host's own transport, and has nobody left to answer to.
    let _ = abi::guarded(|| std::mem::drop(host));
}

unsafe extern "C" fn call(
    host: *const c_void,
    call: *const HostCall,
    waker: *const ThinWaker,
    out: *mut Answer,
    poller: *mut Poller,
) -> u32 {
    // SAFETY: the plugin holds a count of the host, and so does every future from here on.
    let host = unsafe {
        Arc::increment_strong_count(host.cast::<Host>());
        Arc::from_raw(host.cast::<Host>())
    };
    let mut started = None;
    // SAFETY: waker, answer and call last for this call.
    let state = unsafe {
        abi::respond(waker, out, |cx| match host.start(&HostCall::read(call)) {
            Ok(future) => started.insert(future).poll(cx),
            Err(answer) => Poll::Ready(answer),
        })
    };
    if let Some(started) = started
        && (state == abi::PENDING || started.goes_on())
    {
        // SAFETY: the plugin passes a place that holds no future.
        unsafe { poller.write(started.into_poller()) };
    }
    state
}

unsafe extern "C" fn poll(data: *mut c_void, waker: *const ThinWaker, out: *mut Answer) -> u32 {
    // SAFETY: `data` comes from `into_poller`, is not dropped yet, and is polled by one thread at a time;
    // waker and answer last for this call.
    unsafe {
        let started = &mut *data.cast::<Started>();
        abi::respond(waker, out, |cx| started.poll(cx))
    }
}

unsafe extern "C" fn drop(data: *mut c_void) {
    // SAFETY: `data` comes from `into_poller`, and is dropped once.
    let started = unsafe { Box::from_raw(data.cast::<Started>()) };
    let _ = abi::guarded(|| std::mem::drop(started));
}
