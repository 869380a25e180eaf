//! What a host answers about itself: its slots, its dead letters, and orders for its plugins.
//!
//! One task owns the subscriptions; each question is answered by a task of its own, [`AT_ONCE`] of them at most,
//! so that a plugin that takes its time to pause holds nobody up. They end with the task that owns them, which
//! the host aborts when it goes: a question that is cut off gets no answer. Every host on a bus hears every
//! question; one that names another host is left to that.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::task::Poll;

use chrono::Utc;
use echo_bus::{BusError, SubscribeOptions, Transport};
use echo_sdk::contract::dead::{
    self, DeadDiscard, DeadDiscarded, DeadFault, DeadGet, DeadList, DeadReplay, DeadReplayed,
    DeadReplays,
};
use echo_sdk::contract::host::{
    self, Answer, PluginLoad, PluginOrder, PluginOrdered, PluginShown, PluginUnload,
    PluginsUnloaded, Said, TopicsQuestion, TopicsReply,
};
use echo_sdk::contract::schema::{self, SchemaList};
use echo_sdk::contract::transition::{self, PluginTransition, TransitionTaken};
use echo_sdk::{
    BaseMessage, MessageError, Overflow, Pattern, PublishError, Received, Subscription, Topic,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::dead::Kept;
use super::lag::lags;
use super::{HostError, Shared, Transitioning};
use crate::registry::{HOST_SOURCE, PluginEntry};
use crate::schema::SchemaError;

/// How many questions are answered at once; those after them wait.
const AT_ONCE: usize = 32;

/// How many questions wait; past that the oldest goes without an answer.
const WAITING: usize = 1024;

/// What is asked for. Each is subscribed to by itself, so that a question that nobody knows is heard by nobody.
const QUESTIONS: [&str; 18] = [
    host::TOPICS,
    host::SHOW,
    host::LOAD,
    host::UNLOAD,
    transition::TRANSITION,
    transition::ROLLBACK,
    host::PAUSE,
    host::RESUME,
    host::RESET,
    dead::LIST,
    dead::GET,
    dead::REPLAY,
    dead::DISCARD,
    schema::REGISTER,
    schema::GET,
    schema::LIST,
    schema::REMOVE,
    schema::CHECK,
];

/// Subscribes to the questions.
pub(super) async fn questions(transport: &dyn Transport) -> Result<Vec<Subscription>, BusError> {
    let mut questions = Vec::with_capacity(QUESTIONS.len());
    for topic in QUESTIONS {
        let options = SubscribeOptions { capacity: WAITING, overflow: Overflow::DropOldest };
        questions.push(transport.subscribe(&Pattern::new(topic)?, options).await?);
    }
    Ok(questions)
}

/// Answers questions until the bus is closed or the host is gone.
pub(super) async fn answer(shared: Weak<Shared>, mut questions: Vec<Subscription>) {
    let mut answering = JoinSet::new();
    while let Some(question) = next(&mut questions).await {
        while answering.len() >= AT_ONCE {
            answering.join_next().await;
        }
        while answering.try_join_next().is_some() {}
        let Some(shared) = shared.upgrade() else { return };
        answering.spawn(async move { shared.answer(&question).await });
    }
}

/// The next question; whoever asked last is looked at last.
async fn next(questions: &mut [Subscription]) -> Option<Received> {
    poll_fn(|cx| {
        let mut is_open = false;
        for (index, subscription) in questions.iter_mut().enumerate() {
            match subscription.poll_next(cx) {
                Poll::Ready(Some(received)) => {
                    questions.rotate_left(index + 1);
                    return Poll::Ready(Some(received));
                }
                Poll::Ready(None) => {}
                Poll::Pending => is_open = true,
            }
        }
        if is_open { Poll::Pending } else { Poll::Ready(None) }
    })
    .await
}

/// Why there is no proper answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Question(#[from] MessageError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(
        "`{library}` is no file within the folder of plugins, `{folder}`; put the library there, for example with \
         `plugin build`"
    )]
    Outside { library: String, folder: String },
    #[error("the question was given up, since the host ends")]
    Ended,
}

