//! Managed state that crosses: what a host answers when an entry is read or set.

use std::sync::Arc;

use super::answer::{Answer, broken, tag};
use super::bytes::{Fault, OwnedBytes};
use crate::StateError;

/// The numbers of the errors, in an answer's first number; what is not here crosses as a failure with its text.
const REASONS: [(u64, StateError); 5] = [
    (1, StateError::NoMessage),
    (2, StateError::NotDeclared),
    (3, StateError::NoKey),
    (4, StateError::Taken),
    (5, StateError::Unsupported),
];

/// Something else is wrong, which the text tells.
const FAILED: u64 = 0;

impl Answer {
    /// The JSON of an entry; `None` when it is not there.
    pub fn state_entry(json: Option<&[u8]>) -> Self {
        match json.map(|json| String::from_utf8(json.to_vec())) {
            Some(Ok(text)) => Self::with_text(tag::VALUE, text),
            Some(Err(_)) => Self::from(StateError::Failed("an entry is no text".to_owned())),
            None => Self::new(tag::NOTHING),
        }
    }

    pub(super) fn entry(self) -> Result<Option<Arc<[u8]>>, StateError> {
        match self.tag {
            tag::VALUE => {
                let text = self.text().map_err(|fault| StateError::Failed(broken(&fault)))?;
                Ok(Some(text.into_bytes().into()))
            }
            tag::NOTHING => Ok(None),
            _ => Err(self.state_error()),
        }
    }

    pub(super) fn state_set(self) -> Result<(), StateError> {
        match self.tag {
            tag::DONE => Ok(()),
            _ => Err(self.state_error()),
        }
    }

    fn state_error(&self) -> StateError {
        let text = self.text().unwrap_or_else(|fault| broken(&fault));
        let [first, second] = self.numbers;
        match self.tag {
            tag::STATE => {
                let known = REASONS.into_iter().find(|(number, _)| *number == first);
                known.map_or(StateError::Failed(text), |(_, error)| error)
            }
            tag::STATE_TOO_LARGE => {
                let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
                StateError::TooLarge { len: size(first), max: size(second) }
            }
            tag::TRANSPORT | tag::PANICKED => StateError::Failed(text),
            other => {
                let (what, found) = ("answer about a state", other.into());
                StateError::Failed(broken(&Fault::Number { what, found }))
            }
        }
    }
}

impl From<StateError> for Answer {
    fn from(error: StateError) -> Self {
        if let StateError::TooLarge { len, max } = error {
            return Self { numbers: [len as u64, max as u64], ..Self::new(tag::STATE_TOO_LARGE) };
        }
        let known = REASONS.into_iter().find(|(_, known)| *known == error);
        let (number, text) = match (known, error) {
            (Some((number, _)), _) => (number, OwnedBytes::NONE),
            (None, StateError::Failed(text)) => (FAILED, OwnedBytes::give(text)),
            (None, other) => (FAILED, OwnedBytes::give(other.to_string())),
        };
        Self { numbers: [number, 0], text, ..Self::new(tag::STATE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_and_each_error_cross() {
        let entry = |json: Option<&[u8]>| Answer::state_entry(json).entry().unwrap();
        assert_eq!(entry(Some(b"{\"a\":1}")).as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(entry(None), None);
        Answer::done().state_set().unwrap();
        let errors = [
            StateError::NoMessage,
            StateError::NotDeclared,
            StateError::NoKey,
            StateError::Taken,
            StateError::Unsupported,
            StateError::TooLarge { len: 7, max: 5 },
            StateError::Failed("no route".to_owned()),
        ];
        for error in errors {
            assert_eq!(Answer::from(error.clone()).state_set(), Err(error.clone()));
            assert_eq!(Answer::from(error.clone()).entry(), Err(error));
        }
        assert!(matches!(Answer::new(99).entry(), Err(StateError::Failed(_))));
    }
}
