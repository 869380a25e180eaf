//! Managed state: what a plugin remembers of each ordering key, changed with the acknowledgement or not at all.
//!
//! A plugin whose manifest says `"state": "keyed"` has a state for each ordering key, and the handler of a message
//! has that of the message's key. With `"state": "shared"` the messages without a key have one state in common
//! besides; without it they have none, and asking for it is an error. A state is a set of entries, each a name
//! and a JSON value.
//!
//! What a handler sets it reads back itself, and nobody else before the message is acknowledged; on any other
//! outcome it is dropped. With an ordering key handlings do not overlap, so nothing changes under a handler's
//! hands. Where they do overlap, in a shared state or when a host lost its messages to another, the first to be
//! acknowledged wins, and the host runs the other's handling again, whose publishes and changes were dropped.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{BoxFuture, JsonText};

/// The most bytes that the names and values of one state take.
pub const MAX_STATE: usize = 256 * 1024;

/// The longest name of an entry, in bytes.
pub const MAX_ENTRY_NAME: usize = 128;

/// Whether a plugin has managed state, and whose messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StateKind {
    /// It has none.
    #[default]
    None,
    /// Each ordering key has one; a message without a key has none.
    Keyed,
    /// Each ordering key has one, and the messages without a key have one in common.
    Shared,
}

/// Why a state could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// No handler of the plugin runs here.
    #[error(
        "there is no state here: a handler has that of its message, while it runs and in no other task"
    )]
    NoMessage,
    /// The manifest does not ask for state.
    #[error("the plugin has no state; say `\"state\": \"keyed\"` or `\"shared\"` in its manifest")]
    NotDeclared,
    /// The message has no ordering key, and the plugin shares no state.
    #[error(
        "the message has no ordering key and so no state; publish it with one, or say `\"state\": \"shared\"` in the manifest"
    )]
    NoKey,
    /// The state would become too large.
    #[error("the state of one key would take {len} bytes, and {max} is the most; keep less in it")]
    TooLarge {
        /// What its names and values would take, in bytes.
        len: usize,
        /// The most that they may take, in bytes.
        max: usize,
    },
    /// The name of an entry is none.
    #[error(
        "`{0}` names no entry of a state; use 1 to {MAX_ENTRY_NAME} bytes without control characters"
    )]
    Name(String),
    /// What is to be set is no JSON.
    #[error("what is to be set is no JSON: {0}")]
    NotJson(String),
    /// An entry's value has another form than was asked for.
    #[error("the entry `{name}` of the state has another form: {fault}")]
    Form {
        /// The entry.
        name: String,
        /// What does not fit.
        fault: String,
    },
    /// The message was handled before, to its end: only its acknowledgement was lost.
    #[error("the message is in the state already; its handling ends here, without effects")]
    Taken,
    /// The host is older than managed state.
    #[error("this host keeps no managed state; it is older than the plugin's SDK")]
    Unsupported,
    /// The state could not be reached.
    #[error("the state cannot be reached: {0}")]
    Failed(String),
}

/// The entries of the state of the message in hand, as hosts and the test kit implement it. Values are JSON.
pub trait StateAccess: Send + Sync {
    /// The value of an entry.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, StateError>>;

    /// Puts a value into an entry's place, or removes it.
    fn set<'a>(
        &'a self,
        name: &'a str,
        value: Option<Arc<[u8]>>,
    ) -> BoxFuture<'a, Result<(), StateError>>;
}

/// The state that the message in hand has. See the [module](self) for what it is.
#[derive(Clone, Copy)]
pub struct State<'a>(pub(crate) Option<&'a dyn StateAccess>);

impl<'a> State<'a> {
    fn access(self) -> Result<&'a dyn StateAccess, StateError> {
        self.0.ok_or(StateError::NoMessage)
    }

    /// The value of an entry as a type; `None` when it is not there.
    ///
    /// # Errors
    /// [`StateError::Form`] when it is there and of another form; else that there is no state, or that it cannot
    /// be reached.
    pub async fn get<T: DeserializeOwned>(self, name: &str) -> Result<Option<T>, StateError> {
        let Some(json) = self.get_json(name).await? else { return Ok(None) };
        serde_json::from_slice(&json).map(Some).map_err(|error| {
            let (name, fault) = (name.to_owned(), error.to_string());
            StateError::Form { name, fault }
        })
    }

    /// The JSON of an entry's value, as it was set; `None` when it is not there.
    ///
    /// # Errors
    /// That there is no state, or that it cannot be reached.
    pub async fn get_json(self, name: &str) -> Result<Option<Arc<[u8]>>, StateError> {
        check_name(name)?;
        self.access()?.get(name).await
    }

    /// Sets an entry's value; it takes effect with the acknowledgement.
    ///
    /// # Errors
    /// [`StateError::TooLarge`], [`StateError::NotJson`] when the value does not serialise; else that there is no
    /// state, or that it cannot be reached.
    pub async fn set<T: Serialize + ?Sized>(self, name: &str, value: &T) -> Result<(), StateError> {
        // What is not `Send` is gone before anything is waited for.
        let json =
            serde_json::to_vec(value).map_err(|error| StateError::NotJson(error.to_string()));
        self.put(name, json?.into()).await
    }

    /// Sets an entry's value, given as JSON; it takes effect with the acknowledgement.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_json(self, name: &str, json: &[u8]) -> Result<(), StateError> {
        if JsonText::check(json).is_none() {
            return Err(StateError::NotJson("it is not one JSON value".to_owned()));
        }
        self.put(name, json.into()).await
    }

    async fn put(self, name: &str, json: Arc<[u8]>) -> Result<(), StateError> {
        check_name(name)?;
        self.access()?.set(name, Some(json)).await
    }

    /// Removes an entry; that takes effect with the acknowledgement. One that is not there is removed already.
    ///
    /// # Errors
    /// That there is no state, or that it cannot be reached.
    pub async fn delete(self, name: &str) -> Result<(), StateError> {
        check_name(name)?;
        self.access()?.set(name, None).await
    }
}

impl fmt::Debug for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

/// Checks the name of an entry.
///
/// # Errors
/// [`StateError::Name`].
pub fn check_name(name: &str) -> Result<(), StateError> {
    let fits = (1..=MAX_ENTRY_NAME).contains(&name.len());
    if fits && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(StateError::Name(name.chars().take(MAX_ENTRY_NAME).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_readable() {
        for name in ["count", "häufigkeit", "a.b c", &"x".repeat(MAX_ENTRY_NAME)] {
            check_name(name).unwrap();
        }
        for name in ["", "a\n", &"x".repeat(MAX_ENTRY_NAME + 1)] {
            assert!(matches!(check_name(name), Err(StateError::Name(_))), "{name}");
        }
    }
}
