//! Log lines: which are written, and how they look.

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt as _;

use super::TelemetryError;
use crate::config::{LogFormat, TelemetryConfig};

/// What writes log lines to `writer` as the configuration asks; `colour` is for terminals.
///
/// [`init`](super::init) writes to standard error. Who writes elsewhere, such as above progress bars, passes
/// what this makes to [`TelemetryGuard::set_up`](super::TelemetryGuard::set_up).
///
/// # Errors
/// [`TelemetryError::Filter`] when `log` is no filter.
pub fn subscriber<W>(
    config: &TelemetryConfig,
    writer: W,
    colour: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&config.log).map_err(|source| {
        TelemetryError::Filter { filter: config.log.clone(), reason: source.to_string() }
    })?;
    // The exporter's own words for what `otlp` tells once, with the reason.
    let told = filter_fn(|event| event.name() != "BatchSpanProcessor.ExportError");
    let registry = tracing_subscriber::registry().with(filter).with(told);
    Ok(match config.log_format {
        LogFormat::Text => Box::new(registry.with(layer().with_writer(writer).with_ansi(colour))),
        LogFormat::Json => {
            Box::new(registry.with(layer().json().flatten_event(true).with_writer(writer)))
        }
    })
}
