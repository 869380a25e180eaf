//! # Echo TOML
//!
//! Reads a TOML file strictly against a JSON Schema. All faults of a file are found at once; each points at
//! its line, names its key and says what would be right. Nothing that a file sets is passed over: an unknown
//! key is refused with the nearest known one.
//!
//! ```
//! # use serde::Deserialize;
//! # #[derive(Debug, Deserialize)]
//! # struct Config { port: u16 }
//! let schema = echo_toml::Schema::new(serde_json::json!({
//!     "type": "object",
//!     "properties": { "port": { "type": "integer", "maximum": 65535 } },
//!     "required": ["port"],
//!     "additionalProperties": false,
//! }))?;
//! let config: Config = echo_toml::read("echo.toml", "port = 4222", &schema)?;
//! assert_eq!(config.port, 4222);
//!
//! let faults = echo_toml::read::<Config>("echo.toml", "prot = 4222", &schema).unwrap_err();
//! let fault = faults.iter().next().ok_or("a fault")?;
//! assert_eq!(fault.message, "unknown key `prot`; did you mean `port`?");
//! assert_eq!((fault.line, fault.column), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Who has to say more than a schema can reads the file as a [`Document`], and adds faults of its own with
//! [`Document::fault_at`].
//!
//! Reading order: [`Document`], [`Schema`], [`Fault`] and [`Faults`].

mod alternatives;
mod document;
mod explain;
mod fault;
mod schema;
mod words;

pub use document::Document;
pub use fault::{Fault, Faults};
pub use schema::{Schema, SchemaError};
pub use words::{list, nearest};

use serde::de::DeserializeOwned;

/// Reads `text`, the content of the file `name`, as a value of the schema's type.
///
/// # Errors
/// [`Faults`] with every fault of the file: those of its syntax alone, or else those against the schema, or
/// else the first one that `T` itself sees.
pub fn read<T: DeserializeOwned>(name: &str, text: &str, schema: &Schema) -> Result<T, Faults> {
    let document = Document::parse(name, text)?;
    document.refuse(schema.check(&document))?;
    document.decode()
}
