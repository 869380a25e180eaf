//! What a version's handlers do, shown to whoever has another version do the same, and the other version doing it.
//!
//! * **Shown.** A worker of the old version hands on what came of a message before it settles it. It never waits: what
//!   finds no room is not shown.
//! * **Rehearsed.** The new version's handler gets the same message, and the managed state as the old one read it.
//!   What it publishes and changes is collected and dropped, and a request has no answer: see
//!   [`Compared::is_shadow`]. What it does beside its context, on a disk or a socket of its own, is done.
//! * **Panic, deadline, cut off.** As with a worker. Nothing is to be given back: the message is the old version's.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use echo_bus::state::Entries;
use echo_sdk::{BaseMessage, Plugin, PluginError, ProcessingStatus, Received, Topic};
use tokio::sync::mpsc;

use super::Measured;
use super::attempt::{Answer, Caller, Contained};
use super::slot::SlotRuntime;
use crate::current::{Compared, Current};
use crate::middleware::Ending;
use crate::state::{Forms, Seen};

/// How long the new version may take where there is no deadline.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a message in a handler's hands.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    Acknowledged,
    RetryLater(Duration),
    Failed(String),
    Forwarded(Topic, BaseMessage),
    Error(String),
    Panicked(String),
    TimedOut(Duration),
}

impl Ended {
    /// Whether what the handler published and changed took effect.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Acknowledged | Self::Forwarded(..))
    }
}

impl From<&Result<ProcessingStatus, PluginError>> for Ended {
    fn from(answer: &Result<ProcessingStatus, PluginError>) -> Self {
        match answer {
            Ok(status) => status.into(),
            Err(error) => error.into(),
        }
    }
}

impl From<&ProcessingStatus> for Ended {
    fn from(status: &ProcessingStatus) -> Self {
        match status {
            ProcessingStatus::Acknowledged => Self::Acknowledged,
            ProcessingStatus::RetryLater(delay) => Self::RetryLater(*delay),
            ProcessingStatus::Failed(reason) => Self::Failed(reason.clone()),
            ProcessingStatus::Forward(topic, message) => {
                Self::Forwarded(topic.clone(), message.clone())
            }
        }
    }
}

impl From<&PluginError> for Ended {
    fn from(error: &PluginError) -> Self {
        match error {
            PluginError::Panicked(text) => Self::Panicked(text.clone()),
            error => Self::Error(error.to_string()),
        }
    }
}

impl From<&Answer> for Ended {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Acknowledged => Self::Acknowledged,
            Answer::Other(ending) => match &**ending {
                Ending::Answered(status) => status.into(),
                Ending::Error(error) => error.into(),
                Ending::TimedOut(limit) => Self::TimedOut(*limit),
            },
        }
    }
}

/// What a handler did with a message.
#[derive(Debug)]
pub(crate) struct Deed {
    pub(crate) ended: Ended,
    /// What it published along with its answer, in order.
    pub(crate) effects: Vec<Received>,
    /// What it published at once, in order.
    pub(crate) at_once: Vec<Received>,
}

/// A message that the old version has handled.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) topic: Topic,
    pub(crate) message: BaseMessage,
    pub(crate) deed: Deed,
    /// The managed state, where the handler asked for it.
    pub(crate) state: Option<Seen>,
}

/// Where a version's workers show what they do, while somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Window(ArcSwapOption<mpsc::Sender<Shown>>);

impl Window {
    /// From now on it is shown there, or to nobody.
    pub(crate) fn open(&self, to: Option<mpsc::Sender<Shown>>) {
        self.0.store(to.map(Arc::new));
    }

    /// Notes of what is to be shown, if there is room for it.
    pub(super) fn begin(&self) -> Option<Box<Compared>> {
        let to = self.0.load();
        to.as_ref().filter(|to| to.capacity() > 0 && !to.is_closed()).map(|_| Box::default())
    }

    fn show(&self, shown: Shown) {
        if let Some(to) = &*self.0.load() {
            // Where there is no room any more, it is not compared.
            let _ = to.try_send(shown);
        }
    }
}

