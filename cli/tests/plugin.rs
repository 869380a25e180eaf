//! A plugin from nothing to a running one: `plugin new`, `build`, `activate`, in a copy of the project.

#![allow(clippy::unwrap_used, reason = "a test whose surroundings fail has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::project::Project;
use common::{Running, lines};

#[test]
fn every_template_builds_is_tidy_and_passes_its_tests() {
    let project = Project::new("templates");
    let templates = ["basic", "processor", "service", "observer"];
    let mut packages = Vec::new();
    for template in templates {
        project.echo_core(&["plugin", "new", &format!("a-{template}"), "--template", template]);
        packages.extend(["-p".to_owned(), format!("echo-plugin-a-{template}")]);
    }
    let with = |args: &[&'static str], more: &[&'static str]| {
        let packages = packages.iter().map(String::as_str);
        let args: Vec<&str> =
            args.iter().copied().chain(packages).chain(more.iter().copied()).collect();
        project.succeeds("cargo", &args)
    };
    with(&["fmt", "--check"], &[]);
    with(&["clippy", "--quiet", "--all-targets"], &["--", "--deny", "warnings"]);
    let tests = with(&["test", "--lib"], &[]);
    let passed: Vec<&str> =
        tests.lines().filter_map(|line| line.strip_prefix("test result: ok. ")).collect();
    assert_eq!(passed.len(), templates.len(), "{tests}");
    for result in passed {
        let count = result.split(' ').next().unwrap();
        assert!(count.parse::<u32>().unwrap() >= 2 && result.contains(" 0 failed"), "{result}");
    }
    for template in templates {
        let name = format!("a-{template}");
        project.echo_core(&["plugin", "build", &name]);
        let tested = project.echo_core(&["plugin", "test", &name]);
        assert!(!tested.contains("FAIL") && tested.contains("examples passed"), "{tested}");
    }
}

#[test]
fn a_plugin_elsewhere_is_built_and_tested_by_itself() {
    let project = Project::new("elsewhere");
    let at = project.0.with_file_name("plugin-by-itself");
    let _ = fs::remove_dir_all(&at);
    let (folder, manifest) = (at.to_str().unwrap(), at.join("Cargo.toml"));
    project.echo_core(&["plugin", "new", "lone", "--template", "processor", "--path", folder]);
    fs::copy(project.0.join("Cargo.lock"), at.join("Cargo.lock")).unwrap();
    let manifest = manifest.to_str().unwrap();
    let tests = project.succeeds("cargo", &["test", "--lib", "--manifest-path", manifest]);
    assert!(tests.contains("2 passed"), "{tests}");
    project.echo_core(&["plugin", "build", "lone", "--path", folder]);
    assert!(project.0.join("plugins/libraries/development/liblone.so").is_file());
}

