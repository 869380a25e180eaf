//! Holds `docs/contracts/topics.md` to the code: it is rendered from [`topics`] and compared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read a file has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use echo_sdk::contract::{TopicInfo, TopicKind, topics};
use serde_json::Value;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contracts/topics.md");
const UPDATE: &str = "UPDATE_DOCS=1 cargo test -p echo-tests --test topics_doc";

const HEAD: &str = "\
# Topics

The topics that everybody shares, with the data that travels on them. A request takes a reply topic and is
answered there; an event tells what happened. Whatever belongs to a run carries its `run_id`, and is published
with the run's id as its ordering key. A part in angle brackets varies. Topics below `plugin.<name>.` are a
plugin's own and are not listed here.

This file is written by a test; do not edit it:

";

/// Each family of topics, in the order of the document.
const FAMILIES: [(&str, &str); 5] = [
    ("test", "Runs, suites, tests and steps."),
    (
        "service",
        "Processes and containers that a run needs. `<type>` is the `type` of a service in a suite.",
    ),
    ("system", "The host and its plugins."),
    ("trace", "The spans that a host records, where `telemetry.span_events` says so."),
    ("dead", "Messages that a slot gave up."),
];

#[test]
fn the_document_is_what_the_code_says() {
    let rendered = render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(Path::new(DOCUMENT)).unwrap_or_default();
    let differs = written.lines().zip(rendered.lines()).position(|(is, should)| is != should);
    let line = differs.unwrap_or(written.lines().count().min(rendered.lines().count())) + 1;
    assert!(
        written == rendered,
        "docs/contracts/topics.md:{line} is not what the code says; run: {UPDATE}"
    );
}

#[test]
fn every_topic_belongs_to_a_family_and_is_named_for_its_kind() {
    for info in topics() {
        let family = info.topic.split('.').next().unwrap();
        assert!(FAMILIES.iter().any(|(name, _)| *name == family), "{}", info.topic);
        assert_eq!(info.reply.is_some(), info.kind == TopicKind::Request, "{}", info.topic);
        assert!(info.about.ends_with('.'), "{}: {:?} is no sentence", info.topic, info.about);
    }
}

fn render() -> String {
    let mut text = format!("{HEAD}    {UPDATE}\n");
    let mut schemas = Schemas::default();
    for (family, about) in FAMILIES {
        write!(text, "\n## `{family}.>`\n\n{about}\n\n").unwrap();
        text.push_str("| topic | kind | | data | answer |\n|---|---|---|---|---|\n");
        let prefix = format!("{family}.");
        for info in topics().iter().filter(|info| info.topic.starts_with(&prefix)) {
            text.push_str(&row(info, &mut schemas));
        }
    }
    text.push_str(
        "\n## Data\n\nJSON Schemas. `#/$defs/Name` is the schema under the heading `Name`. Durations are \
         texts such as `\"250ms\"`, `\"5s\"` or `\"1h 30m\"`.\n",
    );
    for (name, schema) in schemas.0 {
        let schema = serde_json::to_string_pretty(&schema).unwrap();
        write!(text, "\n### {name}\n\n```json\n{schema}\n```\n").unwrap();
    }
    text
}

fn row(info: &TopicInfo, schemas: &mut Schemas) -> String {
    let kind = match info.kind {
        TopicKind::Request => "request",
        TopicKind::Event => "event",
    };
    let data = schemas.link((info.data)());
    let answer = info.reply.map(|reply| schemas.link(reply())).unwrap_or_default();
    format!("| `{}` | {kind} | {} | {data} | {answer} |\n", info.topic, info.about)
}

/// Every schema, by name; those that others refer to included.
#[derive(Default)]
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Takes a schema in and gives a link to it.
    fn link(&mut self, schema: impl Into<Value>) -> String {
        let mut schema: Value = schema.into();
        let fields = schema.as_object_mut().unwrap();
        fields.remove("$schema");
        let title = fields.remove("title").unwrap();
        if let Some(Value::Object(parts)) = fields.remove("$defs") {
            parts.into_iter().for_each(|(name, part)| self.add(name, part));
        }
        let name = title.as_str().unwrap().to_owned();
        self.add(name.clone(), schema);
        format!("[{name}](#{})", name.to_lowercase())
    }

    fn add(&mut self, name: String, schema: Value) {
        if let Some(other) = self.0.get(&name) {
            assert_eq!(*other, schema, "two schemas are named {name}");
        }
        self.0.insert(name, schema);
    }
}
