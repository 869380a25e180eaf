//! Schemas that are derived from Rust types: options, enums with and without docs, tagged and untagged.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use echo_toml::Schema;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    bus: Option<Bus>,
    level: Option<Level>,
    store: Option<Store>,
    hosts: Option<Hosts>,
    workers: Option<u8>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Bus {
    Local,
    Nats,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// All of it.
    Debug,
    /// The least.
    Error,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
enum Store {
    Memory { size: u32 },
    Disk { path: String },
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Hosts {
    One(String),
    Many(Vec<String>),
}

fn read(text: &str) -> Result<File, String> {
    let schema = Schema::new(schemars::schema_for!(File).to_value()).unwrap();
    echo_toml::read("x.toml", text, &schema).map_err(|faults| {
        faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("\n")
    })
}

#[test]
fn what_fits_is_read() {
    let text =
        "bus = 'nats'\nlevel = 'debug'\nhosts = ['a']\nstore = { kind = 'disk', path = 'p' }";
    let expected = File {
        bus: Some(Bus::Nats),
        level: Some(Level::Debug),
        store: Some(Store::Disk { path: "p".to_owned() }),
        hosts: Some(Hosts::Many(vec!["a".to_owned()])),
        workers: None,
    };
    assert_eq!(read(text).unwrap(), expected);
}

#[test]
fn alternatives_are_told_as_what_a_person_can_write() {
    for (text, expected) in [
        ("bus = 'natz'", "`bus` is the string \"natz\"; did you mean \"nats\"?"),
        ("bus = 5", "`bus` is the integer 5; it must be \"local\" or \"nats\""),
        ("level = 'x'", "`level` is the string \"x\"; it must be \"debug\" or \"error\""),
        ("level = []", "`level` is an array; it must be \"debug\" or \"error\""),
        ("store = 'x'", "`store` is the string \"x\"; it must be a table"),
        (
            "store.kind = 'tape'",
            "`store.kind` is the string \"tape\"; it must be \"memory\" or \"disk\"",
        ),
        (
            "store = { kind = 'disk', pth = '' }",
            "unknown key `pth` in `store`; did you mean `path`?",
        ),
        (
            "store = { kind = 'memory', size = '' }",
            "`store.size` is the string \"\"; it must be an integer",
        ),
        ("hosts = 5", "`hosts` is the integer 5; it must be a string or an array of strings"),
        ("hosts = ['a', 5]", "`hosts[1]` is the integer 5; it must be a string"),
        ("workers = ''", "`workers` is the string \"\"; it must be an integer"),
        ("workers = 256", "`workers` is the integer 256; it must be at most 255"),
    ] {
        assert_eq!(read(text).unwrap_err(), expected, "{text}");
    }
}
