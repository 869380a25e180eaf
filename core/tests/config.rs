//! The configuration: its layers, its strictness, and what it makes of a plugin.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use echo_core::Host;
use echo_core::config::{
    Config, ConfigError, DEFAULT_CONFIG, FILE_NAMES, LogFormat, PluginSettingsError,
};
use echo_sdk::{Manifest, WorkerPoolConfig};
use serde_json::json;

fn load(folder: &Path, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::load_from(folder, None, variables.iter().map(owned))
}

/// The one fault of a file, as `line: key: message`.
fn fault(text: &str) -> String {
    match Config::parse("echo-core.toml", text).unwrap_err() {
        ConfigError::File(faults) => {
            let faults: Vec<String> = faults
                .iter()
                .map(|fault| format!("{}: {}: {}", fault.line, fault.key, fault.message))
                .collect();
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
            faults.concat()
        }
        other => panic!("{text}: {other}"),
    }
}

fn manifest() -> Manifest {
    Manifest::from_json(
        r#"{"name": "greeter", "version": "1.0.0", "description": "greets", "type": "custom",
            "config": {"greeting": "hi", "tone": {"warm": true, "loud": false}, "names": ["a"]},
            "worker_pool": {"max_workers": 4}}"#,
    )
    .unwrap()
}

#[test]
fn the_default_file_says_what_the_code_does() {
    assert_eq!(Config::parse("default.toml", DEFAULT_CONFIG).unwrap(), Config::default());
    assert_eq!(Config::parse("empty.toml", "").unwrap(), Config::default());
}

/// Every line `# key = value` of the default file is a key that exists, and the value one that it takes.
#[test]
fn the_keys_that_the_default_file_only_shows_are_real() {
    let shown: String = DEFAULT_CONFIG
        .lines()
        .map(|line| {
            let code = line.strip_prefix("# ").filter(|code| {
                code.starts_with("[[") || code.split_once(" = ").is_some_and(|(key, _)| is_key(key))
            });
            format!("{}\n", code.unwrap_or(line))
        })
        .collect();
    let config = Config::parse("shown.toml", &shown).unwrap();
    let everything = serde_json::to_value(&config).unwrap();
    // A server knows a host by one of several; `max_attempts` of all plugins is `delivery.max_attempts`.
    let unset = nulls("", &everything);
    assert_eq!(
        unset,
        [
            "/bus/nats/creds",
            "/bus/nats/nkey",
            "/bus/nats/token",
            "/plugins/register/0/worker_pool/adaptive_scaling",
            "/plugins/register/0/worker_pool/deadline",
            "/plugins/register/0/worker_pool/handler",
            "/plugins/register/0/worker_pool/min_workers",
            "/plugins/register/0/worker_pool/overflow",
            "/plugins/register/0/worker_pool/queue_size",
            "/plugins/register/0/worker_pool/scaling_threshold",
            "/plugins/register/0/worker_pool/shutdown_timeout",
            "/plugins/worker_pool/max_attempts",
        ]
    );
    // The values shown for the pool are those that hold anyway.
    let pool = config.plugins.worker_pool.over(WorkerPoolConfig::default());
    assert_eq!(pool, WorkerPoolConfig::default());
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn nulls(path: &str, value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Null => vec![path.to_owned()],
        serde_json::Value::Object(table) => {
            let mut found: Vec<String> = table
                .iter()
                .flat_map(|(key, value)| nulls(&format!("{path}/{key}"), value))
                .collect();
            found.sort();
            found
        }
        serde_json::Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| nulls(&format!("{path}/{index}"), value))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_layer_goes_over_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load(folder.path(), &[]).unwrap(), Config::default());

    std::fs::create_dir(folder.path().join("config")).unwrap();
    let below = "[run]\njobs = 2\n[bus]\nqueue_size = 7\n";
    std::fs::write(folder.path().join(FILE_NAMES[1]), below).unwrap();
    let config = load(folder.path(), &[]).unwrap();
    assert_eq!((config.run.jobs, config.bus.queue_size), (2, 7));
    assert_eq!(config.delivery, Config::default().delivery);

    std::fs::write(folder.path().join(FILE_NAMES[0]), "[run]\njobs = 3\n").unwrap();
    let config = load(folder.path(), &[]).unwrap();
    assert_eq!((config.run.jobs, config.bus.queue_size), (3, 65_536), "one file is read, not two");

    let config = load(folder.path(), &[("ECHO_RUN__JOBS", "4")]).unwrap();
    assert_eq!(config.run.jobs, 4);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::load_from(folder.path(), Some(Path::new("mine.toml")), []).unwrap_err();
    assert!(error.to_string().contains("mine.toml"), "{error}");
    std::fs::write(folder.path().join("mine.toml"), "[shutdown]\ntimeout = '1m'\n").unwrap();
    let config = Config::load_from(folder.path(), Some(Path::new("mine.toml")), []).unwrap();
    assert_eq!(config.shutdown.timeout, Duration::from_secs(60));
}

