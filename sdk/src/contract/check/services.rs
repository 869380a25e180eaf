//! The services of a suite: what they name exists, and they can be started in some order.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, list, token};
use crate::contract::cycle;
use crate::contract::suite::{Readiness, ServiceSpec};
use crate::is_name;

impl Check<'_> {
    pub(super) fn services(&mut self) {
        for (name, spec) in &self.suite.services {
            let at = format!("/services/{}", token(name));
            self.name(at.clone(), "service", name);
            for (index, other) in spec.depends_on.iter().enumerate() {
                self.known_service(format!("{at}/depends_on/{index}"), other, "depends_on");
            }
            if let Some(ready) = &spec.ready {
                self.ready(&format!("{at}/ready"), ready, ports(spec).as_deref());
            }
            self.time(format!("{at}/start_timeout"), "start_timeout", spec.start_timeout);
            for (key, value) in &spec.config {
                self.texts(&format!("{at}/{}", token(key)), value);
            }
        }
    }

    fn ready(&mut self, at: &str, ready: &Readiness, ports: Option<&[String]>) {
        if *ready == Readiness::default() {
            let help =
                "give it `port`, `log`, `command` or `http`, or leave `ready` out".to_owned();
            self.fault(at.to_owned(), "`ready` checks nothing".to_owned(), help);
        }
        if let (Some(port), Some(known)) = (&ready.port, ports)
            && !known.contains(port)
        {
            let message = format!("`ready.port` is `{port}`, which is no port of the service");
            self.fault(format!("{at}/port"), message, ports_help(known));
        }
        if let Some(path) = &ready.http {
            let at = format!("{at}/http");
            if !path.starts_with('/') {
                let help = format!("write \"/{path}\"");
                self.fault(at, format!("`ready.http` is {path:?}, which is no path"), help);
            } else if let (None, Some(known)) = (&ready.port, ports)
                && known.len() != 1
            {
                let message = "`ready.http` does not say on which port".to_owned();
                self.fault(at, message, format!("set `ready.port`; {}", ports_help(known)));
            }
        }
        if let Some(command) = &ready.command {
            self.command(&format!("{at}/command"), command);
        }
        if let Some(pattern) = &ready.log {
            self.regex(format!("{at}/log"), pattern);
        }
    }

    /// Services that wait for each other never start.
    pub(super) fn order(&mut self) {
        let services = &self.suite.services;
        let known = |names: BTreeSet<String>| {
            names
                .into_iter()
                .filter_map(|name| services.get_key_value(&name))
                .map(|(key, _)| key.as_str())
        };
        let graph = services.iter().filter_map(|(name, spec)| {
            // A malformed reference is told where it stands.
            Some((name.as_str(), known(spec.dependencies().ok()?).collect()))
        });
        for cycle in cycle::cycles(graph.collect()) {
            let [first, others @ ..] = cycle.as_slice() else {
                continue;
            };
            let (message, help) = if others.is_empty() {
                let message = format!("the service `{first}` depends on itself");
                (message, "a service can depend on others alone, and refer to others alone")
            } else {
                let order = cycle.iter().map(|name| format!("`{name}` -> ")).collect::<String>();
                let message = format!("the services wait for each other: {order}`{first}`");
                let help = "take one of these dependencies away; a reference such as \
                            `${services.<name>.host}` is one, too";
                (message, help)
            };
            self.fault(format!("/services/{}/depends_on", token(first)), message, help.to_owned());
        }
    }
}

/// The ports that a service lists in `ports`, as references name them; nothing where it lists none, or in a
/// form of its type's own.
pub(super) fn ports(spec: &ServiceSpec) -> Option<Vec<String>> {
    match spec.config.get("ports")? {
        Value::Object(table) => Some(table.keys().cloned().collect()),
        Value::Array(items) => items.iter().map(port).collect(),
        _ => None,
    }
}

/// The name of one port: 8080, "8080" and "http" as they are; of "8080:80/udp", which container engines read as
/// a port here, a port there and its protocol, it is "80-udp".
fn port(item: &Value) -> Option<String> {
    let text = match item {
        Value::Number(number) => return Some(number.to_string()),
        Value::String(text) => text.as_str(),
        _ => return None,
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let name = ports.rsplit(':').next().filter(|name| is_name(name))?;
    match protocol {
        "tcp" => Some(name.to_owned()),
        other => Some(format!("{name}-{other}")),
    }
}

pub(super) fn ports_help(known: &[String]) -> String {
    match list(known) {
        names if names.is_empty() => "the service lists no ports".to_owned(),
        names => format!("the service's ports are {names}"),
    }
}
