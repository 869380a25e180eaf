//! The managed state of the message in hand, as its handler reads and changes it.
//!
//! It is read when the handler first asks for it, and lies with the message's effects from then on: what the handler
//! sets it reads back, and what comes of it is decided with the acknowledgement. A handler that never asks costs
//! nothing but a look whether it has.
//!
//! It reads and changes the state in its plugin's own form, whatever the form is that it is [stored](forms) in.

mod forms;
mod handover;

use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_bus::state::{Change, Document, Entries, Origin, States};
use echo_sdk::{BoxFuture, StateAccess, StateError, StateKind};

use crate::current;
pub(crate) use forms::{FormError, Forms, of_plugin};

/// What is known of the state of the message in hand.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    /// What the message is to the state.
    pub(crate) origin: Option<Origin>,
    /// The state, once the handler asked for it.
    opened: Option<Box<Opened>>,
    /// Why it is no state for this version of the plugin, where it is none.
    fault: Option<Box<FormError>>,
    /// How often in a row somebody else was quicker to change it.
    pub(crate) conflicts: u16,
    /// Where the handling is compared with another version's, the state that this one has read, if it has.
    lent: Option<Option<Entries>>,
    /// How long it took to take it to the version's own form, which is no time of the handler's.
    pub(crate) converting: Duration,
}

/// A state as a handler saw it and left it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// As it was stored.
    stored: Entries,
    /// As the handler found it, in its version's form.
    before: Entries,
    /// As the handler left it, likewise.
    after: Entries,
}

impl Seen {
    /// What the handler left, and what another version's did, which is given where it changed any; in this form.
    ///
    /// # Errors
    /// The version of the first has no way to the form.
    pub(crate) async fn both(
        &self,
        forms: &Forms,
        form: u32,
        other: Option<Entries>,
    ) -> Result<[Entries; 2], FormError> {
        let stored = async |entries: &Entries| {
            let base = Document { entries: self.stored.clone(), ..Document::default() };
            let change = Change { base, entries: entries.clone() };
            let stored = forms.in_form(change, Some(&self.before), form).await;
            stored.map(|change| change.entries).map_err(|(_, fault)| fault)
        };
        let other = match other {
            Some(other) => other,
            None => stored(&self.before).await?,
        };
        Ok([stored(&self.after).await?, other])
    }
}

/// A state that was read.
#[derive(Debug)]
pub(crate) struct Opened {
    base: Document,
    /// Its entries in the plugin's own form, where that is another.
    read: Option<Entries>,
    /// As the handler changed it, if it did.
    changed: Option<Entries>,
    is_taken: bool,
}

impl Opened {
    /// A document that has taken the message in already.
    pub(crate) fn taken(self) -> Result<Document, Self> {
        if self.is_taken { Ok(self.base) } else { Err(self) }
    }

    /// What the handler made of it, in the plugin's own form as well as what it read; what it read alone where that is
    /// all.
    pub(crate) fn change(self) -> Result<(Change, Option<Entries>), Document> {
        let Self { base, read, changed, .. } = self;
        match changed.filter(|entries| entries != read.as_ref().unwrap_or(&base.entries)) {
            Some(entries) => Ok((Change { base, entries }, read)),
            None => Err(base),
        }
    }

    /// The entries as the handler sees them.
    fn entries(&self) -> &Entries {
        self.changed.as_ref().or(self.read.as_ref()).unwrap_or(&self.base.entries)
    }

    fn readable(&mut self) -> Result<&mut Self, StateError> {
        if self.is_taken { Err(StateError::Taken) } else { Ok(self) }
    }

    fn set(&mut self, name: &str, value: Option<Arc<[u8]>>) -> Result<(), StateError> {
        let read = self.read.as_ref().unwrap_or(&self.base.entries);
        self.changed.get_or_insert_with(|| read.clone()).set(name, value)
    }
}

impl InHand {
    /// Whether the handler asked for the state.
    #[inline]
    pub(crate) fn is_opened(&self) -> bool {
        self.opened.is_some() || self.fault.is_some()
    }

    /// Another message is in hand, or the same once more.
    pub(crate) fn begin(&mut self, origin: Option<Origin>) {
        self.origin = origin;
        self.opened = None;
        self.fault = None;
    }

    pub(crate) fn take(&mut self) -> Option<Opened> {
        self.opened.take().map(|opened| *opened)
    }

