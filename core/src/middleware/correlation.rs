//! Passes a field on from the message that is handled to those that follow from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Middleware, Outgoing, Publishing};

/// Which field is passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorrelationOptions {
    /// The field's name.
    #[schemars(length(min = 1, max = 64))]
    pub field: String,
    /// Whether a message that follows from none with the field gets one: the id of the message that its handler
    /// handles, or else its own.
    pub generate: bool,
}

impl Default for CorrelationOptions {
    /// `Correlation-Id`, made where there is none.
    fn default() -> Self {
        Self { field: "Correlation-Id".to_owned(), generate: true }
    }
}

/// Gives each message that a plugin publishes the correlation field of the message whose handler publishes it;
/// one that has the field already keeps it.
#[derive(Debug, Clone)]
pub struct Correlation(CorrelationOptions);

impl Correlation {
    /// Passes on by these options.
    pub fn new(options: CorrelationOptions) -> Self {
        Self(options)
    }
}

impl Middleware for Correlation {
    fn name(&self) -> &str {
        "correlation"
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        let CorrelationOptions { field, generate } = &self.0;
        if outgoing.message.field(field).is_some() {
            return Publishing::Go;
        }
        let handled = outgoing.handled.as_ref();
        let passed_on = handled.and_then(|handled| handled.field(field)).map(str::to_owned);
        let made = || handled.unwrap_or(&outgoing.message).id().to_string();
        let Some(value) = passed_on.or_else(|| generate.then(made)) else {
            return Publishing::Go;
        };
        let (attempt, hops) = (outgoing.message.attempt(), outgoing.message.hops());
        match outgoing.message.to_builder().field(field, &value).build() {
            Ok(message) => {
                outgoing.message = message.with_attempt(attempt).with_hops(hops);
                Publishing::Go
            }
            Err(error) => Publishing::Refuse(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::{BaseMessage, PublishError};

    use super::super::testing::outgoing;
    use super::*;

    const FIELD: &str = "Correlation-Id";

    fn message(correlation: Option<&str>) -> BaseMessage {
        let builder = BaseMessage::builder("test");
        correlation.into_iter().fold(builder, |b, value| b.field(FIELD, value)).build().unwrap()
    }

    fn passed(
        options: CorrelationOptions,
        message: BaseMessage,
        handled: Option<BaseMessage>,
    ) -> BaseMessage {
        let mut outgoing = outgoing(message.with_hops(3), handled);
        let said = Correlation::new(options).publishing(&mut outgoing);
        assert!(matches!(said, Publishing::Go), "{said:?}");
        assert_eq!(outgoing.message.hops(), 3);
        outgoing.message
    }

    #[test]
    fn the_field_goes_on_from_message_to_message() {
        let options = CorrelationOptions::default;
        let value = |message: &BaseMessage| message.field(FIELD).map(str::to_owned);
        let first = message(None);
        let sent = passed(options(), first.clone(), None);
        assert_eq!(value(&sent), Some(first.id().to_string()), "nothing to go on from");
        assert_eq!(sent.id(), first.id());
        let next = passed(options(), message(None), Some(sent));
        assert_eq!(value(&next), Some(first.id().to_string()));
        let own = passed(options(), message(Some("own")), Some(next));
        assert_eq!(value(&own), Some("own".to_owned()));
        let handled = message(None);
        let follows = passed(options(), message(None), Some(handled.clone()));
        assert_eq!(value(&follows), Some(handled.id().to_string()));
        let none = CorrelationOptions { generate: false, ..options() };
        assert_eq!(value(&passed(none, message(None), Some(handled))), None);
    }

    #[test]
    fn a_field_that_cannot_be_written_is_refused() {
        let options = CorrelationOptions { field: "a b\n".into(), generate: true };
        let said = Correlation::new(options).publishing(&mut outgoing(message(None), None));
        assert!(matches!(said, Publishing::Refuse(PublishError::Message(_))), "{said:?}");
    }
}
