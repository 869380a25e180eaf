//! Log lines: which are written, and how they look.

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt as _;

use super::TelemetryError;
use crate::config::{LogFormat, TelemetryConfig};

/// What writes log lines to `writer` as the configuration asks; `colour` is for terminals.
///
/// [`init`](super::init) writes to standard error. Who writes elsewhere, such as above progress bars, makes
/// its own and passes it to [`init`](super::init).
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
    let registry = tracing_subscriber::registry().with(filter);
    Ok(match config.log_format {
        LogFormat::Text => Box::new(registry.with(layer().with_writer(writer).with_ansi(colour))),
        LogFormat::Json => {
            Box::new(registry.with(layer().json().flatten_event(true).with_writer(writer)))
        }
    })
}
