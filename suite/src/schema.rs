//! The JSON Schema of a suite's file: that of the data, with the keys of each type of services.

use std::collections::BTreeMap;

use echo_sdk::ServiceTypeInfo;
use echo_sdk::contract::suite::{ServiceSpec, Suite};
use serde_json::{Map, Value, json};

/// The keys that every service has.
pub(crate) fn common_keys() -> Vec<String> {
    let schema = schemars::schema_for!(ServiceSpec).to_value();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// The schema of a suite's file.
pub(crate) fn suite_schema(types: &BTreeMap<String, ServiceTypeInfo>) -> Value {
    let mut schema = schemars::schema_for!(Suite).to_value();
    // Whoever reads the file knows where it is, and names a suite that has no name after it.
    remove(&mut schema, "properties", &["dir", "file"]);
    retain(&mut schema, "required", |key| key != "name");
    if let Some(Value::Object(definitions)) = schema.get_mut("$defs") {
        let spec = definitions.remove("ServiceSpec").unwrap_or_default();
        for (name, info) in types {
            definitions.insert(definition(name), service_schema(&spec, name, &info.config_schema));
        }
        definitions.insert("ServiceSpec".to_owned(), any_service(&spec, types));
    }
    schema
}

fn definition(service_type: &str) -> String {
    format!("service.{service_type}")
}

/// A service of any type: the type decides on the keys.
fn any_service(spec: &Value, types: &BTreeMap<String, ServiceTypeInfo>) -> Value {
    let by_type = types.keys().map(|name| {
        json!({
            "if": { "properties": { "type": { "const": name } }, "required": ["type"] },
            "then": { "$ref": format!("#/$defs/{}", definition(name)) },
        })
    });
    json!({
        "description": spec.get("description"),
        "type": "object",
        "properties": {
            "type": {
                "description": spec.pointer("/properties/type/description"),
                "type": "string",
                "enum": types.keys().collect::<Vec<_>>(),
            },
        },
        "required": ["type"],
        "allOf": by_type.collect::<Vec<_>>(),
    })
}

/// A service of one type: the keys that every service has, and those of the type.
fn service_schema(spec: &Value, name: &str, config_schema: &Value) -> Value {
    let mut schema = match config_schema {
        Value::Object(table) => table.clone(),
        // The schema `true`: whatever the type makes of it.
        other => Map::from_iter([("additionalProperties".to_owned(), other.clone())]),
    };
    schema.retain(|key, _| key != "$schema" && key != "$id");
    for value in schema.values_mut() {
        rebase(value, &format!("#/$defs/{}", definition(name)));
    }
    schema.entry("additionalProperties").or_insert(Value::Bool(false));
    let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let (Value::Object(own), Some(Value::Object(common))) = (properties, spec.get("properties"))
    {
        own.extend(common.clone());
    }
    Value::Object(schema)
}

/// Makes references from a schema's root hold where the schema stands within another.
fn rebase(schema: &mut Value, root: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, root)),
        Value::Object(table) => {
            for (key, value) in table {
                match value {
                    Value::String(reference) if key == "$ref" && reference.starts_with('#') => {
                        reference.replace_range(..1, root);
                    }
                    other => rebase(other, root),
                }
            }
        }
        _ => {}
    }
}

fn remove(schema: &mut Value, part: &str, keys: &[&str]) {
    if let Some(Value::Object(table)) = schema.get_mut(part) {
        table.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

fn retain(schema: &mut Value, part: &str, keep: impl Fn(&str) -> bool) {
    if let Some(Value::Array(items)) = schema.get_mut(part) {
        items.retain(|item| item.as_str().is_some_and(&keep));
    }
}
