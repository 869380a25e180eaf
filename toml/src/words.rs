//! The words that faults are told in.

use serde_json::Value;

/// The longest piece of a file that a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// The longest word, in bytes, that is compared with others; the work grows with the square.
const LONGEST_WORD: usize = 100;

/// The one of `known` that somebody may have meant by `word`, if any is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| {
        if word.len().max(other.len()) > LONGEST_WORD {
            return None;
        }
        let longest = word.chars().count().max(other.chars().count());
        let distance = strsim::damerau_levenshtein(word, other);
        (distance <= (longest / 3).max(1) && distance < longest).then_some(distance)
    };
    known
        .into_iter()
        .filter_map(|other| Some((distance(other)?, other)))
        .min()
        .map(|(_, other)| other)
}

/// Words as a sentence lists them: "`a`, `b` or `c`" when `joint` is "or".
pub fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>, joint: &str) -> String {
    let quoted: Vec<String> =
        words.into_iter().map(|word| format!("`{}`", word.as_ref())).collect();
    join(&quoted, joint)
}

/// The same without quotes.
pub(crate) fn join(words: &[String], joint: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {joint} {last}", first.join(", ")),
    }
}

/// What a value is: "the integer 5", "an array".
pub(crate) fn what(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) if value.is_f64() => format!("the number {value}"),
        Value::Number(value) => format!("the integer {value}"),
        Value::String(_) => format!("the string {}", quote(value)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

/// A value as a message repeats it, shortened.
pub(crate) fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A key as it stands in a path: quoted unless it is a bare key.
pub(crate) fn key(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_near_and_another_word_is_not() {
        let known = ["command", "service", "expected_exit_code"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("expected_exitcode", known), Some("expected_exit_code"));
        assert_eq!(nearest("workdir", known), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(list(["a"], "or"), "`a`");
        assert_eq!(list(["a", "b", "c"], "or"), "`a`, `b` or `c`");
        assert_eq!(key("a-b"), "a-b");
        assert_eq!(key("a b"), "\"a b\"");
    }

    #[test]
    fn long_values_are_shortened_between_characters() {
        let quoted = quote(&Value::from("ä".repeat(100)));
        assert_eq!(quoted.chars().count(), LONGEST_QUOTE + 1);
    }
}
