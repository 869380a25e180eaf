//! The way of one message in through a list of middleware, to its handler, and out again.
//!
//! One future does it all, so a cut-off at any depth and the drop of the whole come down to the same: whoever
//! went in and did not come out is told by [`Middleware::cut_off`], innermost first.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use echo_sdk::{BaseMessage, PluginError, ProcessingStatus};
use tokio::time::{Instant, sleep, timeout_at};

use super::{After, Attempt, Before, Ending, Memo, Middleware};
use crate::actor::Contained;
use crate::current;

/// A middleware that the message is in.
struct Entered {
    memo: Memo,
    /// When all further in is cut off, and after how long that is.
    limit: Option<(Instant, Duration)>,
    /// The message as those further out see it, where this one replaced it.
    outer: Option<BaseMessage>,
}

/// A message on its way.
pub(super) struct Passage<'a> {
    layers: &'a [Arc<dyn Middleware>],
    attempt: Attempt<'a>,
    /// Those that it is in, outermost first: the first so many of the layers.
    entered: Vec<Entered>,
}

impl<'a> Passage<'a> {
    pub(super) fn new(layers: &'a [Arc<dyn Middleware>], attempt: Attempt<'a>) -> Self {
        let entered = Vec::with_capacity(layers.len());
        Self { layers, attempt, entered }
    }

    /// Takes the message through and says how it ended. What the handler published in the last round is then
    /// among the effects of the message in hand, if the handler said that the message is done.
    pub(super) async fn run<F>(mut self, handler: impl Fn(BaseMessage) -> F) -> Ending
    where
        F: Future<Output = Result<ProcessingStatus, PluginError>>,
    {
        loop {
            let ending = match self.enter().await {
                Some(ending) => ending,
                None => self.handle(&handler).await,
            };
            if let Some(ending) = self.leave(ending).await {
                return ending;
            }
        }
    }

    /// Goes in as far as it gets; `None` at the handler.
    async fn enter(&mut self) -> Option<Ending> {
        let layers = self.layers;
        while let Some(layer) = layers.get(self.entered.len()) {
            let mut memo = Memo::new();
            let before = loop {
                match layer.before(&mut self.attempt, &mut memo) {
                    Before::AskAgain(event) => match self.within(event).await {
                        Ok(()) => {}
                        Err(ending) => return Some(ending),
                    },
                    before => break before,
                }
            };
            let (limit, delay) = match before {
                Before::Go | Before::AskAgain(_) => (None, None),
                Before::GoAfter(delay) => (None, Some(delay)),
                Before::GoWithin(limit) => (Some((Instant::now() + limit, limit)), None),
                Before::Answer(ending) => {
                    self.restore(None);
                    return Some(ending);
                }
            };
            let outer = self.attempt.replaced.take();
            self.entered.push(Entered { memo, limit, outer });
            if let Some(delay) = delay
                && let Err(ending) = self.within(sleep(delay)).await
            {
                return Some(ending);
            }
        }
        None
    }

    async fn handle<F>(&mut self, handler: &impl Fn(BaseMessage) -> F) -> Ending
    where
        F: Future<Output = Result<ProcessingStatus, PluginError>>,
    {
        current::clear_effects();
        let handler = handler(self.attempt.message.clone());
        let handling = async move {
            let mut handler = pin!(Contained::new(handler));
            poll_fn(|cx| handler.as_mut().poll_caught(cx)).await.into()
        };
        let ending = self.within(handling).await.unwrap_or_else(|cut_off| cut_off);
        if !ending.is_done() {
            current::clear_effects();
        }
        ending
    }

    /// Comes out; `None` when the message is to go in again.
    async fn leave(&mut self, mut ending: Ending) -> Option<Ending> {
        let layers = self.layers;
        while let Some(mut entered) = self.entered.pop() {
            let Some(layer) = layers.get(self.entered.len()) else { continue };
            self.restore(entered.outer.take());
            match layer.after(&self.attempt, &mut entered.memo, ending) {
                After::Done(done) => ending = done,
                After::Again(delay) => {
                    entered.memo.again = entered.memo.again.saturating_add(1);
                    self.entered.push(entered);
                    match self.within(sleep(delay)).await {
                        Ok(()) => return None,
                        Err(cut_off) => ending = cut_off,
                    }
                }
            }
        }
        Some(ending)
    }

    /// Waits, until the nearest limit of those that the message is in: then all further in are cut off.
    async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ending> {
        let limits = self.entered.iter().enumerate();
        let nearest = limits
            .filter_map(|(depth, entered)| entered.limit.map(|(at, limit)| (at, depth, limit)))
            .min();
        let Some((at, depth, limit)) = nearest else {
            return Ok(work.await);
        };
        let done = timeout_at(at, work).await;
        done.map_err(|_| {
            self.cut_off(depth + 1);
            if let Some(entered) = self.entered.last_mut() {
                entered.limit = None;
            }
            Ending::TimedOut(limit)
        })
    }

    /// Tells those further in than `depth` that they were stopped.
    fn cut_off(&mut self, depth: usize) {
        while self.entered.len() > depth
            && let Some(mut entered) = self.entered.pop()
        {
            self.restore(entered.outer.take());
            let Some(layer) = self.layers.get(self.entered.len()) else { continue };
            let told = AssertUnwindSafe(|| layer.cut_off(&self.attempt, &mut entered.memo));
            if catch_unwind(told).is_err() {
                tracing::error!(middleware = layer.name(), "a middleware panicked");
            }
        }
    }

    /// Puts the message back as it was further out.
    fn restore(&mut self, outer: Option<BaseMessage>) {
        let replaced = self.attempt.replaced.take();
        if let Some(outer) = outer.or(replaced) {
            self.attempt.message = outer;
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.cut_off(0);
    }
}
