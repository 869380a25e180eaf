//! Topics, patterns, and the tree that finds them.

use echo_bus::routing::Trie;
use echo_sdk::{MAX_TOPIC_LEN, Pattern, Topic};

/// Topics and patterns are what the plainest reading says, and the tree of patterns finds what each of them matches.
///
/// The input is a text a line; each is tried as both. The lines after an empty one are taken out of the tree.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (kept, removed) = text.split_once("\n\n").unwrap_or((text, ""));
    let removed: Vec<Pattern> =
        removed.lines().filter_map(|line| Pattern::new(line).ok()).collect();
    let mut patterns = Vec::new();
    let mut topics = Vec::new();
    for line in kept.split('\n').take(64) {
        let topic = Topic::new(line);
        assert_eq!(topic.is_ok(), is_topic(line), "{line:?}");
        topics.extend(topic);
        let pattern = Pattern::new(line);
        assert_eq!(pattern.is_ok(), is_pattern(line), "{line:?}");
        patterns.extend(pattern);
    }
    let mut tree = Trie::default();
    for (number, pattern) in patterns.iter().enumerate() {
        tree.insert(pattern, number);
    }
    for pattern in &removed {
        tree.remove(pattern, |_| true);
    }
    for topic in &topics {
        let naive = |pattern: &Pattern| {
            let tokens: Vec<_> = pattern.as_str().split('.').collect();
            matches(&tokens, &topic.as_str().split('.').collect::<Vec<_>>())
        };
        for pattern in &patterns {
            assert_eq!(pattern.matches(topic), naive(pattern), "{pattern} {topic}");
        }
        let mut found = Vec::new();
        tree.visit(topic, &mut |number: &usize| found.push(*number));
        found.sort_unstable();
        let expected = patterns.iter().enumerate();
        let expected: Vec<_> = expected
            .filter(|(_, pattern)| !removed.contains(pattern) && naive(pattern))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(found, expected, "{topic}");
    }
}

fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, topic @ ..]) => matches(pattern, topic),
        ([one, pattern @ ..], [other, topic @ ..]) => one == other && matches(pattern, topic),
        _ => false,
    }
}

fn is_plain(text: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty() && !token.chars().any(|c| c.is_whitespace() || c.is_control())
    };
    text.len() <= MAX_TOPIC_LEN && text.split('.').all(is_token)
}

fn is_topic(text: &str) -> bool {
    is_plain(text) && !text.contains(['*', '>'])
}

fn is_pattern(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let (last, others) = tokens.split_last().unwrap();
    let is_wild = |token: &str| token.contains(['*', '>']);
    is_plain(text)
        && others.iter().all(|token| *token == "*" || !is_wild(token))
        && (matches!(*last, "*" | ">") || !is_wild(last))
}
