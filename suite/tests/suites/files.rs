//! What a good file gives, and what stands about a file.

use std::path::Path;
use std::time::Duration;

use echo_suite::{ServiceTypes, ServiceTypesError, load, load_all, schema};
use serde_json::json;

use crate::kit::{self, info, types};

const GOOD: &str = r#"
description = "A shop and its database."
timeout = "2m"
env = { RUN = "${run.id}" }

[services.db]
type = "generic_container"
image = "postgres"
ports = { sql = 5432 }
ready = { port = "sql", log = "ready to accept" }

[services.shop]
type = "process"
command = ["shop", "--db", "${services.db.host}:${services.db.ports.sql}", "$${HOME}"]
depends_on = ["db"]
start_timeout = "1m 30s"

[[tests]]
name = "an order can be placed"
steps = [
  { name = "order", command = ["curl", "-f", "http://shop/"], service = "shop", timeout = "250ms" },
  { name = "it is there", command = ["psql"], expected_output_regex = "^1$", expected_exit_code = 0 },
]
"#;

#[test]
fn a_good_file_is_read_as_it_is_meant() {
    let (folder, path) = kit::file("shop.suite.toml", GOOD);
    let suite = load(&path, &types()).unwrap();
    assert_eq!(suite.name, "shop");
    assert_eq!(suite.dir.as_deref(), Some(folder.path()));
    assert_eq!(suite.file.as_deref(), Some(path.as_path()));
    assert_eq!(suite.timeout, Some(Duration::from_secs(120)));
    let shop = &suite.services["shop"];
    assert_eq!(shop.start_timeout, Duration::from_secs(90));
    assert_eq!(shop.config["command"][3], json!("$${HOME}"));
    assert_eq!(suite.services["db"].config["ports"], json!({ "sql": 5432 }));
    assert_eq!(suite.tests[0].steps[0].timeout, Duration::from_millis(250));
    assert_eq!(suite.all_tests().count(), 1);
}

#[test]
fn a_suite_without_a_name_is_named_after_its_file_or_folder() {
    let step = "[[steps]]\nname = 's'\ncommand = ['true']\n";
    for (name, expected) in [("web.suite.toml", "web"), ("web.toml", "web")] {
        let (_folder, path) = kit::file(name, step);
        assert_eq!(load(&path, &types()).unwrap().name, expected);
    }
    let folder = tempfile::Builder::new().prefix("shop").tempdir().unwrap();
    let path = folder.path().join("suite.toml");
    let named_after_folder = folder.path().file_name().unwrap().to_str().unwrap();
    std::fs::write(&path, step).unwrap();
    // Temporary folders have names of letters and digits.
    assert_eq!(load(&path, &types()).unwrap().name, named_after_folder);

    let (_folder, path) = kit::file("my web.suite.toml", step);
    let faults = load(&path, &types()).unwrap_err();
    let fault = faults.iter().next().unwrap();
    assert_eq!(fault.message, "\"my web\" cannot name a suite");
    assert!(fault.help.as_ref().unwrap().contains("set `name`"));
}

#[test]
fn a_relative_path_becomes_absolute_and_names_the_file_in_faults_as_it_was_given() {
    let missing = Path::new("no/such.suite.toml");
    let faults = load(missing, &types()).unwrap_err();
    assert_eq!(faults.file(), "no/such.suite.toml");
    assert!(faults.to_string().starts_with("cannot read no/such.suite.toml: "));
    let (_folder, path) = kit::file("a.suite.toml", "");
    std::fs::write(&path, b"name = '\xff'").unwrap();
    assert!(load(&path, &types()).unwrap_err().to_string().ends_with("it is no UTF-8 text"));
}

#[test]
fn the_suites_of_a_run_have_names_of_their_own() {
    let step = "name = 'same'\n[[steps]]\nname = 's'\ncommand = ['true']\n";
    let (_one, first) = kit::file("a.suite.toml", step);
    let (_two, second) = kit::file("b.suite.toml", step);
    let (_three, broken) = kit::file("c.suite.toml", "nme = 'x'");
    let refused = load_all(&[first.clone(), second.clone(), broken], &types()).unwrap_err();
    let told: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 2, "{told:?}");
    assert!(told[0].contains("unknown key `nme`"), "{told:?}");
    assert_eq!(told[1], "a second suite of the run is named `same`");
    assert_eq!(refused[1].file(), second.to_str().unwrap());
    assert_eq!(load_all(&[first], &types()).unwrap().len(), 1);
}

#[test]
fn the_schema_is_that_of_a_file() {
    let schema = schema(&types());
    assert!(schema.pointer("/properties/dir").is_none());
    assert!(schema.pointer("/properties/services").is_some());
    let then = schema.pointer("/$defs/ServiceSpec/allOf/0/then/$ref").unwrap();
    assert_eq!(then, "#/$defs/service.generic_container");
    let port = schema
        .pointer("/$defs/service.generic_container/properties/ports/additionalProperties/$ref")
        .unwrap();
    assert_eq!(port, "#/$defs/service.generic_container/$defs/Port");
    echo_toml::Schema::new(schema).unwrap();
}

#[test]
fn types_that_cannot_be_used_are_named() {
    let refuse = |infos| ServiceTypes::new(infos).unwrap_err();
    let twice = refuse(vec![info("a", json!({})), info("a", json!({}))]);
    assert!(matches!(twice, ServiceTypesError::Twice(name) if name == "a"));
    let dotted = refuse(vec![info("a.b", json!({}))]);
    assert!(matches!(dotted, ServiceTypesError::Name(name) if name == "a.b"));
    let common = refuse(vec![info("a", json!({ "properties": { "ready": {} } }))]);
    assert!(matches!(common, ServiceTypesError::CommonKey { key, .. } if key == "ready"));
    for malformed in [
        json!({ "type": "nonsense" }),
        json!({ "$ref": "#/$defs/nowhere" }),
        json!({ "$ref": "http://example.com/schema.json" }),
        json!(5),
    ] {
        let error = refuse(vec![info("a", malformed.clone())]);
        assert!(matches!(error, ServiceTypesError::Schema { .. }), "{malformed}: {error:?}");
    }
}

#[test]
fn a_type_may_take_any_keys() {
    for open in [json!(true), json!({ "additionalProperties": true })] {
        let types = ServiceTypes::new([info("open", open)]).unwrap();
        let text =
            "[services.x]\ntype = 'open'\nanything = 5\n[[steps]]\nname = 's'\ncommand = ['x']";
        let (_folder, path) = kit::file("a.suite.toml", text);
        assert_eq!(load(&path, &types).unwrap().services["x"].config["anything"], json!(5));
    }
}

proptest::proptest! {
    #[test]
    fn loading_never_panics(text in r#"([\[\].='"{},\n ]|services|steps|name|type|process|command|ready|\$\{|depends_on|[a-z]){0,60}"#) {
        let _ = kit::load(&text);
    }
}