impl Shared {
    async fn answer(self: &Arc<Self>, Received { topic, message }: &Received) {
        match topic.as_str() {
            host::TOPICS => {
                let asked = read::<TopicsQuestion>(message);
                self.say_unless_other(
                    message,
                    asked,
                    |it| it.host.as_deref(),
                    async |_| self.topics().await,
                )
                .await;
            }
            host::SHOW => {
                let shown = match read::<PluginOrder>(message) {
                    Ok(PluginOrder { plugin }) => self.shown(&plugin).await,
                    Err(fault) => Err(fault),
                };
                self.say(message, shown).await;
            }
            host::LOAD => {
                let loaded = match read::<PluginLoad>(message) {
                    Ok(PluginLoad { library }) => self.load_asked(&library).await,
                    Err(fault) => Err(fault),
                };
                self.say(message, loaded).await;
            }
            host::UNLOAD => {
                let unloaded = match read::<PluginUnload>(message) {
                    Ok(asked) => self.unload_asked(asked).await,
                    Err(fault) => Err(fault),
                };
                self.say(message, unloaded).await;
            }
            transition::TRANSITION => {
                let taken = match read::<PluginTransition>(message) {
                    Ok(asked) => self.transition_asked(asked),
                    Err(fault) => Err(fault),
                };
                self.say(message, taken).await;
            }
            transition::ROLLBACK => {
                let taken = match read::<PluginOrder>(message) {
                    Ok(PluginOrder { plugin }) => self.rollback_asked(plugin),
                    Err(fault) => Err(fault),
                };
                self.say(message, taken).await;
            }
            dead::LIST => {
                let asked = read::<DeadList>(message);
                let listed = async |asked: DeadList| {
                    let mut page = self.parts.dead_letters.page(&asked.select, asked.after);
                    page.waiting = self.letters_waiting();
                    page
                };
                self.say_unless_other(message, asked, |it| it.host.as_deref(), listed).await;
            }
            dead::GET => {
                let found =
                    read::<DeadGet>(message).map(|asked| self.parts.dead_letters.get(asked.id));
                self.say(message, found).await;
            }
            dead::REPLAY => {
                let asked = read::<DeadReplay>(message);
                let replayed = async |asked| self.replay(asked).await;
                self.say_unless_other(message, asked, |it| it.host.as_deref(), replayed).await;
            }
            dead::DISCARD => {
                let asked = read::<DeadDiscard>(message);
                let discarded = async |asked: DeadDiscard| {
                    let (discarded, more) = self.parts.dead_letters.discard(&asked.select);
                    DeadDiscarded { discarded, more }
                };
                self.say_unless_other(message, asked, |it| it.host.as_deref(), discarded).await;
            }
            schema::REGISTER => {
                let schemas = Arc::clone(&self.parts.schemas);
                let registered = blocking(message, move |asked| schemas.answer_register(asked));
                self.say(message, registered.await).await;
            }
            schema::GET => {
                let found = read(message).and_then(|it| Ok(self.parts.schemas.answer_get(it)?));
                self.say(message, found).await;
            }
            schema::LIST => {
                let asked = read::<SchemaList>(message);
                let listed = async |_| self.parts.schemas.answer_list();
                self.say_unless_other(message, asked, |it| it.host.as_deref(), listed).await;
            }
            schema::REMOVE => {
                let removed =
                    read(message).and_then(|it| Ok(self.parts.schemas.answer_remove(it)?));
                self.say(message, removed).await;
            }
            schema::CHECK => {
                let schemas = Arc::clone(&self.parts.schemas);
                let checked = blocking(message, move |asked| schemas.answer_check(asked));
                self.say(message, checked.await).await;
            }
            order => {
                let ordered = match read::<PluginOrder>(message) {
                    Ok(PluginOrder { plugin }) => self.order(order, plugin).await,
                    Err(fault) => Err(fault),
                };
                self.say(message, ordered).await;
            }
        }
    }

