//! What a thread works on: the message whose handler it polls.
//!
//! While a handler's future is polled, what belongs to its message is the thread's current one: `publish` finds
//! the list of effects and a new span finds its place in the trace without being told, from a plugin library as
//! well, since its calls into the host come on the same thread. A future moves between threads, so this is done
//! around each poll; it costs the exchange of one pointer.

use std::cell::Cell;

use echo_sdk::{BaseMessage, Received, Topic, TraceContext};

use crate::telemetry::TraceScope;

/// What belongs to the message in hand.
#[derive(Debug, Default)]
pub(crate) struct Current {
    /// Whether a handler is at work: what it publishes takes effect with its acknowledgement or not at all. Where
    /// there is none, it goes out at once.
    pub(crate) collects: bool,
    /// What was collected so far.
    pub(crate) effects: Vec<Received>,
    /// The place in a trace that its handler works at.
    pub(crate) trace: TraceScope,
    /// The message itself, where the plugin has middleware.
    pub(crate) handled: Option<BaseMessage>,
}

thread_local! {
    static CURRENT: Cell<Option<Box<Current>>> = const { Cell::new(None) };
}

/// Runs `f` with `current` as the thread's; what was before is so again afterwards, a panic included.
#[inline]
pub(crate) fn with<R>(current: &mut Option<Box<Current>>, f: impl FnOnce() -> R) -> R {
    swap(current);
    let _back = Back(current);
    f()
}

/// Exchanges `current` and the thread's. Nothing is dropped, nor is it checked whether there is anything to drop.
#[inline]
fn swap(current: &mut Option<Box<Current>>) {
    let outer = CURRENT.replace(current.take());
    std::mem::forget(std::mem::replace(current, outer));
}

/// Holds what was the thread's before.
struct Back<'a>(&'a mut Option<Box<Current>>);

impl Drop for Back<'_> {
    #[inline]
    fn drop(&mut self) {
        swap(self.0);
    }
}

/// Reads or changes the thread's current one, if there is one; while a thread ends, it may be gone already.
fn look<R>(f: impl FnOnce(&mut Current) -> R) -> Option<R> {
    let looked = CURRENT.try_with(|cell| {
        let mut current = cell.take();
        let result = current.as_deref_mut().map(f);
        cell.set(current);
        result
    });
    looked.ok().flatten()
}

/// Adds to the effects of the message in hand; gives the message back when no handler is being polled here.
pub(crate) fn add_effect(topic: &Topic, message: BaseMessage) -> Option<BaseMessage> {
    let mut message = Some(message);
    look(|current| {
        if current.collects {
            let effect = message.take().map(|message| Received { topic: topic.clone(), message });
            current.effects.extend(effect);
        }
    });
    message
}

/// Drops the effects so far of the message in hand.
pub(crate) fn clear_effects() {
    look(|current| current.effects.clear());
}

/// Says which message is in hand, or that none is any more.
pub(crate) fn set_handled(message: Option<BaseMessage>) {
    look(|current| current.handled = message);
}

/// The message in hand, where its plugin has middleware.
pub(crate) fn handled() -> Option<BaseMessage> {
    look(|current| current.handled.clone()).flatten()
}

/// The place in a trace that this thread works at.
pub(crate) fn trace() -> Option<TraceContext> {
    look(|current| current.trace.context()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> Option<Box<Current>> {
        let context = TraceContext {
            trace_id: [last; 16],
            span_id: [last; 8],
            flags: 1,
            tracestate: Some(format!("v={last}")),
        };
        Some(Box::new(Current { trace: Some(context).into(), ..Current::default() }))
    }

    fn context(current: &Option<Box<Current>>) -> Option<TraceContext> {
        current.as_ref().and_then(|current| current.trace.context())
    }

    #[test]
    fn places_nest_and_are_put_back() {
        let (mut outer, mut inner) = (at(1), at(2));
        let (outer_context, inner_context) = (context(&outer), context(&inner));
        assert_eq!(trace(), None);
        with(&mut outer, || {
            assert_eq!(trace(), outer_context);
            with(&mut inner, || assert_eq!(trace(), inner_context));
            with(&mut None, || assert_eq!(trace(), None));
            assert_eq!(trace(), outer_context);
        });
        assert_eq!(trace(), None);
        assert_eq!(context(&outer), outer_context, "whoever lent it has it back");
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let mut current = at(1);
        let panicking = std::panic::AssertUnwindSafe(|| with(&mut current, || panic!("handler")));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(trace(), None);
        assert!(current.is_some());
    }

    #[test]
    fn effects_go_to_whoever_is_current() {
        let topic = Topic::new("a.b").unwrap();
        let message = || BaseMessage::builder("test").build().unwrap();
        assert!(add_effect(&topic, message()).is_some(), "nobody is");
        let mut current = at(1);
        with(&mut current, || assert!(add_effect(&topic, message()).is_some(), "nobody collects"));
        current.as_mut().unwrap().collects = true;
        with(&mut current, || assert!(add_effect(&topic, message()).is_none()));
        assert_eq!(current.unwrap().effects.len(), 1);
    }
}
