//! The host's own metrics: what there is, and the handles with which one slot records them.

use echo_sdk::contract::system::PluginStatus;
use metrics::{Counter, Gauge, Histogram, SharedString, Unit, counter, gauge, histogram};

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// One of the host's metrics.
#[derive(Debug, Clone, Copy)]
pub struct MetricInfo {
    /// Its name, as Prometheus shows it.
    pub name: &'static str,
    /// What it does over time.
    pub kind: MetricKind,
    /// What it is counted in.
    pub unit: Unit,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// One sentence on it.
    pub about: &'static str,
}

const PUBLISHED: &str = "echo_messages_published_total";
const DELIVERED: &str = "echo_messages_delivered_total";
const ACKNOWLEDGED: &str = "echo_messages_acknowledged_total";
const FORWARDED: &str = "echo_messages_forwarded_total";
const RETRIED: &str = "echo_messages_retried_total";
const FAILED: &str = "echo_messages_failed_total";
const DEAD: &str = "echo_messages_dead_total";
const DROPPED: &str = "echo_messages_dropped_total";
const STATE_CONFLICTS: &str = "echo_state_conflicts_total";
const QUEUE_DEPTH: &str = "echo_queue_depth";
const LAG: &str = "echo_slot_lag";
const QUEUE_WAIT: &str = "echo_queue_wait_seconds";
const HANDLING: &str = "echo_handling_seconds";
const WORKERS: &str = "echo_workers";
const IN_FLIGHT: &str = "echo_messages_in_flight";
const DELAYED: &str = "echo_messages_delayed";
const QUEUE_CAPACITY: &str = "echo_queue_capacity";
const PLUGIN_STATUS: &str = "echo_plugin_status";
const QUARANTINED: &str = "echo_libraries_quarantined_total";

/// What the middleware `metrics` counts, where it is set.
pub(crate) mod topic_metrics {
    pub(crate) const HANDLED: &str = "echo_topic_handled_total";
    pub(crate) const HANDLING: &str = "echo_topic_handling_seconds";
    pub(crate) const PUBLISHED: &str = "echo_topic_published_total";
}

const fn slot_metric(
    name: &'static str,
    kind: MetricKind,
    unit: Unit,
    about: &'static str,
) -> MetricInfo {
    MetricInfo { name, kind, unit, labels: &["slot"], about }
}

/// Every metric of the host's own.
pub const METRICS: &[MetricInfo] = &[
    slot_metric(PUBLISHED, MetricKind::Counter, Unit::Count, "Messages that the plugin published."),
    slot_metric(
        DELIVERED,
        MetricKind::Counter,
        Unit::Count,
        "Messages handed to the plugin, retries included.",
    ),
    slot_metric(ACKNOWLEDGED, MetricKind::Counter, Unit::Count, "Messages that were handled."),
    slot_metric(
        FORWARDED,
        MetricKind::Counter,
        Unit::Count,
        "Messages that were forwarded and so done.",
    ),
    slot_metric(
        RETRIED,
        MetricKind::Counter,
        Unit::Count,
        "Attempts after which the message is delivered again.",
    ),
    slot_metric(
        FAILED,
        MetricKind::Counter,
        Unit::Count,
        "Attempts that ended in an error, a panic, the deadline or `Failed`.",
    ),
    slot_metric(
        DEAD,
        MetricKind::Counter,
        Unit::Count,
        "Messages that were given up and published to `dead.>`.",
    ),
    slot_metric(
        DROPPED,
        MetricKind::Counter,
        Unit::Count,
        "Messages dropped for want of room, where the slot's policy says so.",
    ),
    slot_metric(
        STATE_CONFLICTS,
        MetricKind::Counter,
        Unit::Count,
        "Handlers that ran again since somebody else had changed their state meanwhile.",
    ),
    slot_metric(
        QUEUE_DEPTH,
        MetricKind::Gauge,
        Unit::Count,
        "Messages in the slot: waiting, in hand, or waiting for a retry.",
    ),
    slot_metric(
        LAG,
        MetricKind::Gauge,
        Unit::Count,
        "Messages of durable topics that the slot has not acknowledged, on all its hosts, or its depth if that is more.",
    ),
    slot_metric(
        QUEUE_WAIT,
        MetricKind::Histogram,
        Unit::Seconds,
        "How long messages waited in the queue, of a sample.",
    ),
    slot_metric(
        HANDLING,
        MetricKind::Histogram,
        Unit::Seconds,
        "How long handling took, of a sample.",
    ),
    slot_metric(
        QUEUE_CAPACITY,
        MetricKind::Gauge,
        Unit::Count,
        "The most messages that the slot holds.",
    ),
    slot_metric(
        IN_FLIGHT,
        MetricKind::Gauge,
        Unit::Count,
        "Messages in the hands of the plugin's workers.",
    ),
    slot_metric(DELAYED, MetricKind::Gauge, Unit::Count, "Messages that wait for a retry."),
    slot_metric(WORKERS, MetricKind::Gauge, Unit::Count, "Workers in the plugin's pool."),
    MetricInfo {
        name: topic_metrics::HANDLED,
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &["slot", "topic", "outcome"],
        about: "Messages that passed the middleware `metrics` on delivery, by how they ended.",
    },
    MetricInfo {
        name: topic_metrics::HANDLING,
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &["slot", "topic"],
        about: "How long they took further in.",
    },
    MetricInfo {
        name: topic_metrics::PUBLISHED,
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &["sender", "topic"],
        about: "Messages that passed the middleware `metrics` on publish.",
    },
    MetricInfo {
        name: PLUGIN_STATUS,
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &["slot", "status"],
        about: "1 for the status that the plugin has, 0 for those that it had.",
    },
    MetricInfo {
        name: QUARANTINED,
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &["plugin"],
        about: "Libraries that could not be taken out of memory and stay until the host ends.",
    },
];

