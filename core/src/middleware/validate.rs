//! Judges a message's data by a schema.

use std::sync::Arc;

use echo_sdk::{BaseMessage, ProcessingStatus, PublishError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Attempt, Before, Ending, Memo, Middleware, Outgoing, Publishing};
use crate::schema::{SchemaError, Schemas};

/// What messages are judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateOptions {
    /// The schema that all messages have to keep to, by its name in the registry; without it, the one that a
    /// message names itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub schema: Option<String>,
    /// Whether a message is refused for which there is no schema: it names none, or one that nobody knows.
    pub require: bool,
}

/// Judges data by a schema where the bus itself does not: a schema that is set here and not named by the message,
/// or messages that came before the schema did. On delivery a message that breaks it is `Failed`, on publish it
/// is refused.
#[derive(Debug, Clone)]
pub struct Validate {
    options: ValidateOptions,
    schemas: Arc<Schemas>,
}

impl Validate {
    /// Judges by schemas of this registry.
    pub fn new(options: ValidateOptions, schemas: Arc<Schemas>) -> Self {
        Self { options, schemas }
    }

    fn fault(&self, message: &BaseMessage) -> Option<String> {
        let ValidateOptions { schema, require } = &self.options;
        let Some(name) = schema.as_deref().or_else(|| message.schema()) else {
            let fault = "the message names no schema, and one is required; set its `schema`";
            return require.then(|| fault.to_owned());
        };
        match self.schemas.check(name, message) {
            Ok(()) => None,
            Err(SchemaError::Unknown { .. }) if !require => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Middleware for Validate {
    fn name(&self) -> &str {
        "validate"
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        match self.fault(&outgoing.message) {
            Some(fault) => Publishing::Refuse(PublishError::Refused(fault)),
            None => Publishing::Go,
        }
    }

    fn before(&self, attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
        match self.fault(attempt.message()) {
            Some(fault) => Before::Answer(Ending::Answered(ProcessingStatus::Failed(fault))),
            None => Before::Go,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{attempt_at, outgoing};
    use super::*;

    fn schemas() -> Arc<Schemas> {
        let schemas = Schemas::default();
        let order = json!({"type": "object", "required": ["id"]});
        schemas.register("order", order, false).unwrap();
        Arc::new(schemas)
    }

    /// Why a message is refused, by its schema and data.
    fn fault(
        options: ValidateOptions,
        schema: Option<&str>,
        data: &serde_json::Value,
    ) -> Option<String> {
        let validate = Validate::new(options, schemas());
        let builder = BaseMessage::builder("test").data(data);
        let message =
            schema.into_iter().fold(builder, |b, schema| b.schema(schema)).build().unwrap();
        let said = validate.publishing(&mut outgoing(message.clone(), None));
        match validate.before(&mut attempt_at(message, 5), &mut Memo::new()) {
            Before::Go => {
                assert!(matches!(said, Publishing::Go), "{said:?}");
                None
            }
            Before::Answer(Ending::Answered(ProcessingStatus::Failed(reason))) => {
                let refused = matches!(&said, Publishing::Refuse(PublishError::Refused(why)) if *why == reason);
                assert!(refused, "{said:?}");
                Some(reason)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_is_judged_by_the_schema_that_is_set_or_named() {
        let own = ValidateOptions::default;
        let set = || ValidateOptions { schema: Some("order".into()), ..own() };
        let strict = || ValidateOptions { require: true, ..own() };
        let (good, bad) = (json!({"id": 1}), json!({}));
        assert_eq!(fault(own(), Some("order"), &good), None);
        assert!(fault(own(), Some("order"), &bad).unwrap().contains("`id`"));
        assert_eq!(fault(own(), None, &bad), None);
        assert_eq!(fault(own(), Some("unknown"), &bad), None);
        assert!(fault(set(), None, &bad).unwrap().contains("`order`"));
        assert_eq!(fault(set(), Some("unknown"), &good), None);
        assert!(fault(strict(), None, &good).unwrap().contains("names no schema"));
        assert!(fault(strict(), Some("unknown"), &good).unwrap().contains("`unknown`"));
    }
}
