//! What a handler publishes, kept until its message is acknowledged.
//!
//! While a handler's future is polled, its list of effects is the thread's current one, so `publish` finds
//! it without being told, from a plugin library as well: its calls into the host come on the same thread.

use std::cell::RefCell;

use echo_sdk::{BaseMessage, Received, Topic};

thread_local! {
    static CURRENT: RefCell<Option<Vec<Received>>> = const { RefCell::new(None) };
}

/// Runs `poll` with `effects` as the current list.
pub(super) fn collect<R>(effects: &mut Vec<Received>, poll: impl FnOnce() -> R) -> R {
    let outer = CURRENT.replace(Some(std::mem::take(effects)));
    let result = poll();
    *effects = CURRENT.replace(outer).unwrap_or_default();
    result
}

/// Adds to the current list; gives the message back when no handler is being polled on this thread.
pub(super) fn add(topic: &Topic, message: BaseMessage) -> Option<BaseMessage> {
    let mut message = Some(message);
    // While a thread ends, its list may be gone already.
    let _ = CURRENT.try_with(|current| {
        if let Ok(mut current) = current.try_borrow_mut()
            && let Some(effects) = current.as_mut()
        {
            effects
                .extend(message.take().map(|message| Received { topic: topic.clone(), message }));
        }
    });
    message
}
