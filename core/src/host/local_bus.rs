//! The bus of a host that has one within its process, and the log under its durable topics.

use std::sync::Arc;

use echo_bus::{
    Admission, BusError, DurableLog, LocalOptions, LocalTransport, OpenError, Recovery, Transport,
};

use super::HostError;
use crate::config::{BusConfig, DurableConfig};
use crate::schema::Schemas;

/// Starts the bus. Without durable topics there is no log.
pub(super) async fn start(
    config: &BusConfig,
    schemas: &Arc<Schemas>,
) -> Result<Arc<dyn Transport>, HostError> {
    let admission = Some(Arc::clone(schemas) as Arc<dyn Admission>);
    let (max_payload, max_state) = (config.max_payload, config.max_state);
    let options = LocalOptions { max_payload, max_state, admission };
    Ok(Arc::new(if config.durable.topics.is_empty() {
        LocalTransport::new(options)?
    } else {
        LocalTransport::durable(options, open(&config.durable).await?)?
    }))
}

/// Opens the log where blocking is allowed, and lets go of the slots that are gone for good.
async fn open(config: &DurableConfig) -> Result<DurableLog, HostError> {
    let options = config.options();
    let opening = tokio::task::spawn_blocking(|| DurableLog::open(options));
    let opened: Result<_, OpenError> = opening.await.map_err(|error| {
        BusError::Transport(format!("opening the log of durable topics was cut off: {error}"))
    })?;
    let (log, recovery) = opened?;
    tell(&recovery);
    for name in &config.forget {
        if log.forget(name).await? {
            tracing::warn!(slot = name, "what waited for a slot that is gone was let go of");
        }
    }
    Ok(log)
}

fn tell(recovery: &Recovery) {
    let Recovery { messages, segments, took, cut, damage, .. } = recovery;
    let is_cut = cut.is_some();
    tracing::info!(messages, segments, ?took, is_cut, "the log of durable topics is open");
    for damage in damage {
        let (file, offset, len) = (&damage.file, damage.offset, damage.len);
        tracing::error!(
            file,
            offset,
            len,
            "the log of durable topics is damaged; messages are lost"
        );
    }
}
