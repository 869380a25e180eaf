//! In which order plugins are initialised: each after those that it depends on.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

/// What the order depends on, of one plugin.
#[derive(Debug, Clone)]
pub struct Node {
    /// The plugin's version.
    pub version: Version,
    /// The plugins that it needs, with the versions that it works with.
    pub dependencies: BTreeMap<String, VersionReq>,
}

/// Why there is no order. Each names a plugin at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A dependency that nobody provides.
    #[error(
        "plugin `{plugin}` depends on `{dependency}`, which is not there; enable it, or drop the dependency from the manifest"
    )]
    Unknown {
        /// The plugin that needs it.
        plugin: String,
        /// The name that nobody has.
        dependency: String,
    },
    /// A dependency of a version that does not do.
    #[error("plugin `{plugin}` depends on `{dependency}` {wanted}, but it is {found}")]
    Version {
        /// The plugin that needs it.
        plugin: String,
        /// The plugin that it needs.
        dependency: String,
        /// The versions that would do.
        wanted: VersionReq,
        /// The version that is there.
        found: Version,
    },
    /// Plugins that depend on each other in a circle.
    #[error("plugins depend on each other in a circle: {}", circle(.0))]
    Cycle(Vec<String>),
}

impl OrderError {
    /// The plugins without any of which the fault would not be.
    pub fn plugins(&self) -> Vec<&str> {
        match self {
            Self::Unknown { plugin, .. } | Self::Version { plugin, .. } => vec![plugin],
            Self::Cycle(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

fn circle(names: &[String]) -> String {
    let first = names.first().into_iter();
    names.iter().chain(first).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ")
}

/// The plugins in an order in which each comes after its dependencies; otherwise by name.
///
/// # Errors
/// [`OrderError`] names an unknown dependency, one of the wrong version, or a circle in its order.
pub fn initialisation_order(plugins: &BTreeMap<String, Node>) -> Result<Vec<String>, OrderError> {
    for (name, node) in plugins {
        for (dependency, wanted) in &node.dependencies {
            let (plugin, dependency) = (name.clone(), dependency.clone());
            let Some(found) = plugins.get(&dependency).map(|node| node.version.clone()) else {
                return Err(OrderError::Unknown { plugin, dependency });
            };
            if !wanted.matches(&found) {
                return Err(OrderError::Version {
                    plugin,
                    dependency,
                    wanted: wanted.clone(),
                    found,
                });
            }
        }
    }
    let mut walk = Walk { plugins, order: Vec::new(), done: BTreeSet::new(), path: Vec::new() };
    for name in plugins.keys() {
        walk.visit(name)?;
    }
    Ok(walk.order)
}

/// A depth-first walk (Tarjan, "Edge-disjoint spanning trees and depth-first search", 1976): a plugin is
/// added once all that it depends on is.
struct Walk<'a> {
    plugins: &'a BTreeMap<String, Node>,
    order: Vec<String>,
    done: BTreeSet<&'a str>,
    path: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &'a str) -> Result<(), OrderError> {
        if self.done.contains(name) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|other| *other == name) {
            let names = self.path.iter().skip(start).map(|name| (*name).to_owned()).collect();
            return Err(OrderError::Cycle(names));
        }
        self.path.push(name);
        for dependency in
            self.plugins.get(name).into_iter().flat_map(|node| node.dependencies.keys())
        {
            self.visit(dependency)?;
        }
        self.path.pop();
        self.done.insert(name);
        self.order.push(name.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plugins(edges: &[(&str, &[&str])]) -> BTreeMap<String, Node> {
        let node = |dependencies: &[&str]| Node {
            version: Version::new(1, 2, 0),
            dependencies: dependencies
                .iter()
                .map(|d| ((*d).to_owned(), VersionReq::STAR))
                .collect(),
        };
        edges.iter().map(|(name, needs)| ((*name).to_owned(), node(needs))).collect()
    }

    #[test]
    fn dependencies_come_first() {
        let order = initialisation_order(&plugins(&[("a", &["c"]), ("b", &["a"]), ("c", &[])]));
        assert_eq!(order.unwrap(), ["c", "a", "b"]);
    }

    #[test]
    fn an_unknown_dependency_is_named() {
        let error = initialisation_order(&plugins(&[("a", &["ghost"])])).unwrap_err();
        assert!(error.to_string().contains("`a`") && error.to_string().contains("`ghost`"));
    }

    #[test]
    fn a_circle_is_named_in_its_order() {
        let error = initialisation_order(&plugins(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]))
            .unwrap_err();
        assert_eq!(error, OrderError::Cycle(vec!["b".into(), "c".into()]));
        assert!(error.to_string().ends_with("`b` -> `c` -> `b`"), "{error}");
    }

    #[test]
    fn a_version_that_does_not_do_is_named() {
        let mut plugins = plugins(&[("a", &["b"]), ("b", &[])]);
        let wanted = VersionReq::parse(">=2").unwrap();
        plugins.get_mut("a").unwrap().dependencies.insert("b".into(), wanted);
        let error = initialisation_order(&plugins).unwrap_err().to_string();
        assert!(error.contains(">=2") && error.contains("1.2.0"), "{error}");
    }

    proptest! {
        #[test]
        fn any_graph_gives_an_order_or_a_real_circle(
            edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..20),
        ) {
            let mut graph = plugins(&[]);
            for number in 0..8 {
                let needs = edges.iter().filter(|(from, _)| *from == number);
                let dependencies =
                    needs.map(|(_, to)| (format!("p{to}"), VersionReq::STAR)).collect();
                graph.insert(format!("p{number}"), Node { version: Version::new(1, 0, 0), dependencies });
            }
            match initialisation_order(&graph) {
                Ok(order) => {
                    prop_assert_eq!(order.len(), 8);
                    let place = |name: &str| order.iter().position(|other| other == name).unwrap();
                    for (name, node) in &graph {
                        for dependency in node.dependencies.keys() {
                            prop_assert!(place(dependency) < place(name));
                        }
                    }
                }
                Err(OrderError::Cycle(names)) => {
                    for (from, to) in names.iter().zip(names.iter().cycle().skip(1)) {
                        prop_assert!(graph[from].dependencies.contains_key(to));
                    }
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
