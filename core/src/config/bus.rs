//! `[bus]`: how messages travel, on a bus within the process or over a NATS server, and which of them last.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use echo_sdk::{duration, is_name};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{DurableConfig, Secret, size};

/// How messages travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `local`, a bus within the host's process, or the address of a NATS server, `nats://HOST:4222`; those of
    /// a cluster stand one after another with commas between them.
    #[schemars(with = "String")]
    pub url: BusUrl,
    /// How many messages wait at most for a subscription beside a plugin's own slot, such as a tool's; past
    /// that the oldest is dropped. A slot's queue is `plugins.worker_pool.queue_size`.
    pub queue_size: usize,
    /// The largest message, in bytes.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_payload: usize,
    /// How much memory managed state takes at most on a local bus, in bytes. Without durable topics a change past it
    /// is a failed attempt; with them what was not used lately is read from the log again.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_state: usize,
    /// How long an acknowledgement waits for room for what the handler published, before the message counts
    /// as not handled and is delivered again.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub commit_patience: Duration,
    /// Which topics outlive the host.
    pub durable: DurableConfig,
    /// How the NATS server is spoken to, where `url` names one.
    pub nats: NatsConfig,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: BusUrl::Local,
            queue_size: 65_536,
            max_payload: 8 * 1024 * 1024,
            max_state: 256 * 1024 * 1024,
            commit_patience: Duration::from_secs(5),
            durable: DurableConfig::default(),
            nats: NatsConfig::default(),
        }
    }
}

impl BusConfig {
    /// What is wrong beyond the form of single values: the place as a JSON pointer, and a sentence.
    pub(super) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let Self { nats, .. } = self;
        let identities = [nats.user.is_some(), nats.token.is_some()];
        let files = [nats.nkey.is_some(), nats.creds.is_some()];
        let several = identities.into_iter().chain(files).filter(|given| *given).count() > 1;
        let faults = [
            (
                self.queue_size == 0,
                "/bus/queue_size",
                "`bus.queue_size` is 0; a queue holds at least 1 message",
            ),
            (
                self.max_payload == 0,
                "/bus/max_payload",
                "`bus.max_payload` is 0; no message would be small enough",
            ),
            (
                nats.user.is_some() != nats.password.is_some(),
                "/bus/nats",
                "`bus.nats.user` and `bus.nats.password` go together; set both or none",
            ),
            (
                several,
                "/bus/nats",
                "a server knows a host by one of `user`, `token`, `nkey` and `creds`; set one of them",
            ),
            (
                !is_name(&nats.stream),
                "/bus/nats/stream",
                "`bus.nats.stream` names no stream; use letters, digits, `-` and `_`",
            ),
            (
                nats.ack_wait < Duration::from_secs(1),
                "/bus/nats/ack_wait",
                "`bus.nats.ack_wait` is below 1s; hosts say three times in it that they live",
            ),
            (
                nats.max_age.is_some_and(|age| age < Duration::from_secs(1)),
                "/bus/nats/max_age",
                "`bus.nats.max_age` is below 1s; leave it out to keep messages until they are handled",
            ),
            (
                nats.max_bytes.is_some_and(|bytes| bytes < self.max_payload),
                "/bus/nats/max_bytes",
                "`bus.nats.max_bytes` is less than `bus.max_payload`; a stream has room for one message at least",
            ),
            (
                nats.prefetch == 0,
                "/bus/nats/prefetch",
                "`bus.nats.prefetch` is 0; a host takes 1 message at least, or none ever comes",
            ),
            (
                !(1..=5).contains(&nats.replicas),
                "/bus/nats/replicas",
                "`bus.nats.replicas` is not between 1 and 5; a cluster keeps a stream on that many servers",
            ),
            (
                nats.cert.is_some() != nats.key.is_some(),
                "/bus/nats",
                "`bus.nats.cert` and `bus.nats.key` go together; set both or none",
            ),
        ];
        let found = faults.into_iter().filter(|(wrong, ..)| *wrong);
        let found = found.map(|(_, pointer, fault)| (pointer, fault));
        found.chain(self.durable.fault(self.max_payload)).collect()
    }
}

/// Where the bus is.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum BusUrl {
    /// Within the host's process.
    #[default]
    Local,
    /// On a NATS server or cluster, at these addresses; they may hold a token or a password.
    Nats(Vec<String>),
}

/// A text that says of no bus where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no bus; write \"local\", or the address of a NATS server such as \"nats://127.0.0.1:4222\""
)]
pub struct BusUrlError(String);

/// What the address of a NATS server begins with.
const SCHEMES: [&str; 2] = ["nats://", "tls://"];

impl FromStr for BusUrl {
    type Err = BusUrlError;

    fn from_str(text: &str) -> Result<Self, BusUrlError> {
        if text == "local" {
            return Ok(Self::Local);
        }
        let is_address = |part: &str| {
            let rest = SCHEMES.iter().find_map(|scheme| part.strip_prefix(scheme));
            let host = rest.map(|rest| rest.rsplit('@').next().unwrap_or(rest));
            host.is_some_and(|host| !host.is_empty() && !host.starts_with([':', '/']))
        };
        let addresses: Vec<&str> = text.split(',').map(str::trim).collect();
        match addresses.iter().find(|part| !is_address(part)) {
            None => Ok(Self::Nats(addresses.into_iter().map(str::to_owned).collect())),
            Some(wrong) => Err(BusUrlError(without_secret(wrong))),
        }
    }
}

/// An address as people may see it: without what stands before an `@`.
fn without_secret(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => address.to_owned(),
    }
}

