//! No text, however strange, makes the reader panic, and each fault lies within its text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use echo_toml::{Document, Faults, Schema};
use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> Schema {
    let node = json!({
        "type": "object",
        "properties": {
            "a": { "$ref": "#" },
            "b": { "anyOf": [{ "$ref": "#" }, { "type": "array", "items": { "$ref": "#" } }, { "type": "null" }] },
            "c": { "oneOf": [{ "const": "x" }, { "const": "y" }] },
            "d": { "type": "string", "pattern": "^[0-9]+$" },
        },
        "required": ["c"],
        "additionalProperties": false,
    });
    Schema::new(node).unwrap()
}

/// Reads a text, and renders what is wrong with it.
fn read(text: &str) -> Result<Value, Faults> {
    let result = echo_toml::read::<Value>("x.toml", text, &schema());
    if let Err(faults) = &result {
        let lines = text.matches('\n').count() + 1;
        assert!(faults.iter().count() > 0, "{text:?}");
        for fault in faults {
            assert!((1..=lines).contains(&fault.line) && fault.column > 0, "{text:?}: {fault:?}");
            assert!(!fault.message.is_empty(), "{text:?}");
        }
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
        handler.render_report(&mut out, faults).unwrap();
        assert!(out.contains("x.toml"), "{text:?}\n{out}");
    }
    result
}

/// Texts that have broken readers of TOML, or might.
#[test]
fn the_corpus_is_read_or_refused() {
    let long = "k".repeat(200_000);
    let corpus = [
        String::new(),
        "\u{feff}c = 'x'".to_owned(),
        "\u{feff}e = 'x'".to_owned(),
        "\r\n\r\nc = 'x'\r\ne = 1\r\n".to_owned(),
        "\r".to_owned(),
        "\0".to_owned(),
        "[".to_owned(),
        "[]".to_owned(),
        "[[]]".to_owned(),
        "[a".to_owned(),
        "[[a".to_owned(),
        "[a]]".to_owned(),
        "= 1".to_owned(),
        "a =".to_owned(),
        "a = {".to_owned(),
        "a = { b = 1, }".to_owned(),
        "a.b = 1\n[a]\nc = 2".to_owned(),
        "[a]\n[[a]]".to_owned(),
        "[[a]]\n[a]".to_owned(),
        "a = []\n[[a]]".to_owned(),
        "[a.b]\n[a]\nb = 1".to_owned(),
        "a = '''".to_owned(),
        "a = \"\\u{110000}\"".to_owned(),
        "a = \"\\ud800\"".to_owned(),
        "a = 99999999999999999999".to_owned(),
        "a = 0x8000000000000000".to_owned(),
        "a = -9223372036854775808".to_owned(),
        "a = 1e999".to_owned(),
        "a = -nan".to_owned(),
        "a = 9999-99-99".to_owned(),
        "a = 24:00:00".to_owned(),
        "'' = 1".to_owned(),
        "'/~' = 1\n'~0' = 2".to_owned(),
        "\"\\u0000\" = 1".to_owned(),
        "ключ = 1".to_owned(),
        "'ключ' = \"значение\" x".to_owned(),
        format!("{long} = 1"),
        format!("d = '{long}'"),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}{}", "[".repeat(70), "]".repeat(70)),
        format!("{}b = 1", "a.".repeat(100_000)),
        format!("[{}b]", "a.".repeat(100_000)),
        format!(
            "[{}b]\n{}b = {}1{}",
            "a.".repeat(70),
            "a.".repeat(70),
            "[".repeat(70),
            "]".repeat(70)
        ),
        "[[b]]\n".repeat(2_000),
        (0..2_000).map(|index| format!("e{index} = {index}\n")).collect(),
    ];
    for text in corpus {
        let _ = read(&text);
    }
}

#[test]
fn nothing_that_a_file_sets_is_passed_over() {
    assert_eq!(read("c = 'x'\na = { c = 'y' }").unwrap(), json!({ "a": { "c": "y" }, "c": "x" }));
    for text in [
        "c = 'x'\ne = 1",
        "c = 'x'\na.c = 'x'\na.e = 1",
        "c = 'x'\nb = [{ c = 'x' }, { c = 'x', e = 1 }]",
    ] {
        let faults = read(text).unwrap_err();
        assert_eq!(faults.iter().count(), 1, "{faults:?}");
        assert!(faults.to_string().starts_with("unknown key `e`"), "{faults}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn any_text_that_looks_like_toml_is_read_or_refused(
        text in r#"(a|b|c|d|e|ä|x|'|"|'''|"""|\\|\.|=| = |,|\[|\]|\[\[|\]\]|\{|\}|#|1|-|\+|:|_|nan|true|1979-05-27|\n|\r\n| |\t){0,40}"#
    ) {
        let _ = read(&text);
    }

    /// Well-formed data is read as it was written, and can be pointed at.
    #[test]
    fn data_is_read_as_it_was_written(keys in prop::collection::btree_map(".{0,6}", any::<i64>(), 0..6)) {
        let line = |(key, number): (&String, &i64)| format!("{} = {number}\n", toml_edit::Key::new(key).display_repr());
        let text: String = keys.iter().map(line).collect();
        let document = Document::parse("x.toml", text).unwrap();
        prop_assert_eq!(document.value(), &json!(keys));
        for (index, key) in keys.keys().enumerate() {
            let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            prop_assert_eq!(document.fault_at(&pointer, "x").line, index + 1);
        }
    }
}
