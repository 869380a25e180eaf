//! Whether patterns cover another: whether every topic that it selects is one that they select.
//!
//! Nothing but the literal tokens of the covering patterns tells one topic from another for them. So a token
//! that none of them names stands for all that a `*` can be, and tails of a few tokens stand for all that a
//! `>` can be: past the longest pattern only a `>` matches, whatever the length. The answer is exact, for
//! several patterns together as well: `a.*` and `a.*.>` cover `a.>`.

use echo_sdk::Pattern;

/// Whether each topic that `wanted` selects is selected by one of `patterns`.
pub(super) fn covers(patterns: &[Pattern], wanted: &Pattern) -> bool {
    let tokens: Vec<&str> = wanted.tokens().collect();
    let Some((&">", head)) = tokens.split_last() else {
        return covers_one_length(patterns, &tokens);
    };
    let longest = patterns.iter().map(|pattern| pattern.tokens().count()).max().unwrap_or(0);
    let mut probe = head.to_vec();
    (head.len()..=longest.max(head.len())).all(|_| {
        probe.push("*");
        covers_one_length(patterns, &probe)
    })
}

/// The same for a list of tokens without `>`, in which `*` is a token that no pattern names.
fn covers_one_length(patterns: &[Pattern], tokens: &[&str]) -> bool {
    patterns.iter().any(|pattern| {
        let mut rest = tokens.iter();
        for token in pattern.tokens() {
            match (token, rest.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(found)) if literal == *found => {}
                _ => return false,
            }
        }
        rest.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use echo_sdk::Topic;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn several_patterns_cover_together() {
        let covers = |patterns: &[&str], wanted: &str| {
            let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
            covers(&patterns, &pattern(wanted))
        };
        assert!(covers(&["a.>"], "a.b"));
        assert!(covers(&["a.>"], "a.*.c.>"));
        assert!(covers(&["a.*"], "a.*"));
        assert!(covers(&["a.*", "a.*.>"], "a.>"));
        assert!(covers(&["x", ">"], ">"));
        assert!(!covers(&["a.*"], "a.>"));
        assert!(!covers(&["a.*.>"], "a.>"));
        assert!(!covers(&["a.b", "a.c"], "a.*"));
        assert!(!covers(&["a"], "a.>"));
        assert!(!covers(&["a.>"], "a"));
        assert!(!covers(&[], "a"));
        assert!(!covers(&["*"], ">"));
    }

    /// Every topic of up to five tokens out of two that patterns name and one that they do not.
    fn topics() -> Vec<Topic> {
        let mut all: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for _ in 0..5 {
            let longer = |head: &String| {
                let join = if head.is_empty() { "" } else { "." };
                ["a", "b", "z"].map(|token| format!("{head}{join}{token}"))
            };
            last = last.iter().flat_map(longer).collect();
            all.extend(last.iter().cloned());
        }
        all.iter().map(|text| Topic::new(text).unwrap()).collect()
    }

    fn patterns() -> impl Strategy<Value = Pattern> {
        let token = prop::sample::select(vec!["a", "b", "*"]);
        let tokens = prop::collection::vec(token, 0..4);
        (tokens, prop::sample::select(vec!["a", "b", "*", ">"])).prop_map(|(mut tokens, last)| {
            tokens.push(last);
            pattern(&tokens.join("."))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn as_trying_every_topic_says(
            covering in prop::collection::vec(patterns(), 0..5),
            wanted in patterns(),
        ) {
            let all = topics();
            let selected = all.iter().filter(|topic| wanted.matches(topic));
            let covered = |topic: &Topic| covering.iter().any(|pattern| pattern.matches(topic));
            let tried = selected.clone().all(covered);
            prop_assert_eq!(covers(&covering, &wanted), tried, "{:?} over {:?}", covering, wanted);
        }
    }
}
