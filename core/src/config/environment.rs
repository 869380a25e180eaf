//! The configuration's topmost layer: `ECHO_<SECTION>__<KEY>`, such as `ECHO_TELEMETRY__LOG=debug`.

use echo_toml::{Document, Fault, Schema};
use serde_json::Value;

use super::load::schema;
use super::{Config, ConfigError};

/// Puts the environment over a configuration.
///
/// A variable that begins with `ECHO_` and holds `__` stands for a key; others are none of the configuration's.
pub(super) fn apply(
    mut config: Config,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with("ECHO_") && name.contains("__"))
        .collect();
    if variables.is_empty() {
        return Ok(config);
    }
    // In the same order whatever the environment's, so that the same fault is reported.
    variables.sort();
    let schema = schema()?;
    for (name, text) in &variables {
        config = set(&schema, &config, name, text).map_err(|fault| ConfigError::Variable {
            name: name.clone(),
            value: text.clone(),
            fault,
        })?;
    }
    // What several keys say together is judged when all of them are set.
    match config.faults().into_iter().next() {
        Some((_, fault)) => {
            let names = echo_toml::list(variables.iter().map(|(name, _)| name), "and");
            Err(ConfigError::Environment { names, fault })
        }
        None => Ok(config),
    }
}

fn set(schema: &Schema, config: &Config, name: &str, text: &str) -> Result<Config, String> {
    let keys: Vec<String> =
        name.trim_start_matches("ECHO_").split("__").map(str::to_ascii_lowercase).collect();
    let value = value(schema, &keys, text)?;
    let mut tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
    if let Some(place) = tree.pointer_mut(&format!("/{}", keys.join("/"))) {
        *place = value;
    }
    let set: Config = serde_json::from_value(tree).map_err(|error| error.to_string())?;
    Ok(Config { source: config.source.clone(), ..set })
}

/// What the text means for the key: itself, or else the number, `true` or `false` that it reads as.
fn value(schema: &Schema, keys: &[String], text: &str) -> Result<Value, String> {
    let itself = Value::from(text);
    let scalar = serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| value.is_number() || value.is_boolean());
    match (check(schema, keys, &itself), scalar) {
        (Ok(()), _) => Ok(itself),
        (Err(_), Some(scalar)) => check(schema, keys, &scalar).map(|()| scalar),
        (Err(fault), None) => Err(fault),
    }
}

/// Checks one value as if it stood in a file, so that it is refused in the same words.
fn check(schema: &Schema, keys: &[String], value: &Value) -> Result<(), String> {
    let quoted: Vec<String> =
        keys.iter().map(|key| Value::from(key.as_str()).to_string()).collect();
    let line = format!("{} = {value}", quoted.join("."));
    let document = Document::parse("the environment", line).map_err(|faults| faults.to_string())?;
    match schema.check(&document).into_iter().next() {
        Some(Fault { message, help: Some(help), .. }) => Err(format!("{message}; {help}")),
        Some(Fault { message, .. }) => Err(message),
        None => Ok(()),
    }
}