impl SlotRuntime {
    /// Shows what a handler did with the message in hand, before it is settled.
    #[cold]
    pub(super) fn show(
        &self,
        Received { topic, message }: &Received,
        answer: &Answer,
        current: &Current,
        compared: Compared,
    ) {
        let Ok(state) = current.state.seen() else { return };
        let Compared { at_once, handled, .. } = compared;
        let (message, ended) = match (handled, &self.middleware) {
            (Some(handled), _) => handled,
            (None, None) => (message.clone(), answer.into()),
            // A middleware has answered in the handler's place.
            (None, Some(_)) => return,
        };
        let deed = Deed { ended, effects: current.effects.clone(), at_once };
        self.window.show(Shown { topic: topic.clone(), message, deed, state });
    }
}

/// What the new version did with a message that the old one has handled.
#[derive(Debug)]
pub(crate) struct Rehearsed {
    pub(crate) deed: Deed,
    /// The state as the old version left it and as this one did, in one form, where the old one has read it.
    pub(crate) states: Option<[Entries; 2]>,
    /// It needed an answer of somebody else, or a state that the old version did not read.
    pub(crate) asked: bool,
}

/// Looks at what both did; says whether to go on.
pub(crate) type Look = dyn FnMut(&Shown, &Rehearsed) -> ControlFlow<()> + Send;

/// The new version does what the old one does, and nobody gets to see it.
pub(crate) struct Rehearsal {
    pub(crate) shown: mpsc::Receiver<Shown>,
    pub(crate) deadline: Option<Duration>,
    /// Of the old version, and of this one.
    pub(crate) forms: [Arc<Forms>; 2],
    pub(crate) look: Box<Look>,
    /// Goes last: nothing of what it does may be seen.
    pub(crate) _muted: Muted,
}

/// A version of which nothing may be seen as long as this lives.
#[derive(Debug)]
pub(crate) struct Muted(Arc<Measured>);

impl Muted {
    pub(crate) fn new(version: &Arc<Measured>) -> Self {
        version.set_shadow(true);
        Self(Arc::clone(version))
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        self.0.set_shadow(false);
    }
}

impl Rehearsal {
    /// Goes on as long as something is shown and looked at.
    pub(super) async fn run<P: Plugin>(mut self, plugin: &P) {
        let mut caller = Caller::new(Arc::default());
        while let Some(shown) = self.shown.recv().await {
            let rehearsed = self.rehearse(plugin, &mut caller, &shown).await;
            if (self.look)(&shown, &rehearsed).is_break() {
                return;
            }
            tokio::task::consume_budget().await;
        }
    }

    async fn rehearse<P: Plugin>(
        &mut self,
        plugin: &P,
        caller: &mut Caller,
        shown: &Shown,
    ) -> Rehearsed {
        let Shown { topic, message, state: seen, .. } = shown;
        caller.current = Current {
            collects: true,
            compared: Some(Box::new(Compared { is_shadow: true, ..Compared::default() })),
            ..Current::default()
        };
        caller.current.state.lend(seen.as_ref());
        let answer = {
            let mut handler = pin!(Contained::new(plugin.process_message(topic, message)));
            let polled =
                std::future::poll_fn(|cx| Poll::Ready(caller.poll(message, handler.as_mut(), cx)));
            match polled.await {
                Poll::Ready(answer) => answer,
                Poll::Pending => {
                    let deadline = self.deadline.unwrap_or(PATIENCE);
                    caller.wait(message, handler, Some(deadline)).await
                }
            }
        };
        let Current { effects, mut state, compared, .. } = std::mem::take(&mut caller.current);
        let Compared { at_once, asked, .. } =
            compared.map(|compared| *compared).unwrap_or_default();
        let [old, new] = &self.forms;
        let form = old.own().min(new.own());
        let left = state.left(new, form).await;
        let ended = match &left {
            Ok(_) => (&answer).into(),
            Err(fault) => Ended::Error(fault.to_string()),
        };
        let deed = Deed { ended, effects, at_once };
        match (seen, left) {
            (Some(seen), Ok(left)) => match seen.both(old, form, left).await {
                Ok(states) => Rehearsed { deed, states: Some(states), asked },
                // The old version says it in no form that both know.
                Err(_) => Rehearsed { deed, states: None, asked: true },
            },
            _ => Rehearsed { deed, states: None, asked },
        }
    }
}
