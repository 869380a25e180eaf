//! Libraries that bring their host down, or keep it waiting, while they are loaded.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use echo_core::library::{Fault, LoadedLibrary, Loader, Quarantine, UnloadOutcome, quarantined};
use echo_core::{Config, Host};
use echo_sdk::testing::mock_with;
use serde_json::{Value, json};

use crate::hosted::enabled;
use crate::kit::{echo, misbehave, own_rustc, plain};

/// Where the host of another process keeps its state, what it loads, and how the plugin is created.
const STATE: &str = "ECHO_TEST_LIBRARY_STATE";
const LIBRARY: &str = "ECHO_TEST_LIBRARY";
const CREATE: &str = "ECHO_TEST_LIBRARY_CREATE";
const PLUGIN: &str = "ECHO_TEST_LIBRARY_PLUGIN";

/// The host of another process: loads what it is told to, and goes on.
#[tokio::test]
async fn child() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let library = std::env::var_os(LIBRARY).unwrap();
    let folder = enabled(&[("library", Path::new(&library))]);
    let mut config = Config::default();
    config.gateway.state_dir = Some(state.into());
    let (plugin, create) = (std::env::var(PLUGIN).unwrap(), std::env::var(CREATE).unwrap());
    if plugin != "echo" {
        config.plugins.register = vec![settings(&plugin, json!({ "create": create }))];
    }
    let host = Host::builder().config(config).enabled_dir(folder.path()).start().await.unwrap();
    println!("refused: {:?}", host.refused());
    host.shutdown().await;
}

fn settings(plugin: &str, config: Value) -> echo_core::config::PluginSettings {
    serde_json::from_value(json!({ "id": plugin, "config": config })).unwrap()
}

/// Starts a host in another process; whether it lived, and what it said.
fn host(state: &Path, (plugin, library): (&str, &Path), create: &str) -> (bool, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "crashed::child", "--nocapture"]);
    child.env(STATE, state).env(LIBRARY, library).env(PLUGIN, plugin).env(CREATE, create);
    let output = child.output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// The markers in a host's state.
fn markers(state: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(state.join("loading")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_library_that_brought_a_host_down_is_not_loaded_again_until_its_marker_is_deleted() {
    let plain = plain(&own_rustc());
    for (library, fault) in
        [(("misbehave", misbehave()), "abort"), (("plain", &*plain.path()), "wrong free")]
    {
        let state = tempfile::tempdir().unwrap();
        let assert_loaded = |library| {
            let (lived, said) = host(state.path(), library, "well");
            assert!(lived && said.contains("refused: []"), "{fault}: {said}");
        };
        assert_loaded(library);
        assert!(markers(state.path()).is_empty());

        let (lived, said) = host(state.path(), library, fault);
        assert!(!lived, "{fault}: {said}");
        let [marker] = &markers(state.path())[..] else { panic!("{:?}", markers(state.path())) };

        // The next one lives, without it, though it would do no harm now.
        let (lived, said) = host(state.path(), library, "well");
        assert!(lived, "{fault}: {said}");
        for words in ["has brought a host down", &marker.display().to_string(), "library` has"] {
            assert!(said.contains(words), "{fault}: `{words}` is missing in: {said}");
        }
        // Another library is none of its business.
        assert_loaded(("echo", echo()));

        std::fs::remove_file(marker).unwrap();
        assert_loaded(library);
    }
}

#[test]
fn a_marker_stands_until_the_library_is_in_service() {
    let state = tempfile::tempdir().unwrap();
    let load = |create: &str| -> Result<LoadedLibrary, Fault> {
        let config = json!({ "create": create }).as_object().cloned().unwrap();
        let context = |_: &echo_sdk::Manifest| mock_with("misbehave", config).0;
        let loader = Loader::default().remember_in(state.path());
        loader.load(misbehave(), context).map_err(|error| error.fault)
    };
    let library = load("well").unwrap();
    assert_eq!(markers(state.path()).len(), 1);
    library.settled();
    assert!(markers(state.path()).is_empty());
    assert!(matches!(library.unload().outcome, UnloadOutcome::Unloaded));
    // A refusal that the host survives is none to remember.
    for create in ["panic", "error", "name"] {
        load(create).unwrap_err();
        assert!(markers(state.path()).is_empty(), "{create}");
    }
}

#[test]
fn a_constructor_that_does_not_return_is_not_waited_for() {
    let patience = Duration::from_millis(100);
    let config = json!({ "create": "hang" }).as_object().cloned().unwrap();
    let loader = Loader::default().patience(patience);
    let error = loader.load(misbehave(), |_| mock_with("misbehave", config).0).unwrap_err();
    assert!(matches!(error.fault, Fault::Late { .. }), "{error}");
    assert!(error.to_string().contains("was not created within 100ms"), "{error}");
    let stays = Quarantine::Creating.to_string();
    assert!(quarantined().iter().any(|it| it.plugin == "misbehave" && it.reason == stays));
}

#[tokio::test]
async fn an_init_that_does_not_return_is_refused_and_the_host_runs_on() {
    for (init, clean) in [("wait", true), ("hang", false)] {
        let folder = enabled(&[("echo", echo()), ("misbehave", misbehave())]);
        let mut config = Config::default();
        config.plugins.start_timeout = Duration::from_millis(200);
        config.plugins.register = vec![settings("misbehave", json!({ "init": init }))];
        let host = Host::builder().config(config).enabled_dir(folder.path()).start().await.unwrap();
        let [refused] = host.refused() else { panic!("{:?}", host.refused()) };
        assert!(refused.file.ends_with("/misbehave"), "{refused:?}");
        assert!(refused.reason.contains("its init took longer than 200ms"), "{refused:?}");
        let client = host.client("test");
        let message = client.message_builder().data(&1).build().unwrap();
        let answer = client.request("plugin.echo.say", message, Duration::from_secs(10)).await;
        assert_eq!(answer.unwrap().json::<u8>().unwrap(), 1);
        // A thread that hangs in a library keeps it in memory, which is a fault.
        let report = host.shutdown().await;
        assert_eq!(report.is_clean(), clean, "{init}: {report:?}");
    }
}