    /// Why the handler got none, where the state was none for it, whatever it answered.
    pub(crate) fn take_fault(&mut self) -> Option<FormError> {
        self.fault.take().map(|fault| *fault)
    }

    /// The state as the handler saw it and left it, if it asked for it.
    ///
    /// # Errors
    /// There was none for it.
    pub(crate) fn seen(&self) -> Result<Option<Seen>, ()> {
        match &self.opened {
            _ if self.fault.is_some() => Err(()),
            None => Ok(None),
            Some(opened) if opened.is_taken => Err(()),
            Some(opened) => {
                let stored = opened.base.entries.clone();
                let before = opened.read.as_ref().unwrap_or(&stored).clone();
                Ok(Some(Seen { stored, before, after: opened.entries().clone() }))
            }
        }
    }

    /// Has the handler find the state that another version's has seen, and no other.
    pub(crate) fn lend(&mut self, seen: Option<&Seen>) {
        self.lent = Some(seen.map(|seen| seen.stored.clone()));
    }

    /// What the handler has left in another's place, in this form.
    ///
    /// # Errors
    /// It cannot be read in the version's own form, or not be written in the other.
    pub(crate) async fn left(
        &mut self,
        forms: &Forms,
        form: u32,
    ) -> Result<Option<Entries>, FormError> {
        if let Some(fault) = self.take_fault() {
            return Err(fault);
        }
        let Some(Ok((change, read))) = self.take().map(Opened::change) else { return Ok(None) };
        let changed = forms.in_form(change, read.as_ref(), form).await;
        changed.map(|change| Some(change.entries)).map_err(|(_, fault)| fault)
    }

    /// Drops what the handler changed.
    pub(crate) fn undo(&mut self) {
        self.opened.iter_mut().for_each(|opened| opened.changed = None);
        self.fault = None;
    }

    /// Whether there is something to read yet.
    fn is_to_read(&self) -> Result<bool, StateError> {
        match &self.fault {
            Some(fault) => Err((**fault).clone().into()),
            None => Ok(self.opened.is_none()),
        }
    }

    /// Says what was read, unless somebody did meanwhile.
    fn put(&mut self, base: Document, read: Option<Entries>) {
        let is_taken = self.origin.is_some_and(|origin| base.taken(origin).is_some());
        let opened = || Box::new(Opened { base, read, changed: None, is_taken });
        self.opened.get_or_insert_with(opened);
    }
}

/// A plugin's way to the state of what its handlers have in hand.
pub(crate) struct PluginState {
    pub(crate) kind: StateKind,
    pub(crate) states: Arc<dyn States>,
    pub(crate) forms: Arc<Forms>,
}

impl PluginState {
    /// Reads the state of the message in hand, if its handler did not ask for it before.
    async fn open(&self) -> Result<(), StateError> {
        let key = current::state(|in_hand, message| {
            let is_to_read = in_hand.is_to_read()?;
            Ok(is_to_read.then(|| (message.key().map(str::to_owned), in_hand.lent.clone())))
        });
        let Some((key, lent)) = key.unwrap_or(Err(StateError::NoMessage))? else { return Ok(()) };
        match (self.kind, &key) {
            (StateKind::None, _) => return Err(StateError::NotDeclared),
            (StateKind::Keyed, None) => return Err(StateError::NoKey),
            (StateKind::Keyed | StateKind::Shared, _) => {}
        }
        let document = match lent {
            None => self.states.load(key.as_deref()).await?,
            Some(Some(entries)) => Document { entries, ..Document::default() },
            Some(None) => {
                current::ask();
                let text = "the version that it is compared with has not read it";
                return Err(StateError::Failed(text.to_owned()));
            }
        };
        let began = (!self.forms.are_own(&document.entries)).then(Instant::now);
        let taken_up = self.forms.taken_up(&document.entries).await;
        let put = current::state(|in_hand, _| match taken_up {
            Ok(read) => {
                in_hand.converting += began.map(|began| began.elapsed()).unwrap_or_default();
                in_hand.put(document, read);
                Ok(())
            }
            Err(fault) => {
                in_hand.fault = Some(Box::new(fault.clone()));
                Err(fault.into())
            }
        });
        put.unwrap_or(Err(StateError::NoMessage))
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
        Box::pin(self.with(move |opened| Ok(opened.entries().get(name).cloned())))
    }

    fn set<'a>(
        &'a self,
        name: &'a str,
        value: Option<Arc<[u8]>>,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(self.with(move |opened| opened.set(name, value)))
    }
}
