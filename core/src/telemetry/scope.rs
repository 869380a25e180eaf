//! A place in a trace, as the host keeps it while a message is handled.

use std::sync::Arc;

use echo_sdk::{BaseMessage, TraceContext, TraceIds};

use crate::current::{self, Current};

/// A place in a trace, or none. Cheap to clone: nothing is allocated for it.
#[derive(Debug, Clone, Default)]
pub struct TraceScope {
    /// All zero where there is none.
    ids: TraceIds,
    state: Option<Arc<str>>,
}

impl TraceScope {
    /// The place as messages carry it.
    pub fn context(&self) -> Option<TraceContext> {
        let TraceIds { trace_id, span_id, flags } = self.ids;
        let tracestate = self.state.as_deref().map(str::to_owned);
        (trace_id != [0; 16]).then_some(TraceContext { trace_id, span_id, flags, tracestate })
    }

    /// Goes to the place that a message was made at. This is done for every message, so the ids are copied straight
    /// out of it.
    #[inline]
    pub(super) fn go_to(&mut self, message: &BaseMessage) {
        if self.state.is_some() {
            self.state = None;
        }
        match message.trace_place() {
            Some((ids, state)) => {
                self.ids = *ids;
                if let Some(state) = state {
                    self.state = Some(Arc::from(state));
                }
            }
            None => self.ids = TraceIds::default(),
        }
    }
}

impl From<Option<TraceContext>> for TraceScope {
    fn from(context: Option<TraceContext>) -> Self {
        let Some(context) = context else { return Self::default() };
        let TraceContext { trace_id, span_id, flags, tracestate } = context;
        Self { ids: TraceIds { trace_id, span_id, flags }, state: tracestate.map(Arc::from) }
    }
}

/// Runs `f` at a place in a trace: what it publishes, logs and asks for on this thread belongs there.
pub fn with_trace<R>(scope: &TraceScope, f: impl FnOnce() -> R) -> R {
    let mut current = Some(Box::new(Current { trace: scope.clone(), ..Current::default() }));
    current::with(&mut current, f)
}
