//! What the engine is told to create for a service.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount, MountType, NetworkingConfig,
    PortBinding,
};
use echo_sdk::contract::service::ServiceId;

use crate::config::{Config, Memory, Network, Port, Source, Volume};
use crate::labels;
use crate::shared::Needs;

/// Whose container it is, and around what.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The service.
    pub id: &'a ServiceId,
    /// The folder that relative paths start from.
    pub dir: Option<&'a Path>,
    /// Whether the engine is reached from this machine alone, so that its ports need not be open to others.
    pub is_local: bool,
}

/// The container that `config` describes, and what it needs of its suite.
///
/// # Errors
/// What is wrong with the configuration here, as one sentence.
pub fn container(config: Config, place: Place<'_>) -> Result<(ContainerCreateBody, Needs), String> {
    let mounts = config.volumes.iter().map(|volume| mount(volume, place));
    let mounts = mounts.collect::<Result<Vec<_>, _>>()?;
    let is_named = |volume: &&Volume| matches!(volume.source, Source::Named(_));
    let named = config.volumes.iter().zip(&mounts).filter(|(volume, _)| is_named(volume));
    let needs = Needs {
        network: config.network == Network::Suite,
        volumes: named.filter_map(|(_, mount)| mount.source.clone()).collect(),
    };
    let published = if config.network == Network::Suite { &config.ports[..] } else { &[] };
    let mut labels: HashMap<String, String> = config.labels.into_iter().collect();
    labels.extend(labels::of_service(place.id));
    let body = ContainerCreateBody {
        image: Some(config.image),
        cmd: config.command,
        entrypoint: config.entrypoint,
        env: Some(config.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        exposed_ports: Some(published.iter().map(Port::engine_key).collect()),
        working_dir: config.workdir,
        user: config.user,
        hostname: config.hostname,
        labels: Some(labels),
        networking_config: (config.network == Network::Suite).then(|| networking(place.id)),
        host_config: Some(HostConfig {
            network_mode: Some(network_mode(config.network, place.id)),
            port_bindings: Some(
                published.iter().map(|port| binding(port, place.is_local)).collect(),
            ),
            mounts: Some(mounts),
            memory: config.memory.map(|Memory(bytes)| bytes),
            // Without swap the limit is one: the engine's default gives as much swap again.
            memory_swap: config.memory.map(|Memory(bytes)| bytes),
            nano_cpus: config.cpus.map(nano_cpus),
            privileged: Some(config.privileged),
            cap_add: Some(config.cap_add),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok((body, needs))
}

/// The suite's network, in which the service answers to its name.
fn networking(id: &ServiceId) -> NetworkingConfig {
    let endpoint =
        EndpointSettings { aliases: Some(vec![id.service.clone()]), ..Default::default() };
    let network = labels::suite_name(&id.run_id, &id.suite);
    NetworkingConfig { endpoints_config: Some(HashMap::from([(network, endpoint)])) }
}

fn network_mode(network: Network, id: &ServiceId) -> String {
    match network {
        Network::Suite => labels::suite_name(&id.run_id, &id.suite),
        Network::None => "none".to_owned(),
        Network::Host => "host".to_owned(),
    }
}

fn binding(port: &Port, is_local: bool) -> (String, Option<Vec<PortBinding>>) {
    let binding = PortBinding {
        host_ip: is_local.then(|| "127.0.0.1".to_owned()),
        // Port 0 is any free one.
        host_port: Some(port.host.unwrap_or(0).to_string()),
    };
    (port.engine_key(), Some(vec![binding]))
}

fn mount(volume: &Volume, Place { id, dir, .. }: Place<'_>) -> Result<Mount, String> {
    let (typ, source) = match &volume.source {
        Source::Named(name) => {
            let suite = labels::suite_name(&id.run_id, &id.suite);
            (MountType::VOLUME, format!("{suite}.{name}"))
        }
        Source::Path(path) => (MountType::BIND, bind_source(path, dir)?),
    };
    Ok(Mount {
        typ: Some(typ),
        source: Some(source),
        target: Some(volume.target.clone()),
        read_only: Some(volume.read_only),
        ..Default::default()
    })
}

/// The path as the engine takes it. One beside the suite has to be there: an engine may make a folder in
/// its stead, which would be left. Another is the engine's to judge, whose machine may be another.
fn bind_source(path: &Path, dir: Option<&Path>) -> Result<String, String> {
    let full = match dir {
        Some(dir) => dir.join(path),
        None => path.to_owned(),
    };
    let shown = full.display();
    if path.is_relative() && !full.exists() {
        return Err(format!("`{shown}` is not there to be mounted; make it, or correct `volumes`"));
    }
    let full = std::path::absolute(&full)
        .map_err(|error| format!("the volume's path `{shown}` cannot be used: {error}"))?;
    let text = full.to_str().ok_or_else(|| format!("the volume's path `{shown}` is no UTF-8"))?;
    Ok(text.to_owned())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number of processors fits, and `as` saturates"
)]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use echo_sdk::contract::RunId;
    use serde_json::{Value, json};

    use super::*;

    fn body(keys: Value) -> (ContainerCreateBody, Needs) {
        body_in(Path::new("/"), keys)
    }

    fn body_in(dir: &Path, keys: Value) -> (ContainerCreateBody, Needs) {
        let id = ServiceId {
            run_id: RunId::new("run").unwrap(),
            suite: "suite".to_owned(),
            service: "web".to_owned(),
        };
        let place = Place { id: &id, dir: Some(dir), is_local: true };
        container(serde_json::from_value(keys).unwrap(), place).unwrap()
    }

    #[test]
    fn what_is_not_beside_the_suite_is_not_mounted() {
        let error = bind_source(Path::new("./missing"), Some(Path::new("/suites"))).unwrap_err();
        assert!(error.contains("/suites/./missing"), "{error}");
        let elsewhere = bind_source(Path::new("/missing"), Some(Path::new("/suites")));
        assert_eq!(elsewhere.as_deref(), Ok("/missing"));
    }

    #[test]
    fn a_relative_path_starts_at_the_suite_and_a_name_belongs_to_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let volumes = ["./data:/data:ro", "/srv:/srv", "cache:/cache"];
        let (body, needs) = body_in(dir.path(), json!({"image": "i", "volumes": volumes}));
        let mounts = body.host_config.unwrap().mounts.unwrap();
        let sources: Vec<_> = mounts.iter().map(|mount| mount.source.as_deref().unwrap()).collect();
        let data = dir.path().join("data");
        assert_eq!(sources, [data.to_str().unwrap(), "/srv", "echo-core.run.suite.cache"]);
        assert_eq!((mounts[0].read_only, mounts[1].read_only), (Some(true), Some(false)));
        assert_eq!(needs.volumes, ["echo-core.run.suite.cache"]);
    }

    #[test]
    fn a_container_without_network_has_none_of_the_suite_s() {
        let (body, needs) = body(json!({"image": "i", "network": "none"}));
        assert!(!needs.network && body.networking_config.is_none());
        assert_eq!(body.host_config.unwrap().network_mode.as_deref(), Some("none"));
    }

    #[test]
    fn privileges_are_given_when_asked_for() {
        let privileged = |keys| body(keys).0.host_config.unwrap().privileged;
        assert_eq!(privileged(json!({"image": "i"})), Some(false));
        assert_eq!(privileged(json!({"image": "i", "privileged": true})), Some(true));
    }

    #[test]
    fn limits_count_in_the_engine_s_units() {
        let (body, _) = body(json!({"image": "i", "memory": "64mb", "cpus": 0.5}));
        let limits = body.host_config.unwrap();
        assert_eq!((limits.memory, limits.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(limits.nano_cpus, Some(500_000_000));
    }
}
