//! What holds for the schemas that messages name.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::size;

/// What happens to a message that names a schema that nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownSchema {
    /// It is published: plugins may use names of their own.
    #[default]
    Allow,
    /// It is refused.
    Refuse,
}

/// What holds for the schemas that messages name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SchemasConfig {
    /// The folder whose `NAME.schema.json` are loaded at start, seen from the working folder.
    pub dir: Option<PathBuf>,
    /// What happens to a message that names a schema that nobody knows.
    pub unknown: UnknownSchema,
    /// The largest schema, in bytes.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_size: usize,
}

impl Default for SchemasConfig {
    fn default() -> Self {
        Self { dir: None, unknown: UnknownSchema::Allow, max_size: 256 * 1024 }
    }
}