    /// Answers, unless another host is asked.
    async fn say_unless_other<Q, T: Serialize>(
        &self,
        message: &BaseMessage,
        asked: Result<Q, Fault>,
        host: impl Fn(&Q) -> Option<&str>,
        work: impl AsyncFnOnce(Q) -> T,
    ) {
        let said = match asked {
            Ok(asked) if host(&asked).is_some_and(|host| host != self.id) => return,
            Ok(asked) => Ok(work(asked).await),
            Err(fault) => Err(fault),
        };
        self.say(message, said).await;
    }

    /// Publishes an answer where one is wanted.
    async fn say<T: Serialize>(&self, question: &BaseMessage, said: Result<T, Fault>) {
        let Some(reply_to) = question.reply_to() else { return };
        let said = said.map_or_else(|fault| Said::Error(fault.to_string()), Said::Ok);
        let mut published = self.publish(&reply_to, question, said).await;
        if let Err(PublishError::TooLarge { len, max }) = published {
            let text =
                format!("the answer of {len} bytes is larger than the bus takes ({max} bytes)");
            published = self.publish(&reply_to, question, Said::<()>::Error(text)).await;
        }
        if let Err(error) = published {
            tracing::debug!(%reply_to, %error, "a question was not answered");
        }
    }

    async fn publish<T: Serialize>(
        &self,
        topic: &Topic,
        question: &BaseMessage,
        said: Said<T>,
    ) -> Result<(), PublishError> {
        let answer = Answer { host: self.id.clone(), alone: self.alone, said };
        let mut builder = BaseMessage::builder(HOST_SOURCE).data(&answer);
        if let Some(context) = question.trace_context() {
            builder = builder.trace_context(context);
        }
        self.parts.transport.publish(topic, builder.build()?).await
    }

    async fn topics(&self) -> TopicsReply {
        let (at, mut slots, open): (_, Vec<_>, Vec<_>) = {
            let plugins = self.registry.read().in_order();
            let looked = plugins.iter().map(|it| (it.slot_info(), Arc::clone(it.slot())));
            let (slots, open) = looked.unzip();
            (Utc::now(), slots, open)
        };
        for (slot, lag) in slots.iter_mut().zip(lags(&open).await) {
            slot.lag = lag;
        }
        TopicsReply { at, slots }
    }

    async fn shown(&self, plugin: &str) -> Result<PluginShown, Fault> {
        let (mut shown, slot) = {
            let managed = self.managed(plugin)?;
            (managed.shown().await, Arc::clone(managed.slot()))
        };
        shown.slot.lag = lags(&[slot]).await.pop().flatten();
        Ok(shown)
    }

    /// Loads a library for somebody on the bus.
    async fn load_asked(&self, library: &str) -> Result<PluginOrdered, Fault> {
        let PluginEntry { name, status, .. } = self.load(&self.within_folder(library)?).await?;
        Ok(PluginOrdered { plugin: name, status })
    }

    /// A library that somebody on the bus names: one of those that were put into the folder of plugins, since whoever
    /// loads a library has it do what it likes.
    fn within_folder(&self, library: &str) -> Result<PathBuf, Fault> {
        let enabled = &self.parts.config.plugins.dir;
        let folder = enabled.parent().unwrap_or(enabled);
        let (found, within) = (Path::new(library).canonicalize(), folder.canonicalize());
        match (found, within) {
            // The file that was looked at, wherever links lead meanwhile.
            (Ok(library), Ok(folder)) if library.starts_with(&folder) => Ok(library),
            _ => {
                let (library, folder) = (library.to_owned(), folder.display().to_string());
                Err(Fault::Outside { library, folder })
            }
        }
    }

    fn transition_asked(
        self: &Arc<Self>,
        asked: PluginTransition,
    ) -> Result<TransitionTaken, Fault> {
        let PluginTransition { plugin, library, settings, queue } = asked;
        let library = library.map(|library| self.within_folder(&library)).transpose()?;
        let Transitioning { id, queued, .. } =
            self.begin_transition(&plugin, library, settings, queue, false)?;
        Ok(TransitionTaken { id, plugin, queued })
    }

