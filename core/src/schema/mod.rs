//! The schemas that messages name, and the check of their data.
//!
//! A message may name the JSON Schema that its data keeps to. [`Schemas`] is asked before anybody gets a message
//! ([`Admission`]): data that breaks its schema is refused, and the publisher learns where and what would be right.
//! A message that names no schema costs a look at that.
//!
//! **Versions.** A name has versions, counted from 1. `order` means the newest, `order@2` that one. A schema that
//! is registered again unchanged keeps its version. The last [`MAX_VERSIONS`] are kept.
//!
//! **Who owns what.** The registry is one immutable map behind an atomic pointer: checks read it without a lock,
//! whoever registers or removes takes a lock among themselves and puts a new map in its place. A check that runs
//! meanwhile goes by the map that it began with. Compiling happens outside of the lock and before anything changes.
//!
//! **Restarts.** What is in the folder of schemas is there again after a restart; what was registered over the bus
//! is not. Each host has a registry of its own.
//!
//! **Bounds.** Size, depth, number of regular expressions and what each compiles to are bounded, references reach
//! no further than the schema itself and the registry, and regular expressions take linear time.

mod answers;
mod compiled;
mod extent;
mod faults;
mod load;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use echo_bus::Admission;
use echo_sdk::contract::schema::SchemaFault;
use echo_sdk::{BaseMessage, PublishError, Topic};
use parking_lot::Mutex;
use serde_json::Value;

pub use load::LoadError;

use crate::config::UnknownSchema;
use compiled::Compiled;

/// How many names there may be.
const MAX_NAMES: usize = 4096;

/// How many versions of a name are kept; past that the oldest goes.
pub const MAX_VERSIONS: usize = 16;

/// The longest name.
const MAX_NAME: usize = 128;

/// Why a schema was not taken, or data not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The name cannot be one.
    #[error(
        "`{name}` cannot name a schema; use up to {MAX_NAME} letters, digits, `-`, `_` and `.`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Nobody has registered it.
    #[error(
        "no schema is named `{name}`; register it, or put `{name}.schema.json` into the folder of schemas"
    )]
    Unknown {
        /// The name, with its version where one was asked for.
        name: String,
    },
    /// It cannot be compiled.
    #[error("the schema `{name}` cannot be taken: {fault}")]
    Malformed {
        /// The name.
        name: String,
        /// Why.
        fault: String,
    },
    /// It does not take all that the version before it takes.
    #[error("the schema `{name}` is not compatible: {fault}")]
    Incompatible {
        /// The name.
        name: String,
        /// What was found.
        fault: String,
    },
    /// There are too many.
    #[error("there are {MAX_NAMES} schemas, which is the most; remove some")]
    Full,
    /// The data breaks it.
    #[error(
        "its data breaks version {version} of the schema `{name}`: {}",
        faults::sentence(faults)
    )]
    Broken {
        /// The name.
        name: String,
        /// The version that was meant.
        version: u32,
        /// The first of what is wrong.
        faults: Vec<SchemaFault>,
    },
    /// The data cannot be looked at.
    #[error("its data cannot be checked against the schema `{name}`: {fault}")]
    Unreadable {
        /// The name.
        name: String,
        /// Why.
        fault: String,
    },
}

/// One version of a schema.
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) since: DateTime<Utc>,
    pub(crate) compiled: Compiled,
}

/// The versions of a name, oldest first; without one, it was removed, and only the count goes on.
#[derive(Clone, Default)]
struct Named {
    versions: Vec<Arc<Version>>,
    last: u32,
}

type Names = HashMap<Arc<str>, Named>;

/// The registry of schemas; see the [module](self).
pub struct Schemas {
    unknown: UnknownSchema,
    max_size: usize,
    names: ArcSwap<Names>,
    changing: Mutex<()>,
}

impl Default for Schemas {
    /// Without a schema, as the configuration's defaults say.
    fn default() -> Self {
        Self::new(&crate::config::SchemasConfig::default())
    }
}

impl Schemas {
    /// A registry without a schema.
    pub fn new(config: &crate::config::SchemasConfig) -> Self {
        let (names, changing) = (ArcSwap::default(), Mutex::default());
        Self { unknown: config.unknown, max_size: config.max_size, names, changing }
    }

    /// Takes a schema in; gives its version. `compatible` asks that it takes all that the newest version takes.
    /// This compiles, so it may take a while: not on a thread that others wait for.
    ///
    /// # Errors
    /// [`SchemaError`] when the name cannot be one, the schema is none or too large, or not compatible.
    pub fn register(
        &self,
        name: &str,
        schema: Value,
        compatible: bool,
    ) -> Result<u32, SchemaError> {
        check_name(name)?;
        let names = self.names.load_full();
        if let Some(newest) = newest(&names, name) {
            if *newest.compiled.schema() == schema {
                return Ok(newest.number);
            }
            if compatible {
                compiled::compatible(name, newest.compiled.schema(), &schema, source(&names))?;
            }
        }
        let compiled = Compiled::new(name, schema, self.max_size, source(&names))?;
        self.add(name, compiled)
    }

