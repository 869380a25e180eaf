//! The host's telemetry as a plugin library calls it.

#![allow(unsafe_code, reason = "called by a library through the boundary")]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use echo_sdk::abi::{
    Attribute, Bytes, Fault, Measurement, Metric, SpanStart, Trace, attributes, guarded,
};
use echo_sdk::{LogLevel, SpanHandle, Telemetry};

use super::host::Host;

/// Telemetry answers nothing, so a call that breaks the rules, or that panics, shows in the host's log.
fn observed<T>(
    host: *const c_void,
    work: impl FnOnce(&Arc<dyn Telemetry>) -> Result<T, Fault>,
) -> Option<T> {
    // SAFETY: the plugin holds a count of the host, as long as it calls.
    let context = unsafe { &*host.cast::<Host>() }.context();
    let plugin = context.plugin_name();
    match guarded(|| work(context.telemetry())) {
        Ok(Ok(done)) => Some(done),
        Ok(Err(fault)) => {
            tracing::warn!(plugin, %fault, "a plugin library broke the rules of the boundary");
            None
        }
        Err(panic) => {
            tracing::warn!(plugin, panic, "telemetry panicked");
            None
        }
    }
}

pub(super) unsafe extern "C" fn measure(host: *const c_void, measurement: *const Measurement) {
    observed(host, |telemetry| {
        // SAFETY: the plugin lends the measurement, and what it names, for this call.
        let (it, name, attributes) = unsafe {
            let it = &*measurement;
            (it, it.name.text()?, attributes(it.attributes, it.attribute_count)?)
        };
        match Metric::from_code(it.metric) {
            Some(Metric::Counter) => telemetry.counter(name, it.count, &attributes),
            Some(Metric::Gauge) => telemetry.gauge(name, it.value, &attributes),
            Some(Metric::Histogram) => telemetry.histogram(name, it.value, &attributes),
            None => return Err(Fault::Number { what: "metric", found: it.metric.into() }),
        }
        Ok(())
    });
}

pub(super) unsafe extern "C" fn log(host: *const c_void, level: u32, text: Bytes) {
    observed(host, |telemetry| {
        let level = match level {
            0 => LogLevel::Debug,
            1 => LogLevel::Info,
            2 => LogLevel::Warn,
            3 => LogLevel::Error,
            other => return Err(Fault::Number { what: "log level", found: other.into() }),
        };
        // SAFETY: the plugin lends the text for this call.
        telemetry.log(level, unsafe { text.text() }?);
        Ok(())
    });
}

pub(super) unsafe extern "C" fn current_trace(host: *const c_void, out: *mut Trace) -> u32 {
    let context = observed(host, |telemetry| Ok(telemetry.current_trace())).flatten();
    // SAFETY: the plugin lends a place that holds no trace.
    unsafe { Trace::put(context, out) }
}

/// A span in the plugin's hands.
type Span = Box<dyn SpanHandle>;

pub(super) unsafe extern "C" fn span_start(
    host: *const c_void,
    start: *const SpanStart,
) -> *mut c_void {
    let span = observed(host, |telemetry| {
        // SAFETY: the plugin lends the start, and what it names, for this call.
        let (name, parent, attributes) = unsafe {
            let it = &*start;
            (it.name.text()?, it.parent.as_ref(), attributes(it.attributes, it.attribute_count)?)
        };
        let parent = parent.map(Trace::read).transpose()?.flatten();
        Ok(telemetry.start_span(name, parent.as_ref(), &attributes))
    });
    span.map_or(ptr::null_mut(), |span: Span| Box::into_raw(Box::new(span)).cast())
}

/// Uses a span; there is none where starting it failed, which the log has shown.
fn with_span(span: *mut c_void, work: impl FnOnce(&mut Span) -> Result<(), Fault>) {
    // SAFETY: a span comes from `span_start`, and is used by one thread at a time until `span_end`.
    let Some(span) = (unsafe { span.cast::<Span>().as_mut() }) else { return };
    match guarded(|| work(span)) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => {
            tracing::warn!(%fault, "a plugin library broke the rules of the boundary")
        }
        Err(panic) => tracing::warn!(panic, "telemetry panicked"),
    }
}

pub(super) unsafe extern "C" fn span_attribute(span: *mut c_void, attribute: *const Attribute) {
    with_span(span, |span| {
        // SAFETY: the plugin lends the attribute, and what it names, for this call.
        let (key, value) = unsafe {
            let it = &*attribute;
            (it.key.text()?, it.value.text()?)
        };
        span.set_attribute(key, value);
        Ok(())
    });
}

pub(super) unsafe extern "C" fn span_error(span: *mut c_void, reason: Bytes) {
    with_span(span, |span| {
        // SAFETY: the plugin lends the text for this call.
        span.set_error(unsafe { reason.text() }?);
        Ok(())
    });
}

pub(super) unsafe extern "C" fn span_context(span: *const c_void, out: *mut Trace) -> u32 {
    // SAFETY: a span comes from `span_start`, and is not changed during this call.
    let span = unsafe { span.cast::<Span>().as_ref() };
    let context = span.and_then(|span| guarded(|| span.context()).ok().flatten());
    // SAFETY: the plugin lends a place that holds no trace.
    unsafe { Trace::put(context, out) }
}

pub(super) unsafe extern "C" fn span_end(span: *mut c_void) {
    if span.is_null() {
        return;
    }
    // SAFETY: a span comes from `span_start`, and is ended once.
    let span = unsafe { Box::from_raw(span.cast::<Span>()) };
    let _ = guarded(|| drop(span));
}
