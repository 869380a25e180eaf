//! Every hook is called by what the orchestrator and the service plugins publish in a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use echo_core::Host;
use echo_core::config::TelemetryConfig;
use echo_plugin_orchestrator::Orchestrator;
use echo_plugin_process::ProcessPlugin;
use echo_sdk::contract::run::{
    Outcome, RunEnded, RunStarted, START, StepEnded, StepStarted, SuiteEnded, SuiteStarted,
    TestEnded, TestStarted,
};
use echo_sdk::contract::service::{
    ServiceDied, ServiceFailed, ServiceReady, ServiceStarted, ServiceStopped,
};
use echo_sdk::contract::trace::{SpanEnded, SpanStarted, TraceEnded};
use echo_sdk::hooks::{Hooks, topics};
use echo_sdk::template::{BasePlugin, Handlers, NoConfig, PluginProcessor};
use echo_sdk::{Manifest, PluginContext, PluginError};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// The hooks that were called.
static CALLED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// A hook was called.
static HEARD: Notify = Notify::const_new();

/// The spans that ended, each with its error.
static SPANS: Mutex<Vec<(String, Option<String>)>> = Mutex::new(Vec::new());

/// The traces that ended.
static TRACES: Mutex<Vec<TraceEnded>> = Mutex::new(Vec::new());

struct Witness;

impl Witness {
    fn saw(&self, hook: &'static str) -> Result<(), PluginError> {
        CALLED.lock().unwrap().insert(hook);
        HEARD.notify_one();
        Ok(())
    }
}

echo_sdk::hooks! {
    impl Hooks for Witness {
        async fn on_run_start(&self, _: RunStarted) -> Result<(), PluginError> {
            self.saw("on_run_start")
        }
        async fn on_run_end(&self, _: RunEnded) -> Result<(), PluginError> {
            self.saw("on_run_end")
        }
        async fn on_suite_start(&self, _: SuiteStarted) -> Result<(), PluginError> {
            self.saw("on_suite_start")
        }
        async fn on_suite_end(&self, _: SuiteEnded) -> Result<(), PluginError> {
            self.saw("on_suite_end")
        }
        async fn on_test_start(&self, _: TestStarted) -> Result<(), PluginError> {
            self.saw("on_test_start")
        }
        async fn on_test_end(&self, _: TestEnded) -> Result<(), PluginError> {
            self.saw("on_test_end")
        }
        async fn on_step_start(&self, _: StepStarted) -> Result<(), PluginError> {
            self.saw("on_step_start")
        }
        async fn on_step_end(&self, _: StepEnded) -> Result<(), PluginError> {
            self.saw("on_step_end")
        }
        async fn on_service_start(&self, _: ServiceStarted) -> Result<(), PluginError> {
            self.saw("on_service_start")
        }
        async fn on_service_ready(&self, _: ServiceReady) -> Result<(), PluginError> {
            self.saw("on_service_ready")
        }
        async fn on_service_failure(&self, _: ServiceFailed) -> Result<(), PluginError> {
            self.saw("on_service_failure")
        }
        async fn on_service_death(&self, _: ServiceDied) -> Result<(), PluginError> {
            self.saw("on_service_death")
        }
        async fn on_service_stop(&self, _: ServiceStopped) -> Result<(), PluginError> {
            self.saw("on_service_stop")
        }
        async fn on_span_start(&self, _: SpanStarted) -> Result<(), PluginError> {
            self.saw("on_span_start")
        }
        async fn on_span_end(&self, span: SpanEnded) -> Result<(), PluginError> {
            let SpanEnded { span, error, .. } = span;
            SPANS.lock().unwrap().push((span.name, error));
            self.saw("on_span_end")
        }
        async fn on_trace_end(&self, trace: TraceEnded) -> Result<(), PluginError> {
            TRACES.lock().unwrap().push(trace);
            self.saw("on_trace_end")
        }
    }
}

impl PluginProcessor for Witness {
    type Config = NoConfig;

    fn new(_: PluginContext, _: NoConfig) -> Result<Self, PluginError> {
        Ok(Self)
    }

    fn handlers() -> Handlers<Self> {
        Self::hooks()
    }
}

/// A suite of one step, with a service that runs this.
fn suite(name: &str, command: &[&str], step: &[&str]) -> Value {
    json!({
        "name": name,
        "services": { "web": { "type": "process", "command": command } },
        "steps": [{ "name": "look", "command": step }],
    })
}

fn is_told(span: &str) -> bool {
    SPANS.lock().unwrap().iter().any(|(name, _)| name == span)
}

#[tokio::test]
async fn every_hook_is_called_in_a_run() {
    assert_eq!(Witness::TOPICS.len(), topics::ALL.len(), "a hook is not tried here");
    let manifest = r#"{ "name": "witness", "version": "1.0.0", "description": "sees all" }"#;
    let manifest = Manifest::with_subscriptions(manifest, Witness::TOPICS).unwrap();
    let telemetry = TelemetryConfig { span_events: true, ..TelemetryConfig::default() };
    let guard = echo_core::telemetry::init(&telemetry).unwrap();
    let host = Host::builder()
        .telemetry(guard.exports())
        .plugin(echo_plugin_orchestrator::manifest(), |context| Ok(Orchestrator::new(context)))
        .plugin(echo_plugin_process::manifest(), |context| Ok(ProcessPlugin::new(context)))
        .plugin(manifest, BasePlugin::<Witness>::new)
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fuse = folder.path().join("fuse").display().to_string();
    // The service of the second suite cannot start; that of the third ends when the step says so, and the step waits
    // until it is gone.
    let ends = format!("echo $$ > {fuse}.pid; until [ -e {fuse} ]; do sleep 0.01; done; exit 3");
    let waits = format!(
        "read pid < {fuse}.pid; : > {fuse}; while kill -0 $pid 2>/dev/null; do sleep 0.01; done"
    );
    let suites = [
        suite("well", &["sleep", "60"], &["true"]),
        suite("not-at-all", &["/no/such/program"], &["true"]),
        suite("not-for-long", &["sh", "-c", &ends], &["sh", "-c", &waits]),
    ];
    let client = host.client("test");
    let start = client.message_builder().data(&json!({ "suites": suites })).build().unwrap();
    let ended = client.request(START, start, Duration::from_secs(60)).await.unwrap();
    let ended: RunEnded = ended.json().unwrap();
    assert_eq!(ended.outcome, Outcome::Errored, "{ended:?}");
    // A handler's span ends after its message is done.
    let all_told = async {
        while TRACES.lock().unwrap().iter().map(|trace| trace.spans.len()).sum::<usize>()
            != SPANS.lock().unwrap().len()
            || !is_told("test.run")
        {
            HEARD.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_told).await.unwrap();
    host.idle().await;
    let called = CALLED.lock().unwrap().clone();
    let all: BTreeSet<&str> = topics::ALL.iter().map(|(hook, _)| *hook).collect();
    assert_eq!(called, all);
    assert_eq!(host.plugin("witness").unwrap().metrics.dead, 0);

    let spans = SPANS.lock().unwrap().clone();
    assert!(is_told("process test.run.start"), "{spans:?}");
    assert!(spans.iter().any(|(_, error)| error.is_some()), "{spans:?}");
    // What is done with spans has none, or there would be no end of them.
    assert!(!spans.iter().any(|(name, _)| name.contains("trace.")), "{spans:?}");
    assert!(host.shutdown().await.is_clean());
}