#[test]
fn a_new_plugin_builds_passes_its_test_and_answers() {
    let project = Project::new("greeter");
    let next = project.echo_core(&["plugin", "new", "warm-greeter"]);
    assert!(next.contains("cargo test -p echo-plugin-warm-greeter"), "{next}");
    let tests = project.succeeds("cargo", &["test", "-p", "echo-plugin-warm-greeter"]);
    assert!(tests.contains("3 passed"), "{tests}");

    project.echo_core(&["plugin", "build", "warm-greeter"]);
    let library = project.0.join("plugins/libraries/development/libwarm-greeter.so");
    assert!(library.is_file());
    project.echo_core(&["plugin", "activate", "warm-greeter"]);
    let link = fs::read_link(project.0.join("plugins/enabled/warm-greeter")).unwrap();
    assert_eq!(link, Path::new("../libraries/development/libwarm-greeter.so"));
    let listed = project.echo_core(&["plugin", "list"]);
    let line = listed.lines().find(|line| line.starts_with("warm-greeter")).unwrap();
    assert!(line.contains("0.1.0") && line.contains("enabled"), "{line}");

    let topic = "plugin.warm-greeter.greet";
    let answer = project.echo_core(&["request", "--local", topic, r#"{"name":"Ada"}"#]);
    assert_eq!(lines(&answer)[0]["text"], "Hello, Ada!");
    let greeted = "plugin.warm-greeter.greeted";
    let told =
        project.echo_core(&["publish", "--local", topic, r#"{"name":"Bob"}"#, "-s", greeted]);
    assert_eq!(lines(&told)[0]["message"]["data"]["text"], "Hello, Bob!");
    let dead = project.echo_core(&["publish", "--local", topic, "1", "-s", "dead.>"]);
    let reason = lines(&dead)[0]["message"]["data"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("a greeting takes"), "{reason}");

    let shown = project.echo_core(&["plugin", "show", "warm-greeter"]);
    for words in ["  abi       1.", "  hash      ", "  status    enabled", "  examples  2"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("on host"), "{shown}");

    // A plugin that is at work is built anew without disturbing whoever has it loaded.
    project.echo_core(&["plugin", "build", "warm-greeter"]);
    project.echo_core(&["plugin", "deactivate", "warm-greeter"]);
    let request = ["request", "--local", topic, "{}"];
    let refused = project.output(env!("CARGO_BIN_EXE_echo-core"), &request);
    assert_eq!(refused.status.code(), Some(3));
}

#[test]
fn the_examples_are_held_against_the_built_library() {
    let project = Project::new("examples");
    project.echo_core(&["plugin", "new", "tested"]);
    project.echo_core(&["plugin", "build", "tested"]);
    let program = env!("CARGO_BIN_EXE_echo-core");
    let tested = project.output(program, &["plugin", "test", "tested"]);
    assert_eq!(String::from_utf8(tested.stderr).unwrap(), "", "examples of what goes wrong");
    let passed = String::from_utf8(tested.stdout).unwrap();
    assert!(passed.contains("pass A name is greeted.\n"), "{passed}");
    assert!(passed.ends_with("2 of 2 examples passed\n"), "{passed}");

    let manifest = project.0.join("plugins/workshop/tested/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let wrong = r#""expect_data": { "text": "Goodbye, Ada!" }"#;
    let text = text.replace(r#""expect_data": { "text": "Hello, Ada!" }"#, wrong);
    fs::write(
        &manifest,
        text.replace(r#""expect_status": "failed""#, r#""expect_status": "error""#),
    )
    .unwrap();
    project.echo_core(&["plugin", "build", "tested"]);
    let failed = project.output(program, &["plugin", "test", "tested"]);
    let said = String::from_utf8(failed.stdout).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    for words in [
        "FAIL A name is greeted.",
        r#"is {"text":"Hello, Ada!"}, not {"text":"Goodbye, Ada!"}"#,
        "the status is `failed` (a greeting takes {\"name\": …}), not `error`",
        "0 of 2 examples passed",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json = project.output(program, &["plugin", "test", "tested", "--json"]);
    let outcomes: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&outcomes[0]["passed"], &outcomes[0]["status"]),
        (&false.into(), &"acknowledged".into())
    );
    let other = text.replace("\"name\": \"tested\"", "\"name\": \"another\"");
    fs::write(&manifest, other).unwrap();
    let refused = project.output(program, &["plugin", "build", "tested"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(2) && said.contains("names the plugin `another`"),
        "{said}"
    );
    let missing = project.output(program, &["plugin", "test", "tested", "production"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_running_host_shows_its_plugin() {
    let project = Project::new("shown");
    project.echo_core(&["plugin", "new", "shown", "--template", "processor"]);
    project.echo_core(&["plugin", "build", "shown"]);
    project.echo_core(&["plugin", "activate", "shown"]);
    let mut serve = project.command(env!("CARGO_BIN_EXE_echo-core"), &["serve"]);
    serve.env("ECHO_GATEWAY__NATS", "127.0.0.1:0").env("ECHO_GATEWAY__HTTP", "127.0.0.1:0");
    let mut host = Running::spawn(serve);
    host.until_out("ready");
    let order = ["request", "plugin.shown.north.ordered", r#"{"pieces":2,"cents":5}"#];
    assert_eq!(lines(&project.echo_core(&order))[0]["text"], "0.10 EUR");
    let shown = project.echo_core(&["plugin", "show", "shown"]);
    let (file, running) = shown.split_once("on host").unwrap();
    let hash = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("  hash      "));
        line.unwrap().to_owned()
    };
    assert_eq!(hash(file), hash(running));
    for words in ["  state     running since", "  abi       1.", "  workers   1 of 1 to 8"] {
        assert!(running.contains(words), "{words}: {shown}");
    }
    assert!(running.contains("1 accepted, 1 acknowledged, 0 retried"), "{shown}");
    let json = project.echo_core(&["plugin", "show", "shown", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hosts"][0]["library"]["hash"], json["library"]["hash"]);
    assert_eq!(json["hosts"][0]["health"]["state"], "unchecked");

    let unloaded = project.echo_core(&["plugin", "unload", "shown"]);
    assert_eq!(unloaded, "`shown` is unloaded on 1 host\n");
    let program = env!("CARGO_BIN_EXE_echo-core");
    let nobody = project.output(program, &order);
    assert_eq!(nobody.status.code(), Some(3), "nobody answers");
    let loaded = project.echo_core(&["plugin", "load", "shown"]);
    assert_eq!(loaded, "`shown` is running on 1 host\n");
    assert_eq!(lines(&project.echo_core(&order))[0]["text"], "0.10 EUR");
    let twice = project.output(program, &["plugin", "load", "shown"]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("is registered already"));
    host.signal("TERM");
    assert_eq!(host.end().code, 0);
}

#[test]
fn a_host_that_is_killed_comes_back_with_the_version_before_the_one_on_trial() {
    let project = Project::new("killed");
    fs::write(project.0.join("echo-core.toml"), "[plugins.transition]\ntrial = \"10m\"\n").unwrap();
    let serve = || {
        let mut serve = project.command(env!("CARGO_BIN_EXE_echo-core"), &["serve"]);
        serve.env("ECHO_GATEWAY__NATS", "127.0.0.1:0").env("ECHO_GATEWAY__HTTP", "127.0.0.1:0");
        Running::spawn(serve)
    };
    let version = || {
        let shown = project.echo_core(&["plugin", "show", "killed", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let at = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (at(&shown["manifest"]["version"]), at(&shown["hosts"][0]["slot"]["version"]))
    };
    project.echo_core(&["plugin", "new", "killed", "--template", "processor"]);
    project.echo_core(&["plugin", "build", "killed"]);
    project.echo_core(&["plugin", "activate", "killed"]);
    let mut host = serve();
    host.until_out("ready");
    let cut = ["subscribe", "system.plugin.transition.cut", "--count", "1"];
    let mut cut = Running::spawn(project.command(env!("CARGO_BIN_EXE_echo-core"), &cut));
    cut.until("listening");
    let manifest = project.0.join("plugins/workshop/killed/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"version\": \"0.1.0\"", "\"version\": \"0.2.0\"")).unwrap();
    // The host that runs takes the new build up.
    project.echo_core(&["plugin", "build", "killed"]);
    cut.until_out("\"to\":\"0.2.0\"");
    host.signal("KILL");
    drop(host);

    let mut host = serve();
    let warning = host.until("killed is not loaded");
    for words in ["`killed` 0.2.0 was on trial when its host ended", "0.1.0, runs from"] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
    host.until_out("ready");
    assert_eq!(version(), ("0.2.0".to_owned(), "0.1.0".to_owned()), "enabled, and running");
    let order = ["request", "plugin.killed.north.ordered", r#"{"pieces":2,"cents":5}"#];
    assert_eq!(lines(&project.echo_core(&order))[0]["text"], "0.10 EUR");
    // Once more, by order, and for good.
    let enabled = "plugins/enabled/killed";
    let again = ["plugin", "transition", "killed", enabled, "--trial", "1ms"];
    let told = project.echo_core(&again);
    assert!(told.contains("the new version 0.2.0 stays"), "{told}");
    host.signal("KILL");
    drop(host);
    let mut host = serve();
    host.until_out("ready");
    assert_eq!(version(), ("0.2.0".to_owned(), "0.2.0".to_owned()));
}
