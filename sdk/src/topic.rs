//! Topics and the patterns that select them.
//!
//! A topic is a list of tokens joined by dots, `plugin.perf.result`. A pattern may also hold `*`, which
//! stands for exactly one token, and `>`, which stands for one or more and must come last. Both follow the
//! subject rules of NATS, so that a topic means the same on either transport.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

/// The longest topic or pattern, in bytes.
pub const MAX_TOPIC_LEN: usize = 512;

/// Why a text is no topic or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text is empty.
    #[error("a topic cannot be empty; write tokens joined by dots, such as `service.ready`")]
    Empty,
    /// The text is longer than [`MAX_TOPIC_LEN`] bytes.
    #[error("the topic of {len} bytes is longer than the {MAX_TOPIC_LEN} that are allowed")]
    TooLong {
        /// The length of the text, in bytes.
        len: usize,
    },
    /// Two dots stand side by side, or one stands at an end.
    #[error("`{topic}` has an empty token; remove the dot that has nothing beside it")]
    EmptyToken {
        /// The text as it was given.
        topic: String,
    },
    /// A token holds white space or a control character.
    #[error("`{topic}` holds {found:?}; a token may not hold white space or control characters")]
    BadCharacter {
        /// The text as it was given.
        topic: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// A wildcard stands where only a plain topic may.
    #[error(
        "`{topic}` holds a wildcard; publish to a plain topic, wildcards are for subscriptions"
    )]
    Wildcard {
        /// The text as it was given.
        topic: String,
    },
    /// A wildcard shares its token with other characters, or `>` is not the last token.
    #[error("`{pattern}`: {rule}")]
    MisplacedWildcard {
        /// The text as it was given.
        pattern: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

/// The name under which a message is published: checked, without wildcards.
///
/// Up to 23 bytes are kept inline; a longer topic is shared by its clones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(SmolStr);

impl Topic {
    /// Checks `text` and makes it a topic.
    ///
    /// # Errors
    /// [`TopicError`] when `text` is empty, too long, has an empty token, white space or a wildcard.
    pub fn new(text: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = text.as_ref();
        if !is_plain(text) {
            check_tokens(text)?;
            if is_wildcard_like(text) {
                return Err(TopicError::Wildcard { topic: text.to_owned() });
            }
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// A topic of text that is known to be one: it was one before, or is put together by a rule that makes nothing
    /// else. For transports; nothing unsound follows from another text, only a topic that nobody can subscribe to.
    #[doc(hidden)]
    pub fn trusted(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens between the dots.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// This topic with one more token, or several joined by dots, at its end.
    ///
    /// # Errors
    /// As [`Topic::new`], for the longer topic.
    pub fn child(&self, tail: &str) -> Result<Self, TopicError> {
        Self::new(format!("{}.{tail}", self.0))
    }
}

/// A selection of topics: a topic that may hold `*` and `>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(SmolStr);

impl Pattern {
    /// Checks `text` and makes it a pattern.
    ///
    /// # Errors
    /// [`TopicError`] when `text` is empty, too long, has an empty token or white space, or a wildcard is
    /// not a token of its own or `>` is not the last.
    pub fn new(text: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = text.as_ref();
        check_tokens(text)?;
        let misplaced = |rule| TopicError::MisplacedWildcard { pattern: text.to_owned(), rule };
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            match token {
                ">" if tokens.peek().is_some() => {
                    return Err(misplaced("`>` stands for all that follows and must come last"));
                }
                "*" | ">" => {}
                other if is_wildcard_like(other) => {
                    return Err(misplaced(
                        "a wildcard is a token of its own, such as `test.*.ended` or `test.>`",
                    ));
                }
                _ => {}
            }
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens between the dots.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether `topic` is one of those that this pattern selects.
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut topic = topic.as_str().bytes().peekable();
        // Wildcards are whole tokens, and no token is empty.
        for byte in self.0.bytes() {
            match byte {
                b'>' => return topic.peek().is_some(),
                b'*' if topic.peek().is_none() => return false,
                b'*' => while topic.next_if(|byte| *byte != b'.').is_some() {},
                literal if topic.next() == Some(literal) => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

/// Whether a text is a topic of visible ASCII, as most are: seen in one pass. Others are looked at more closely.
fn is_plain(text: &str) -> bool {
    let (mut odd, mut after_dot) = (false, true);
    // To the end in any case: a topic that is none is rare, and a loop that may end early is slower.
    for byte in text.bytes() {
        let is_dot = byte == b'.';
        odd |= !byte.is_ascii_graphic() | (byte == b'*') | (byte == b'>') | (is_dot & after_dot);
        after_dot = is_dot;
    }
    !odd && !after_dot && text.len() <= MAX_TOPIC_LEN
}

fn is_wildcard_like(token: &str) -> bool {
    token.contains(['*', '>'])
}

fn check_tokens(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_LEN {
        return Err(TopicError::TooLong { len: text.len() });
    }
    if let Some(found) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(TopicError::BadCharacter { topic: text.to_owned(), found });
    }
    if text.split('.').any(str::is_empty) {
        return Err(TopicError::EmptyToken { topic: text.to_owned() });
    }
    Ok(())
}

/// What can be given where a topic is wanted: a [`Topic`], which is free, or text, which is checked.
pub trait IntoTopic {
    /// Makes the topic.
    ///
    /// # Errors
    /// [`TopicError`] when a text is no topic.
    fn into_topic(self) -> Result<Topic, TopicError>;
}

impl IntoTopic for Topic {
    fn into_topic(self) -> Result<Topic, TopicError> {
        Ok(self)
    }
}

impl IntoTopic for &Topic {
    fn into_topic(self) -> Result<Topic, TopicError> {
        Ok(self.clone())
    }
}

impl IntoTopic for &str {
    fn into_topic(self) -> Result<Topic, TopicError> {
        Topic::new(self)
    }
}

impl IntoTopic for String {
    fn into_topic(self) -> Result<Topic, TopicError> {
        Topic::new(self)
    }
}

impl IntoTopic for &String {
    fn into_topic(self) -> Result<Topic, TopicError> {
        Topic::new(self)
    }
}

macro_rules! text_impls {
    ($type:ident, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.0.as_str(), f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = TopicError;
            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = TopicError;
            fn try_from(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::new(text).map_err(de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $what })
            }
        }
    };
}

text_impls!(Topic, "tokens joined by dots, such as `test.step.ended`");
text_impls!(Pattern, "a topic that may hold `*` (one token) and `>` (one or more, last)");

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_tokens_without_wildcards() {
        assert_eq!(Topic::new("plugin.perf.result").unwrap().tokens().count(), 3);
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        for text in [".a", "a.", "a..b"] {
            assert!(matches!(Topic::new(text), Err(TopicError::EmptyToken { .. })), "{text}");
        }
        for text in ["a b", "a\tb", "a\u{0}b", "a\u{a0}b"] {
            assert!(matches!(Topic::new(text), Err(TopicError::BadCharacter { .. })), "{text}");
        }
        for text in ["a.*", ">", "a.b>"] {
            assert!(matches!(Topic::new(text), Err(TopicError::Wildcard { .. })), "{text}");
        }
        let long = "a".repeat(MAX_TOPIC_LEN + 1);
        assert_eq!(Topic::new(&long), Err(TopicError::TooLong { len: MAX_TOPIC_LEN + 1 }));
    }

    #[test]
    fn a_wildcard_is_a_token_of_its_own_and_the_tail_comes_last() {
        assert!(Pattern::new("a.*.b.>").is_ok());
        for text in ["a.>.b", "a*", "a.b>", "**"] {
            let error = Pattern::new(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn patterns_select_as_in_nats() {
        let matches = |pattern: &str, topic: &str| {
            Pattern::new(pattern).unwrap().matches(&Topic::new(topic).unwrap())
        };
        assert!(matches("a.b", "a.b"));
        assert!(!matches("a.b", "a.b.c"));
        assert!(!matches("a.b.c", "a.b"));
        assert!(matches("a.*", "a.b"));
        assert!(!matches("a.*", "a"));
        assert!(!matches("a.*", "a.b.c"));
        assert!(matches("a.>", "a.b.c"));
        assert!(!matches("a.>", "a"));
        assert!(matches(">", "a"));
        assert!(matches("*.b.>", "x.b.c.d"));
    }
}
