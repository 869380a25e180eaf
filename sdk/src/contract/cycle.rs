//! Cycles in what waits for what.

use std::collections::{BTreeMap, BTreeSet};

/// What each name waits for; every name that is waited for is a key as well.
type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The cycles, each in the order in which one waits for the next; no name is in two of them.
pub(super) fn cycles(mut graph: Graph<'_>) -> Vec<Vec<&str>> {
    let mut cycles = Vec::new();
    loop {
        prune(&mut graph);
        let Some((&start, _)) = graph.first_key_value() else {
            return cycles;
        };
        let cycle = walk(&graph, start);
        graph.retain(|name, _| !cycle.contains(name));
        cycles.push(cycle);
    }
}

/// Takes away, again and again, what waits for nothing that is left.
fn prune(graph: &mut Graph<'_>) {
    let mut waiting_on: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for (&name, dependencies) in graph.iter() {
        let there = dependencies.iter().filter(|other| graph.contains_key(**other));
        for &other in there.clone() {
            waiting_on.entry(other).or_default().push(name);
        }
        left.insert(name, there.count());
    }
    let mut free: Vec<&str> =
        left.iter().filter(|(_, left)| **left == 0).map(|(name, _)| *name).collect();
    while let Some(name) = free.pop() {
        graph.remove(name);
        for &waiting in waiting_on.get(name).into_iter().flatten() {
            if let Some(left) = left.get_mut(waiting) {
                *left -= 1;
                if *left == 0 {
                    free.push(waiting);
                }
            }
        }
    }
}

/// Follows a pruned graph, in which everything waits for something, until a name comes again.
fn walk<'a>(graph: &Graph<'a>, start: &'a str) -> Vec<&'a str> {
    let mut path: Vec<&str> = Vec::new();
    let mut next = Some(start);
    while let Some(name) = next {
        if let Some(begin) = path.iter().position(|other| *other == name) {
            path.drain(..begin);
            break;
        }
        path.push(name);
        let dependencies = graph.get(name);
        next = dependencies
            .and_then(|all| all.iter().copied().find(|other| graph.contains_key(other)));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&'static str, &'static str)]) -> Graph<'static> {
        let mut graph = Graph::new();
        for (name, other) in edges {
            graph.entry(name).or_default().insert(other);
            graph.entry(other).or_default();
        }
        graph
    }

    #[test]
    fn what_can_be_ordered_has_no_cycle() {
        assert!(cycles(Graph::new()).is_empty());
        assert!(cycles(graph(&[("a", "b"), ("a", "c"), ("b", "c")])).is_empty());
    }

    #[test]
    fn each_cycle_is_told_in_order_and_what_waits_for_one_is_not() {
        let found = cycles(graph(&[("a", "c"), ("c", "b"), ("b", "c"), ("x", "x"), ("y", "x")]));
        assert_eq!(found, [vec!["c", "b"], vec!["x"]]);
        assert_eq!(cycles(graph(&[("a", "b"), ("b", "c"), ("c", "a")])), [["a", "b", "c"]]);
    }

    #[test]
    fn a_long_chain_is_no_burden() {
        let names: Vec<String> = (0..50_000).map(|index| index.to_string()).collect();
        let mut graph: Graph<'_> = names
            .windows(2)
            .map(|pair| (pair[0].as_str(), BTreeSet::from([pair[1].as_str()])))
            .collect();
        graph.insert(names[49_999].as_str(), BTreeSet::new());
        assert!(cycles(graph).is_empty());
    }

    proptest::proptest! {
        /// Every cycle is one, and without the cycles' names everything can be ordered.
        #[test]
        fn cycles_are_cycles(edges in proptest::collection::vec((0usize..8, 0usize..8), 0..20)) {
            const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let named: Vec<_> = edges.iter().map(|(a, b)| (NAMES[*a], NAMES[*b])).collect();
            let graph = graph(&named);
            let found = cycles(graph.clone());
            for cycle in &found {
                for (index, name) in cycle.iter().enumerate() {
                    let next = cycle[(index + 1) % cycle.len()];
                    proptest::prop_assert!(graph[name].contains(next));
                }
            }
            let mut rest = graph;
            rest.retain(|name, _| !found.iter().any(|cycle| cycle.contains(name)));
            prune(&mut rest);
            proptest::prop_assert!(rest.is_empty());
        }
    }
}
