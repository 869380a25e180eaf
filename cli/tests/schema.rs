//! The registry of schemas of a running host.

mod common;

use common::host::Host;
use common::{Folder, Running};
use serde_json::json;

const ORDER: &str = r#"{
  "title": "An order",
  "type": "object",
  "properties": { "number": { "type": "integer" } },
  "required": ["number"]
}"#;

#[test]
fn a_schema_is_registered_listed_shown_and_removed() {
    let folder = Folder::new();
    folder.write("order.json", ORDER);
    let _host = Host::start(&folder, &[]);
    assert_eq!(folder.expect(0, &["schema", "list"]).stdout, "there are no schemas\n");
    let registered = folder.expect(0, &["schema", "register", "order", "order.json"]).stdout;
    assert_eq!(registered, "`order` is version 1 on 1 host\n");
    let wider = folder.run_with(r#"{"type": "object"}"#, &["schema", "register", "order", "-"]);
    assert_eq!(wider.stdout, "`order` is version 2 on 1 host\n", "{}", wider.stderr);
    let again = folder.expect(0, &["schema", "register", "order", "order.json", "--json"]).json();
    assert_eq!(again[0], json!({"name": "order", "version": 3}));

    let listed = folder.expect(0, &["schema", "list", "--json"]).json();
    let row = &listed.as_array().unwrap()[0];
    assert_eq!((&row["name"], &row["version"]), (&json!("order"), &json!(3)));
    assert_eq!((&row["title"], &row["hosts"]), (&json!("An order"), &json!(1)));
    let table = folder.expect(0, &["schema", "list"]).stdout;
    assert!(table.starts_with("NAME") && table.contains("An order"), "{table}");
    let shown = folder.expect(0, &["schema", "show", "order"]).json();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(ORDER).unwrap());
    let older = folder.expect(0, &["schema", "show", "order@2", "--json"]).json();
    assert_eq!((&older["version"], &older["schema"]), (&json!(2), &json!({"type": "object"})));

    let removed = folder.expect(0, &["schema", "remove", "order"]).stdout;
    assert_eq!(removed, "removed 3 versions of `order` on 1 host\n");
    let gone = folder.expect(2, &["schema", "show", "order"]);
    assert!(gone.stderr.contains("no schema is named `order`"), "{}", gone.stderr);
}

#[test]
fn data_is_checked_with_and_without_publishing_it() {
    let folder = Folder::new();
    folder.write("order.json", ORDER);
    let _host = Host::start(&folder, &[]);
    folder.expect(0, &["schema", "register", "order", "order.json"]);
    let good = folder.expect(0, &["schema", "check", "order@1", r#"{"number": 7}"#]).stdout;
    assert_eq!(good, "the data keeps to version 1 of `order`\n");
    let bad = folder.expect(1, &["schema", "check", "order", r#"{"number": "x"}"#]).stdout;
    assert!(bad.contains("the data breaks version 1 of `order`:\n/number "), "{bad}");
    let faults = folder.expect(1, &["schema", "check", "order", "{}", "--json"]).json();
    assert_eq!(faults["faults"][0]["path"], "");
    let read = folder.run_with(r#"{"number": 1}"#, &["schema", "check", "order", "-"]);
    assert_eq!(read.code, 0, "{}", read.stderr);

    let mut subscriber = Running::start(&folder, &["subscribe", "orders", "-n", "1"]);
    subscriber.until("listening");
    let publish = |data| folder.run(&["publish", "orders", data, "--schema", "order"]);
    let refused = publish(r#"{"number": "x"}"#);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("the schema `order`"), "{}", refused.stderr);
    assert_eq!(publish(r#"{"number": 2}"#).code, 0);
    assert_eq!(
        subscriber.end().lines()[0]["message"]["data"]["number"],
        2,
        "the other was refused"
    );
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_taken() {
    let folder = Folder::new();
    folder.write("order.json", ORDER);
    folder.write("broken.json", "{");
    folder.write("wrong.json", r#"{"type": "objekt"}"#);
    let _host = Host::start(&folder, &[]);
    folder.expect(0, &["schema", "register", "order", "order.json"]);
    for (args, said) in [
        (&["register", "order", "missing.json"][..], "missing.json"),
        (&["register", "order", "broken.json"], "the schema is no JSON"),
        (&["register", "order", "wrong.json"], "`order` cannot be taken"),
        (&["register", "no name", "order.json"], "cannot name a schema"),
        (&["check", "order", "{"], "the data is no JSON"),
        (&["check", "nothing", "{}"], "no schema is named `nothing`"),
        (&["show", "order@0"], "no version"),
        (&["remove", "order@9"], "order@9"),
    ] {
        let ran = folder.expect(2, &[&["schema"][..], args].concat());
        assert!(ran.stderr.contains(said), "{args:?}: {}", ran.stderr);
    }
    folder.write("narrower.json", r#"{"type": "object", "required": ["number", "name"]}"#);
    let narrower = ["schema", "register", "order", "narrower.json", "--compatible"];
    let refused = folder.expect(2, &narrower);
    assert!(refused.stderr.contains("not compatible"), "{}", refused.stderr);
    assert_eq!(folder.expect(0, &["schema", "list", "--json"]).json()[0]["version"], 1);
}
