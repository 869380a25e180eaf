//! How a message was written outside.

/// How a message was written by whoever sent it, so that it can be given out again as it came.
///
/// A tool that speaks to the bus from outside may write bytes of any kind. Plugins see JSON in each case; other
/// tools outside see what the first one wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// As a whole message with all its parts: what every plugin sends.
    #[default]
    Message = 0,
    /// As plain JSON: it is the data as it stands.
    Json = 1,
    /// As text that is not JSON: the data is a JSON string of it.
    Text = 2,
    /// As bytes that are not text: the data is a JSON string of them in Base64.
    Bytes = 3,
}

impl Form {
    /// The form of a code; an unknown one, from a later version, is a whole message.
    pub(super) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Json,
            2 => Self::Text,
            3 => Self::Bytes,
            _ => Self::Message,
        }
    }
}
