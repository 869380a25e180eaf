//! Which messages of a consumer are its slot's to handle, by where they stand in the stream.
//!
//! A message that several filters of a slot match is in the consumer of each, and one of these handles it. Which one
//! changes with the slot's patterns, at a place in the stream that all of its consumers agree on: while that is found
//! each holds what comes. Whatever one was given before is in the stream already, so the end of the stream as it is
//! asked for afterwards is such a place.

use std::sync::Arc;

use echo_sdk::{Pattern, Received};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::held::Held;

/// What the consumer's messages behind a place in the stream are.
#[derive(Debug)]
struct Span {
    after: u64,
    /// Filters of others that come first; `None` where the slot has no use for any of it.
    elsewhere: Option<Vec<Pattern>>,
    earlier: Vec<Earlier>,
}

/// Another consumer has messages of the same keys up to a place, which come first.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    pub(crate) scope: Arc<Scope>,
    pub(crate) place: u64,
}

#[derive(Debug)]
struct State {
    /// By place.
    spans: Vec<Span>,
    is_held: bool,
    is_over: bool,
    /// The last place behind which the slot had no use for it.
    left_at: u64,
    waiting: Vec<(Received, Arc<Held>)>,
}

#[derive(Debug)]
pub(crate) struct Scope {
    state: Mutex<State>,
    /// Told when what is held is to be judged anew.
    pub(crate) changed: Notify,
    /// Up to which place all of it is settled, as far as somebody asked.
    drained: watch::Sender<u64>,
}

/// A message, and whether it is to be handled.
pub(crate) struct Judged {
    pub(crate) received: Received,
    pub(crate) held: Arc<Held>,
    pub(crate) is_ours: bool,
}

impl Scope {
    /// All that none of these filters matches.
    pub(crate) fn new(elsewhere: Vec<Pattern>) -> Self {
        let spans = vec![Span { after: 0, elsewhere: Some(elsewhere), earlier: Vec::new() }];
        let (is_held, is_over, left_at, waiting) = (false, false, 0, Vec::new());
        let state = State { spans, is_held, is_over, left_at, waiting };
        Self { state: Mutex::new(state), changed: Notify::new(), drained: watch::Sender::new(0) }
    }

    /// Says whose a message is, or keeps it until that can be said.
    pub(crate) fn judge(&self, received: Received, held: Arc<Held>) -> Option<Judged> {
        let mut state = self.state.lock();
        let span = state.span(held.delivered.sequence);
        let filters = span.and_then(|span| span.elsewhere.as_ref());
        let is_elsewhere =
            |filters: &Vec<Pattern>| !filters.iter().any(|filter| filter.matches(&received.topic));
        let is_ours = filters.is_some_and(is_elsewhere);
        let has_earlier = || {
            span.is_some_and(|span| span.earlier.iter().any(|it| !it.scope.has_drained(it.place)))
        };
        if state.is_held || is_ours && has_earlier() {
            state.waiting.push((received, held));
            return None;
        }
        Some(Judged { received, held, is_ours })
    }

    /// Resolves once the earlier messages are settled that the first of what was kept waits for; never where nothing
    /// does.
    pub(crate) async fn may_go_on(&self) {
        let earlier = {
            let state = self.state.lock();
            let first = state.waiting.first().filter(|_| !state.is_held);
            let span = first.and_then(|(_, held)| state.span(held.delivered.sequence));
            span.map(|span| span.earlier.clone())
        };
        let Some(earlier) = earlier else { return std::future::pending().await };
        for Earlier { scope, place } in earlier {
            scope.is_drained(place).await;
        }
    }

    /// What was kept, in its order.
    pub(crate) fn take_waiting(&self) -> Vec<(Received, Arc<Held>)> {
        std::mem::take(&mut self.state.lock().waiting)
    }

