use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::config::SchemasConfig;

fn message(schema: Option<&str>, data: &Value) -> BaseMessage {
    let builder = BaseMessage::builder("test").data(data);
    schema.into_iter().fold(builder, |builder, schema| builder.schema(schema)).build().unwrap()
}

fn admit(schemas: &Schemas, schema: &str, data: &Value) -> Result<(), String> {
    let topic = Topic::new("orders.placed").unwrap();
    let admitted = schemas.admit(&topic, &message(Some(schema), data));
    admitted.map_err(|error| error.to_string())
}

fn fault(schemas: &Schemas, name: &str, schema: Value) -> String {
    schemas.register(name, schema, false).unwrap_err().to_string()
}

#[test]
fn a_fault_is_told_with_schema_place_and_what_would_be_right() {
    let schemas = Schemas::default();
    let order = json!({
        "type": "object",
        "required": ["id", "lines"],
        "additionalProperties": false,
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "state": {"enum": ["open", "paid"]},
            "lines": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
            "note": {"type": ["string", "null"], "maxLength": 3},
        },
    });
    assert_eq!(schemas.register("order", order, false).unwrap(), 1);
    assert_eq!(admit(&schemas, "order", &json!({"id": 1, "lines": [{"sku": "a"}]})), Ok(()));
    let begin = "the message was refused: its data breaks version 1 of the schema `order`: ";
    for (data, expected) in [
        (json!(7), "it is the number 7; it must be an object"),
        (json!({"id": 1}), "it lacks the key `lines`"),
        (json!({"id": 0, "lines": []}), "`/id` is the number 0; it must be at least 1"),
        (json!({"id": 1, "lines": [{}]}), "`/lines/0` lacks the key `sku`"),
        (json!({"id": 1, "lines": [], "x": 1}), "it has the key `x`, which it must not have"),
        (
            json!({"id": 1, "lines": [], "state": "lost"}),
            "`/state` is the string \"lost\"; it must be one of \"open\", \"paid\"",
        ),
        (
            json!({"id": 1, "lines": [], "note": 5}),
            "`/note` is the number 5; it must be null or a string",
        ),
    ] {
        assert_eq!(admit(&schemas, "order", &data).unwrap_err(), format!("{begin}{expected}"));
    }
    let many = json!({"id": "x", "lines": vec![json!(0); 50]});
    let told = admit(&schemas, "order", &many).unwrap_err();
    assert_eq!(told.matches("; it must be").count(), faults::FIRST, "{told}");
}

#[test]
fn every_keyword_has_words_and_long_texts_are_cut() {
    let schemas = Schemas::default();
    for (schema, data, words) in [
        (json!({"const": 1}), json!(2), "must be 1"),
        (json!({"maximum": 1}), json!(2), "at most 1"),
        (json!({"exclusiveMinimum": 1}), json!(1), "above 1"),
        (json!({"exclusiveMaximum": 1}), json!(1), "below 1"),
        (json!({"multipleOf": 2}), json!(3), "multiple of 2"),
        (json!({"minLength": 2}), json!("a"), "at least 2 characters"),
        (json!({"maxLength": 2}), json!("abc"), "at most 2 characters"),
        (json!({"minItems": 1}), json!([]), "at least 1 items"),
        (json!({"maxItems": 0}), json!([1]), "at most 0 items"),
        (json!({"minProperties": 1}), json!({}), "at least 1 keys"),
        (json!({"maxProperties": 0}), json!({"a": 1}), "at most 0 keys"),
        (json!({"uniqueItems": true}), json!([1, 1]), "twice"),
        (json!({"contains": {"const": 1}}), json!([2]), "no item of the kind"),
        (json!({"pattern": "^a+$"}), json!("b"), "must match `^a+$`"),
        (json!({"properties": {"a": false}}), json!({"a": 1}), "`/a` must not be there"),
        (json!({"not": {"type": "null"}}), json!(null), "which it must not be"),
        (json!({"propertyNames": {"maxLength": 1}}), json!({"ab": 1}), "has a key that"),
        (
            json!({"anyOf": [{"type": "null"}, {"required": ["a"]}]}),
            json!({}),
            "fits no alternative; in the nearest, it",
        ),
        (json!({"oneOf": [{}, {}]}), json!(1), "fits several alternatives"),
        (json!({"dependentRequired": {"a": ["b"]}}), json!({"a": 1}), "`b`"),
    ] {
        schemas.register("one", schema.clone(), false).unwrap();
        let told = admit(&schemas, "one", &data).unwrap_err();
        assert!(told.contains(words), "{schema} {data}: {told}");
    }
    schemas.register("one", json!({"type": "integer"}), false).unwrap();
    let long = admit(&schemas, "one", &json!("ä\n".repeat(100_000))).unwrap_err();
    assert!(long.len() < 300 && !long.contains('\n'), "{long}");
}