#[test]
fn the_environment_sets_any_key_whatever_its_type() {
    let config = load(
        Path::new("/nonexistent"),
        &[
            ("ECHO_BUS__MAX_PAYLOAD", "512kb"),
            ("ECHO_DELIVERY__RETRY_BASE_DELAY", "1m"),
            ("ECHO_DELIVERY__RETRY_MAX_DELAY", "2m"),
            ("ECHO_PLUGINS__ENABLED", "false"),
            ("ECHO_PLUGINS__DIR", "elsewhere"),
            ("ECHO_PLUGINS__WORKER_POOL__MIN_WORKERS", "3"),
            ("ECHO_RUN__TIMEOUT", "5m"),
            ("ECHO_TELEMETRY__LOG", "info,plugin=debug"),
            ("ECHO_TELEMETRY__LOG_FORMAT", "json"),
            ("ECHO_TELEMETRY__PROMETHEUS", "127.0.0.1:0"),
            ("ECHO_TELEMETRY__SAMPLE_RATIO", "0.5"),
            ("ECHO_TELEMETRY__SERVICE_NAME", "42"),
            ("ECHO_URL", "nats://127.0.0.1:4222"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.bus.max_payload, 512 * 1024);
    assert_eq!(config.delivery.retry_base_delay, Duration::from_secs(60));
    assert!(!config.plugins.enabled);
    assert_eq!(config.plugins.dir, Path::new("elsewhere"));
    assert_eq!(config.plugins.worker_pool.min_workers, Some(3));
    assert_eq!(config.run.timeout, Some(Duration::from_secs(300)));
    assert_eq!(config.telemetry.log, "info,plugin=debug");
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    assert_eq!(config.telemetry.prometheus.unwrap().port(), 0);
    assert_eq!(config.telemetry.sample_ratio, 0.5);
    assert_eq!(config.telemetry.service_name, "42");
}

#[test]
fn a_fault_of_the_environment_names_the_variable() {
    for (name, value, words) in [
        ("ECHO_RUN__JOBS", "many", "many"),
        ("ECHO_RUN__JOBS", "-1", "-1"),
        ("ECHO_RUN__JOB", "1", "did you mean `jobs`?"),
        ("ECHO_RUM__JOBS", "1", "did you mean `run`?"),
        ("ECHO_RUN__JOBS__MORE", "1", "jobs"),
        ("ECHO_RUN__", "1", "unknown key"),
        ("ECHO_PLUGINS__WORKER_POOL", "1", "table"),
        ("ECHO_PLUGINS__REGISTER", "[]", "array"),
        ("ECHO_BUS__QUEUE_SIZE", "0", "at least 1"),
        ("ECHO_BUS__MAX_PAYLOAD", "big", "8mb"),
        ("ECHO_TELEMETRY__LOG", "a=\n\"b\"", "filter"),
        ("ECHO_TELEMETRY__SAMPLE_RATIO", "7", "1"),
        ("ECHO_DELIVERY__MAX_ATTEMPTS", "0", "1"),
    ] {
        let error = load(Path::new("/nonexistent"), &[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
}

#[test]
fn a_fault_of_the_file_points_at_its_line() {
    for (text, expected) in [
        ("[bus]\nqueue_sise = 1", ["2: bus.queue_sise", "`queue_size`"]),
        ("[buss]\n", ["1: buss", "`bus`"]),
        ("[bus]\nqueue_size = 'big'", ["2: bus.queue_size", "integer"]),
        ("[bus]\nqueue_size = 0", ["2: bus.queue_size", "at least 1"]),
        ("[bus]\nmax_payload = '8 parsecs'", ["2: bus.max_payload", "8mb"]),
        ("[bus]\nmax_payload = 0", ["2: bus.max_payload", "0"]),
        ("\n[shutdown]\ntimeout = 'soon'", ["3: shutdown.timeout", "no duration"]),
        ("[delivery]\nmax_attempts = 0", ["2: delivery.max_attempts", "1"]),
        (
            "[delivery]\nretry_max_delay = '1ms'",
            ["2: delivery.retry_max_delay", "retry_base_delay"],
        ),
        (
            "[plugins.worker_pool]\nmax_attempts = 1",
            ["2: plugins.worker_pool", "`delivery.max_attempts`"],
        ),
        ("[plugins.worker_pool]\nmin_workers = 9", ["1: plugins.worker_pool", "max_workers"]),
        ("[[plugins.register]]\nid = 'a.b'", ["2: plugins.register[0].id", "`a.b`"]),
        (
            "[[plugins.register]]\nid = 'a'\n[[plugins.register]]\nid = 'a'",
            ["4: plugins.register[1].id", "twice"],
        ),
        ("[[plugins.register]]\nenabled = true", ["1: plugins.register[0]", "id"]),
        ("[run]\njobs = 0", ["2: run.jobs", "1"]),
        ("[telemetry]\nlog = 'plugin=loud'", ["2: telemetry.log", "filter"]),
        ("[telemetry]\nlog_format = 'xml'", ["2: telemetry.log_format", "json"]),
        ("[telemetry]\nprometheus = 'here'", ["2: telemetry.prometheus", "127.0.0.1:9464"]),
        ("[telemetry]\notlp_endpoint = 'https://x'", ["2: telemetry.otlp_endpoint", "http://"]),
        ("[telemetry]\nsample_ratio = 1.5", ["2: telemetry.sample_ratio", "1"]),
    ] {
        let fault = fault(text);
        assert!(expected.iter().all(|words| fault.contains(words)), "{text}: {fault}");
    }
}

#[tokio::test]
async fn a_subscription_holds_as_many_messages_as_the_bus_says() {
    let config = Config::parse("echo-core.toml", "[bus]\nqueue_size = 2").unwrap();
    let host = Host::builder().config(config).start().await.unwrap();
    let client = host.client("test");
    let mut subscription = client.subscribe("numbers").await.unwrap();
    for number in 0..5 {
        client.publish_data("numbers", &number).await.unwrap();
    }
    for number in [3, 4] {
        let received = subscription.next().await.unwrap();
        assert_eq!(received.message.json::<i32>().unwrap(), number, "the oldest are dropped");
    }
    host.shutdown().await;
}

#[test]
fn a_plugin_without_settings_runs_as_its_manifest_says() {
    let setup = Config::default().plugin_setup(&manifest()).unwrap();
    assert!(setup.enabled);
    assert_eq!(setup.config, manifest().config);
    assert_eq!(setup.worker_pool, manifest().worker_pool);
}

#[test]
fn settings_go_over_the_manifest_key_by_key() {
    let text = r#"
        [delivery]
        max_attempts = 9
        [plugins.worker_pool]
        max_workers = 16
        queue_size = 10
        deadline = "1m"
        [[plugins.register]]
        id = "greeter"
        type = "custom"
        config = { greeting = "hello", tone = { loud = true }, names = [] }
        worker_pool = { min_workers = 2 }
        [[plugins.register]]
        id = "other"
        enabled = false
    "#;
    let config = Config::parse("echo-core.toml", text).unwrap();
    let setup = config.plugin_setup(&manifest()).unwrap();
    let tone = json!({"warm": true, "loud": true});
    assert_eq!(json!(setup.config), json!({"greeting": "hello", "tone": tone, "names": []}));
    let expected = WorkerPoolConfig {
        min_workers: 2,
        max_workers: 4,
        queue_size: 10,
        deadline: Some(Duration::from_secs(60)),
        max_attempts: 9,
        ..WorkerPoolConfig::default()
    };
    assert_eq!(setup.worker_pool, expected);

    let other = Manifest { name: "other".into(), ..manifest() };
    assert!(!config.plugin_setup(&other).unwrap().enabled);
}

#[test]
fn a_plugin_that_wants_no_deadline_gets_none_from_the_defaults() {
    let mut endless = manifest();
    endless.worker_pool.deadline = None;
    let config = Config::parse("echo-core.toml", "[plugins.worker_pool]\ndeadline = '1m'").unwrap();
    assert_eq!(config.plugin_setup(&endless).unwrap().worker_pool.deadline, None);
    let own = "[[plugins.register]]\nid = 'greeter'\nworker_pool = { deadline = '2m' }";
    let config = Config::parse("echo-core.toml", own).unwrap();
    let deadline = config.plugin_setup(&endless).unwrap().worker_pool.deadline;
    assert_eq!(deadline, Some(Duration::from_secs(120)));
}

#[test]
fn settings_that_do_not_fit_the_plugin_are_refused() {
    for (settings, words) in [
        ("type = 'chaos'", "`chaos`"),
        ("config = { greetin = 1 }", "did you mean `greeting`?"),
        ("config = { zzz = 1 }", "names"),
        ("worker_pool = { min_workers = 5 }", "whose `max_workers` is 4, below"),
    ] {
        let text = format!("[[plugins.register]]\nid = 'greeter'\n{settings}");
        let config = Config::parse("echo-core.toml", &text).unwrap();
        let error = config.plugin_setup(&manifest()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A manifest with a schema of its configuration.
fn strict() -> Manifest {
    let mut manifest = manifest();
    manifest.config = json!({ "greeting": "hi", "times": 1, "tone": { "warm": true } })
        .as_object()
        .cloned()
        .unwrap();
    manifest.config_schema = Some(json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["greeting", "times"],
        "properties": {
            "greeting": { "type": "string", "minLength": 1 },
            "times": { "description": "How often.", "type": "integer", "minimum": 1 },
            "tone": {
                "type": "object",
                "additionalProperties": false,
                "required": ["warm"],
                "properties": { "warm": { "type": "boolean" }, "loud": { "type": "boolean" } },
            },
        },
    }));
    manifest
}

#[test]
fn a_plugins_configuration_is_held_against_its_schema_at_its_line() {
    let text = "\
[[plugins.register]]
id = 'other'

[[plugins.register]]
id = 'greeter'
worker_pool = { min_workers = 1 }
[plugins.register.config]
greting = 'hello'
times = 0
tone = { loud = 'yes' }
";
    let config = Config::parse("echo-core.toml", text).unwrap();
    let error = config.plugin_setup(&strict()).unwrap_err();
    let PluginSettingsError::File { plugin, faults } = &error else { panic!("{error:?}") };
    assert_eq!(plugin, "greeter");
    let places: Vec<_> = faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
    let at = |key: &str| format!("plugins.register[1].config.{key}");
    let expected = [(8, at("greting")), (9, at("times")), (10, at("tone.loud"))];
    assert_eq!(places, expected.each_ref().map(|(line, key)| (*line, key.as_str())));
    let told = error.to_string();
    assert!(told.contains("echo-core.toml:9:9: ") && told.contains("greeter"), "{told}");

    let fitting =
        text.replace("greting", "greeting").replace("= 0", "= 2").replace("'yes'", "true");
    let config = Config::parse("echo-core.toml", &fitting).unwrap();
    let setup = config.plugin_setup(&strict()).unwrap();
    let tone = json!({ "warm": true, "loud": true });
    assert_eq!(json!(setup.config), json!({ "greeting": "hello", "times": 2, "tone": tone }));
}

#[test]
fn what_is_in_no_file_is_checked_too() {
    let mut unsound = strict();
    unsound.config.remove("times");
    let error = Config::default().plugin_setup(&unsound).unwrap_err().to_string();
    assert!(error.contains("missing key `times`") && error.contains("How often."), "{error}");
    let register = "[[plugins.register]]\nid = 'greeter'\nenabled = true\n";
    let config = Config::parse("echo-core.toml", register).unwrap();
    let error = config.plugin_setup(&unsound).unwrap_err().to_string();
    assert!(error.contains("echo-core.toml:1:1: missing key `times`"), "{error}");
    unsound.config_schema = Some(json!({ "type": "nothing" }));
    let error = config.plugin_setup(&unsound).unwrap_err();
    assert!(matches!(error, PluginSettingsError::Schema { .. }), "{error}");
    assert!(Config::default().plugin_setup(&strict()).is_ok());
}

#[test]
fn a_variable_of_the_environment_keeps_the_lines_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[plugins.register]]\nid = 'greeter'\ntype = 'chaos'\n";
    std::fs::write(folder.path().join("echo-core.toml"), text).unwrap();
    let variable = ("ECHO_TELEMETRY__LOG".to_owned(), "debug".to_owned());
    let config = Config::load_from(folder.path(), None, [variable]).unwrap();
    assert_eq!(config.telemetry.log, "debug");
    let error = config.plugin_setup(&strict()).unwrap_err().to_string();
    assert!(error.contains("echo-core.toml:3:8: `greeter` is of type `custom`"), "{error}");
}
