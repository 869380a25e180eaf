//! How far a slot is behind: what its consumers at the server have not got acknowledged.
//!
//! Consumers are asked all at once, and only when somebody wants to know. A message that several filters of a slot
//! match counts for each of them until it is taken.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{Consumer, pull};
use futures_util::future::try_join_all;

use crate::connection::Connection;

/// How long the server may take: whoever asks several hosts does not wait for long.
const PATIENCE: Duration = Duration::from_millis(250);

/// The messages that consumers, by stream and name, have to deliver or have delivered without an answer; `None` where
/// the server does not say.
pub(crate) async fn lag(connection: &Connection, consumers: &[(String, String)]) -> Option<usize> {
    if consumers.is_empty() {
        return Some(0);
    }
    let jetstream = connection.jetstream.as_ref()?;
    let asking = try_join_all(consumers.iter().map(|place| one(jetstream, place)));
    let lags = tokio::time::timeout(PATIENCE, asking).await;
    let counted = lags.map_err(|_| "it does not answer".to_owned()).and_then(|lags| lags);
    counted
        .map(|lags| lags.into_iter().sum())
        .inspect_err(|error| tracing::debug!(error, "the server does not say what is left to do"))
        .ok()
}

async fn one(jetstream: &Context, (stream, name): &(String, String)) -> Result<usize, String> {
    let asked = jetstream.get_consumer_from_stream(name, stream).await;
    let consumer: Consumer<pull::Config> = asked.map_err(|error| error.to_string())?;
    let info = consumer.cached_info();
    Ok(usize::try_from(info.num_pending).unwrap_or(usize::MAX).saturating_add(info.num_ack_pending))
}