#[test]
fn versions_count_up_and_each_can_be_meant() {
    let schemas = Schemas::default();
    let (any, none) = (json!({}), json!(false));
    assert_eq!(schemas.register("order", any.clone(), false), Ok(1));
    assert_eq!(schemas.register("order", any.clone(), false), Ok(1), "it is the same");
    assert_eq!(schemas.register("order", none.clone(), false), Ok(2));
    assert!(admit(&schemas, "order", &json!(1)).is_err(), "the newest is meant");
    assert_eq!(admit(&schemas, "order@1", &json!(1)), Ok(()));
    assert!(admit(&schemas, "order@2", &json!(1)).is_err());
    assert_eq!(schemas.remove("order", Some(2)), Ok(vec![2]));
    assert_eq!(admit(&schemas, "order", &json!(1)), Ok(()), "the newest is gone");
    assert_eq!(schemas.remove("order", None), Ok(vec![1]));
    let gone = SchemaError::Unknown { name: "order@1".into() };
    assert_eq!(schemas.remove("order", Some(1)), Err(gone));
    assert_eq!(schemas.register("order", none, false), Ok(3), "numbers are not given twice");
    for n in 0..2 * MAX_VERSIONS {
        schemas.register("order", json!({ "const": n }), false).unwrap();
    }
    let kept = schemas.names.load().get("order").unwrap().versions.len();
    assert_eq!(kept, MAX_VERSIONS);
}

#[test]
fn an_unknown_schema_is_as_the_configuration_says() {
    let refuse = SchemasConfig { unknown: UnknownSchema::Refuse, ..SchemasConfig::default() };
    assert_eq!(admit(&Schemas::default(), "own.thing", &json!(1)), Ok(()));
    let told = admit(&Schemas::new(&refuse), "own.thing", &json!(1)).unwrap_err();
    assert!(told.contains("no schema is named `own.thing`"), "{told}");
    let topic = Topic::new("a").unwrap();
    let plain = message(None, &json!(1));
    assert!(Schemas::new(&refuse).admit(&topic, &plain).is_ok(), "it names none");
}

#[test]
fn names_and_their_number_are_bounded() {
    let schemas = Schemas::default();
    for wrong in ["", "a b", "a/b", "..", "a@1", "ä", &"a".repeat(129)] {
        assert!(fault(&schemas, wrong, json!({})).contains("cannot name a schema"), "{wrong}");
    }
    let compiled = Compiled::new("x", json!({}), 10, Arc::new(|_| None)).unwrap();
    let version = Arc::new(Version { number: 1, since: Utc::now(), compiled });
    let named = |n| {
        let versions = vec![Arc::clone(&version)];
        (Arc::from(format!("n{n}")), Named { versions, last: 1 })
    };
    schemas.names.store(Arc::new((0..MAX_NAMES).map(named).collect()));
    assert_eq!(schemas.register("one.more", json!({}), false), Err(SchemaError::Full));
    schemas.remove("n7", None).unwrap();
    assert_eq!(schemas.register("one.more", json!({}), false), Ok(1));
}

#[test]
fn references_reach_the_registry_as_it_was_and_nothing_else() {
    let schemas = Schemas::default();
    let order =
        json!({"properties": {"to": {"$ref": "address"}, "was": {"$ref": "address@1#/$defs/zip"}}});
    assert!(fault(&schemas, "order", order.clone()).contains("no schema is named `address"));
    let address = json!({"required": ["zip"], "$defs": {"zip": {"type": "string"}}});
    schemas.register("address", address, false).unwrap();
    schemas.register("order", order, false).unwrap();
    schemas.register("address", json!(true), false).unwrap();
    assert_eq!(admit(&schemas, "order", &json!({"to": {"zip": 1}, "was": "x"})), Ok(()));
    assert!(admit(&schemas, "order", &json!({"to": {}})).is_err(), "as it was registered");
    assert!(admit(&schemas, "order", &json!({"was": 1})).is_err());
    for reference in [
        "file:///etc/passwd",
        "http://127.0.0.1:1/schema",
        "https://example.com/schema.json",
        "../secret",
        "//host/share",
        "#/$defs/nowhere",
    ] {
        let told = fault(&schemas, "far", json!({ "$ref": reference }));
        assert!(told.contains("the schema `far` cannot be taken"), "{reference}: {told}");
    }
    let own_id = json!({"$id": "https://example.com/a.json", "$ref": "b.json"});
    assert!(fault(&schemas, "far", own_id).contains("cannot be taken"));
}

