//! The plugins that are linked into the program, and the types of services that suites can use with them.

use echo_core::config::PluginsConfig;
use echo_sdk::Manifest;
use echo_suite::ServiceTypes;

use crate::exit::Failure;
use crate::libraries;

/// The manifests of the built-in plugins.
pub fn manifests() -> [Manifest; 3] {
    [
        echo_plugin_orchestrator::manifest(),
        echo_plugin_process::manifest(),
        echo_plugin_container::manifest(),
    ]
}

/// The types of the built-in plugins and of the libraries that hosts load with this configuration.
///
/// # Errors
/// [`Failure`] when they do not go together.
pub fn service_types(config: &PluginsConfig) -> Result<ServiceTypes, Failure> {
    let manifests = manifests().into_iter().chain(libraries::manifests(config));
    ServiceTypes::new(manifests.flat_map(|manifest| manifest.services)).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_types_go_together() {
        let types = service_types(&PluginsConfig::default()).unwrap();
        let names: Vec<&str> = types.iter().map(|it| it.service_type.as_str()).collect();
        assert_eq!(names, ["generic_container", "process"]);
    }
}
