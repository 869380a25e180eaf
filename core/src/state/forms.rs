//! The forms in which the versions of a plugin keep its managed state.
//!
//! A document says the form of its entries in an entry of the host's own, which no plugin's can be called; one that says
//! none has the first. A version knows its own form and the way to those before ([`Plugin::convert_state`]), and is told
//! which one it [stores](Forms::stored): its own, or an earlier one as long as the version before may go on in its
//! place.
//!
//! * **Read.** What is of an earlier form than the version's own is taken up before the handler sees it. What is of a
//!   later one is no state for this version, and its message stays until there is a version that reads it.
//! * **Write.** What a handler changed is taken down to the stored form, if that is another; what it did not change
//!   keeps its bytes. A document of another form than the stored one is written in that as a whole.
//! * **Fault.** A way that fails or panics is the handler's failure: nothing is written, and the message comes again or
//!   dies, as with any other.
//! * **Life.** The plugin is reached through a weak pointer, and held for the time of a conversion: whoever waits for
//!   none lets go of it and unloads it.
//!
//! [`Plugin::convert_state`]: echo_sdk::Plugin::convert_state

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;

use echo_bus::state::{Change, Document, Entries};
use echo_sdk::{BoxFuture, PluginError, StateError, StateSnapshot};
use serde_json::Value;

use crate::actor::{Actor, contained, panic_text};
use crate::current;

/// The entry that says the form of the others. It has no name, and a plugin's entries have one.
const FORM: &str = "";

/// The form of a document that says none.
const FIRST: u32 = 1;

/// Why a document is no state for a version, or what it changed none for a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    #[error(
        "it has form {found}, and this version of the plugin knows {known} at most; \
         load the version that wrote it, or roll that one back so that it takes its state down"
    )]
    Later { found: u32, known: u32 },
    #[error("its entry `{entry}` was not taken from form {from} to {to}: {fault}")]
    Step { entry: String, from: u32, to: u32, fault: String },
    #[error("taken to form {to} it is too large: {fault}")]
    TooLarge { to: u32, fault: StateError },
}

