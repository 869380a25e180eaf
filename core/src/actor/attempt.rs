//! One call of a handler: polled with its effects and its trace current, its panics caught, its deadline
//! kept, its computing time measured.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use echo_sdk::{PluginError, ProcessingStatus, Received};
use tokio::time::Sleep;

use super::effects;
use crate::telemetry::{TraceScope, with_current};

/// How a handler's call ended.
#[derive(Debug)]
pub(super) enum Ending {
    Answered(ProcessingStatus),
    Error(PluginError),
    TimedOut(Duration),
}

/// What is known of a call once it has ended.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) ending: Ending,
    /// What the handler published, to take effect or not.
    pub(super) effects: Vec<Received>,
}

/// How a call is made.
pub(super) struct Terms<'a> {
    pub(super) scope: &'a TraceScope,
    pub(super) deadline: Option<Duration>,
    /// Told how long each poll took, when it is to be measured.
    pub(super) polled: Option<&'a (dyn Fn(Duration) + Sync)>,
}

type Answer = Result<ProcessingStatus, PluginError>;

/// Calls a handler. Dropping the call drops the handler's future, its panics caught as well.
pub(super) async fn attempt(handler: impl Future<Output = Answer>, terms: Terms<'_>) -> Attempt {
    let mut effects = Vec::new();
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut handler = pin!(Contained::new(handler));
    let ending = poll_fn(|cx| {
        let began = terms.polled.map(|_| Instant::now());
        let polled = effects::collect(&mut effects, || {
            with_current(terms.scope, || handler.as_mut().poll_caught(cx))
        });
        if let (Some(tell), Some(began)) = (terms.polled, began) {
            tell(began.elapsed());
        }
        match polled {
            Poll::Ready(Ok(status)) => Poll::Ready(Ending::Answered(status)),
            Poll::Ready(Err(error)) => Poll::Ready(Ending::Error(error)),
            Poll::Pending => match terms.deadline {
                // A timer costs; a handler that answers at once needs none.
                Some(deadline) => timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)))
                    .as_mut()
                    .poll(cx)
                    .map(|()| Ending::TimedOut(deadline)),
                None => Poll::Pending,
            },
        }
    })
    .await;
    Attempt { ending, effects }
}

pin_project_lite::pin_project! {
    /// A handler's future, which may panic when polled or dropped.
    struct Contained<F> {
        #[pin]
        handler: Option<F>,
    }

    impl<F> PinnedDrop for Contained<F> {
        fn drop(this: Pin<&mut Self>) {
            // Its answer is not wanted any more, so neither is its panic.
            let _ = this.discard();
        }
    }
}

impl<F> Contained<F> {
    fn new(handler: F) -> Self {
        Self { handler: Some(handler) }
    }

    fn discard(self: Pin<&mut Self>) -> Result<(), PluginError> {
        let mut handler = self.project().handler;
        catch_unwind(AssertUnwindSafe(|| handler.set(None)))
            .map_err(|payload| PluginError::Panicked(panic_text(payload)))
    }
}

impl<F: Future<Output = Answer>> Contained<F> {
    fn poll_caught(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let handler = self.as_mut().project().handler.as_pin_mut();
        let Some(handler) = handler else {
            return Poll::Pending;
        };
        let answer = match catch_unwind(AssertUnwindSafe(|| handler.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(answer)) => answer,
            Err(payload) => Err(PluginError::Panicked(panic_text(payload))),
        };
        Poll::Ready(self.discard().and(answer))
    }
}

/// What a panic says.
pub(crate) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "with a value that is no text".to_owned(),
    };
    // A payload may panic when dropped; leaking it is the lesser evil.
    std::mem::forget(payload);
    text
}
