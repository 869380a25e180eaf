//! The keys of a service of the type `process`.

use std::collections::BTreeMap;
use std::fmt;

use echo_sdk::contract::service::ServiceStart;
use echo_sdk::is_name;
use echo_sdk::service::{ServiceError, config_of};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

use crate::environment::{port_variable, variable_fault};

/// What a suite says of a program; `config_schema` in the manifest describes the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessConfig {
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) inherit_env: bool,
    #[serde(default)]
    pub(crate) workdir: Option<String>,
    #[serde(default)]
    pub(crate) ports: PortKeys,
}

impl ProcessConfig {
    /// Reads and checks the keys.
    pub(crate) fn of(request: &ServiceStart) -> Result<Self, ServiceError> {
        let config: Self = config_of(request)?;
        let service = &request.id.service;
        let fault =
            |text: String| Err(ServiceError::Config(format!("service `{service}`: {text}")));
        if config.command.first().is_none_or(String::is_empty) {
            return fault("command is empty; write the program and its arguments".into());
        }
        if let Some(text) = config.env.keys().find_map(|name| variable_fault(name)) {
            return fault(text);
        }
        match config.ports.fault() {
            Some(text) => fault(text),
            None => Ok(config),
        }
    }
}

/// The ports in the order of the suite, each with its number; 0 takes a free one.
#[derive(Debug, Default)]
pub(crate) struct PortKeys(pub(crate) Vec<(String, u16)>);

impl PortKeys {
    /// Reads the value of the key `ports`.
    pub(crate) fn of(value: &serde_json::Value) -> serde_json::Result<Self> {
        Self::deserialize(value)
    }

    fn fault(&self) -> Option<String> {
        let mut variables = BTreeMap::new();
        for (name, _) in &self.0 {
            if !is_name(name) {
                return Some(format!(
                    "ports has {name:?}; name a port with letters, digits, `-` and `_`"
                ));
            }
            if let Some(other) = variables.insert(port_variable(name), name) {
                let variable = port_variable(name);
                return Some(format!(
                    "the ports `{other}` and `{name}` would both be {variable}; rename one"
                ));
            }
        }
        None
    }
}

impl<'de> Deserialize<'de> for PortKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

struct PortVisitor;

impl<'de> Visitor<'de> for PortVisitor {
    type Value = PortKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ports as an array of names, or as a table of names and numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PortKeys, A::Error> {
        let mut ports = Vec::new();
        while let Some(name) = seq.next_element::<serde_json::Value>()? {
            let serde_json::Value::String(name) = name else {
                return Err(de::Error::custom(format!(
                    "ports has {name}; name each port, and write a table for fixed numbers, such as \
                     ports = {{ http = 8080 }}"
                )));
            };
            ports.push((name, 0));
        }
        Ok(PortKeys(ports))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PortKeys, A::Error> {
        let mut ports = Vec::new();
        while let Some(port) = map.next_entry()? {
            ports.push(port);
        }
        Ok(PortKeys(ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(keys: Value) -> Result<ProcessConfig, String> {
        let mut spec = keys;
        spec["type"] = json!("process");
        let start = json!({ "run_id": "r", "suite": "s", "service": "api", "spec": spec });
        let start = serde_json::from_value(start).unwrap();
        ProcessConfig::of(&start).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_are_names_or_names_with_numbers() {
        let ports =
            |ports: Value| config(json!({ "command": ["x"], "ports": ports })).unwrap().ports.0;
        assert_eq!(ports(json!(["b", "a"])), [("b".into(), 0), ("a".into(), 0)]);
        assert_eq!(ports(json!({ "a": 80, "b": 0 })), [("a".into(), 80), ("b".into(), 0)]);
    }

    #[test]
    fn a_fault_names_the_service_and_the_way_out() {
        for (keys, word) in [
            (json!({}), "missing field `command`"),
            (json!({ "command": [] }), "command is empty"),
            (json!({ "command": [""] }), "command is empty"),
            (json!({ "command": "x" }), "expected a sequence"),
            (json!({ "command": ["x"], "comand": ["x"] }), "unknown field `comand`"),
            (json!({ "command": ["x"], "ports": [80] }), "ports = { http = 8080 }"),
            (json!({ "command": ["x"], "ports": 80 }), "ports as an array of names"),
            (json!({ "command": ["x"], "ports": { "a": 70000 } }), "u16"),
            (json!({ "command": ["x"], "ports": ["a b"] }), "name a port with letters"),
            (json!({ "command": ["x"], "ports": ["a-b", "a_b"] }), "both be PORT_A_B"),
            (json!({ "command": ["x"], "env": { "A=B": "" } }), "\"A=B\""),
        ] {
            let error = config(keys.clone()).unwrap_err();
            assert!(
                error.starts_with("service `api`: ") && error.contains(word),
                "{keys}: {error}"
            );
        }
    }

    #[test]
    fn the_manifest_describes_each_key() {
        let schema = &crate::manifest().services[0].config_schema;
        let described: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let Err(error) = config(json!({ "command": ["x"], "?": 1 })) else { panic!("refused") };
        for key in &described {
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
        let fields = error.split("one of").nth(1).unwrap().matches('`').count() / 2;
        assert_eq!(fields, described.len(), "{error}");
    }
}
