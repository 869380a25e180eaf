//! Which services of a suite come before which: what starts first, and what stops last.

use std::collections::{BTreeMap, BTreeSet};

use echo_sdk::contract::suite::Suite;

/// For each service, the services that it needs: named by `depends_on`, or referred to in its keys.
#[derive(Debug)]
pub(crate) struct Order<'a>(BTreeMap<&'a str, BTreeSet<String>>);

impl<'a> Order<'a> {
    pub(crate) fn of(suite: &'a Suite) -> Self {
        // The suite was checked, so its references are well-formed.
        let needs = suite
            .services
            .iter()
            .map(|(name, spec)| (name.as_str(), spec.dependencies().unwrap_or_default()));
        Self(needs.collect())
    }

    /// The services that were not `asked` to start yet and whose needs are all `ready`.
    pub(crate) fn startable(
        &self,
        asked: &BTreeSet<&str>,
        ready: impl Fn(&str) -> bool,
    ) -> Vec<&'a str> {
        let waits = self.0.iter().filter(|(name, _)| !asked.contains(*name));
        waits
            .filter(|(_, needs)| needs.iter().all(|need| ready(need)))
            .map(|(name, _)| *name)
            .collect()
    }

    /// The services of `left` that no other of `left` needs.
    pub(crate) fn stoppable(&self, left: &BTreeSet<&'a str>) -> Vec<&'a str> {
        let needed = |name: &str| {
            let mut others = left.iter().filter_map(|other| self.0.get(other));
            others.any(|needs| needs.contains(name))
        };
        left.iter().copied().filter(|name| !needed(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite() -> Suite {
        let service = |needs: &[&str]| serde_json::json!({ "type": "t", "depends_on": needs });
        let json = serde_json::json!({
            "name": "s",
            "services": {
                "db": service(&[]),
                "cache": service(&[]),
                "api": service(&["db", "cache"]),
                "web": service(&["api"]),
            },
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_service_starts_when_all_that_it_needs_is_ready() {
        let suite = suite();
        let order = Order::of(&suite);
        let startable = |asked: &[&str], ready: &[&str]| {
            order.startable(&asked.iter().copied().collect(), |name| ready.contains(&name))
        };
        assert_eq!(startable(&[], &[]), ["cache", "db"]);
        assert_eq!(startable(&["cache", "db"], &["db"]), [""; 0]);
        assert_eq!(startable(&["cache", "db"], &["cache", "db"]), ["api"]);
        assert_eq!(startable(&["cache", "db", "api"], &["cache", "db", "api"]), ["web"]);
    }

    #[test]
    fn a_service_stops_when_nothing_needs_it_any_more() {
        let suite = suite();
        let order = Order::of(&suite);
        let stoppable = |left: &[&'static str]| order.stoppable(&left.iter().copied().collect());
        assert_eq!(stoppable(&["api", "cache", "db", "web"]), ["web"]);
        assert_eq!(stoppable(&["api", "cache", "db"]), ["api"]);
        assert_eq!(stoppable(&["cache", "db"]), ["cache", "db"]);
        // `api` never started, so nothing holds back what it would have needed.
        assert_eq!(stoppable(&["db"]), ["db"]);
    }
}
