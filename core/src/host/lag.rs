//! How far slots are behind, which the bus knows: a NATS server is asked for it, once for all who want to know.
//!
//! Whoever waits for an answer holds slots and no plugins, which may be unloaded meanwhile.

use std::sync::{Arc, Weak};
use std::time::Duration;

use echo_bus::Slot;
use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;

use super::Shared;

/// How often the metric is brought up to date.
const INTERVAL: Duration = Duration::from_secs(5);

/// The lags of slots, in their order.
pub(super) async fn lags(slots: &[Arc<dyn Slot>]) -> Vec<Option<usize>> {
    join_all(slots.iter().map(|slot| slot.lag())).await
}

/// Shows the lag of every plugin's slot as a metric, until the host is gone.
pub(super) async fn show(shared: Weak<Shared>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let (slots, gauges): (Vec<_>, Vec<_>) = {
            let plugins = shared.registry.read().in_order();
            plugins.iter().map(|it| (Arc::clone(it.slot()), it.lag_gauge().clone())).unzip()
        };
        drop(shared);
        for (gauge, lag) in gauges.into_iter().zip(lags(&slots).await) {
            gauge.set(lag.map_or(f64::NAN, |lag| lag as f64));
        }
    }
}
