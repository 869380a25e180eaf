//! The managed state of the message in hand, as its handler reads and changes it.
//!
//! It is read when the handler first asks for it, and lies with the message's effects from then on: what the handler
//! sets it reads back, and what comes of it is decided with the acknowledgement. A handler that never asks costs
//! nothing but a look whether it has.

use std::sync::Arc;

use echo_bus::state::{Change, Document, Entries, Origin, States};
use echo_sdk::{BoxFuture, StateAccess, StateError, StateKind};

use crate::current;

/// What is known of the state of the message in hand.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    /// What the message is to the state.
    pub(crate) origin: Option<Origin>,
    /// The state, once the handler asked for it.
    opened: Option<Box<Opened>>,
    /// How often in a row somebody else was quicker to change it.
    pub(crate) conflicts: u16,
}

/// A state that was read.
#[derive(Debug)]
pub(crate) struct Opened {
    base: Document,
    /// As the handler changed it, if it did.
    changed: Option<Entries>,
    is_taken: bool,
}

impl Opened {
    /// A document that has taken the message in already.
    pub(crate) fn taken(self) -> Result<Document, Self> {
        if self.is_taken { Ok(self.base) } else { Err(self) }
    }

    /// What the handler made of it, or what it read where that is all.
    pub(crate) fn change(self) -> Result<Change, Document> {
        let Self { base, changed, .. } = self;
        match changed.filter(|entries| *entries != base.entries) {
            Some(entries) => Ok(Change { base, entries }),
            None => Err(base),
        }
    }

    fn readable(&mut self) -> Result<&mut Self, StateError> {
        if self.is_taken { Err(StateError::Taken) } else { Ok(self) }
    }

    fn set(&mut self, name: &str, value: Option<Arc<[u8]>>) -> Result<(), StateError> {
        self.changed.get_or_insert_with(|| self.base.entries.clone()).set(name, value)
    }
}

impl InHand {
    /// Whether the handler asked for the state.
    #[inline]
    pub(crate) fn is_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// Another message is in hand, or the same once more.
    pub(crate) fn begin(&mut self, origin: Option<Origin>) {
        self.origin = origin;
        self.opened = None;
    }

    pub(crate) fn take(&mut self) -> Option<Opened> {
        self.opened.take().map(|opened| *opened)
    }

    /// Drops what the handler changed.
    pub(crate) fn undo(&mut self) {
        self.opened.iter_mut().for_each(|opened| opened.changed = None);
    }

    /// Says what was read, unless somebody did meanwhile.
    fn put(&mut self, base: Document) {
        let is_taken = self.origin.is_some_and(|origin| base.taken(origin).is_some());
        self.opened.get_or_insert_with(|| Box::new(Opened { base, changed: None, is_taken }));
    }
}

/// A plugin's way to the state of what its handlers have in hand.
pub(crate) struct PluginState {
    pub(crate) kind: StateKind,
    pub(crate) states: Arc<dyn States>,
}

impl PluginState {
    /// Reads the state of the message in hand, if its handler did not ask for it before.
    async fn open(&self) -> Result<(), StateError> {
        let key = current::state(|in_hand, message| match in_hand.is_opened() {
            true => None,
            false => Some(message.key().map(str::to_owned)),
        });
        let Some(key) = key.ok_or(StateError::NoMessage)? else { return Ok(()) };
        match (self.kind, &key) {
            (StateKind::None, _) => return Err(StateError::NotDeclared),
            (StateKind::Keyed, None) => return Err(StateError::NoKey),
            (StateKind::Keyed | StateKind::Shared, _) => {}
        }
        let document = self.states.load(key.as_deref()).await?;
        let put = current::state(|in_hand, _| in_hand.put(document));
        put.ok_or(StateError::NoMessage)
    }

    async fn with<T>(
        &self,
        f: impl FnOnce(&mut Opened) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.open().await?;
        let done = current::state(|in_hand, _| {
            let opened = in_hand.opened.as_deref_mut().ok_or(StateError::NoMessage)?;
            f(opened.readable()?)
        });
        done.unwrap_or(Err(StateError::NoMessage))
    }
}

impl StateAccess for PluginState {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, StateError>> {
        Box::pin(self.with(move |opened| {
            let entries = opened.changed.as_ref().unwrap_or(&opened.base.entries);
            Ok(entries.get(name).cloned())
        }))
    }

    fn set<'a>(
        &'a self,
        name: &'a str,
        value: Option<Arc<[u8]>>,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(self.with(move |opened| opened.set(name, value)))
    }
}
