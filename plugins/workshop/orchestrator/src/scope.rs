//! What references in a suite stand for, depending on where they are read.

use std::collections::BTreeMap;

use echo_sdk::contract::RunId;
use echo_sdk::contract::reference::Scope;
use echo_sdk::contract::service::{PeerAddress, ServiceAddress};
use echo_sdk::contract::suite::Suite;

/// The environment of whoever runs; variables that are no UTF-8 cannot be referred to.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// What references stand for within `reader`, a service of the suite, or on this machine.
pub(crate) fn scope(
    run_id: &RunId,
    suite: &Suite,
    ready: &BTreeMap<String, ServiceAddress>,
    env: &BTreeMap<String, String>,
    reader: Option<&str>,
) -> Scope {
    let services = ready.iter().map(|(name, address)| {
        let shares_network =
            reader.is_some_and(|reader| shares_network(suite, ready, reader, name));
        let address = match &address.peers {
            Some(peers) if shares_network => seen_by_peers(address, peers),
            _ => address.clone(),
        };
        (name.clone(), address)
    });
    Scope { run_id: run_id.clone(), services: services.collect(), env: env.clone() }
}

/// A running service says itself whether it is on a network. One that is only starting is taken to be
/// where the others of its type are.
fn shares_network(
    suite: &Suite,
    ready: &BTreeMap<String, ServiceAddress>,
    reader: &str,
    other: &str,
) -> bool {
    let type_of = |name| suite.services.get(name).map(|spec| &spec.service_type);
    match ready.get(reader) {
        Some(address) => address.peers.is_some(),
        None => type_of(reader) == type_of(other),
    }
}

fn seen_by_peers(address: &ServiceAddress, peers: &PeerAddress) -> ServiceAddress {
    let PeerAddress { host, ports } = peers.clone();
    ServiceAddress { host, ports, ..address.clone() }
}

#[cfg(test)]
mod tests {
    use echo_sdk::contract::reference::resolve;
    use serde_json::json;

    use super::*;

    fn address(host: &str, port: u16, peers: Option<&str>) -> ServiceAddress {
        let ports = |port| BTreeMap::from([("80".to_owned(), port)]);
        let peers = peers.map(|host| PeerAddress { host: host.into(), ports: ports(80) });
        ServiceAddress { host: host.into(), ports: ports(port), instance: "i".into(), peers }
    }

    #[test]
    fn an_address_depends_on_who_asks() {
        let service = |service_type| json!({ "type": service_type });
        let suite: Suite = serde_json::from_value(json!({
            "name": "s",
            "services": {
                "box": service("container"), "next": service("container"),
                "apart": service("container"), "local": service("process"),
            },
        }))
        .unwrap();
        let ready = BTreeMap::from([
            ("box".to_owned(), address("127.0.0.1", 4711, Some("box"))),
            ("apart".to_owned(), address("127.0.0.1", 4712, None)),
            ("local".to_owned(), address("127.0.0.1", 4713, None)),
        ]);
        let run_id = RunId::new("r").unwrap();
        let read = |reader, service| {
            let scope = scope(&run_id, &suite, &ready, &BTreeMap::new(), reader);
            let text = format!("${{services.{service}.host}}:${{services.{service}.ports.80}}");
            resolve(&text, &scope).unwrap()
        };
        // On this machine, and within a service that is on no network of its own.
        assert_eq!(read(None, "box"), "127.0.0.1:4711");
        assert_eq!(read(Some("local"), "box"), "127.0.0.1:4711");
        assert_eq!(read(Some("apart"), "box"), "127.0.0.1:4711");
        // Within a service on the network, running or starting.
        assert_eq!(read(Some("box"), "box"), "box:80");
        assert_eq!(read(Some("next"), "box"), "box:80");
        assert_eq!(read(Some("next"), "apart"), "127.0.0.1:4712");
        assert_eq!(read(Some("box"), "local"), "127.0.0.1:4713");
    }
}
