//! How topics stand on the server as subjects.
//!
//! A topic is its own subject. A message with an ordering key on a durable topic stands on
//! `_ECHO.K.<partition>.<topic>` instead, so that a consumer can take one partition's messages one at a time.

use echo_sdk::Pattern;
use uuid::Uuid;

/// What the subjects of partitions begin with.
const KEYED: &str = "_ECHO.K.";

/// Beginnings of subjects that are no topics: a pattern that begins with a wildcard does not mean them.
const OTHERS: [&str; 3] = ["$", "_INBOX.", "_ECHO."];

/// FNV-1a over 128 bits: the same on every host and in every version.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    // A byte that no UTF-8 text holds keeps the parts apart.
    parts.into_iter().fold(BASIS, |hash, part| step(part.iter().fold(hash, step), &0xff))
}

/// An id that is the same whenever it is made of the same parts.
pub(crate) fn id_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Uuid {
    uuid::Builder::from_custom_bytes(hash(parts).to_be_bytes()).into_uuid()
}

/// The partition of a key.
pub(crate) fn partition(key: &str, partitions: u16) -> u16 {
    let hash = hash([key.as_bytes()]);
    // Both halves, so that the few low bits are as good as the others.
    let mixed = (hash >> 64) ^ hash;
    u16::try_from(mixed % u128::from(partitions.max(1))).unwrap_or_default()
}

/// The subject of a keyed message of a durable topic.
pub(crate) fn keyed(partition: u16, topic: &str) -> String {
    format!("{KEYED}{partition}.{topic}")
}

/// The subjects of all keyed messages whose topics a pattern selects.
pub(crate) fn keyed_of_any(pattern: &str) -> String {
    format!("{KEYED}*.{pattern}")
}

/// The topic's part of a subject.
pub(crate) fn topic_text(subject: &str) -> &str {
    let keyed = subject.strip_prefix(KEYED).and_then(|rest| rest.split_once('.'));
    keyed.map_or(subject, |(_, topic)| topic)
}

/// Whether a subject that a pattern's subscription brought is a topic that the pattern means.
pub(crate) fn is_meant(patterns: &[Pattern], subject: &str) -> bool {
    if !OTHERS.iter().any(|other| subject.starts_with(other)) {
        return true;
    }
    let first = |text: &str| text.split('.').next().unwrap_or_default().to_owned();
    let own = first(subject);
    patterns.iter().any(|pattern| first(pattern.as_str()) == own)
}

/// What both patterns select, as a pattern; `None` when they have nothing in common.
pub(crate) fn intersection(a: &Pattern, b: &Pattern) -> Option<Pattern> {
    let (mut a, mut b) = (a.tokens(), b.tokens());
    let mut both: Vec<&str> = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => break,
            (Some(">"), Some(other)) => {
                both.push(other);
                both.extend(b);
                break;
            }
            (Some(other), Some(">")) => {
                both.push(other);
                both.extend(a);
                break;
            }
            (Some("*"), Some(other)) | (Some(other), Some("*")) => both.push(other),
            (Some(one), Some(other)) if one == other => both.push(one),
            _ => return None,
        }
    }
    Pattern::new(both.join(".")).ok()
}

