//! A place in a trace, as the host keeps it while a message is handled.

use std::sync::Arc;

use echo_sdk::TraceContext;

use crate::current::{self, Current};

/// A place in a trace, or none. Cheap to clone: nothing is allocated for it.
#[derive(Debug, Clone, Default)]
pub struct TraceScope(Option<Place>);

#[derive(Debug, Clone)]
struct Place {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    tracestate: Option<Arc<str>>,
}

impl TraceScope {
    /// The place as messages carry it.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|place| TraceContext {
            trace_id: place.trace_id,
            span_id: place.span_id,
            flags: place.flags,
            tracestate: place.tracestate.as_deref().map(str::to_owned),
        })
    }
}

impl From<Option<TraceContext>> for TraceScope {
    fn from(context: Option<TraceContext>) -> Self {
        Self(context.map(|context| Place {
            trace_id: context.trace_id,
            span_id: context.span_id,
            flags: context.flags,
            tracestate: context.tracestate.map(Arc::from),
        }))
    }
}

/// Runs `f` at a place in a trace: what it publishes, logs and asks for on this thread belongs there.
pub fn with_trace<R>(scope: &TraceScope, f: impl FnOnce() -> R) -> R {
    let mut current = Current { trace: Some(scope.clone()), ..Current::default() };
    current::with(&mut current, None, f)
}
