//! Telemetry as one plugin sees it.

use std::sync::Arc;

use echo_sdk::{Attribute, LogLevel, SpanHandle, Telemetry, TraceContext};
use metrics::{Key, Label, Level, Metadata, SharedString, with_recorder};
use opentelemetry::trace::SpanKind;

use super::Exports;
use super::span::{PassedOn, Recorded, fresh_context, start};

/// The target of plugins' log lines, for filters: `warn,plugin=debug`.
const LOG_TARGET: &str = "plugin";

/// How the recorder sees plugins' metrics.
const METADATA: Metadata<'_> = Metadata::new(LOG_TARGET, Level::INFO, None);

/// Metrics, spans and logs in one plugin's name.
///
/// A plugin's metric `name` is exported as `plugin_<name>` with the label `plugin`, a counter with `_total` at
/// its end. Letters outside of `[a-zA-Z0-9_]` become `_`; an attribute whose name the host or Prometheus
/// takes (`plugin`, `le`, `quantile`) becomes `exported_<name>`.
#[derive(Debug, Clone)]
pub struct HostTelemetry {
    plugin: Arc<str>,
    exports: Exports,
}

impl HostTelemetry {
    /// The telemetry of the plugin of this name.
    pub fn new(plugin: impl Into<Arc<str>>, exports: Exports) -> Self {
        Self { plugin: plugin.into(), exports }
    }

    #[inline]
    pub(super) fn exports(&self) -> &Exports {
        &self.exports
    }

    pub(super) fn plugin(&self) -> Arc<str> {
        self.plugin.clone()
    }

    /// Whether a measurement counts: those of a handling of which nothing follows do not.
    fn has_metrics(&self) -> bool {
        self.exports.metrics() && !crate::current::is_shadow()
    }

    fn key(&self, name: &str, suffix: &str, attributes: &[Attribute<'_>]) -> Key {
        let suffix = if name.ends_with(suffix) { "" } else { suffix };
        let mut labels = Vec::with_capacity(attributes.len() + 1);
        labels.push(Label::new("plugin", SharedString::from(self.plugin.clone())));
        labels.extend(
            attributes.iter().map(|(name, value)| Label::new(label_name(name), value.to_string())),
        );
        Key::from_parts(normalised("plugin_", name, suffix), labels)
    }
}

fn label_name(name: &str) -> String {
    let taken = matches!(name, "plugin" | "le" | "quantile")
        || name.starts_with(|c: char| c.is_ascii_digit());
    normalised(if taken { "exported_" } else { "" }, name, "")
}

fn normalised(prefix: &str, name: &str, suffix: &str) -> String {
    let mut text = String::with_capacity(prefix.len() + name.len() + suffix.len());
    text.push_str(prefix);
    text.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    text.push_str(suffix);
    text
}

macro_rules! log_line {
    ($macro:ident, $plugin:expr, $text:expr) => {
        tracing::$macro!(
            target: LOG_TARGET,
            plugin = %$plugin,
            trace_id = crate::current::trace().map(|trace| display(trace_id(&trace))),
            shadow = crate::current::is_shadow().then_some(true),
            "{}", $text
        )
    };
}

fn trace_id(context: &TraceContext) -> opentelemetry::TraceId {
    opentelemetry::TraceId::from_bytes(context.trace_id)
}

impl Telemetry for HostTelemetry {
    fn counter(&self, name: &str, value: u64, attributes: &[Attribute<'_>]) {
        if self.has_metrics() {
            let key = self.key(name, "_total", attributes);
            with_recorder(|recorder| recorder.register_counter(&key, &METADATA).increment(value));
        }
    }

    fn gauge(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        if self.has_metrics() {
            let key = self.key(name, "", attributes);
            with_recorder(|recorder| recorder.register_gauge(&key, &METADATA).set(value));
        }
    }

    fn histogram(&self, name: &str, value: f64, attributes: &[Attribute<'_>]) {
        if self.has_metrics() {
            let key = self.key(name, "", attributes);
            with_recorder(|recorder| recorder.register_histogram(&key, &METADATA).record(value));
        }
    }

    fn log(&self, level: LogLevel, text: &str) {
        match level {
            LogLevel::Debug => log_line!(debug, self.plugin, text),
            LogLevel::Info => log_line!(info, self.plugin, text),
            LogLevel::Warn => log_line!(warn, self.plugin, text),
            LogLevel::Error => log_line!(error, self.plugin, text),
        }
    }

    fn start_span(
        &self,
        name: &str,
        parent: Option<&TraceContext>,
        attributes: &[Attribute<'_>],
    ) -> Box<dyn SpanHandle> {
        let parent = parent.cloned().or_else(crate::current::trace);
        match self.exports.tracer().filter(|_| !crate::current::is_shadow()) {
            Some(tracer) => {
                let span = start(tracer, name.to_owned(), SpanKind::Internal, parent.as_ref());
                Box::new(Recorded::new(span, &self.plugin, attributes))
            }
            None => Box::new(PassedOn(parent.unwrap_or_else(fresh_context))),
        }
    }

    fn current_trace(&self) -> Option<TraceContext> {
        crate::current::trace()
    }
}