    fn add(&self, name: &str, compiled: Compiled) -> Result<u32, SchemaError> {
        let _changing = self.changing.lock();
        let mut names = Names::clone(&self.names.load());
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            names.retain(|_, named| !named.versions.is_empty());
            if names.len() >= MAX_NAMES {
                return Err(SchemaError::Full);
            }
        }
        let named = names.entry(Arc::from(name)).or_default();
        named.last = named.last.saturating_add(1);
        let number = named.last;
        if named.versions.len() == MAX_VERSIONS {
            named.versions.remove(0);
        }
        named.versions.push(Arc::new(Version { number, since: Utc::now(), compiled }));
        self.names.store(Arc::new(names));
        Ok(number)
    }

    /// Removes a version of a schema, or all of it; gives the numbers of those that are gone.
    ///
    /// # Errors
    /// [`SchemaError::Unknown`] when there is none.
    pub fn remove(&self, name: &str, version: Option<u32>) -> Result<Vec<u32>, SchemaError> {
        let _changing = self.changing.lock();
        let mut names = Names::clone(&self.names.load());
        let mut gone = Vec::new();
        if let Some(named) = names.get_mut(name) {
            named.versions.retain(|kept| {
                let goes = version.is_none_or(|version| version == kept.number);
                gone.extend(goes.then_some(kept.number));
                !goes
            });
        }
        if gone.is_empty() {
            return Err(unknown(name, version));
        }
        self.names.store(Arc::new(names));
        Ok(gone)
    }

    /// Checks a message's data against a schema, `order` or `order@2`, whatever the message names itself.
    ///
    /// # Errors
    /// [`SchemaError::Unknown`], [`SchemaError::Broken`] or [`SchemaError::Unreadable`].
    pub fn check(&self, name: &str, message: &BaseMessage) -> Result<(), SchemaError> {
        let names = self.names.load();
        let version = find(&names, name).ok_or_else(|| unknown(name, None))?;
        let data: Value = message.json().map_err(|error| SchemaError::Unreadable {
            name: name.to_owned(),
            fault: error.to_string(),
        })?;
        let large = message.data_bytes().len() > faults::LARGE;
        broken(name, &version, &data, large)
    }

    /// Checks data against a schema.
    fn check_data(&self, name: &str, data: &Value) -> Result<u32, SchemaError> {
        let version = find(&self.names.load(), name).ok_or_else(|| unknown(name, None))?;
        broken(name, &version, data, true).map(|()| version.number)
    }

    /// One version of a schema, the newest without a number.
    fn get(&self, name: &str, version: Option<u32>) -> Option<Arc<Version>> {
        let names = self.names.load();
        match version {
            None => newest(&names, name).cloned(),
            Some(number) => numbered(&names, name, number),
        }
    }

    /// The newest version of each schema, by name.
    fn list(&self) -> Vec<(Arc<str>, Arc<Version>)> {
        let names = self.names.load();
        let newest = names.iter().filter_map(|(name, named)| {
            Some((Arc::clone(name), Arc::clone(named.versions.last()?)))
        });
        let mut list: Vec<_> = newest.collect();
        list.sort_by(|(one, _), (other, _)| one.cmp(other));
        list
    }
}

impl Admission for Schemas {
    fn admit(&self, _topic: &Topic, message: &BaseMessage) -> Result<(), PublishError> {
        let Some(name) = message.schema() else { return Ok(()) };
        match self.check(name, message) {
            Err(SchemaError::Unknown { .. }) if self.unknown == UnknownSchema::Allow => Ok(()),
            checked => checked.map_err(|error| PublishError::Refused(error.to_string())),
        }
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas")
            .field("unknown", &self.unknown)
            .field("names", &self.names.load().len())
            .finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), SchemaError> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let valid = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(known);
    let dots = name.chars().all(|c| c == '.');
    if valid && !dots { Ok(()) } else { Err(SchemaError::Name { name: name.to_owned() }) }
}

fn unknown(name: &str, version: Option<u32>) -> SchemaError {
    let name = match version {
        Some(version) => format!("{name}@{version}"),
        None => name.to_owned(),
    };
    SchemaError::Unknown { name }
}

fn broken(name: &str, version: &Version, data: &Value, large: bool) -> Result<(), SchemaError> {
    let faults = version.compiled.faults(data, large);
    if faults.is_empty() {
        return Ok(());
    }
    let name = name.split('@').next().unwrap_or(name).to_owned();
    Err(SchemaError::Broken { name, version: version.number, faults })
}

fn newest<'n>(names: &'n Names, name: &str) -> Option<&'n Arc<Version>> {
    names.get(name)?.versions.last()
}

fn numbered(names: &Names, name: &str, number: u32) -> Option<Arc<Version>> {
    let mut versions = names.get(name)?.versions.iter();
    versions.find(|version| version.number == number).cloned()
}

/// The version that a message or a reference means: `order`, or `order@2`.
fn find(names: &Names, name: &str) -> Option<Arc<Version>> {
    match name.split_once('@') {
        None => newest(names, name).cloned(),
        Some((name, number)) => numbered(names, name, number.parse().ok()?),
    }
}

/// Where references of a schema are looked up.
fn source(names: &Arc<Names>) -> compiled::Source {
    let names = Arc::clone(names);
    Arc::new(move |name| find(&names, name).map(|version| version.compiled.schema().clone()))
}

#[cfg(test)]
mod tests;
