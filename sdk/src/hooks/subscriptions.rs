//! Writing subscriptions into the text of a manifest while its plugin is compiled.
//!
//! A library carries its manifest as a text that hosts read without running anything of it, so what follows from the
//! plugin's code has to be in that text before there is a library.

/// Writes `patterns` among the subscriptions of a manifest, or a list of them where it has none, and gives the length of
/// the whole. With a `whole` too short for it only the length is right.
///
/// The manifest has to be a JSON object; one that is not comes out as unsound as it came in.
pub const fn with_subscriptions(manifest: &str, patterns: &[&str], whole: &mut [u8]) -> usize {
    let manifest = manifest.as_bytes();
    if patterns.is_empty() {
        return push(whole, 0, manifest, 0, manifest.len());
    }
    let (list, object) = places(manifest);
    let at = if list > 0 { list } else { object };
    let mut len = push(whole, 0, manifest, 0, at);
    if list == 0 {
        let key = b"\"subscriptions\": [";
        len = push(whole, len, key, 0, key.len());
    }
    let mut index = 0;
    while index < patterns.len() {
        let separator: &[u8] = if index == 0 { b"\"" } else { b", \"" };
        len = push(whole, len, separator, 0, separator.len());
        len = push(whole, len, patterns[index].as_bytes(), 0, patterns[index].len());
        len = push(whole, len, b"\"", 0, 1);
        index += 1;
    }
    if list == 0 {
        len = push(whole, len, b"]", 0, 1);
    }
    let next = after_space(manifest, at);
    if next < manifest.len() && manifest[next] != b']' && manifest[next] != b'}' {
        len = push(whole, len, b", ", 0, 2);
    }
    push(whole, len, manifest, at, manifest.len())
}

/// The text that was written; what is no UTF-8 is no manifest either, and comes out empty.
pub const fn text(whole: &[u8]) -> &str {
    match core::str::from_utf8(whole) {
        Ok(text) => text,
        Err(_) => "",
    }
}

const fn push(whole: &mut [u8], mut len: usize, from: &[u8], start: usize, end: usize) -> usize {
    let mut at = start;
    while at < end {
        if len < whole.len() {
            whole[len] = from[at];
        }
        len += 1;
        at += 1;
    }
    len
}

/// Behind the `[` of the object's own `subscriptions`, or 0; and behind the object's `{`.
const fn places(json: &[u8]) -> (usize, usize) {
    let (mut at, mut depth, mut object) = (0, 0, 0);
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = string_end(json, at);
                let colon = after_space(json, end);
                if depth == 1
                    && colon < json.len()
                    && json[colon] == b':'
                    && is_subscriptions(json, at, end)
                {
                    let list = after_space(json, colon + 1);
                    let is_list = list < json.len() && json[list] == b'[';
                    return (if is_list { list + 1 } else { 0 }, object);
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if object == 0 {
                    object = at + 1;
                }
            }
            b'}' | b']' if depth > 0 => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    (0, object)
}

/// Behind the string that begins at `at`.
const fn string_end(json: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < json.len() && json[end] != b'"' {
        end += if json[end] == b'\\' { 2 } else { 1 };
    }
    end + 1
}

const fn after_space(json: &[u8], mut at: usize) -> usize {
    while at < json.len() && json[at].is_ascii_whitespace() {
        at += 1;
    }
    at
}

const fn is_subscriptions(json: &[u8], at: usize, end: usize) -> bool {
    let key = b"\"subscriptions\"";
    if end > json.len() || end - at != key.len() {
        return false;
    }
    let mut index = 0;
    while index < key.len() {
        if json[at + index] != key[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spliced(manifest: &str, patterns: &[&str]) -> String {
        let mut whole = vec![0; with_subscriptions(manifest, patterns, &mut [])];
        with_subscriptions(manifest, patterns, &mut whole);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn patterns_stand_among_the_subscriptions_or_alone() {
        const TEXT: &str = "{}";
        const LEN: usize = with_subscriptions(TEXT, &["a"], &mut []);
        const WHOLE: [u8; LEN] = {
            let mut whole = [0; LEN];
            with_subscriptions(TEXT, &["a"], &mut whole);
            whole
        };
        assert_eq!(text(&WHOLE), r#"{"subscriptions": ["a"]}"#);
        for (manifest, expected) in [
            (r#"{ "subscriptions" : [ ] }"#, json!(["a", "b.>"])),
            (r#"{"subscriptions": ["c"], "x": 1}"#, json!(["a", "b.>", "c"])),
            (r#"{"x": {"subscriptions": [1]}}"#, json!(["a", "b.>"])),
            (r#"{"x": "\"subscriptions\": [", "y": "subscriptions"}"#, json!(["a", "b.>"])),
        ] {
            let whole: Value = serde_json::from_str(&spliced(manifest, &["a", "b.>"])).unwrap();
            assert_eq!(whole["subscriptions"], expected, "{manifest}");
            assert_eq!(spliced(manifest, &[]), manifest);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "[\\[\\]{}\":,\\\\ subcriptonü]{0,40}") {
            spliced(&text, &["a"]);
        }
    }
}
