//! What references stand for, and putting it in their place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Part, Reference, ReferenceError, Template};
use crate::contract::RunId;
use crate::contract::service::ServiceAddress;
use crate::contract::suite::ServiceSpec;

/// What references stand for at one place of a run.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The run.
    pub run_id: RunId,
    /// The services that run, each with the address at which the one who refers to it reaches it.
    pub services: BTreeMap<String, ServiceAddress>,
    /// The environment of whoever runs the suite.
    pub env: BTreeMap<String, String>,
}

impl Reference {
    fn resolve(&self, scope: &Scope) -> Result<String, ReferenceError> {
        match self {
            Self::RunId => Ok(scope.run_id.to_string()),
            Self::Env { name } => scope.env.get(name).cloned().ok_or_else(|| {
                ReferenceError::NoVariable { reference: self.clone(), name: name.clone() }
            }),
            Self::Host { service } => Ok(self.address(service, scope)?.host.clone()),
            Self::Port { service, port } => {
                let ports = &self.address(service, scope)?.ports;
                ports.get(port).map(u16::to_string).ok_or_else(|| ReferenceError::NoPort {
                    reference: self.clone(),
                    service: service.clone(),
                    port: port.clone(),
                    known: ports.keys().cloned().collect::<Vec<_>>().join(", "),
                })
            }
        }
    }

    fn address<'a>(
        &self,
        service: &str,
        scope: &'a Scope,
    ) -> Result<&'a ServiceAddress, ReferenceError> {
        scope.services.get(service).ok_or_else(|| ReferenceError::NoService {
            reference: self.clone(),
            service: service.to_owned(),
        })
    }
}

impl Template {
    /// The text with each reference replaced by what it stands for.
    ///
    /// # Errors
    /// [`ReferenceError`] when the scope lacks the service, the port or the variable.
    pub fn resolve(&self, scope: &Scope) -> Result<String, ReferenceError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Reference(reference) => text.push_str(&reference.resolve(scope)?),
            }
        }
        Ok(text)
    }
}

/// A text with each reference replaced by what it stands for.
///
/// # Errors
/// [`ReferenceError`] when a reference is malformed, or the scope lacks what it names.
pub fn resolve(text: &str, scope: &Scope) -> Result<String, ReferenceError> {
    Template::parse(text)?.resolve(scope)
}

/// A value with the references in each of its strings replaced; keys stay as they are.
///
/// # Errors
/// [`ReferenceError`] when a reference is malformed, or the scope lacks what it names.
pub fn resolve_value(value: &Value, scope: &Scope) -> Result<Value, ReferenceError> {
    Ok(match value {
        Value::String(text) => Value::String(resolve(text, scope)?),
        Value::Array(items) => {
            let items = items.iter().map(|item| resolve_value(item, scope));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(table) => {
            let entries = table.iter().map(|(key, value)| {
                Ok::<_, ReferenceError>((key.clone(), resolve_value(value, scope)?))
            });
            Value::Object(entries.collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

impl ServiceSpec {
    /// The services that must be ready before this one starts: those that it depends on in words, and those
    /// that its keys refer to.
    ///
    /// # Errors
    /// [`ReferenceError`] when a reference is malformed.
    pub fn dependencies(&self) -> Result<BTreeSet<String>, ReferenceError> {
        let mut names: BTreeSet<String> = self.depends_on.iter().cloned().collect();
        for text in self.config.values().flat_map(strings) {
            let template = Template::parse(text)?;
            names.extend(template.references().filter_map(Reference::service).map(str::to_owned));
        }
        Ok(names)
    }

    /// The same service with the references in the keys of its type replaced.
    ///
    /// # Errors
    /// [`ReferenceError`] when a reference is malformed, or the scope lacks what it names.
    pub fn resolved(&self, scope: &Scope) -> Result<Self, ReferenceError> {
        let mut config = self.config.clone();
        for value in config.values_mut() {
            *value = resolve_value(value, scope)?;
        }
        Ok(Self { config, ..self.clone() })
    }
}

/// Every string within a value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(table) => table.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope() -> Scope {
        let db = ServiceAddress {
            host: "127.0.0.1".to_owned(),
            ports: BTreeMap::from([("5432".to_owned(), 49152), ("admin".to_owned(), 49153)]),
            instance: String::new(),
            peers: None,
        };
        Scope {
            run_id: RunId::new("r1").unwrap(),
            services: BTreeMap::from([("db".to_owned(), db)]),
            env: BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]),
        }
    }

    #[test]
    fn references_are_replaced_by_what_they_stand_for() {
        for (text, resolved) in [
            ("", ""),
            ("a $ b } c", "a $ b } c"),
            ("${run.id}", "r1"),
            ("${env.HOME}/x", "/root/x"),
            ("pg://${services.db.host}:${services.db.ports.5432}/", "pg://127.0.0.1:49152/"),
            ("${services.db.ports.admin}", "49153"),
            ("$${run.id} is ${run.id}", "${run.id} is r1"),
            ("$$${HOME}", "$${HOME}"),
            ("ü${run.id}ü", "ür1ü"),
        ] {
            assert_eq!(resolve(text, &scope()).unwrap(), resolved, "{text}");
        }
    }

    #[test]
    fn what_the_scope_lacks_is_named() {
        for (text, words) in [
            ("${services.web.host}", ["${services.web.host}", "`web`"]),
            ("${services.db.ports.80}", ["`80`", "5432, admin"]),
            ("${env.NOT_SET}", ["${env.NOT_SET}", "set `NOT_SET`"]),
        ] {
            let error = resolve(text, &scope()).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{text}: {error}");
            }
        }
    }

    #[test]
    fn a_service_depends_on_what_its_keys_refer_to() {
        let spec: ServiceSpec = serde_json::from_value(json!({
            "type": "process",
            "depends_on": ["cache"],
            "command": ["serve", "--db", "${services.db.host}"],
            "env": { "ADMIN": "${services.db.ports.admin}", "RUN": "${run.id}" },
            "workers": 4,
        }))
        .unwrap();
        let names: Vec<String> = spec.dependencies().unwrap().into_iter().collect();
        assert_eq!(names, ["cache", "db"]);
        let resolved = spec.resolved(&scope()).unwrap();
        assert_eq!(resolved.config["command"], json!(["serve", "--db", "127.0.0.1"]));
        assert_eq!(resolved.config["env"], json!({ "ADMIN": "49153", "RUN": "r1" }));
        assert_eq!(resolved.config["workers"], json!(4));
    }

    proptest::proptest! {
        #[test]
        fn a_text_without_references_is_itself(text in ".*") {
            proptest::prop_assume!(!text.contains("${"));
            proptest::prop_assert_eq!(resolve(&text, &scope()).unwrap(), text);
        }

        #[test]
        fn a_text_can_always_be_written_literally(text in r"(\$|\{|\}|[a-z.]){0,20}") {
            // A `$` before an escaped `${` stays as it is.
            let escaped = text.replace("${", "$${");
            proptest::prop_assert_eq!(resolve(&escaped, &scope()).unwrap(), text);
        }
    }
}