/// As people may see it; [`BusUrl::Nats`] holds the addresses with their secrets.
impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Nats(addresses) => {
                let shown: Vec<String> = addresses.iter().map(|it| without_secret(it)).collect();
                f.write_str(&shown.join(","))
            }
        }
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BusUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local => serializer.serialize_str("local"),
            Self::Nats(addresses) => serializer.serialize_str(&addresses.join(",")),
        }
    }
}

impl<'de> Deserialize<'de> for BusUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// How a NATS server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// The user, with `password`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A token.
    pub token: Option<Secret>,
    /// A file that holds the seed of an NKey.
    pub nkey: Option<PathBuf>,
    /// A credentials file: a JWT with its seed, as `nsc` writes it.
    pub creds: Option<PathBuf>,
    /// Certificates that the server's is checked against, beside those that the system trusts; a PEM file.
    pub ca: Option<PathBuf>,
    /// This host's certificate, with `key`; a PEM file.
    pub cert: Option<PathBuf>,
    /// The key of `cert`; a PEM file.
    pub key: Option<PathBuf>,
    /// The stream that keeps the durable topics: letters, digits, `-` and `_`. All hosts of a bus name the same.
    pub stream: String,
    /// Where the durable topics and the dead letters are kept. All hosts of a bus say the same.
    pub storage: StreamStorage,
    /// On how many servers of a cluster they are kept. All hosts of a bus say the same.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: usize,
    /// How old a message becomes before its stream lets go of it, handled or not; without it, it stays until it is
    /// handled. All hosts of a bus say the same.
    #[serde(with = "duration::option")]
    #[schemars(schema_with = "duration::schema")]
    pub max_age: Option<Duration>,
    /// How large the stream of the durable topics, and that of the dead letters, become at most, in bytes; past it
    /// publishers get an error. Without it, as large as the server lets them. All hosts of a bus say the same.
    #[serde(with = "size::option")]
    #[schemars(schema_with = "size::schema")]
    pub max_bytes: Option<usize>,
    /// How many durable messages a slot of this host takes ahead of its workers at most, its queue's size aside; while
    /// it is slow it takes fewer.
    #[schemars(range(min = 1))]
    pub prefetch: usize,
    /// Over how many partitions the ordering keys of durable topics are spread: as many keys are at work at a time,
    /// over all hosts of a slot. All hosts of a bus say the same.
    #[schemars(range(min = 1, max = 256))]
    pub partitions: u16,
    /// How long after a host was killed its durable messages go to another one. A message may be handled for longer.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub ack_wait: Duration,
    /// Whether a durable message counts as handled only once the server has confirmed that it knows.
    pub confirm_acks: bool,
}

/// Where a NATS server keeps its streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamStorage {
    /// On its disk.
    #[default]
    File,
    /// In its memory: gone when the server ends.
    Memory,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            user: None,
            password: None,
            token: None,
            nkey: None,
            creds: None,
            ca: None,
            cert: None,
            key: None,
            stream: "ECHO".to_owned(),
            storage: StreamStorage::File,
            replicas: 1,
            max_age: None,
            max_bytes: None,
            prefetch: 1024,
            partitions: 16,
            ack_wait: Duration::from_secs(30),
            confirm_acks: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_make_no_sense_are_refused() {
        let refused = |change: fn(&mut NatsConfig)| {
            let mut config = BusConfig::default();
            change(&mut config.nats);
            config.faults().into_iter().map(|(place, _)| place).collect::<Vec<_>>()
        };
        assert!(refused(|_| {}).is_empty());
        assert_eq!(refused(|it| it.max_age = Some(Duration::ZERO)), ["/bus/nats/max_age"]);
        assert_eq!(refused(|it| it.max_bytes = Some(1024)), ["/bus/nats/max_bytes"]);
        assert_eq!(refused(|it| it.prefetch = 0), ["/bus/nats/prefetch"]);
        for replicas in [0, 6] {
            let nats = NatsConfig { replicas, ..NatsConfig::default() };
            let config = BusConfig { nats, ..BusConfig::default() };
            assert_eq!(config.faults()[0].0, "/bus/nats/replicas");
        }
        let said = serde_json::json!({
            "storage": "memory", "max_age": "7d", "max_bytes": "1gb", "prefetch": 10,
        });
        assert!(serde_json::from_value::<NatsConfig>(said).is_err(), "there are no days");
        let said = serde_json::json!({
            "storage": "memory", "max_age": "168h", "max_bytes": "1gb", "prefetch": 10,
        });
        let read: NatsConfig = serde_json::from_value(said).unwrap();
        assert_eq!((read.storage, read.max_bytes), (StreamStorage::Memory, Some(1 << 30)));
        let again = serde_json::to_value(&read).unwrap();
        assert_eq!(serde_json::from_value::<NatsConfig>(again).unwrap(), read);
    }

    #[test]
    fn a_bus_is_named_by_its_address() {
        assert_eq!("local".parse(), Ok(BusUrl::Local));
        let one: BusUrl = "nats://h:1".parse().unwrap();
        assert_eq!(one, BusUrl::Nats(vec!["nats://h:1".to_owned()]));
        let two: BusUrl = "nats://s3cret@a:1, tls://u:pw@b".parse().unwrap();
        assert_eq!(two.to_string(), "nats://…@a:1,tls://…@b");
        assert!(!format!("{two:?}").contains("s3cret"));
        assert_eq!(serde_json::to_value(&two).unwrap(), "nats://s3cret@a:1,tls://u:pw@b");
        for wrong in ["", "nats", "nats://", "nats://@", "http://h", "nats://a,,nats://b", "h:4222"]
        {
            assert!(wrong.parse::<BusUrl>().is_err(), "{wrong}");
        }
        let error = "nats://a,http://s3cret@b".parse::<BusUrl>().unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
