//! One call of a handler: polled with its effects and its trace current, its panics caught, its deadline
//! kept, its computing time measured.

use std::any::Any;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use echo_sdk::{BaseMessage, PluginError, ProcessingStatus};

use super::worker::WorkerStats;
use crate::current::{self, Current};
use crate::middleware::Ending;

/// What a call came to. Most end in one way; the others stand aside, so that an answer is passed on in a register or
/// two.
pub(crate) enum Answer {
    Acknowledged,
    Other(Box<Ending>),
}

impl From<Ending> for Answer {
    #[inline]
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Answered(ProcessingStatus::Acknowledged) => Self::Acknowledged,
            other => Self::Other(Box::new(other)),
        }
    }
}

impl From<Result<ProcessingStatus, PluginError>> for Answer {
    fn from(answer: Result<ProcessingStatus, PluginError>) -> Self {
        Ending::from(answer).into()
    }
}

impl From<Answer> for Ending {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Acknowledged => Self::Answered(ProcessingStatus::Acknowledged),
            Answer::Other(ending) => *ending,
        }
    }
}

/// Calls handlers, one after another, for one worker.
#[derive(Debug)]
pub(super) struct Caller {
    /// What belongs to the message; current while its handler is polled.
    pub(super) current: Current,
    stats: Arc<WorkerStats>,
    /// How many calls this one stands for where computing time is concerned; 0 when it is not measured.
    pub(super) weight: u64,
    /// When the handler ended, of a call that is measured.
    pub(super) ended: Option<Instant>,
}

impl Caller {
    pub(super) fn new(stats: Arc<WorkerStats>) -> Self {
        Self { current: Current::default(), stats, weight: 0, ended: None }
    }

    /// Polls the handler of a message.
    #[inline]
    pub(super) fn poll<F: Future<Output: Into<Answer>>>(
        &mut self,
        message: &BaseMessage,
        handler: Pin<&mut Contained<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<Answer> {
        if self.weight == 0 {
            return current::with(&mut self.current, Some(message), || handler.poll_caught(cx));
        }
        let began = Instant::now();
        let answer = current::with(&mut self.current, Some(message), || handler.poll_caught(cx));
        let ended = Instant::now();
        self.ended = answer.is_ready().then_some(ended);
        let nanos = u64::try_from((ended - began).as_nanos()).unwrap_or(u64::MAX);
        let computed = nanos.saturating_mul(self.weight);
        self.stats.computed_nanos.fetch_add(computed, Ordering::Relaxed);
        answer
    }

    /// Waits for a handler that was polled and is not done, or for its deadline.
    pub(super) async fn wait<F: Future<Output: Into<Answer>>>(
        &mut self,
        message: &BaseMessage,
        mut handler: Pin<&mut Contained<F>>,
        deadline: Option<Duration>,
    ) -> Answer {
        // A timer costs, so a handler that answers at once has none.
        let mut timer = pin!(async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline).await,
                None => pending().await,
            }
        });
        let mut is_polled = true;
        poll_fn(|cx| {
            if !std::mem::take(&mut is_polled)
                && let Poll::Ready(answer) = self.poll(message, handler.as_mut(), cx)
            {
                return Poll::Ready(answer);
            }
            let ending = timer.as_mut().poll(cx).map(|()| deadline.unwrap_or_default());
            ending.map(|deadline| {
                self.ended = (self.weight > 0).then(Instant::now);
                Ending::TimedOut(deadline).into()
            })
        })
        .await
    }
}

pin_project_lite::pin_project! {
    /// The way to a handler: straight, or through middleware.
    #[project = RouteProjection]
    pub(super) enum Route<S, M> {
        Straight { #[pin] handler: S },
        Through { #[pin] handler: M },
    }
}

impl<S, M> Future for Route<S, M>
where
    S: Future<Output = Result<ProcessingStatus, PluginError>>,
    M: Future<Output = Ending>,
{
    type Output = Answer;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.project() {
            RouteProjection::Straight { handler } => match handler.poll(cx) {
                Poll::Ready(Ok(ProcessingStatus::Acknowledged)) => {
                    Poll::Ready(Answer::Acknowledged)
                }
                Poll::Ready(answer) => Poll::Ready(answer.into()),
                Poll::Pending => Poll::Pending,
            },
            RouteProjection::Through { handler } => handler.poll(cx).map(Answer::from),
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
            if this.handler.is_some() {
                // Its answer is not wanted any more, so neither is its panic.
                let _ = this.discard();
            }
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

impl<F: Future<Output: Into<Answer>>> Contained<F> {
    #[inline]
    pub(crate) fn poll_caught(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut slot = self.as_mut().project().handler;
        let polling = || {
            let Some(handler) = slot.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            let answer = handler.poll(cx).map(Into::into);
            if answer.is_ready() {
                slot.set(None);
            }
            answer
        };
        match catch_unwind(AssertUnwindSafe(polling)) {
            Ok(answer) => answer,
            Err(payload) => {
                let panicked = PluginError::Panicked(panic_text(payload));
                // Whether it panics again when it is dropped adds nothing.
                let _ = self.discard();
                Poll::Ready(Ending::Error(panicked).into())
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
