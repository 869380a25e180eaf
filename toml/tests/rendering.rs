//! What a person sees in the terminal, and what a tool reads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use echo_toml::{Document, Faults, Schema};
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value, json};

fn schema() -> Schema {
    Schema::new(json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "What it is called." },
            "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "bus": { "enum": ["local", "nats"] },
            "wait": {
                "title": "duration", "type": "string", "pattern": "^[0-9]+(ms|s)$",
                "examples": ["250ms", "5s"],
            },
            "plugins": {
                "type": "object",
                "propertyNames": { "maxLength": 3 },
                "additionalProperties": { "$ref": "#/$defs/Plugin" },
            },
            "tags": { "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true },
            "limit": { "anyOf": [{ "type": "integer" }, { "$ref": "#/$defs/Range" }, { "type": "null" }] },
            "sink": {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": { "to": { "const": "file" }, "path": { "type": "string" } },
                        "required": ["to", "path"],
                        "additionalProperties": false,
                    },
                    {
                        "type": "object",
                        "properties": { "to": { "const": "net" } },
                        "required": ["to"],
                        "additionalProperties": false,
                    },
                ],
            },
        },
        "required": ["name"],
        "additionalProperties": false,
        "$defs": {
            "Plugin": {
                "type": "object",
                "properties": { "workers": { "type": "integer" } },
                "required": ["workers"],
                "additionalProperties": false,
            },
            "Range": {
                "type": "object",
                "properties": { "from": { "type": "integer" }, "to": { "type": "integer" } },
                "additionalProperties": false,
            },
        },
    }))
    .unwrap()
}

fn faults(text: &str) -> Faults {
    echo_toml::read::<Value>("echo.toml", text, &schema()).expect_err(text)
}

fn render(faults: &Faults) -> String {
    let mut out = String::new();
    let theme = GraphicalTheme::unicode_nocolor();
    GraphicalReportHandler::new_themed(theme).render_report(&mut out, faults).unwrap();
    out
}

/// The faults of a text, each as "line:column message | help".
fn told(text: &str) -> Vec<String> {
    let faults = faults(text);
    let tell = |fault: &echo_toml::Fault| {
        let help = fault.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {}{help}", fault.line, fault.column, fault.message)
    };
    faults.iter().map(tell).collect()
}

#[test]
fn one_fault_shows_its_line_its_place_and_the_way_out() {
    let out = render(&faults("name = \"x\"\n\n# how long\nwait = \"5 parsecs\"\n"));
    let expected = "  × `wait` is the string \"5 parsecs\", which is no duration
   ╭─[echo.toml:4:8]
 3 │ # how long
 4 │ wait = \"5 parsecs\"
   ·        ───────────
   ╰────
  help: write it such as \"250ms\" or \"5s\"
";
    assert_eq!(out, expected);
}

#[test]
fn a_fault_of_syntax_shows_its_place_too() {
    let out = render(&faults("name = \"x\"\nport = 42 22\n"));
    assert!(out.contains("× this is no TOML: "), "{out}");
    assert!(out.contains("[echo.toml:2:"), "{out}");
    assert!(out.contains("2 │ port = 42 22"), "{out}");
}

