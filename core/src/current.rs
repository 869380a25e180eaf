//! What a thread works on: the message whose handler it polls.
//!
//! While a handler's future is polled, what belongs to its message is the thread's current one: `publish` finds
//! the list of effects and a new span finds its place in the trace without being told, from a plugin library as
//! well, since its calls into the host come on the same thread. A future moves between threads, so this is done
//! around each poll; it costs the exchange of a pointer or two, and the message is not touched.

#![allow(unsafe_code, reason = "a thread's pointer to what is borrowed for the time of one call")]

use std::cell::Cell;
use std::ptr::NonNull;

use echo_sdk::{BaseMessage, PluginError, ProcessingStatus, Received, Topic, TraceContext};

use crate::actor::Ended;
use crate::state::InHand;
use crate::telemetry::TraceScope;

/// What belongs to the message in hand.
#[derive(Debug, Default)]
pub(crate) struct Current {
    /// Whether a handler is at work: what it publishes takes effect with its acknowledgement or not at all. Where
    /// there is none, it goes out at once.
    pub(crate) collects: bool,
    /// What was collected so far.
    pub(crate) effects: Vec<Received>,
    /// The managed state, which changes along with that.
    pub(crate) state: InHand,
    /// The place in a trace that is worked at, where that is not the one that the message was made at.
    pub(crate) trace: Option<TraceScope>,
    /// The message itself, where the plugin has middleware.
    pub(crate) handled: Option<BaseMessage>,
    /// What is noted of the handling where two versions are compared.
    pub(crate) compared: Option<Box<Compared>>,
}

/// What is noted of a handling that is compared with another version's.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// It is the handling of the version that is to be compared: nothing of it may be seen outside.
    pub(crate) is_shadow: bool,
    /// What the handler published at once.
    pub(crate) at_once: Vec<Received>,
    /// The message as the handler got it and how it ended, where the plugin has middleware.
    pub(crate) handled: Option<(BaseMessage, Ended)>,
    /// It wanted something that only a handling that counts can have.
    pub(crate) asked: bool,
}

/// What [`with`] was lent, for as long as it runs.
#[derive(Debug, Clone, Copy)]
struct Lent {
    current: NonNull<Current>,
    message: Option<NonNull<BaseMessage>>,
}

thread_local! {
    static CURRENT: Cell<Option<Lent>> = const { Cell::new(None) };
}

/// Runs `f` with `current` and `message` as the thread's; what was before is so again afterwards, a panic included.
#[inline]
pub(crate) fn with<R>(
    current: &mut Current,
    message: Option<&BaseMessage>,
    f: impl FnOnce() -> R,
) -> R {
    let lent = Lent { current: NonNull::from(current), message: message.map(NonNull::from) };
    let _back = Back(CURRENT.replace(Some(lent)));
    f()
}

/// Runs `f` as if the thread worked on nothing; what was before is so again afterwards.
pub(crate) fn without<R>(f: impl FnOnce() -> R) -> R {
    let _back = Back(CURRENT.take());
    f()
}

/// What was the thread's before.
struct Back(Option<Lent>);

