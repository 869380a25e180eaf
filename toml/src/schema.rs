//! A JSON Schema, ready to judge documents.

use jsonschema::Validator;
use serde_json::Value;

use crate::document::Document;
use crate::explain::Explain;
use crate::fault::Fault;

/// A value that is no JSON Schema.
#[derive(Debug, thiserror::Error)]
#[error("the JSON Schema is malformed at `{place}`: {fault}")]
pub struct SchemaError {
    place: String,
    fault: String,
}

/// A JSON Schema, compiled once for all the files that it judges.
///
/// Beside the standard keywords, messages use a schema's `title` as the noun for what a pattern describes,
/// its `examples` as what would be right, and its `description` to explain a missing key.
#[derive(Debug)]
pub struct Schema {
    raw: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles a schema. References reach no further than the schema itself.
    ///
    /// # Errors
    /// [`SchemaError`] when it is no JSON Schema, or refers to something that it does not hold.
    pub fn new(raw: Value) -> Result<Self, SchemaError> {
        let validator = jsonschema::validator_for(&raw).map_err(|error| SchemaError {
            place: format!("#{}", error.instance_path()),
            fault: error.to_string(),
        })?;
        Ok(Self { raw, validator })
    }

    /// The schema as it was given.
    pub fn raw(&self) -> &Value {
        &self.raw
    }

    /// Every fault that a document has against the schema.
    pub fn check(&self, document: &Document) -> Vec<Fault> {
        let explain = Explain::new(&self.raw, document);
        self.validator
            .iter_errors(document.value())
            .flat_map(|error| explain.faults(&error))
            .collect()
    }
}
