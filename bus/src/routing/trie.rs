//! Patterns by token, shared between versions.

use std::sync::Arc;

use echo_sdk::{Pattern, Topic};

use super::children::ChildrenOf;

type Children<V> = ChildrenOf<Arc<Node<V>>>;

/// A tree of tokens that holds values under patterns.
///
/// Cloning is free; a change copies the nodes on its own path and shares the rest, and the maps of children
/// are persistent as well (hash array mapped tries), so a node with a hundred thousand children is not
/// copied either.
#[derive(Debug)]
pub struct Trie<V> {
    root: Arc<Node<V>>,
}

#[derive(Debug)]
struct Node<V> {
    literal: Children<V>,
    any: Option<Arc<Node<V>>>,
    /// Values of patterns that end here.
    here: Vec<V>,
    /// Values of patterns that end in `>` below here.
    tail: Vec<V>,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { literal: Children::default(), any: None, here: Vec::new(), tail: Vec::new() }
    }
}

impl<V: Clone> Clone for Node<V> {
    fn clone(&self) -> Self {
        Self {
            literal: self.literal.clone(),
            any: self.any.clone(),
            here: self.here.clone(),
            tail: self.tail.clone(),
        }
    }
}

impl<V> Node<V> {
    fn is_empty(&self) -> bool {
        let leads_on = !self.literal.is_empty() || self.any.is_some();
        !leads_on && self.here.is_empty() && self.tail.is_empty()
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: Arc::default() }
    }
}

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root) }
    }
}

impl<V: Clone> Trie<V> {
    /// Puts a value under a pattern, beside those that are there.
    pub fn insert(&mut self, pattern: &Pattern, value: V) {
        let mut node = Arc::make_mut(&mut self.root);
        for token in pattern.tokens() {
            match token {
                ">" => return node.tail.push(value),
                "*" => node = Arc::make_mut(node.any.get_or_insert_default()),
                literal => node = Arc::make_mut(node.literal.get_or_insert(literal)),
            }
        }
        node.here.push(value);
    }

    /// Takes the values that `chosen` picks away from a pattern; branches that hold nothing more go too.
    pub fn remove(&mut self, pattern: &Pattern, chosen: impl Fn(&V) -> bool) {
        let tokens: Vec<&str> = pattern.tokens().collect();
        remove_below(&mut self.root, &tokens, &chosen);
    }

    /// Calls `found` with each value whose pattern matches the topic.
    pub fn visit<'a>(&'a self, topic: &Topic, found: &mut impl FnMut(&'a V)) {
        visit_below(&self.root, Some(topic.as_str()), found);
    }
}

fn remove_below<V: Clone>(node: &mut Arc<Node<V>>, tokens: &[&str], chosen: &impl Fn(&V) -> bool) {
    let node = Arc::make_mut(node);
    match tokens.split_first() {
        None => node.here.retain(|value| !chosen(value)),
        Some((&">", _)) => node.tail.retain(|value| !chosen(value)),
        Some((&"*", rest)) => {
            if let Some(child) = &mut node.any {
                remove_below(child, rest, chosen);
                if child.is_empty() {
                    node.any = None;
                }
            }
        }
        Some((literal, rest)) => {
            if let Some(child) = node.literal.get_mut(literal) {
                remove_below(child, rest, chosen);
                if child.is_empty() {
                    node.literal.remove(literal);
                }
            }
        }
    }
}

/// `rest` is what of the topic stands below `node`; `None` once it is used up.
fn visit_below<'a, V>(node: &'a Node<V>, rest: Option<&str>, found: &mut impl FnMut(&'a V)) {
    let Some(rest) = rest else {
        return node.here.iter().for_each(found);
    };
    node.tail.iter().for_each(&mut *found);
    let (token, rest) = match rest.split_once('.') {
        Some((token, rest)) => (token, Some(rest)),
        None => (rest, None),
    };
    if let Some(child) = node.literal.get(token) {
        visit_below(child, rest, found);
    }
    if let Some(child) = &node.any {
        visit_below(child, rest, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(tokens: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(tokens), 1..5).prop_map(|list| list.join("."))
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        (texts(&["a", "b", "c", "*"]), any::<bool>()).prop_map(|(text, tail)| {
            Pattern::new(if tail { format!("{text}.>") } else { text }).unwrap()
        })
    }

    fn topic() -> impl Strategy<Value = Topic> {
        texts(&["a", "b", "c"]).prop_map(|text| Topic::new(text).unwrap())
    }

    fn found(trie: &Trie<usize>, topic: &Topic) -> Vec<usize> {
        let mut all = Vec::new();
        trie.visit(topic, &mut |value| all.push(*value));
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_the_pattern_itself(
            patterns in prop::collection::vec(pattern(), 0..20),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
            topics in prop::collection::vec(topic(), 1..20),
        ) {
            let mut trie = Trie::default();
            for (number, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, number);
            }
            let before = trie.clone();
            let mut alive: Vec<bool> = vec![true; patterns.len()];
            for index in removed.iter().filter(|_| !patterns.is_empty()) {
                let number = index.index(patterns.len());
                trie.remove(&patterns[number], |value| *value == number);
                alive[number] = false;
            }
            for topic in &topics {
                let naive = |alive: &dyn Fn(usize) -> bool| -> Vec<usize> {
                    let numbers = 0..patterns.len();
                    numbers.filter(|n| alive(*n) && patterns[*n].matches(topic)).collect()
                };
                prop_assert_eq!(found(&trie, topic), naive(&|number| alive[number]));
                prop_assert_eq!(found(&before, topic), naive(&|_| true), "an old version stays");
            }
        }

        #[test]
        fn nothing_is_left_when_all_is_removed(patterns in prop::collection::vec(pattern(), 0..20)) {
            let mut trie = Trie::default();
            for (number, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, number);
            }
            for pattern in &patterns {
                trie.remove(pattern, |_| true);
            }
            prop_assert!(trie.root.is_empty());
        }
    }
}
