//! One call of a handler: polled with its effects and its trace current, its panics caught, its deadline
//! kept, its computing time measured.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use echo_sdk::PluginError;
use tokio::time::Sleep;

use crate::current::{self, Current};
use crate::middleware::Ending;

/// How a call is made.
pub(super) struct Terms<'a> {
    /// What belongs to the message; current while the handler is polled.
    pub(super) current: &'a mut Option<Box<Current>>,
    pub(super) deadline: Option<Duration>,
    /// Told how long each poll took, when it is to be measured.
    pub(super) polled: Option<&'a (dyn Fn(Duration) + Sync)>,
}

pin_project_lite::pin_project! {
    /// One call of a handler. Dropping the call drops the handler's future, its panics caught as well.
    pub(super) struct Attempt<'a, F> {
        #[pin]
        handler: Contained<F>,
        terms: Terms<'a>,
        // A timer costs; a handler that answers at once needs none.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<'a, F: Future<Output: Into<Ending>>> Attempt<'a, F> {
    pub(super) fn new(handler: F, terms: Terms<'a>) -> Self {
        Self { handler: Contained::new(handler), terms, timer: None }
    }
}

impl<F: Future<Output: Into<Ending>>> Future for Attempt<'_, F> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = self.project();
        let Terms { current, deadline, polled } = this.terms;
        let began = polled.map(|_| Instant::now());
        let ending = current::with(current, || this.handler.poll_caught(cx));
        if let (Some(tell), Some(began)) = (polled, began) {
            tell(began.elapsed());
        }
        match ending {
            Poll::Ready(ending) => Poll::Ready(ending),
            Poll::Pending => match *deadline {
                Some(deadline) => this
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)))
                    .as_mut()
                    .poll(cx)
                    .map(|()| Ending::TimedOut(deadline)),
                None => Poll::Pending,
            },
        }
    }
}

pin_project_lite::pin_project! {
    /// A handler's future, which may panic when polled or dropped.
    pub(crate) struct Contained<F> {
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
    pub(crate) fn new(handler: F) -> Self {
        Self { handler: Some(handler) }
    }

    fn discard(self: Pin<&mut Self>) -> Result<(), PluginError> {
        let mut handler = self.project().handler;
        catch_unwind(AssertUnwindSafe(|| handler.set(None)))
            .map_err(|payload| PluginError::Panicked(panic_text(payload)))
    }
}

impl<F: Future<Output: Into<Ending>>> Contained<F> {
    pub(crate) fn poll_caught(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut slot = self.as_mut().project().handler;
        let polling = || {
            let Some(handler) = slot.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            let answer = handler.poll(cx);
            if answer.is_ready() {
                slot.set(None);
            }
            answer
        };
        match catch_unwind(AssertUnwindSafe(polling)) {
            Ok(answer) => answer.map(Into::into),
            Err(payload) => {
                let panicked = PluginError::Panicked(panic_text(payload));
                // Whether it panics again when it is dropped adds nothing.
                let _ = self.discard();
                Poll::Ready(Ending::Error(panicked))
            }
        }
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
