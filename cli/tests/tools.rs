//! The commands that look around: services, plugin list, doctor, completions.

mod common;

use common::Folder;

#[test]
fn services_lists_types_and_keys() {
    let folder = Folder::new();
    let ran = folder.expect(0, &["services"]);
    assert!(ran.stdout.contains("process  ") && ran.stdout.contains("generic_container"));
    let types = folder.expect(0, &["services", "--json"]).json();
    let process = types.as_array().unwrap().iter().find(|it| it["type"] == "process").unwrap();
    assert!(process["config_schema"]["properties"]["command"].is_object());
}

#[test]
fn plugin_list_and_show_read_manifests() {
    let folder = Folder::new();
    folder.write("plugins/enabled/notes", "this is no library");
    let plugins = folder.expect(0, &["plugin", "list", "--json"]).json();
    let status = |name: &str| {
        let plugin = plugins.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
        plugin["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status("orchestrator"), "built_in");
    assert_eq!(status("notes"), "refused");
    let shown = folder.expect(0, &["plugin", "show", "process"]);
    assert!(shown.stdout.contains("service.exec.local"), "{}", shown.stdout);
    let shown = folder.expect(0, &["plugin", "show", "process", "--json"]).json();
    assert_eq!(
        (&shown["manifest"]["type"], &shown["status"]),
        (&"service".into(), &"built_in".into())
    );
    let unknown = folder.expect(2, &["plugin", "show", "proces"]);
    assert!(unknown.stderr.contains("did you mean `process`"), "{}", unknown.stderr);
}

#[test]
fn a_library_that_is_refused_does_not_stop_a_run() {
    let folder = Folder::new();
    folder.write("plugins/enabled/notes", "this is no library");
    folder.write("a.suite.toml", "[[steps]]\nname = \"a\"\ncommand = [\"true\"]\n");
    let ran = folder.expect(0, &["run", "."]);
    assert!(ran.stderr.contains("warning:") && ran.stderr.contains("notes"), "{}", ran.stderr);
}

#[test]
fn plugin_commands_name_what_is_missing() {
    let folder = Folder::new();
    for (args, word) in [
        (&["plugin", "new", "mine"][..], "plugins/workshop"),
        (&["plugin", "new", "Mine!"], "`Mine!`"),
        (&["plugin", "build", "mine"], "plugins/workshop/mine/Cargo.toml"),
        (&["plugin", "activate", "mine"], "`echo-core plugin build mine --profile development`"),
        (&["plugin", "deactivate", "mine"], "`mine` is not enabled"),
    ] {
        let ran = folder.expect(2, args);
        assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn doctor_tells_what_each_missing_thing_costs() {
    let folder = Folder::new();
    let findings = folder.expect(0, &["doctor", "--json"]).json();
    let findings = findings.as_array().unwrap();
    for name in ["container engine", "cargo", "cgroups", "landlock", "seccomp", "NATS server"] {
        let finding =
            findings.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}"));
        assert!(finding["present"].is_boolean() && !finding["detail"].as_str().unwrap().is_empty());
        assert!(!finding["costs"].as_str().unwrap().is_empty());
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = folder.expect(0, &["completions", shell]);
        assert!(ran.stdout.contains("validate"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let folder = Folder::new();
    let mut child = folder
        .command(&["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn help_tells_the_exit_codes() {
    let folder = Folder::new();
    for args in [&["--help"][..], &["run", "--help"]] {
        let ran = folder.expect(0, args);
        assert!(ran.stdout.contains("130  interrupted"), "{}", ran.stdout);
    }
    folder.expect(2, &["dance"]);
}
