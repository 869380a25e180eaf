//! Types of services like those of the plugins, and suites in files.

use std::path::PathBuf;

use echo_sdk::ServiceTypeInfo;
use echo_sdk::contract::suite::Suite;
use echo_suite::ServiceTypes;
use echo_toml::{Fault, Faults};
use serde_json::{Value, json};
use tempfile::TempDir;

pub fn info(service_type: &str, config_schema: Value) -> ServiceTypeInfo {
    ServiceTypeInfo {
        service_type: service_type.to_owned(),
        description: "A type for tests.".to_owned(),
        requires: Vec::new(),
        config_schema,
    }
}

/// A type like `process`, one like `generic_container` whose schema refers to its own definitions.
pub fn types() -> ServiceTypes {
    let process = json!({
        "type": "object",
        "properties": {
            "command": { "type": "array", "items": { "type": "string" }, "description": "What is run." },
            "env": { "type": "object", "additionalProperties": { "type": "string" } },
            "ports": { "type": "array", "items": { "type": ["string", "integer"] } },
        },
        "required": ["command"],
    });
    let container = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "image": { "type": "string" },
            "ports": { "type": "object", "additionalProperties": { "$ref": "#/$defs/Port" } },
            "pull": { "$ref": "#/$defs/Pull" },
        },
        "required": ["image"],
        "$defs": {
            "Port": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "Pull": { "type": "string", "enum": ["always", "missing", "never"] },
        },
    });
    ServiceTypes::new([info("process", process), info("generic_container", container)]).unwrap()
}

/// A file of its own with this text; it is there as long as the folder is.
pub fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

pub fn load(text: &str) -> Result<Suite, Faults> {
    let (_folder, path) = file("shop.suite.toml", text);
    echo_suite::load(&path, &types())
}

/// The faults of a text that has some.
pub fn faults(text: &str) -> Vec<Fault> {
    load(text).expect_err(text).iter().cloned().collect()
}
