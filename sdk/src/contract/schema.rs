//! The registry of schemas. Every host has one of its own, and every host that hears a request answers it.
//!
//! What is registered here is gone when the host ends; what is to stay belongs into the host's folder of schemas.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Takes a schema in.
pub const REGISTER: &str = "system.schema.register";
/// Gives one version of a schema.
pub const GET: &str = "system.schema.get";
/// Lists the schemas.
pub const LIST: &str = "system.schema.list";
/// Removes a schema.
pub const REMOVE: &str = "system.schema.remove";
/// Checks data without publishing it.
pub const CHECK: &str = "system.schema.check";

/// Takes a schema in: the newest version of its name from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaRegister {
    /// Its name: up to 128 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The JSON Schema. It may refer to parts of itself, and to other schemas of the registry by their names.
    pub schema: Value,
    /// Refuse it unless it can be shown that it takes all data that the newest version takes.
    #[serde(default)]
    pub compatible: bool,
}

/// The schema is taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaRegistered {
    /// Its name.
    pub name: String,
    /// Its version: a new one, or the newest if that is the same schema.
    pub version: u32,
}

/// Asks for a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaGet {
    /// Its name.
    pub name: String,
    /// The version; without it, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// One version of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaInfo {
    /// Its name.
    pub name: String,
    /// Its version, from 1. A message means it as `NAME@VERSION`, and the newest as `NAME`.
    pub version: u32,
    /// When it was taken in.
    pub since: DateTime<Utc>,
    /// The schema.
    pub schema: Value,
}

/// Asks for all schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaList {
    /// The one host that is to answer; without it, all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// The schemas of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaListed {
    /// The newest version of each, by name.
    pub schemas: Vec<SchemaSummary>,
}

/// A schema without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaSummary {
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub version: u32,
    /// When that was taken in.
    pub since: DateTime<Utc>,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// Removes a schema: messages that name it are then as those that name one that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaRemove {
    /// Its name.
    pub name: String,
    /// The version; without it, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// The schema is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaRemoved {
    /// Its name.
    pub name: String,
    /// The versions that are gone.
    pub versions: Vec<u32>,
}

/// Checks data without publishing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaCheck {
    /// The schema, as a message names it: `NAME` or `NAME@VERSION`.
    pub schema: String,
    /// The data.
    pub data: Value,
}

/// What came of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaChecked {
    /// The schema, as it was asked for.
    pub schema: String,
    /// The version that was meant.
    pub version: u32,
    /// The first of what is wrong with the data; nothing where it keeps to the schema.
    pub faults: Vec<SchemaFault>,
}

/// One thing that is wrong with data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SchemaFault {
    /// Where, as a JSON pointer; empty for the whole.
    pub path: String,
    /// What is wrong and what would be right: the rest of a sentence that begins with the place.
    pub fault: String,
}