#[test]
fn what_is_too_much_is_refused() {
    let schemas = Schemas::default();
    let nested = |levels| (0..levels).fold(json!({}), |inner, _| json!({ "not": inner }));
    let items = |levels| (0..levels).fold(json!({}), |inner, _| json!({ "items": inner }));
    let patterns: Vec<Value> = (0..300).map(|n| json!({"pattern": format!("a{n}")})).collect();
    for (schema, words) in [
        (json!({"const": "x".repeat(300_000)}), "bytes (`schemas.max_size`)"),
        (items(60), "levels, and"),
        (nested(60), "judge the same part"),
        (json!({ "anyOf": patterns }), "regular expressions"),
        (json!({"pattern": "(a{1000}){1000}"}), "pattern"),
        (json!({"pattern": "(?=a)b"}), "pattern"),
        (json!({"pattern": "("}), "pattern"),
        (ring(extent::MAX_CHAIN + 2), "judge the same part"),
        (json!({"$ref": "#"}), "refers to itself"),
        (json!({"allOf": [{"not": {"$ref": "#"}}]}), "refers to itself"),
        (json!({"type": "nothing"}), "cannot be taken"),
        (json!(7), "cannot be taken"),
    ] {
        let told = fault(&schemas, "much", schema);
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(schemas.register("much", nested(30), false), Ok(1));
}

/// Schemas that refer one to the next, so many for each level of data.
fn ring(len: usize) -> Value {
    let last = len - 2;
    let link = |n: usize| match n {
        n if n == last => json!({"type": "array", "items": {"$ref": "#/$defs/d0"}}),
        n => json!({"$ref": format!("#/$defs/d{}", n + 1)}),
    };
    let defs: serde_json::Map<String, Value> =
        (0..=last).map(|n| (format!("d{n}"), link(n))).collect();
    json!({"$ref": "#/$defs/d0", "$defs": defs})
}

/// A schema that refers to itself without going further into the data, and the deepest data: on a small stack,
/// as a worker's is.
#[test]
fn no_schema_and_no_data_exhaust_the_stack() {
    let schemas = Arc::new(Schemas::default());
    let chain = (0..500).map(|n| (format!("d{n}"), json!({"$ref": format!("#/$defs/d{}", n + 1)})));
    let mut defs: serde_json::Map<String, Value> = chain.collect();
    defs.insert("d500".to_owned(), json!({"type": "integer"}));
    let deep = (0..22).fold(json!({"items": {"$ref": "#"}}), |inner, _| json!({"allOf": [inner]}));
    for (name, schema) in [
        ("self", json!({"$ref": "#"})),
        ("all", json!({"allOf": [{"$ref": "#"}]})),
        ("not", json!({"not": {"$ref": "#"}})),
        (
            "mutual",
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        ),
        ("dynamic", json!({"$dynamicAnchor": "x", "anyOf": [{"$dynamicRef": "#x"}]})),
        ("ring", ring(extent::MAX_CHAIN)),
        ("chain", json!({"$ref": "#/$defs/d0", "$defs": defs})),
        ("deep", deep),
        ("both", json!({"items": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "minItems": 2})),
        ("many", json!({"items": {"allOf": vec![json!({"$ref": "#"}); 100]}, "maxItems": 0})),
    ] {
        let schemas = Arc::clone(&schemas);
        let work = move || {
            if schemas.register(name, schema, false).is_ok() {
                let text = format!("{}{}", "[".repeat(120), "]".repeat(120));
                let data: Value = serde_json::from_str(&text).unwrap();
                let _ = admit(&schemas, name, &data);
                let text = text.replace("[]", "[1]");
                let data: Value = serde_json::from_str(&text).unwrap();
                let _ = admit(&schemas, name, &data);
                let _ = admit(&schemas, name, &json!({"a": [1, {"b": null}]}));
            }
        };
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work);
        thread.unwrap().join().unwrap();
    }
}

