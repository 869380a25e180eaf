//! Whether bytes are JSON: what is looked at once for each message that comes as bytes.
//!
//! The same bytes are JSON here as for `serde_json`, which a test holds it to; this one builds nothing, and looks
//! at each byte once.

/// Containers that are deeper than this are left to the other parser.
const DEPTH: u32 = u128::BITS;

/// Bytes that are one JSON value, with white space around it.
#[derive(Debug, Clone, Copy)]
pub struct JsonText<'a>(&'a [u8]);

impl<'a> JsonText<'a> {
    /// The bytes, if they are JSON.
    pub fn check(bytes: &'a [u8]) -> Option<Self> {
        Self::check_text(std::str::from_utf8(bytes).ok()?)
    }

    /// The text, if it is JSON.
    pub fn check_text(text: &'a str) -> Option<Self> {
        let is_json = match (Reader { rest: text.as_bytes() }).value() {
            Found::Json(rest) => rest.is_empty(),
            Found::Other => false,
            Found::Deep => serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok(),
        };
        is_json.then_some(Self(text.as_bytes()))
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What stands at the beginning of bytes.
enum Found<'a> {
    /// A value, and what comes after it and white space.
    Json(&'a [u8]),
    Other,
    Deep,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a value with all that is in it. The bits of `objects` say which of the open containers, the innermost
    /// lowest, are objects.
    fn value(mut self) -> Found<'a> {
        let (mut objects, mut depth) = (0_u128, 0);
        loop {
            let is_closed = match self.next_token() {
                Some(b'{') => {
                    (objects, depth) = (objects << 1 | 1, depth + 1);
                    self.skip_if(b'}')
                }
                Some(b'[') => {
                    (objects, depth) = (objects << 1, depth + 1);
                    self.skip_if(b']')
                }
                Some(first) if self.scalar(first) => {
                    // As if a container had just ended.
                    (objects, depth) = (objects << 1, depth + 1);
                    true
                }
                _ => return Found::Other,
            };
            if depth > DEPTH {
                return Found::Deep;
            }
            if is_closed {
                (objects, depth) = (objects >> 1, depth - 1);
                loop {
                    self.skip_space();
                    if depth == 0 {
                        return Found::Json(self.rest);
                    }
                    match (self.next(), objects & 1) {
                        (Some(b','), _) => break,
                        (Some(b'}'), 1) | (Some(b']'), 0) => {
                            (objects, depth) = (objects >> 1, depth - 1);
                        }
                        _ => return Found::Other,
                    }
                }
            }
            if objects & 1 == 1 && !self.key() {
                return Found::Other;
            }
        }
    }

    /// A key with its colon.
    fn key(&mut self) -> bool {
        self.next_token() == Some(b'"') && self.text() && self.next_token() == Some(b':')
    }

    /// The rest of a value that is no container, of which this is the first byte.
    fn scalar(&mut self, first: u8) -> bool {
        match first {
            b'"' => self.text(),
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"),
            b'n' => self.word(b"ull"),
            b'-' => self.next().is_some_and(|digit| self.number(digit)),
            digit => self.number(digit),
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn next_token(&mut self) -> Option<u8> {
        self.skip_space();
        self.next()
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Takes a byte that ends a container which has nothing in it.
    fn skip_if(&mut self, end: u8) -> bool {
        self.skip_space();
        let is_there = self.rest.first() == Some(&end);
        if is_there {
            self.next();
        }
        is_there
    }

    fn word(&mut self, rest: &[u8]) -> bool {
        self.rest.strip_prefix(rest).is_some_and(|after| {
            self.rest = after;
            true
        })
    }

    /// A text behind its first quote. Most are so short that a call would take as long.
    #[inline(always)]
    fn text(&mut self) -> bool {
        loop {
            self.rest = behind_plain(self.rest);
            match self.next() {
                Some(b'"') => return true,
                Some(b'\\') if self.escape() => {}
                _ => return false,
            }
        }
    }

    fn escape(&mut self) -> bool {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => self.rest.split_at_checked(4).is_some_and(|(digits, after)| {
                self.rest = after;
                digits.iter().all(u8::is_ascii_hexdigit)
            }),
            _ => false,
        }
    }

    /// A number behind its sign, of which this is the first digit.
    fn number(&mut self, first: u8) -> bool {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return false,
        }
        if let [b'.', after @ ..] = self.rest {
            self.rest = after;
            if !self.digits() {
                return false;
            }
        }
        if let [b'e' | b'E', b'+' | b'-', after @ ..] | [b'e' | b'E', after @ ..] = self.rest {
            self.rest = after;
            return self.digits();
        }
        true
    }

    fn digits(&mut self) -> bool {
        let has_one = self.rest.first().is_some_and(u8::is_ascii_digit);
        self.skip_digits();
        has_one
    }

    fn skip_digits(&mut self) {
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

/// What comes after bytes that stand for themselves in a text: no control characters, quotes or backslashes.
#[inline(always)]
fn behind_plain(mut bytes: &[u8]) -> &[u8] {
    while let Some((word, rest)) = bytes.split_first_chunk() {
        match first_odd(u64::from_le_bytes(*word)) {
            Some(place) => return bytes.get(place..).unwrap_or_default(),
            None => bytes = rest,
        }
    }
    let is_odd = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let plain = bytes.iter().position(is_odd).unwrap_or(bytes.len());
    bytes.get(plain..).unwrap_or_default()
}

/// Which of eight bytes is the first that does not stand for itself.
#[inline(always)]
fn first_odd(word: u64) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = LOW << 7;
    // The lowest bit that is set tells of the first such byte; those above it may tell of none.
    let below = |word: u64, bound: u64| word.wrapping_sub(LOW * bound) & !word;
    let equal = |byte: u8| below(word ^ (LOW * u64::from(byte)), 1);
    let odd = (below(word, 0x20) | equal(b'"') | equal(b'\\')) & HIGH;
    (odd != 0).then(|| odd.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn agrees(bytes: &[u8]) {
        let expected = serde_json::from_slice::<&RawValue>(bytes).is_ok();
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(JsonText::check(bytes).is_some(), expected, "{text:?}");
    }

    #[test]
    fn what_is_json_is_json_here_as_well() {
        for text in [
            "{}",
            "[]",
            " [ ] ",
            "{ }",
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-1.5e+10",
            "1E9",
            "\"\"",
            r#"{"a":[1,{"b":[]},"x\"y\\\u00e9"],"c":null}"#,
            "\t[\r\n1 , 2 ]\n",
            r#""\ud800""#,
            "\"grün\"",
            "",
            " ",
            "{",
            "[",
            "]",
            "}",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "tru",
            "truex",
            "nul",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\u{1}\"",
            "1 2",
            "{}[]",
            "[}",
            "{]",
            "{\"a\":1]",
            "[\"a\":1]",
            "\u{feff}1",
            "\u{c}1",
            "{\"a\" 1}",
            "{1:2}",
            "[[]",
            "[]]",
            "NaN",
            "-x",
        ] {
            agrees(text.as_bytes());
        }
        for bytes in [&b"\"\xff\""[..], b"\xff", b"\"\xc3\"", b"[1]\0"] {
            agrees(bytes);
        }
        for depth in [1, 127, 128, 129, 100_000] {
            agrees([vec![b'['; depth], vec![b']'; depth]].concat().as_slice());
            agrees([vec![b'['; depth], vec![b']'; depth - 1]].concat().as_slice());
            agrees(
                [b"{\"a\":".repeat(depth), b"1".to_vec(), vec![b'}'; depth]].concat().as_slice(),
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_alike(bytes: Vec<u8>) {
            agrees(&bytes);
        }

        #[test]
        fn what_looks_like_json_is_judged_alike(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"", "\\", "\"a\"", "\"a\":", "1", "-", "0", ".5", "e+1", " ",
                    "\n", "true", "null", "u00e9", "é",
                ]),
                0..24,
            ),
        ) {
            agrees(parts.concat().as_bytes());
        }

        #[test]
        fn values_are_json_whole_and_not_in_part(
            text in ".*", number: f64, numbers: Vec<i64>, cut in 0_usize..64,
        ) {
            let value = serde_json::json!({"text": text, "n": number, "all": numbers, "in": {"x": [true, null]}});
            let written = value.to_string();
            agrees(written.as_bytes());
            let cut = cut.min(written.len() - 1);
            agrees(&written.as_bytes()[..cut]);
            agrees(&written.as_bytes()[cut..]);
        }
    }
}