    /// Keeps what comes from now on; `false` when the consumer is given up already.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.state.lock();
        state.is_held = !state.is_over;
        state.is_held
    }

    pub(crate) fn release(&self) {
        self.state.lock().is_held = false;
        self.changed.notify_one();
    }

    /// What it is behind this place, once `earlier` messages are settled.
    pub(crate) fn cut(&self, after: u64, elsewhere: Option<Vec<Pattern>>, earlier: Vec<Earlier>) {
        let mut state = self.state.lock();
        if elsewhere.is_none() {
            state.left_at = after;
        }
        state.spans.retain(|span| span.after < after);
        state.spans.push(Span { after, elsewhere, earlier });
        // What is settled does not come again.
        while state.spans.get(1).is_some_and(|next| self.has_drained(next.after)) {
            state.spans.remove(0);
        }
        let spans = state.spans.iter_mut();
        spans.for_each(|span| span.earlier.retain(|it| !it.scope.has_drained(it.place)));
    }

    /// The consumer's task ends; gives what was kept.
    pub(crate) fn end(&self) -> Vec<(Received, Arc<Held>)> {
        let mut state = self.state.lock();
        state.spans.clear();
        std::mem::take(&mut state.waiting)
    }

    /// Whether the slot has use for what comes.
    pub(crate) fn is_of_use(&self) -> bool {
        self.state.lock().spans.last().is_some_and(|last| last.elsewhere.is_some())
    }

    /// Up to which place somebody has to see that all of it is settled.
    pub(crate) fn to_drain(&self) -> Option<u64> {
        let state = self.state.lock();
        let is_left = state.spans.last().is_some_and(|last| last.elsewhere.is_none());
        (is_left || state.left_at > *self.drained.borrow()).then_some(state.left_at)
    }

    /// All up to this place is settled.
    pub(crate) fn drain(&self, place: u64) {
        self.drained.send_modify(|drained| *drained = place.max(*drained));
    }

    /// Gives the consumer up where nothing is left for the slot, unless it has use for it again; says whether it did.
    pub(crate) fn give_up(&self) -> bool {
        let mut state = self.state.lock();
        let is_left = state.spans.last().is_some_and(|last| last.elsewhere.is_none());
        state.is_over = is_left && self.has_drained(state.left_at) && !state.is_held;
        state.is_over
    }

    fn has_drained(&self, place: u64) -> bool {
        *self.drained.borrow() >= place
    }

    /// Resolves once all up to this place is settled.
    pub(crate) async fn is_drained(&self, place: u64) {
        // The sender is this one, so it cannot be gone.
        let _ = self.drained.subscribe().wait_for(|drained| *drained >= place).await;
    }
}

impl State {
    /// What a message at a place is of.
    fn span(&self, sequence: u64) -> Option<&Span> {
        self.spans.iter().rev().find(|span| span.after < sequence)
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::{BaseMessage, Topic};

    use super::*;
    use crate::held::Source;
    use crate::subject::Delivered;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    fn judge(scope: &Scope, topic: &str, sequence: u64) -> Option<bool> {
        let delivered = Delivered { count: 1, sequence };
        let held = Held::new("r".into(), &Source::of("S"), delivered);
        let message = BaseMessage::builder("test").build().unwrap();
        let received = Received { topic: Topic::new(topic).unwrap(), message };
        scope.judge(received, held).map(|judged| judged.is_ours)
    }

    #[test]
    fn whose_a_message_is_depends_on_its_place() {
        let scope = Scope::new(vec![pattern("a.*")]);
        assert_eq!(judge(&scope, "a.b", 1), Some(false));
        scope.cut(10, Some(vec![pattern("b")]), Vec::new());
        scope.cut(20, None, Vec::new());
        let seen = [("a.b", 10), ("a.b", 11), ("b", 20), ("b", 10), ("a.b", 21)];
        let seen = seen.map(|(topic, sequence)| judge(&scope, topic, sequence));
        assert_eq!(seen, [Some(false), Some(true), Some(false), Some(true), Some(false)]);
        assert!(!scope.is_of_use());
        scope.cut(30, Some(Vec::new()), Vec::new());
        assert!(scope.is_of_use());
        assert_eq!([25, 31].map(|place| judge(&scope, "a.b", place)), [Some(false), Some(true)]);
    }

    #[tokio::test]
    async fn what_is_held_waits_and_nothing_is_given_up_meanwhile() {
        let scope = Scope::new(Vec::new());
        assert_eq!(scope.to_drain(), None);
        scope.cut(5, None, Vec::new());
        assert_eq!(scope.to_drain(), Some(5));
        assert!(scope.hold());
        assert_eq!(judge(&scope, "a", 1), None);
        scope.drain(5);
        assert!(!scope.give_up());
        scope.release();
        assert_eq!(scope.take_waiting().len(), 1);
        assert!(scope.give_up());
        assert!(!scope.hold());
    }

    #[tokio::test]
    async fn what_comes_later_waits_for_the_earlier_messages_of_another() {
        let (old, new) = (Arc::new(Scope::new(Vec::new())), Scope::new(Vec::new()));
        old.cut(5, None, Vec::new());
        new.cut(5, Some(Vec::new()), vec![Earlier { scope: Arc::clone(&old), place: 5 }]);
        assert_eq!((judge(&new, "a", 5), judge(&new, "a", 6)), (Some(true), None));
        old.drain(4);
        assert!(futures_util::FutureExt::now_or_never(new.may_go_on()).is_none());
        old.drain(5);
        new.may_go_on().await;
        assert_eq!(new.take_waiting().len(), 1);
        assert_eq!(judge(&new, "a", 6), Some(true));
    }

    #[test]
    fn one_that_is_of_use_again_is_still_drained_for_those_who_wait() {
        let scope = Scope::new(Vec::new());
        scope.cut(5, None, Vec::new());
        scope.cut(9, Some(Vec::new()), Vec::new());
        assert_eq!(scope.to_drain(), Some(5));
        scope.drain(7);
        assert!(!scope.give_up(), "it is of use");
        assert_eq!(scope.to_drain(), None);
    }
}
