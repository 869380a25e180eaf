//! # Echo Suite
//!
//! Suites as files: finding them, reading them, and telling everything that is wrong with one before any of
//! it runs. What a suite is, [`echo_sdk::contract::suite`] says; the types of services, and with them the
//! keys of a service, come from the plugins' manifests.
//!
//! A suite's file is named `suite.toml` or ends in `.suite.toml`. It is checked against [`schema`], then by
//! [`echo_sdk::contract::check`], whose faults are pointed at in the file.
//!
//! Reading order: [`discover`], [`ServiceTypes`], [`load`].

mod discover;
mod load;
mod schema;
mod types;

pub use discover::{SuiteError, discover};
pub use load::{load, load_all};
pub use types::{ServiceTypes, ServiceTypesError};

/// The JSON Schema of a suite's file, for editors.
pub fn schema(types: &ServiceTypes) -> serde_json::Value {
    types.schema().raw().clone()
}