impl From<FormError> for StateError {
    fn from(error: FormError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The forms of one version's managed state.
#[derive(Default)]
pub(crate) struct Forms {
    version: OnceLock<Version>,
    /// What changed documents are written in; 0 for the version's own.
    stored: AtomicU32,
}

/// A version that was made.
struct Version {
    own: u32,
    actor: Weak<dyn Actor>,
}

impl Forms {
    /// Says whose forms these are, once that is made. It has no message before.
    ///
    /// # Errors
    /// The plugin panicked when it was asked for its form.
    pub(crate) fn bind(&self, actor: &Arc<dyn Actor>) -> Result<(), PluginError> {
        let own = contained(|| Ok(actor.schema()))?.max(FIRST);
        self.version.get_or_init(|| Version { own, actor: Arc::downgrade(actor) });
        Ok(())
    }

    /// The version's own form.
    pub(crate) fn own(&self) -> u32 {
        self.version.get().map_or(FIRST, |version| version.own)
    }

    /// The form in which changed documents are written.
    pub(crate) fn stored(&self) -> u32 {
        let own = self.own();
        match self.stored.load(Ordering::Relaxed) {
            0 => own,
            stored => stored.min(own),
        }
    }

    /// From now on changed documents are written in this form, or in the version's own where that is an earlier one.
    /// A commit that goes on may write the one before yet.
    pub(crate) fn store_in(&self, form: u32) {
        self.stored.store(form.max(FIRST), Ordering::Relaxed);
    }

    /// From now on changed documents are written in the version's own form.
    pub(crate) fn store_own(&self) {
        self.stored.store(0, Ordering::Relaxed);
    }

    /// Whether the entries are in the version's own form as they stand.
    pub(crate) fn are_own(&self, stored: &Entries) -> bool {
        form_of(stored).is_none_or(|form| form == self.own())
    }

    /// The entries in the version's own form; `None` where they are as they stand.
    pub(crate) async fn taken_up(&self, stored: &Entries) -> Result<Option<Entries>, FormError> {
        let (form, own) = (self.readable(stored)?, self.own());
        if form == own {
            return Ok(None);
        }
        let mut taken = Entries::default();
        for (name, json) in of_plugin(stored) {
            let json = self.converted(name, json, form, own).await?;
            put(&mut taken, name, json, own)?;
        }
        Ok(Some(taken))
    }

    /// The form of what is stored, if the version can read it.
    pub(crate) fn readable(&self, stored: &Entries) -> Result<u32, FormError> {
        let known = self.own();
        match form_of(stored).unwrap_or(known) {
            found if found > known => Err(FormError::Later { found, known }),
            form => Ok(form),
        }
    }

    /// A change as it is to be stored, of what was read as `read`, or as it stands; gives back the document that was read
    /// where the change cannot be.
    pub(crate) async fn to_store(
        &self,
        change: Change,
        read: Option<&Entries>,
    ) -> Result<Change, (Document, FormError)> {
        self.in_form(change, read, self.stored()).await
    }

    /// The same in any form.
    pub(crate) async fn in_form(
        &self,
        change: Change,
        read: Option<&Entries>,
        stored: u32,
    ) -> Result<Change, (Document, FormError)> {
        let Change { base, entries } = change;
        let taken = match self.own() == stored {
            true => Ok(entries),
            false => self.taken_down(&base.entries, read, &entries, stored).await,
        };
        let marked = taken.and_then(|mut entries| mark(&mut entries, stored).map(|()| entries));
        match marked {
            Ok(entries) => Ok(Change { base, entries }),
            Err(error) => Err((base, error)),
        }
    }

    /// Entries in the version's own form as they are stored: those that are as they were read keep their bytes.
    async fn taken_down(
        &self,
        base: &Entries,
        read: Option<&Entries>,
        changed: &Entries,
        stored: u32,
    ) -> Result<Entries, FormError> {
        let own = self.own();
        let kept = read.filter(|_| form_of(base) == Some(stored));
        let mut taken = Entries::default();
        for (name, json) in of_plugin(changed) {
            let is_kept = kept.is_some_and(|read| read.get(name) == Some(json));
            let json = match base.get(name).filter(|_| is_kept) {
                Some(kept) => Arc::clone(kept),
                None => self.converted(name, json, own, stored).await?,
            };
            put(&mut taken, name, json, stored)?;
        }
        Ok(taken)
    }

    /// An entry in another form, by the plugin's own way.
    async fn converted(
        &self,
        name: &str,
        json: &[u8],
        from: u32,
        to: u32,
    ) -> Result<Arc<[u8]>, FormError> {
        let converted = async {
            let data: Value = serde_json::from_slice(json).map_err(PluginError::processing)?;
            let entry = StateSnapshot::of_entry(from, name, data);
            let taken = alone(self.actor()?.convert(entry, to)).await?;
            if taken.schema != to {
                let text = format!("its `convert_state` gave form {}", taken.schema);
                return Err(PluginError::ProcessingError(text));
            }
            Ok::<Arc<[u8]>, PluginError>(taken.data.to_string().into_bytes().into())
        };
        converted.await.map_err(|error| {
            let (entry, fault) = (name.to_owned(), error.to_string());
            FormError::Step { entry, from, to, fault }
        })
    }

    pub(super) fn actor(&self) -> Result<Arc<dyn Actor>, PluginError> {
        let actor = self.version.get().and_then(|version| version.actor.upgrade());
        actor.ok_or_else(|| PluginError::ProcessingError("the plugin has ended".to_owned()))
    }
}

/// The form that a document says, or has where it says none; `None` where there are no entries.
pub(super) fn form_of(entries: &Entries) -> Option<u32> {
    match entries.get(FORM) {
        // What is no number is of no version that is known.
        Some(form) => Some(serde_json::from_slice(form).unwrap_or(u32::MAX)),
        None if entries.is_empty() => None,
        None => Some(FIRST),
    }
}

/// The entries without the host's own.
pub(crate) fn of_plugin(entries: &Entries) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
    entries.iter().filter(|(name, _)| *name != FORM)
}

/// Makes a document say its form.
fn mark(entries: &mut Entries, form: u32) -> Result<(), FormError> {
    if form == FIRST || of_plugin(entries).next().is_none() {
        return put_or_remove(entries, FORM, None, form);
    }
    if form_of(entries) == Some(form) {
        return Ok(());
    }
    put_or_remove(entries, FORM, Some(form.to_string().into_bytes().into()), form)
}

fn put(entries: &mut Entries, name: &str, json: Arc<[u8]>, to: u32) -> Result<(), FormError> {
    put_or_remove(entries, name, Some(json), to)
}

fn put_or_remove(
    entries: &mut Entries,
    name: &str,
    json: Option<Arc<[u8]>>,
    to: u32,
) -> Result<(), FormError> {
    entries.set(name, json).map_err(|fault| FormError::TooLarge { to, fault })
}

/// Asks a plugin with no message in hand; a panic becomes an error.
pub(super) async fn alone<T>(
    mut asked: BoxFuture<'static, Result<T, PluginError>>,
) -> Result<T, PluginError> {
    poll_fn(move |cx| {
        let poll = AssertUnwindSafe(|| current::without(|| asked.as_mut().poll(cx)));
        catch_unwind(poll)
            .unwrap_or_else(|payload| Poll::Ready(Err(PluginError::Panicked(panic_text(payload)))))
    })
    .await
}