/// Counts a library that stays in memory.
pub(crate) fn count_quarantine(plugin: &str) {
    counter!(QUARANTINED, "plugin" => plugin.to_owned()).increment(1);
}

/// Tells the recorder of the [`metrics`] facade about the host's metrics; [`init`](super::init) does it.
pub fn describe() {
    for MetricInfo { name, kind, unit, about, .. } in METRICS.iter().copied() {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(name, unit, about),
            MetricKind::Gauge => metrics::describe_gauge!(name, unit, about),
            MetricKind::Histogram => metrics::describe_histogram!(name, unit, about),
        }
    }
}

/// The handles with which one slot records; made once, for they look up the recorder when made.
///
/// Make them after [`init`](super::init): handles that are older than the recorder record nothing.
#[derive(Debug, Clone)]
pub struct SlotMetrics {
    slot: String,
    /// Messages that the plugin published.
    pub published: Counter,
    /// Messages handed to the plugin, retries included.
    pub delivered: Counter,
    /// Messages that were handled.
    pub acknowledged: Counter,
    /// Messages that were forwarded and so done.
    pub forwarded: Counter,
    /// Attempts after which the message is delivered again.
    pub retried: Counter,
    /// Attempts that ended in an error, a panic, the deadline or `Failed`.
    pub failed: Counter,
    /// Messages that were given up.
    pub dead: Counter,
    /// Messages dropped for want of room.
    pub dropped: Counter,
    /// Handlers that ran again since their state had changed meanwhile.
    pub state_conflicts: Counter,
    /// Messages in the slot.
    pub queue_depth: Gauge,
    /// Messages that the slot is behind.
    pub lag: Gauge,
    /// How long messages waited in the queue, in seconds.
    pub queue_wait: Histogram,
    /// How long handling took, in seconds.
    pub handling: Histogram,
    /// The most messages that the slot holds.
    pub queue_capacity: Gauge,
    /// Messages in the workers' hands.
    pub in_flight: Gauge,
    /// Messages that wait for a retry.
    pub delayed: Gauge,
    /// Workers in the pool.
    pub workers: Gauge,
}

impl SlotMetrics {
    /// The handles of the slot of this name.
    pub fn new(slot: &str) -> Self {
        let label = || SharedString::from(slot.to_owned());
        Self {
            slot: slot.to_owned(),
            published: counter!(PUBLISHED, "slot" => label()),
            delivered: counter!(DELIVERED, "slot" => label()),
            acknowledged: counter!(ACKNOWLEDGED, "slot" => label()),
            forwarded: counter!(FORWARDED, "slot" => label()),
            retried: counter!(RETRIED, "slot" => label()),
            failed: counter!(FAILED, "slot" => label()),
            dead: counter!(DEAD, "slot" => label()),
            dropped: counter!(DROPPED, "slot" => label()),
            state_conflicts: counter!(STATE_CONFLICTS, "slot" => label()),
            queue_depth: gauge!(QUEUE_DEPTH, "slot" => label()),
            lag: gauge!(LAG, "slot" => label()),
            queue_wait: histogram!(QUEUE_WAIT, "slot" => label()),
            handling: histogram!(HANDLING, "slot" => label()),
            queue_capacity: gauge!(QUEUE_CAPACITY, "slot" => label()),
            in_flight: gauge!(IN_FLIGHT, "slot" => label()),
            delayed: gauge!(DELAYED, "slot" => label()),
            workers: gauge!(WORKERS, "slot" => label()),
        }
    }

    /// Records that the plugin came from one status into another.
    pub fn set_status(&self, from: Option<PluginStatus>, to: PluginStatus) {
        if let Some(from) = from {
            self.status(from).set(0.0);
        }
        self.status(to).set(1.0);
    }

    fn status(&self, status: PluginStatus) -> Gauge {
        gauge!(PLUGIN_STATUS, "slot" => self.slot.clone(), "status" => status.as_str())
    }
}
