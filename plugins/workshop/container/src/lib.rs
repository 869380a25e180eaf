//! # Containers as services
//!
//! The service type `generic_container`: any image on a Docker or Podman engine. Reading order: what a
//! suite may say ([`Config`]), the [`Engine`] and what is asked of it, what a suite's containers share
//! (`shared`), one [`Container`] from start to removal, commands in it (`exec`), and [`Containers`], which
//! puts it together for the SDK's service kit.

mod config;
mod container;
mod create;
mod engine;
mod exec;
mod labels;
mod logs;
mod reach;
mod service;
mod shared;

use echo_sdk::service::ServiceKit;
use echo_sdk::{Manifest, PluginContext, PluginError};
use serde::Deserialize;

pub use config::{Config, Memory, Network, Port, Protocol, Pull, Source, Volume};
pub use container::Container;
pub use engine::{Engine, EngineError, EngineInfo, probe};
pub use service::Containers;

/// What the host may set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The engine's address; found by itself when null.
    engine: Option<String>,
}

/// The plugin's manifest.
#[expect(clippy::expect_used, reason = "the manifest is part of the binary, and a test reads it")]
pub fn manifest() -> Manifest {
    Manifest::from_json(include_str!("../manifest.json")).expect("the embedded manifest is valid")
}

/// Makes the plugin.
///
/// # Errors
/// [`PluginError::Config`] when the host's settings for it cannot be read.
pub fn new(context: PluginContext) -> Result<ServiceKit<Containers>, PluginError> {
    let Settings { engine } = context.config_as()?;
    Ok(ServiceKit::new(context, Containers::new(engine)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use echo_sdk::service::ServicePlugin;

    use super::*;

    #[test]
    fn the_manifest_subscribes_to_the_type_s_topics() {
        let manifest = manifest();
        let own = Containers::default();
        assert_eq!(manifest.services[0].service_type, own.service_type());
        let topics: Vec<_> = manifest.subscriptions.iter().map(ToString::to_string).collect();
        let verbs = ["start", "exec", "logs", "stop", "cleanup"];
        assert_eq!(topics, verbs.map(|verb| format!("service.{verb}.{}", own.service_type())));
    }

    #[test]
    fn the_schema_knows_the_keys_that_are_read() {
        let manifest = manifest();
        let schema = &manifest.services[0].config_schema;
        let described: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        // serde names the fields that it knows when it meets one that it does not.
        let error = serde_json::from_str::<Config>(r#"{"unheard-of": 0}"#).unwrap_err().to_string();
        let read: BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(described, read);
        let texts = schema["properties"].as_object().unwrap().values();
        assert!(texts.into_iter().all(|key| key["description"].is_string()));
    }

    #[test]
    fn the_host_s_settings_are_those_of_the_manifest() {
        let (context, _) = echo_sdk::testing::mock_with("container", manifest().config);
        new(context).unwrap();
        let config = serde_json::json!({"engine": "unix:///x.sock", "enginge": 1});
        let serde_json::Value::Object(config) = config else { unreachable!() };
        let (context, _) = echo_sdk::testing::mock_with("container", config);
        assert!(new(context).unwrap_err().to_string().contains("enginge"));
    }
}
