//! The keys that a suite gives a container.

mod memory;
mod port;
mod volume;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use memory::Memory;
pub use port::{Port, Protocol};
pub use volume::{Source, Volume};

use crate::labels;

/// What a suite says of a `generic_container`, beside the keys that every service has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The image, as `docker run` takes it.
    pub image: String,
    /// When the image is pulled.
    #[serde(default)]
    pub pull: Pull,
    /// What the container runs instead of the image's own command.
    pub command: Option<Vec<String>>,
    /// What it runs instead of the image's own entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The ports that are reached from this machine.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// What is mounted.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// The folder that it runs in.
    pub workdir: Option<String>,
    /// The user, by name or number, with a group after a `:` if need be.
    pub user: Option<String>,
    /// How it is connected.
    #[serde(default)]
    pub network: Network,
    /// Its own host name.
    pub hostname: Option<String>,
    /// Labels beside those that Echo Core sets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The memory that it may use.
    pub memory: Option<Memory>,
    /// The processors that it may keep busy.
    pub cpus: Option<f64>,
    /// Whether it may do whatever the machine's root may.
    #[serde(default)]
    pub privileged: bool,
    /// Capabilities beside the engine's usual ones.
    #[serde(default)]
    pub cap_add: Vec<String>,
}

/// When the engine pulls the image from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Not at all.
    Never,
    /// Each time.
    Always,
}

/// How a container is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// To the suite's other containers, each by its service name, and to the outside.
    #[default]
    Suite,
    /// To nothing.
    None,
    /// As the engine's machine itself.
    Host,
}

impl Config {
    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence that begins with the service.
    pub fn validate(&self) -> Result<(), String> {
        if self.image.is_empty()
            || self.image.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(format!("`image` is `{}`, which names no image", self.image));
        }
        for (key, list) in [("command", &self.command), ("entrypoint", &self.entrypoint)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                return Err(format!("`{key}` is empty; leave it out to use the image's own"));
            }
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(format!("`env` has `{name}`, which names no variable"));
        }
        if let Some(key) = self.labels.keys().find(|key| key.starts_with(labels::PREFIX)) {
            return Err(format!(
                "`labels` has `{key}`; what begins with `{}` is Echo Core's own",
                labels::PREFIX
            ));
        }
        if let Some(cpus) = self.cpus.filter(|cpus| !(*cpus > 0.0 && cpus.is_finite())) {
            return Err(format!("`cpus` is {cpus}; it is a number above 0, such as 0.5"));
        }
        if self.network == Network::Host && self.hostname.is_some() {
            return Err(
                "`hostname` has no effect with `network = \"host\"`; leave one of them out".into(),
            );
        }
        self.validate_ports()
    }

    fn validate_ports(&self) -> Result<(), String> {
        for (index, port) in self.ports.iter().enumerate() {
            if self.ports.iter().take(index).any(|other| other.key() == port.key()) {
                return Err(format!("`ports` has `{}` twice", port.key()));
            }
        }
        match (self.network, self.ports.first()) {
            (Network::None, Some(port)) => Err(format!(
                "`ports` has `{}`, which nothing reaches with `network = \"none\"`; leave one of them out",
                port.key()
            )),
            (Network::Host, _) => match self.ports.iter().find(|port| port.is_moved()) {
                Some(port) => Err(format!(
                    "port `{}` cannot be another on the host with `network = \"host\"`; write `\"{}\"`",
                    port.key(),
                    port.key()
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(mut keys: Value) -> Result<Config, String> {
        keys["image"] = json!("busybox");
        let config: Config = serde_json::from_value(keys).map_err(|error| error.to_string())?;
        config.validate().map(|()| config)
    }

    #[test]
    fn an_image_is_enough() {
        let config = parse(json!({})).unwrap();
        assert_eq!((config.pull, config.network), (Pull::Missing, Network::Suite));
        assert!(!config.privileged);
    }

    #[test]
    fn a_key_without_effect_is_refused_by_name() {
        for (keys, word) in [
            (json!({"comand": ["a"]}), "comand"),
            (json!({"command": []}), "command"),
            (json!({"entrypoint": []}), "entrypoint"),
            (json!({"pull": "sometimes"}), "sometimes"),
            (json!({"network": "bridge"}), "bridge"),
            (json!({"env": {"A=B": "c"}}), "A=B"),
            (json!({"labels": {"echo-core.run": "x"}}), "echo-core.run"),
            (json!({"cpus": 0.0}), "cpus"),
            (json!({"memory": "much"}), "much"),
            (json!({"ports": ["80", "8080:80"]}), "twice"),
            (json!({"ports": ["80"], "network": "none"}), "none"),
            (json!({"ports": ["8080:80"], "network": "host"}), "host"),
            (json!({"hostname": "a", "network": "host"}), "hostname"),
            (json!({"volumes": ["data"]}), "data"),
        ] {
            let error = parse(keys.clone()).unwrap_err();
            assert!(error.contains(word), "{keys}: {error}");
        }
        let no_image = serde_json::from_value::<Config>(json!({})).unwrap_err();
        assert!(no_image.to_string().contains("image"));
    }

    #[test]
    fn ports_of_two_protocols_are_two_ports() {
        let config = parse(json!({"ports": ["53", "53/udp"]})).unwrap();
        assert_eq!(config.ports.iter().map(Port::key).collect::<Vec<_>>(), ["53", "53-udp"]);
    }
}
