//! `services`: the types of services that suites can use, with what each needs and which keys it takes.

use echo_sdk::ServiceTypeInfo;
use echo_suite::ServiceTypes;
use serde_json::Value;

use crate::args::TableArgs;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::{Output, Palette, Style};

/// Lists the types.
pub fn services(output: &Output, args: &TableArgs, types: &ServiceTypes) -> CommandResult {
    let printed = if args.json {
        output.json(&types.iter().collect::<Vec<_>>())
    } else {
        output.result(types.iter().map(|it| show(it, output.out)).collect::<Vec<_>>().join("\n"))
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

fn show(info: &ServiceTypeInfo, palette: Palette) -> String {
    let name = palette.paint(Style::Strong, &info.service_type);
    let mut text = format!("{name}  {}\n", info.description);
    if !info.requires.is_empty() {
        text.push_str(&format!("  needs {}\n", info.requires.join(", ")));
    }
    for key in keys(&info.config_schema) {
        text.push_str(&key.show(palette));
    }
    text
}

/// A key of a service's type, as its schema has it.
#[derive(Debug, PartialEq, Eq)]
struct Key<'a> {
    name: &'a str,
    kind: String,
    required: bool,
    about: &'a str,
}

impl Key<'_> {
    fn show(&self, palette: Palette) -> String {
        let required = if self.required { ", required" } else { "" };
        let kind = palette.paint(Style::Dim, format_args!("({}{required})", self.kind));
        // The first sentence; the schema and the documentation hold the rest.
        let about = self.about.split_once(". ").map_or(self.about, |(first, _)| first);
        format!("  {:<16} {} {kind}\n", self.name, about.trim_end_matches('.'))
    }
}

fn keys(schema: &Value) -> Vec<Key<'_>> {
    let is_required = |name: &str| {
        let required = schema.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|it| it == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties
        .map(|(name, key)| Key {
            name,
            kind: kind(schema, key),
            required: is_required(name),
            about: key.get("description").and_then(Value::as_str).unwrap_or_default(),
        })
        .collect()
}

/// What a key's value is: its JSON type, or its choices.
fn kind(root: &Value, schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or_else(|| "any".to_owned(), |target| kind(root, target));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        return either(choices.iter().map(Value::to_string).collect());
    }
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    if schema.get("format").is_some_and(|format| format == "duration") {
        return "duration".to_owned();
    }
    if let Some(variants) =
        ["oneOf", "anyOf"].iter().find_map(|it| schema.get(it)).and_then(Value::as_array)
    {
        return either(variants.iter().map(|it| kind(root, it)).collect());
    }
    match schema.get("type") {
        Some(Value::String(one)) => word(one).to_owned(),
        Some(Value::Array(several)) => {
            either(several.iter().filter_map(Value::as_str).map(|it| word(it).to_owned()).collect())
        }
        _ => "any".to_owned(),
    }
}

/// The words of TOML for those of JSON.
fn word(kind: &str) -> &str {
    if kind == "object" { "table" } else { kind }
}

fn either(mut kinds: Vec<String>) -> String {
    // An optional key is left out; TOML has no null.
    kinds.retain(|kind| kind != "null");
    kinds.dedup();
    kinds.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_told_with_their_kinds() {
        let schema = json!({
            "properties": {
                "command": { "type": "array", "description": "The program. And more." },
                "env": { "type": ["object", "null"] },
                "grace": { "type": "string", "format": "duration" },
                "port": { "anyOf": [{ "type": "integer" }, { "type": "string" }] },
                "pull": { "$ref": "#/$defs/Pull" },
            },
            "required": ["command"],
            "$defs": { "Pull": { "enum": ["always", "never"] } },
        });
        let info = ServiceTypeInfo {
            service_type: "thing".into(),
            description: "Starts it.".into(),
            requires: vec!["an engine".into()],
            config_schema: schema,
        };
        let expected = "\
thing  Starts it.
  needs an engine
  command          The program (array, required)
  env               (table)
  grace             (duration)
  port              (integer or string)
  pull              (\"always\" or \"never\")
";
        assert_eq!(show(&info, Palette::PLAIN), expected);
    }
}
