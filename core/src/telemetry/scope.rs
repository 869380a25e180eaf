//! The place in a trace that a thread works at.
//!
//! A handler's future moves between threads, so its place is made current around each poll and put back
//! after it: [`with_current`] costs two thread-local accesses and no allocation.

use std::cell::Cell;
use std::sync::Arc;

use echo_sdk::TraceContext;

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

thread_local! {
    static CURRENT: Cell<TraceScope> = const { Cell::new(TraceScope(None)) };
}

/// Runs `f` at a place in a trace; what was current before is current again afterwards, a panic included.
pub fn with_current<R>(scope: &TraceScope, f: impl FnOnce() -> R) -> R {
    let _previous = Previous(CURRENT.replace(scope.clone()));
    f()
}

/// The place in a trace that this thread works at.
pub fn current_trace() -> Option<TraceContext> {
    // While a thread ends its current place may be gone already.
    let read = CURRENT.try_with(|current| {
        let scope = current.take();
        let context = scope.context();
        current.set(scope);
        context
    });
    read.ok().flatten()
}

struct Previous(TraceScope);

impl Drop for Previous {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(last: u8) -> TraceScope {
        let context = TraceContext {
            trace_id: [last; 16],
            span_id: [last; 8],
            flags: 1,
            tracestate: Some(format!("v={last}")),
        };
        Some(context).into()
    }

    #[test]
    fn scopes_nest_and_are_put_back() {
        let (outer, inner) = (scope(1), scope(2));
        assert_eq!(current_trace(), None);
        with_current(&outer, || {
            assert_eq!(current_trace(), outer.context());
            with_current(&inner, || assert_eq!(current_trace(), inner.context()));
            with_current(&TraceScope::default(), || assert_eq!(current_trace(), None));
            assert_eq!(current_trace(), outer.context());
        });
        assert_eq!(current_trace(), None);
    }

    #[test]
    fn a_panic_leaves_no_scope_behind() {
        let caught = std::panic::catch_unwind(|| with_current(&scope(1), || panic!("handler")));
        assert!(caught.is_err());
        assert_eq!(current_trace(), None);
    }
}
