//! References in a suite's texts: `${services.db.host}`, `${services.db.ports.5432}`, `${run.id}` and
//! `${env.HOME}`. A literal `${` is written `$${`.
//!
//! They stand in what a suite runs: a step's command, environment and folder, the suite's environment, and the
//! keys of a service's type. A service that refers to another depends on it.

mod scope;

use std::fmt;

use crate::is_name;

pub use scope::{Scope, resolve, resolve_value};

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It does not end.
    #[error(
        "the reference at character {at} of {text:?} lacks its `}}`; write `$${{` for a literal `${{`"
    )]
    Unclosed {
        /// The whole text.
        text: String,
        /// The character at which it begins, from 1.
        at: usize,
    },
    /// It is none of the known forms.
    #[error(
        "`${{{reference}}}` at character {at} of {text:?} is no reference; there are \
         `${{services.<name>.host}}`, `${{services.<name>.ports.<port>}}`, `${{run.id}}` and \
         `${{env.<NAME>}}`, and `$${{` for a literal `${{`"
    )]
    Unknown {
        /// What stands between the braces.
        reference: String,
        /// The whole text.
        text: String,
        /// The character at which it begins, from 1.
        at: usize,
    },
    /// It names a service that does not run.
    #[error(
        "`{reference}` names the service `{service}`, which does not run yet; depend on it, or start it first"
    )]
    NoService {
        /// The reference.
        reference: Reference,
        /// The service.
        service: String,
    },
    /// It names a port that the service does not have.
    #[error("`{reference}` names the port `{port}`; the ports of `{service}` are: {known}")]
    NoPort {
        /// The reference.
        reference: Reference,
        /// The service.
        service: String,
        /// The port.
        port: String,
        /// The service's ports.
        known: String,
    },
    /// It names an environment variable that is not set.
    #[error(
        "`{reference}` names an environment variable that is not set; set `{name}` for the run"
    )]
    NoVariable {
        /// The reference.
        reference: Reference,
        /// The variable.
        name: String,
    },
}

/// What a text refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reference {
    /// `${services.<name>.host}`: where a service is reached.
    Host {
        /// The service.
        service: String,
    },
    /// `${services.<name>.ports.<port>}`: a port of it, as seen by the one who refers to it.
    Port {
        /// The service.
        service: String,
        /// The port, by the name or number that the suite gives it.
        port: String,
    },
    /// `${run.id}`: the run's id.
    RunId,
    /// `${env.<NAME>}`: an environment variable of whoever runs the suite.
    Env {
        /// The variable.
        name: String,
    },
}

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        let tokens: Vec<&str> = text.split('.').collect();
        let name = |token: &str| is_name(token).then(|| token.to_owned());
        match tokens.as_slice() {
            ["run", "id"] => Some(Self::RunId),
            ["env", variable] => Some(Self::Env { name: name(variable)? }),
            ["services", service, "host"] => Some(Self::Host { service: name(service)? }),
            ["services", service, "ports", port] => {
                Some(Self::Port { service: name(service)?, port: name(port)? })
            }
            _ => None,
        }
    }

    /// The service that it refers to, if it refers to one.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Host { service } | Self::Port { service, .. } => Some(service),
            Self::RunId | Self::Env { .. } => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { service } => write!(f, "${{services.{service}.host}}"),
            Self::Port { service, port } => write!(f, "${{services.{service}.ports.{port}}}"),
            Self::RunId => f.write_str("${run.id}"),
            Self::Env { name } => write!(f, "${{env.{name}}}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference(Reference),
}

/// A text with its references found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Finds the references in a text.
    ///
    /// # Errors
    /// [`ReferenceError`] when one is not closed or is none of the known forms.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = after;
                continue;
            }
            literal.push_str(before);
            let at = text.get(..text.len() - after.len()).unwrap_or(text).chars().count() - 1;
            let place = || (text.to_owned(), at);
            let Some((inside, tail)) = after.split_once('}') else {
                let (text, at) = place();
                return Err(ReferenceError::Unclosed { text, at });
            };
            let reference = Reference::parse(inside).ok_or_else(|| {
                let (text, at) = place();
                ReferenceError::Unknown { reference: inside.to_owned(), text, at }
            })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Reference(reference));
            rest = tail;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// What the text refers to, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Text(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_reference_is_told_with_its_place_and_the_way_out() {
        for (text, words) in [
            ("ü${HOME}", ["${HOME}", "character 2", "$${"]),
            ("${services.db}", ["${services.db}", "character 1", "${services.<name>.host}"]),
            ("${services.a b.host}", ["${services.a b.host}", "character 1", "${run.id}"]),
            ("${}", ["`${}`", "character 1", "${env.<NAME>}"]),
            ("x ${run.id", ["lacks its `}`", "character 3", "$${"]),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{text}: {error}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in r"(\$|\{|\}|\.|services|run|id|env|[a-zü]){0,20}") {
            let _ = Template::parse(&text);
        }

        #[test]
        fn a_reference_reads_back_as_it_is_written(service in "[a-z0-9_-]{1,9}", port in "[a-z0-9]{1,9}") {
            for reference in [
                Reference::Host { service: service.clone() },
                Reference::Port { service, port: port.clone() },
                Reference::Env { name: port },
                Reference::RunId,
            ] {
                let template = Template::parse(&reference.to_string()).unwrap();
                let found: Vec<&Reference> = template.references().collect();
                proptest::prop_assert_eq!(found, [&reference]);
            }
        }
    }
}