/// Whether all that `inner` selects is selected by `outer`.
pub(crate) fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    let (mut outer, mut inner) = (outer.tokens(), inner.tokens());
    loop {
        match (outer.next(), inner.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Leaves out the patterns that others cover.
pub(crate) fn reduced(patterns: &[Pattern]) -> Vec<Pattern> {
    let mut kept: Vec<Pattern> = Vec::new();
    for pattern in patterns {
        if kept.iter().any(|other| covers(other, pattern)) {
            continue;
        }
        kept.retain(|other| !covers(pattern, other));
        kept.push(pattern.clone());
    }
    kept
}

/// A name for a slot's consumer: as readable as the server allows, and another for another filter.
pub(crate) fn consumer_name(slot: &str, filter: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let readable: String =
        slot.chars().take(64).map(|c| if is_allowed(c) { c } else { '_' }).collect();
    // 64 bits keep the names of one stream apart.
    let hash = hash([slot.as_bytes(), filter.as_bytes()]) >> 64;
    format!("{readable}-{hash:016x}")
}

/// What the reply subject of a message from a consumer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Which delivery it is, from 1.
    pub(crate) count: u64,
    /// The message's number in its stream.
    pub(crate) sequence: u64,
}

/// Reads `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<count>.<sequence>.…`.
pub(crate) fn delivered(reply: &str) -> Option<Delivered> {
    let rest = reply.strip_prefix("$JS.ACK.")?;
    // Servers before 2.14 leave the first two of the longer form out, and have seven tokens then.
    let skip = if rest.split('.').count() > 7 { 4 } else { 2 };
    let mut tokens = rest.split('.').skip(skip);
    let count = tokens.next()?.parse().ok()?;
    let sequence = tokens.next()?.parse().ok()?;
    Some(Delivered { count, sequence })
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
    fn two_patterns_have_one_in_common_or_none() {
        for (a, b, both) in [
            (">", "orders.>", Some("orders.>")),
            ("orders.*", "*.created", Some("orders.created")),
            ("a.>", "a", None),
            ("a.>", "*.*.c", Some("a.*.c")),
            ("*", ">", Some("*")),
            ("a.b", "a.c", None),
        ] {
            let found = intersection(&pattern(a), &pattern(b));
            assert_eq!(found.as_ref().map(Pattern::as_str), both, "{a} and {b}");
        }
    }

    #[test]
    fn patterns_that_others_cover_are_left_out() {
        let all = ["a.b", "a.>", "*.b", "a.*", "c"].map(pattern);
        let kept = reduced(&all);
        assert_eq!(kept.iter().map(Pattern::as_str).collect::<Vec<_>>(), ["a.>", "*.b", "c"]);
    }

    #[test]
    fn both_forms_of_acknowledgement_subjects_are_read() {
        let expected = Some(Delivered { count: 3, sequence: 100 });
        assert_eq!(delivered("$JS.ACK.events.durable.3.100.7.1790230470084404000.42"), expected);
        assert_eq!(delivered("$JS.ACK._.hash.events.durable.3.100.7.179023047.42"), expected);
        assert_eq!(delivered("$JS.ACK.hub.hash.events.durable.3.100.7.179023047.42.x"), expected);
        for wrong in ["", "_INBOX.1", "$JS.ACK.a", "$JS.ACK.a.b.c.d.e.f.g"] {
            assert_eq!(delivered(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_has_the_same_partition_in_every_version() {
        let partitions = ["a", "b", "customer-17", ""].map(|key| partition(key, 16));
        assert_eq!(partitions, [0, 7, 13, 9]);
        assert!((0..1000).map(|n| partition(&n.to_string(), 16)).all(|p| p < 16));
        let used: std::collections::BTreeSet<_> =
            (0..1000).map(|n| partition(&n.to_string(), 16)).collect();
        assert_eq!(used.len(), 16, "keys spread over all partitions");
    }

    #[test]
    fn a_keyed_subject_holds_its_topic() {
        assert_eq!(keyed(3, "orders.created"), "_ECHO.K.3.orders.created");
        assert_eq!(topic_text("_ECHO.K.3.orders.created"), "orders.created");
        assert_eq!(topic_text("orders.created"), "orders.created");
    }

    #[test]
    fn wildcards_do_not_mean_the_servers_own_subjects() {
        let all = [pattern(">")];
        assert!(is_meant(&all, "orders.created"));
        for other in ["_INBOX.x.1", "$JS.API.INFO", "_ECHO.K.1.a"] {
            assert!(!is_meant(&all, other), "{other}");
        }
        assert!(is_meant(&[pattern("_INBOX.x.*")], "_INBOX.x.1"));
    }

    prop_compose! {
        fn any_pattern()(tokens in prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4), tail in any::<bool>()) -> Pattern {
            let mut text = tokens.join(".");
            if tail { text.push_str(".>"); }
            Pattern::new(text).unwrap()
        }
    }

    prop_compose! {
        fn any_topic()(tokens in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6)) -> Topic {
            Topic::new(tokens.join(".")).unwrap()
        }
    }

    proptest! {
        #[test]
        fn an_intersection_selects_what_both_do(a in any_pattern(), b in any_pattern(), topic in any_topic()) {
            let both = intersection(&a, &b).is_some_and(|both| both.matches(&topic));
            prop_assert_eq!(both, a.matches(&topic) && b.matches(&topic));
        }

        #[test]
        fn what_is_covered_selects_nothing_else(a in any_pattern(), b in any_pattern(), topic in any_topic()) {
            if covers(&a, &b) {
                prop_assert!(!b.matches(&topic) || a.matches(&topic));
            }
        }

        #[test]
        fn no_reply_subject_makes_the_reader_panic(text in ".*") {
            let _ = delivered(&format!("$JS.ACK.{text}"));
        }
    }
}