#[test]
fn a_compatible_change_is_one_that_takes_what_was_taken() {
    let schemas = Schemas::default();
    let old =
        json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}});
    let wider = json!({"type": "object", "properties": {"id": {"type": ["integer", "string"]}}});
    assert_eq!(schemas.register("order", old.clone(), true), Ok(1), "there is none before it");
    assert_eq!(schemas.register("order", wider, true), Ok(2));
    let refused = schemas.register("order", old.clone(), true).unwrap_err();
    assert!(matches!(refused, SchemaError::Incompatible { .. }), "{refused}");
    assert_eq!(schemas.register("order", old, false), Ok(3));
}

#[test]
fn checks_go_on_while_schemas_change() {
    let schemas = Arc::new(Schemas::default());
    schemas.register("order", json!({"type": "integer"}), false).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let check = || {
        let (schemas, done) = (Arc::clone(&schemas), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut checks = 0_u64;
            while !done.load(Ordering::Relaxed) || checks == 0 {
                assert_eq!(admit(&schemas, "order", &json!(1)), Ok(()));
                assert!(admit(&schemas, "order", &json!("x")).is_err(), "no version takes it");
                checks += 1;
            }
            checks
        })
    };
    let checking = [check(), check()];
    for n in 0..200 {
        let schema = json!({"type": "integer", "maximum": n + 1});
        assert_eq!(schemas.register("order", schema, false), Ok(n + 2));
    }
    done.store(true, Ordering::Relaxed);
    for thread in checking {
        assert!(thread.join().unwrap() > 0);
    }
}

#[test]
fn large_data_is_told_with_one_fault() {
    let schemas = Schemas::default();
    schemas.register("numbers", json!({"items": {"type": "integer"}}), false).unwrap();
    let texts = Value::from(vec!["x"; 100_000]);
    let told = admit(&schemas, "numbers", &texts).unwrap_err();
    assert_eq!(told.matches("; it must be").count(), 1, "{told}");
}

#[test]
fn a_folder_is_loaded_with_its_references_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("a.order.schema.json", r#"{"properties": {"to": {"$ref": "z.address"}}}"#);
    write("z.address.schema.json", r#"{"required": ["zip"]}"#);
    write("README.md", "not a schema");
    let config = SchemasConfig { dir: Some(dir.path().to_owned()), ..SchemasConfig::default() };
    let schemas = Schemas::load(&config).unwrap();
    assert!(admit(&schemas, "a.order", &json!({"to": {}})).is_err());
    let names: Vec<_> = schemas.list().into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a.order", "z.address"]);

    let load = || Schemas::load(&config).unwrap_err().to_string();
    write("bad.schema.json", "{");
    assert!(load().contains("bad.schema.json is no JSON"), "{}", load());
    write("bad.schema.json", r#"{"type": 7}"#);
    assert!(load().contains("bad.schema.json is not taken"), "{}", load());
    write("bad.schema.json", &format!(r#"{{"const": "{}"}}"#, "x".repeat(300_000)));
    assert!(load().contains("are the most for a schema"), "{}", load());
    std::fs::remove_file(dir.path().join("bad.schema.json")).unwrap();
    write("b d.schema.json", "{}");
    assert!(load().contains("is not taken"), "{}", load());
    let nowhere = SchemasConfig { dir: Some(dir.path().join("none")), ..config.clone() };
    assert!(Schemas::load(&nowhere).unwrap_err().to_string().contains("cannot be read"));
}

proptest::proptest! {
    /// Whatever comes in as a schema or as data, the registry stands.
    #[test]
    fn nothing_panics(schema in json_like(), data in json_like()) {
        let schemas = Schemas::default();
        if schemas.register("any", schema, false).is_ok() {
            let _ = admit(&schemas, "any", &data);
        }
    }
}

fn json_like() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let keyword = proptest::sample::select(vec![
        "$ref",
        "$id",
        "$defs",
        "type",
        "properties",
        "items",
        "allOf",
        "anyOf",
        "not",
        "enum",
        "pattern",
        "required",
        "minimum",
        "$dynamicRef",
        "$anchor",
        "if",
        "then",
        "a",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(vec![
            "#",
            "#/$defs/a",
            "any",
            "object",
            "string",
            "[a-z]",
            "",
            "(",
            "%zz"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(keyword.clone(), inner, 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}