    fn rollback_asked(self: &Arc<Self>, plugin: String) -> Result<TransitionTaken, Fault> {
        let id = self.rollback(&plugin)?;
        Ok(TransitionTaken { id, plugin, queued: false })
    }

    async fn unload_asked(&self, asked: PluginUnload) -> Result<PluginsUnloaded, Fault> {
        let mut told = PluginsUnloaded { plugins: Vec::new(), unfinished: 0, faults: Vec::new() };
        for unloaded in self.unload(&asked.plugin, asked.cascade).await? {
            told.plugins.push(unloaded.plugin);
            told.unfinished += unloaded.unfinished.len();
            told.faults.extend(unloaded.faults);
        }
        Ok(told)
    }

    async fn order(&self, order: &str, plugin: String) -> Result<PluginOrdered, Fault> {
        match order {
            host::PAUSE => self.pause(&plugin).await?,
            host::RESUME => self.resume(&plugin).await?,
            _ => self.reset(&plugin).await?,
        }
        let status = self.managed(&plugin)?.status();
        Ok(PluginOrdered { plugin, status })
    }

    /// How many durable letters wait in their slot, beside those in hand.
    fn letters_waiting(&self) -> usize {
        let held = self.letter_slot.as_ref().map_or(0, |slot| slot.stats().held);
        held.saturating_sub(self.parts.dead_letters.held())
    }

    async fn replay(&self, asked: DeadReplay) -> DeadReplays {
        let (ids, more_after) = self.parts.dead_letters.to_replay(&asked.select, asked.after);
        let mut replays = DeadReplays { more_after, ..DeadReplays::default() };
        for id in ids {
            // Gone meanwhile: somebody else replays or discards it.
            let Some(kept) = self.parts.dead_letters.take(id) else { continue };
            match self.replay_one(kept, asked.new_id).await {
                Ok(replayed) => replays.replayed.push(replayed),
                Err(error) => {
                    replays.failed.push(DeadFault { id, reason: error.to_string() });
                }
            }
        }
        replays
    }

    /// Publishes a letter's message again: along with the letter's own end, where the letter is durable.
    async fn replay_one(&self, mut kept: Kept, new_id: bool) -> Result<DeadReplayed, PublishError> {
        let topic = kept.letter.topic.clone();
        let published = async {
            let mut builder = kept.letter.message.to_builder();
            // A durable topic takes a second message of the same id for the first.
            if new_id || self.parts.config.bus.durable.holds(&topic) {
                builder = builder.id(Uuid::now_v7());
            }
            let message = builder.build()?;
            let message_id = message.id();
            match &mut kept.hold {
                Some(receiver) => {
                    let effect = Received { topic: topic.clone(), message };
                    receiver.commit(vec![effect]).await?;
                }
                None => self.parts.transport.publish(&topic, message).await?,
            }
            Ok(message_id)
        }
        .await;
        let id = kept.id;
        match published {
            Ok(message_id) => {
                self.parts.dead_letters.put_replayed(kept);
                Ok(DeadReplayed { id, topic, message_id })
            }
            Err(error) => {
                self.parts.dead_letters.put(kept);
                Err(error)
            }
        }
    }
}

/// Answers where computing holds nobody up.
async fn blocking<Q: DeserializeOwned + Send + 'static, T: Send + 'static>(
    message: &BaseMessage,
    answer: impl FnOnce(Q) -> Result<T, SchemaError> + Send + 'static,
) -> Result<T, Fault> {
    let asked = read(message)?;
    let answered = tokio::task::spawn_blocking(move || answer(asked)).await;
    Ok(answered.map_err(|_| Fault::Ended)??)
}

/// A question's data; nothing, as a tool may send it, is an empty object.
fn read<T: DeserializeOwned>(message: &BaseMessage) -> Result<T, Fault> {
    let data = match message.data_bytes() {
        b"null" | b"\"\"" => b"{}",
        data => data,
    };
    Ok(serde_json::from_slice(data).map_err(MessageError::Data)?)
}
