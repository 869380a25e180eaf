//! The fields that a sender adds to a message: one text of `Name: value` lines, as they cross a wire.

/// Why a field was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The name is empty or holds a character that no header's name may hold.
    #[error(
        "`{0}` is no name of a field; write printable ASCII without colon or space, such as `Tenant-Id`"
    )]
    Name(String),
    /// The value holds a line break or another control character.
    #[error("the value of the field `{0}` holds a line break or another control character")]
    Value(String),
}

/// A message's fields in the order in which they were added: name and value.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// All of them as lines, `Name: value` and CR LF each: as headers of NATS and HTTP stand on a wire.
    pub fn as_lines(&self) -> &'a str {
        self.0
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (line, rest) = self.0.split_once("\r\n").unwrap_or((self.0, ""));
            self.0 = rest;
            if let Some((name, value)) = line.split_once(':') {
                return Some((name, value.trim_matches([' ', '\t'])));
            }
        }
        None
    }
}

/// Adds a line.
pub(super) fn add(lines: &mut String, name: &str, value: &str) -> Result<(), FieldError> {
    let is_token = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(FieldError::Name(name.to_owned()));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(FieldError::Value(name.to_owned()));
    }
    for part in [name, ": ", value.trim_matches([' ', '\t']), "\r\n"] {
        lines.push_str(part);
    }
    Ok(())
}