impl Drop for Back {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Reads or changes the thread's current one, if there is one.
fn look<R>(f: impl FnOnce(&mut Current, Option<&BaseMessage>) -> R) -> Option<R> {
    // Taken out meanwhile, so that there is never a second way to it.
    let lent = CURRENT.take();
    let _back = Back(lent);
    let Lent { mut current, message } = lent?;
    // SAFETY: `with` is still running on this thread: it puts back what was before when it ends, by a return or a
    // panic. It borrowed `current` for itself alone until then and does not use it, and nobody else gets here, since
    // the pointer is taken out.
    let current = unsafe { current.as_mut() };
    // SAFETY: `with` is still running, as above, and borrowed the message, which is only read, until then.
    let message = message.map(|message| unsafe { message.as_ref() });
    Some(f(current, message))
}

/// Adds to the effects of the message in hand; gives the message back when no handler is being polled here.
pub(crate) fn add_effect(topic: &Topic, message: BaseMessage) -> Option<BaseMessage> {
    let mut message = Some(message);
    look(|current, _| {
        if current.collects {
            let effect = message.take().map(|message| Received { topic: topic.clone(), message });
            current.effects.extend(effect);
        }
    });
    message
}

/// Drops the effects so far of the message in hand, and what it changed of its state.
pub(crate) fn clear_effects() {
    look(|current, _| {
        current.effects.clear();
        current.state.undo();
    });
}

/// Reads or changes the state of the message whose handler is at work here, if there is one.
pub(crate) fn state<R>(f: impl FnOnce(&mut InHand, &BaseMessage) -> R) -> Option<R> {
    look(|current, message| match message {
        Some(message) if current.collects => Some(f(&mut current.state, message)),
        _ => None,
    })
    .flatten()
}

/// Takes note that the handler at work here published something at once.
pub(crate) fn note_at_once(topic: &Topic, message: &BaseMessage) {
    let (topic, message) = (topic.clone(), message.clone());
    note(|compared| compared.at_once.push(Received { topic, message }));
}

/// Takes note of what the handler at work here got, and answers.
pub(crate) fn note_handled(message: &BaseMessage, answer: &Result<ProcessingStatus, PluginError>) {
    note(|compared| compared.handled = Some((message.clone(), answer.into())));
}

/// Takes note that the handler at work here wants something that only a handling that counts can have.
pub(crate) fn ask() {
    note(|compared| compared.asked = true);
}

fn note(f: impl FnOnce(&mut Compared)) {
    look(|current, _| current.compared.as_deref_mut().map(f));
}

/// Whether nothing of what the handler at work here does may be seen outside.
pub(crate) fn is_shadow() -> bool {
    look(|current, _| current.compared.as_ref().is_some_and(|compared| compared.is_shadow))
        .unwrap_or(false)
}

/// Says which message is in hand, or that none is any more.
pub(crate) fn set_handled(message: Option<BaseMessage>) {
    look(|current, _| current.handled = message);
}

/// The message in hand, where its plugin has middleware.
pub(crate) fn handled() -> Option<BaseMessage> {
    look(|current, _| current.handled.clone()).flatten()
}

/// The place in a trace that this thread works at.
pub(crate) fn trace() -> Option<TraceContext> {
    look(|current, message| match &current.trace {
        Some(scope) => scope.context(),
        None => message.and_then(BaseMessage::trace_context),
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(last: u8) -> TraceContext {
        TraceContext {
            trace_id: [last; 16],
            span_id: [last; 8],
            flags: 1,
            tracestate: Some(format!("v={last}")),
        }
    }

    fn at(last: u8) -> Current {
        Current { trace: Some(Some(place(last)).into()), ..Current::default() }
    }

    fn message() -> BaseMessage {
        BaseMessage::builder("test").trace_context(place(9)).build().unwrap()
    }

    #[test]
    fn places_nest_and_are_put_back() {
        let (mut outer, mut inner) = (at(1), at(2));
        assert_eq!(trace(), None);
        with(&mut outer, None, || {
            assert_eq!(trace(), Some(place(1)));
            with(&mut inner, None, || assert_eq!(trace(), Some(place(2))));
            with(&mut Current::default(), None, || assert_eq!(trace(), None));
            assert_eq!(trace(), Some(place(1)));
        });
        assert_eq!(trace(), None);
    }

    #[test]
    fn the_message_says_where_unless_a_span_was_begun() {
        let message = message();
        with(&mut Current::default(), Some(&message), || assert_eq!(trace(), Some(place(9))));
        with(&mut at(1), Some(&message), || assert_eq!(trace(), Some(place(1))));
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let mut current = at(1);
        let panicking =
            std::panic::AssertUnwindSafe(|| with(&mut current, None, || panic!("handler")));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(trace(), None);
    }

    #[test]
    fn effects_go_to_whoever_is_current() {
        let topic = Topic::new("a.b").unwrap();
        assert!(add_effect(&topic, message()).is_some(), "nobody is");
        let mut current = at(1);
        with(&mut current, None, || {
            assert!(add_effect(&topic, message()).is_some(), "nobody collects");
        });
        current.collects = true;
        with(&mut current, None, || {
            assert!(add_effect(&topic, message()).is_none());
            assert!(add_effect(&topic, message()).is_none());
        });
        assert_eq!(current.effects.len(), 2);
    }
}