#[test]
fn faults_say_what_is_there_and_what_would_be_right() {
    for (text, expected) in [
        ("", &["1:1 missing key `name` at the top level | `name`: What it is called."][..]),
        ("nam = 'x'", &["1:1 unknown key `nam`; did you mean `name`?"]),
        (
            "name = 5",
            &["1:8 `name` is the integer 5; it must be a string | write it in quotes: \"5\""],
        ),
        ("name = ['x']", &["1:8 `name` is an array; it must be a string"]),
        ("name = 'x'\nport = '80'", &["2:8 `port` is the string \"80\"; it must be an integer"]),
        ("name = 'x'\nport = 0", &["2:8 `port` is the integer 0; it must be at least 1"]),
        ("name = 'x'\nport = 1.5", &["2:8 `port` is the number 1.5; it must be an integer"]),
        (
            "name = 'x'\nbus = 'loca'",
            &[
                "2:7 `bus` is the string \"loca\"; did you mean \"local\"? | it must be \"local\" or \"nats\"",
            ],
        ),
        (
            "name = 'x'\nbus = true",
            &["2:7 `bus` is the boolean true; it must be \"local\" or \"nats\""],
        ),
        (
            "name = 'x'\ntags = 'a'",
            &["2:8 `tags` is the string \"a\"; it must be an array of strings"],
        ),
        ("name = 'x'\ntags = []", &["2:8 `tags` is empty"]),
        ("name = 'x'\ntags = ['a', 'a']", &["2:8 `tags` has an item twice"]),
        (
            "name = 'x'\ntags = ['a',\n 5]",
            &["3:2 `tags[1]` is the integer 5; it must be a string | write it in quotes: \"5\""],
        ),
        (
            "name = 'x'\n[plugins.a]\nworker = 1",
            &["3:1 unknown key `worker` in `plugins.a`; did you mean `workers`?"],
        ),
        ("name = 'x'\n[plugins.a]", &["2:1 missing key `workers` in `plugins.a`"]),
        (
            "name = 'x'\nplugins.a = 'x'",
            &["2:13 `plugins.a` is the string \"x\"; it must be a table"],
        ),
        (
            "name = 'x'\nplugins.long.workers = 1",
            &["2:9 the key `long` in `plugins` must have at most 3 characters"],
        ),
        (
            "name = 'x'\nplugins.'a b'.workers = ''",
            &["2:25 `plugins.\"a b\".workers` is the string \"\"; it must be an integer"],
        ),
        (
            "name = 'x'\nlimit = ''",
            &["2:9 `limit` is the string \"\"; it must be an integer or a table"],
        ),
        (
            "name = 'x'\nlimit = { form = 1 }",
            &["2:11 unknown key `form` in `limit`; did you mean `from`?"],
        ),
        (
            "name = 'x'\nsink = { to = 'fil' }",
            &[
                "2:15 `sink.to` is the string \"fil\"; did you mean \"file\"? | it must be \"file\" or \"net\"",
            ],
        ),
        ("name = 'x'\nsink = { to = 'file' }", &["2:1 missing key `path` in `sink`"]),
        (
            "name = 'x'\nsink = { to = 'net', path = '' }",
            &["2:22 unknown key `path` in `sink` | the keys here are `to`"],
        ),
        ("name = 1979-05-27", &["1:8 `name` is a date; write it in quotes: \"1979-05-27\""]),
        ("name = 'x'\nport = inf", &["2:8 `port` is inf, which has no use here"]),
        ("naïve.x = 1\nname = 'x'", &["1:1 this is no TOML: "]),
    ] {
        let told = told(text);
        assert_eq!(told.len(), expected.len(), "{text}\n{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            let fits = if expected.ends_with(": ") {
                told[3..].contains(&expected[4..])
            } else {
                told == expected
            };
            assert!(fits, "{text}\n{told}\n{expected}");
        }
    }
}

#[test]
fn columns_are_counted_in_characters() {
    let faults = faults("name = \"x\"\ntags = [\"äöü\", 5]\n");
    let fault = faults.iter().next().unwrap();
    assert_eq!((fault.line, fault.column), (2, 16));
}

#[test]
fn a_tool_reads_faults_as_data() {
    let read = serde_json::to_value(faults("nme = 'x'\nport = 0")).unwrap();
    let expected = json!({
        "file": "echo.toml",
        "faults": [
            {
                "line": 1, "column": 1, "key": "nme",
                "message": "unknown key `nme`; did you mean `name`?", "help": null,
            },
            {
                "line": 2, "column": 8, "key": "port",
                "message": "`port` is the integer 0; it must be at least 1", "help": null,
            },
        ],
    });
    assert_eq!(read, expected);
}

#[test]
fn faults_that_are_found_later_point_at_their_line() {
    let text = "name = 'x'\n[plugins]\na = { workers = 1 }\n[[b.c]]\nd = [1,\n 2]\n";
    let document = Document::parse("echo.toml", text).unwrap();
    for (pointer, place, key) in [
        ("/name", (1, 8), "name"),
        ("/plugins", (2, 1), "plugins"),
        ("/plugins/a", (3, 1), "plugins.a"),
        ("/plugins/a/workers", (3, 17), "plugins.a.workers"),
        ("/plugins/a/depends_on/0", (3, 1), "plugins.a.depends_on.0"),
        ("/b/c/0", (4, 1), "b.c[0]"),
        ("/b/c/0/d/1", (6, 2), "b.c[0].d[1]"),
        ("/nowhere", (1, 1), "nowhere"),
        ("", (1, 1), ""),
        ("no pointer", (1, 1), ""),
    ] {
        let fault = document.fault_at(pointer, "is wrong");
        assert_eq!((fault.line, fault.column), place, "{pointer}");
        assert_eq!(fault.key, key, "{pointer}");
    }
    let fault = document.fault_at("/plugins/a/workers", "too few").label("here").help("more");
    let out = render(&document.refuse(vec![fault]).unwrap_err());
    for line in ["  × too few", "3 │ a = { workers = 1 }", "╰── here", "  help: more"] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    document.refuse(Vec::new()).unwrap();
}

#[test]
fn a_schema_that_is_none_is_refused() {
    for raw in
        [json!({ "type": "strng" }), json!({ "$ref": "#/nowhere" }), json!({ "pattern": "(" })]
    {
        let error = Schema::new(raw.clone()).unwrap_err();
        assert!(
            error.to_string().starts_with("the JSON Schema is malformed at `#"),
            "{raw}: {error}"
        );
    }
}
