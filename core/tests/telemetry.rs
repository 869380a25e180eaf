//! Spans, metrics and logs as they are recorded, and trace contexts where nothing is recorded.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use echo_core::config::{LogFormat, TelemetryConfig};
use echo_core::telemetry::{
    Exports, Handling, HostTelemetry, METRICS, MetricKind, Outcome, SlotMetrics, describe,
    recorder, subscriber, with_trace,
};
use echo_sdk::contract::system::PluginStatus;
use echo_sdk::{
    BaseMessage, LogLevel, PluginError, ProcessingStatus, Telemetry, Topic, TraceContext,
};
use opentelemetry::Value;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};

const OUTSIDE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Recording {
    provider: SdkTracerProvider,
    spans: InMemorySpanExporter,
}

impl Recording {
    fn new(sampler: Sampler) -> Self {
        let spans = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(spans.clone())
            .with_sampler(sampler)
            .build();
        Self { provider, spans }
    }

    fn plugin(&self, name: &str) -> HostTelemetry {
        HostTelemetry::new(name, Exports::default().with_spans(&self.provider))
    }

    fn finished(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().unwrap()
    }

    fn span(&self, name: &str) -> SpanData {
        let spans = self.finished();
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span `{name}` in {spans:?}")).clone()
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string())
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// A message as a plugin's `message_builder` makes it.
fn message(from: &HostTelemetry, source: &str) -> BaseMessage {
    let builder = BaseMessage::builder(source).data(&"x");
    match from.current_trace() {
        Some(context) => builder.trace_context(context).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

#[test]
fn a_message_made_while_one_is_handled_lies_below_it() {
    let recording = Recording::new(Sampler::AlwaysOn);
    let (first, second) = (recording.plugin("first"), recording.plugin("second"));

    let run = first.start_span("run", None, &[("run_id", "r1")]);
    let request = BaseMessage::builder("first").trace_context(run.context().unwrap());
    let request = request.build().unwrap().with_attempt(2).with_hops(1);

    let (handling, scope) = Handling::begin(&second, &topic("service.start"), &request);
    let event = with_trace(&scope, || {
        let mut own = second.start_span("look", None, &[]);
        own.set_attribute("found", "1");
        own.set_error("not well");
        message(&second, "second")
    });
    handling.end(Outcome::Answered(&ProcessingStatus::Acknowledged));
    Handling::begin(&first, &topic("service.started"), &event)
        .0
        .end(Outcome::Answered(&ProcessingStatus::Failed("no use".into())));
    drop(run);

    let run = recording.span("run");
    let start = recording.span("process service.start");
    let look = recording.span("look");
    let started = recording.span("process service.started");
    assert_eq!(recording.finished().len(), 4);
    for span in [&start, &look, &started] {
        assert_eq!(span.span_context.trace_id(), run.span_context.trace_id());
    }
    assert_eq!(start.parent_span_id, run.span_context.span_id());
    assert_eq!(look.parent_span_id, start.span_context.span_id());
    assert_eq!(started.parent_span_id, start.span_context.span_id());

    assert_eq!((&run.span_kind, &start.span_kind), (&SpanKind::Internal, &SpanKind::Consumer));
    assert_eq!(attribute(&run, "run_id").unwrap(), "r1");
    assert_eq!(attribute(&run, "echo.plugin").unwrap(), "first");
    assert_eq!(attribute(&look, "found").unwrap(), "1");
    assert_eq!(look.status, Status::error("not well"));
    for (key, value) in [
        ("messaging.system", "echo-core"),
        ("messaging.operation.type", "process"),
        ("messaging.operation.name", "process"),
        ("messaging.destination.name", "service.start"),
        ("messaging.consumer.group.name", "second"),
        ("messaging.message.id", &request.id().to_string()),
        ("messaging.message.body.size", "4"),
        ("echo.source", "first"),
        ("echo.attempt", "2"),
        ("echo.hops", "1"),
        ("echo.status", "acknowledged"),
    ] {
        assert_eq!(attribute(&start, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(start.status, Status::Unset);
    assert_eq!(started.status, Status::error("no use"));
}

#[test]
fn every_outcome_is_told_apart() {
    let recording = Recording::new(Sampler::AlwaysOn);
    let plugin = recording.plugin("worker");
    let forward = ProcessingStatus::Forward(topic("else.where"), message(&plugin, "worker"));
    let retry = ProcessingStatus::RetryLater(Duration::from_secs(1));
    let failed = ProcessingStatus::Failed("why".into());
    let error = PluginError::InvalidData("bad".into());
    let panicked = PluginError::Panicked("boom".into());
    let outcomes = [
        ("acknowledged", Outcome::Answered(&ProcessingStatus::Acknowledged), None),
        ("forwarded", Outcome::Answered(&forward), None),
        ("retry_later", Outcome::Answered(&retry), None),
        ("failed", Outcome::Answered(&failed), Some("why")),
        ("error", Outcome::Error(&error), Some("bad")),
        ("panicked", Outcome::Error(&panicked), Some("boom")),
        ("timed_out", Outcome::TimedOut(Duration::from_secs(30)), Some("30s")),
    ];
    for (name, outcome, reason) in outcomes {
        let (handling, _) = Handling::begin(&plugin, &topic(name), &message(&plugin, "test"));
        handling.end(outcome);
        let span = recording.span(&format!("process {name}"));
        assert_eq!(attribute(&span, "echo.status").unwrap(), name);
        assert_eq!(attribute(&span, "error.type").as_deref(), reason.map(|_| name));
        match (&span.status, reason) {
            (Status::Unset, None) => {}
            (Status::Error { description }, Some(reason)) => {
                assert!(description.contains(reason), "{description}");
            }
            (status, _) => panic!("{name}: {status:?}"),
        }
    }
    let forwarded = recording.span("process forwarded");
    assert_eq!(attribute(&forwarded, "echo.forward.topic").unwrap(), "else.where");

    drop(Handling::begin(&plugin, &topic("cut.off"), &message(&plugin, "test")));
    let cut = recording.span("process cut.off");
    assert_eq!(attribute(&cut, "echo.status").unwrap(), "abandoned");
    assert!(matches!(cut.status, Status::Error { .. }));
}

#[test]
fn a_trace_from_outside_goes_on_with_its_state() {
    let recording = Recording::new(Sampler::AlwaysOn);
    let plugin = recording.plugin("worker");
    let outside = TraceContext {
        tracestate: Some("vendor=1".into()),
        ..TraceContext::parse(OUTSIDE).unwrap()
    };
    let asked = BaseMessage::builder("sh").trace_context(outside.clone()).build().unwrap();
    let (handling, scope) = Handling::begin(&plugin, &topic("a.b"), &asked);
    let inner = with_trace(&scope, || plugin.current_trace()).unwrap();
    drop(handling);
    let span = recording.span("process a.b");
    assert_eq!(inner.trace_id, outside.trace_id);
    assert_eq!(inner.tracestate.as_deref(), Some("vendor=1"));
    assert_eq!(span.span_context.span_id().to_bytes(), inner.span_id);
    assert_eq!(span.parent_span_id.to_bytes(), outside.span_id);
    assert!(span.parent_span_is_remote);
}

#[test]
fn a_trace_that_is_not_sampled_goes_on_unrecorded() {
    let recording = Recording::new(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    let plugin = recording.plugin("worker");
    let (handling, scope) = Handling::begin(&plugin, &topic("a.b"), &message(&plugin, "test"));
    let inner = with_trace(&scope, || plugin.current_trace()).unwrap();
    assert!(!inner.is_sampled());
    handling.end(Outcome::Answered(&ProcessingStatus::Acknowledged));
    assert!(recording.finished().is_empty());
}

#[test]
fn without_an_exporter_the_context_travels_all_the_same() {
    let plugin = HostTelemetry::new("worker", Exports::default());
    // A run begins a trace of its own.
    let run = plugin.start_span("run", None, &[]).context().unwrap();
    let other = plugin.start_span("run", None, &[]).context().unwrap();
    assert_ne!(run.trace_id, other.trace_id);
    assert!(!run.is_sampled());

    let asked = BaseMessage::builder("sh").trace_context(run.clone()).build().unwrap();
    let (handling, scope) = Handling::begin(&plugin, &topic("a.b"), &asked);
    with_trace(&scope, || {
        assert_eq!(message(&plugin, "worker").trace_context(), Some(run.clone()));
        let below = plugin.start_span("step", None, &[]).context();
        assert_eq!(below, Some(run.clone()), "nobody records the step, so its place is the run's");
    });
    handling.end(Outcome::Answered(&ProcessingStatus::Acknowledged));
    assert_eq!(plugin.current_trace(), None);

    let plain = message(&plugin, "worker");
    let (_handling, scope) = Handling::begin(&plugin, &topic("a.b"), &plain);
    assert_eq!(with_trace(&scope, || plugin.current_trace()), None);
}

#[test]
fn prometheus_reads_what_was_recorded() {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        describe();
        let slot = SlotMetrics::new("worker");
        slot.published.increment(3);
        slot.queue_depth.set(2.0);
        slot.handling.record(0.004);
        slot.set_status(None, PluginStatus::Initializing);
        slot.set_status(Some(PluginStatus::Initializing), PluginStatus::Running);

        let plugin = HostTelemetry::new("worker", Exports::default().with_metrics());
        plugin.counter("lines.read", 5, &[("file", "a\"b"), ("plugin", "mine")]);
        plugin.counter("lines.read", 2, &[("file", "a\"b"), ("plugin", "mine")]);
        plugin.counter("done_total", 1, &[]);
        plugin.gauge("open", 7.5, &[]);
        plugin.histogram("wait_seconds", 0.02, &[]);
        plugin.histogram("size", 10.0, &[("le", "x")]);
    });
    let text = handle.render();
    for line in [
        "# HELP echo_messages_published_total Messages that the plugin published.",
        "# TYPE echo_messages_published_total counter",
        r#"echo_messages_published_total{slot="worker"} 3"#,
        r#"echo_queue_depth{slot="worker"} 2"#,
        r#"echo_handling_seconds_bucket{slot="worker",le="0.005"} 1"#,
        r#"echo_handling_seconds_bucket{slot="worker",le="0.001"} 0"#,
        r#"echo_plugin_status{slot="worker",status="initializing"} 0"#,
        r#"echo_plugin_status{slot="worker",status="running"} 1"#,
        r#"plugin_lines_read_total{plugin="worker",file="a\"b",exported_plugin="mine"} 7"#,
        r#"plugin_done_total{plugin="worker"} 1"#,
        r#"plugin_open{plugin="worker"} 7.5"#,
        r#"plugin_wait_seconds_bucket{plugin="worker",le="0.025"} 1"#,
        r#"plugin_size_sum{plugin="worker",exported_le="x"} 10"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn a_plugin_records_no_metrics_unless_they_are_exported() {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let plugin = HostTelemetry::new("worker", Exports::default());
        plugin.counter("lines", 5, &[]);
        plugin.gauge("open", 1.0, &[]);
        plugin.histogram("size", 1.0, &[]);
    });
    assert_eq!(handle.render(), "");
}

/// Where log lines are kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(log: &str, log_format: LogFormat, write: impl FnOnce(&HostTelemetry)) -> String {
    let config = TelemetryConfig { log: log.into(), log_format, ..TelemetryConfig::default() };
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = subscriber(&config, move || writer.clone(), false).unwrap();
    let plugin = HostTelemetry::new("worker", Exports::default());
    tracing::subscriber::with_default(subscriber, || write(&plugin));
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_log_line_names_its_plugin_and_its_trace() {
    let asked = TraceContext::parse(OUTSIDE).unwrap();
    let text = logged("info", LogFormat::Json, |plugin| {
        let message = BaseMessage::builder("sh").trace_context(asked).build().unwrap();
        let (_handling, scope) = Handling::begin(plugin, &topic("a.b"), &message);
        with_trace(&scope, || plugin.log(LogLevel::Warn, "low on {} disk"));
        plugin.log(LogLevel::Info, "idle");
        plugin.log(LogLevel::Debug, "not asked for");
    });
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["message"], "low on {} disk");
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["target"], "plugin");
    assert_eq!(lines[0]["plugin"], "worker");
    assert_eq!(lines[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(lines[1].get("trace_id"), None);
}

#[test]
fn the_filter_tells_plugins_from_the_rest() {
    let text = logged("error,plugin=debug", LogFormat::Text, |plugin| {
        plugin.log(LogLevel::Debug, "mine");
        tracing::warn!("the host's");
        tracing::error!(name: "BatchSpanProcessor.ExportError", "what the host tells better");
    });
    assert!(text.contains("DEBUG plugin: mine plugin=worker"), "{text}");
    assert!(!text.contains("host"), "{text}");
}

#[test]
fn the_document_lists_every_metric_and_attribute() {
    let document = include_str!("../../docs/contracts/telemetry.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `echo_"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let expected: Vec<Vec<String>> = METRICS
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            vec![
                format!("`{}`", metric.name),
                kind.to_owned(),
                metric.unit.as_str().to_owned(),
                labels.join(", "),
                metric.about.to_owned(),
            ]
        })
        .collect();
    assert_eq!(rows, expected, "docs/contracts/telemetry.md, the table of metrics");

    let recording = Recording::new(Sampler::AlwaysOn);
    let plugin = recording.plugin("worker");
    let forward = ProcessingStatus::Forward(topic("else.where"), message(&plugin, "worker"));
    let failed = ProcessingStatus::Failed("why".into());
    for status in [&forward, &failed] {
        let (handling, _) = Handling::begin(&plugin, &topic("a.b"), &message(&plugin, "test"));
        handling.end(Outcome::Answered(status));
    }
    drop(plugin.start_span("own", None, &[]));
    for attribute in recording.finished().iter().flat_map(|span| &span.attributes) {
        let (key, value) = (attribute.key.as_str(), &attribute.value);
        let kind = if matches!(value, Value::I64(_)) { "integer" } else { "text" };
        let row = format!("| `{key}` | {kind} |");
        assert!(document.contains(&row), "docs/contracts/telemetry.md lacks `{row}`");
    }
}
