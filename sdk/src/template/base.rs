//! The plugin around a processor.

use std::fmt;
use std::time::Instant;

use serde_json::Value;

use super::{Handlers, Incoming, PluginProcessor};
use crate::{
    BaseMessage, Health, Plugin, PluginContext, PluginError, ProcessingStatus, Span, StateSnapshot,
    Topic,
};

/// What a message without a handler is counted under.
const OTHER: &str = "other";

/// The [`Plugin`] that a [`PluginProcessor`] becomes.
pub struct BasePlugin<P> {
    context: PluginContext,
    processor: P,
    handlers: Handlers<P>,
}

impl<P: PluginProcessor> BasePlugin<P> {
    /// Makes the plugin; nothing runs yet.
    ///
    /// # Errors
    /// [`PluginError::Config`] when the configuration has another form, [`PluginError::Topic`] when a handler's pattern
    /// is malformed, and what the processor's constructor says.
    pub fn new(context: PluginContext) -> Result<Self, PluginError> {
        let processor = P::new(context.clone(), context.config_as()?)?;
        Ok(Self { context, processor, handlers: P::handlers().checked()? })
    }

    /// What does the work.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    async fn handle(&self, incoming: Incoming<'_>) -> Result<ProcessingStatus, PluginError> {
        match self.handlers.handle(&self.processor, incoming) {
            Some((pattern, handling)) => self.watched(pattern.as_str(), incoming, handling).await,
            None => self.watched(OTHER, incoming, self.processor.process(incoming)).await,
        }
    }

    /// Handles within a span, counts and times.
    async fn watched(
        &self,
        handler: &str,
        incoming: Incoming<'_>,
        handling: impl Future<Output = Result<ProcessingStatus, PluginError>>,
    ) -> Result<ProcessingStatus, PluginError> {
        let (id, began) = (incoming.message.id().to_string(), Instant::now());
        let about = [("topic", incoming.topic.as_str()), ("message_id", id.as_str())];
        let mut span = self.context.create_span(handler, &about);
        let answer = given_up_if_invalid(handling.await);
        let status = status(&answer, &mut span);
        let about = [("handler", handler), ("status", status)];
        self.context.record_counter("handled", 1, &about);
        let seconds = began.elapsed().as_secs_f64();
        self.context.record_histogram("handling_seconds", seconds, &about);
        answer
    }
}

/// Invalid data is invalid the next time too.
fn given_up_if_invalid(
    answer: Result<ProcessingStatus, PluginError>,
) -> Result<ProcessingStatus, PluginError> {
    match answer {
        Err(error @ (PluginError::InvalidData(_) | PluginError::Message(_))) => {
            Ok(ProcessingStatus::Failed(error.to_string()))
        }
        answer => answer,
    }
}

/// How an answer is counted; the span tells what went wrong.
fn status(answer: &Result<ProcessingStatus, PluginError>, span: &mut Span) -> &'static str {
    match answer {
        Ok(ProcessingStatus::Acknowledged) => "acknowledged",
        Ok(ProcessingStatus::RetryLater(_)) => "retry_later",
        Ok(ProcessingStatus::Forward(..)) => "forward",
        Ok(ProcessingStatus::Failed(reason)) => {
            span.set_error(reason);
            "failed"
        }
        Err(error) => {
            span.set_error(&error.to_string());
            "error"
        }
    }
}

impl<P: PluginProcessor> Plugin for BasePlugin<P> {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn init(&self) -> Result<(), PluginError> {
        self.processor.init().await
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        self.handle(Incoming { topic, message, context: &self.context }).await
    }

    async fn shutdown(&self) -> Result<(), PluginError> {
        self.processor.shutdown().await
    }

    async fn health_check(&self) -> Health {
        self.processor.health_check().await
    }

    async fn metrics(&self) -> Value {
        self.processor.metrics().await
    }

    async fn pause(&self) -> Result<(), PluginError> {
        self.processor.pause().await
    }

    async fn resume(&self) -> Result<(), PluginError> {
        self.processor.resume().await
    }

    async fn reset(&self) -> Result<(), PluginError> {
        self.processor.reset().await
    }

    fn state_schema(&self) -> u32 {
        self.processor.state_schema()
    }

    async fn export_state(&self) -> Result<Option<StateSnapshot>, PluginError> {
        self.processor.export_state().await
    }

    async fn import_state(&self, state: StateSnapshot) -> Result<(), PluginError> {
        self.processor.import_state(state).await
    }

    fn state_up(&self, entry: Option<&str>, from: u32, data: Value) -> Result<Value, PluginError> {
        self.processor.state_up(entry, from, data)
    }

    fn state_down(&self, entry: Option<&str>, to: u32, data: Value) -> Result<Value, PluginError> {
        self.processor.state_down(entry, to, data)
    }
}

impl<P> fmt::Debug for BasePlugin<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasePlugin")
            .field("context", &self.context)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::testing::{Probe, message, mock_with, request};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        least: u32,
    }

    #[derive(Debug, Deserialize)]
    struct Order {
        pieces: u32,
    }

    #[derive(Debug)]
    struct TooFew(u32);

    impl From<TooFew> for PluginError {
        fn from(TooFew(least): TooFew) -> Self {
            Self::InvalidData(format!("an order has {least} pieces at least"))
        }
    }

    #[derive(Debug)]
    struct Shop(Config);

    impl PluginProcessor for Shop {
        type Config = Config;

        fn new(_: PluginContext, config: Config) -> Result<Self, PluginError> {
            Ok(Self(config))
        }

        fn handlers() -> Handlers<Self> {
            Handlers::new()
                .on("orders.*.created", Self::created)
                .on::<Order, _>("orders.sent", Self::sent)
                .on("orders.>", Self::lost)
        }
    }

    impl Shop {
        async fn created(&self, order: Order, incoming: Incoming<'_>) -> Result<(), TooFew> {
            if order.pieces < self.0.least {
                return Err(TooFew(self.0.least));
            }
            let told = (incoming.token(1), order.pieces);
            incoming.reply(&told).await.map_err(|_| TooFew(0))
        }

        async fn sent(&self, order: Order) -> Result<ProcessingStatus, PluginError> {
            let second = std::time::Duration::from_secs(1);
            Ok(ProcessingStatus::RetryLater(second * order.pieces))
        }

        async fn lost(&self, _: Value) -> Result<ProcessingStatus, PluginError> {
            Err(PluginError::ProcessingError("the shop is closed".into()))
        }
    }

    fn shop() -> (BasePlugin<Shop>, Probe) {
        let config = json!({ "least": 2 }).as_object().cloned().unwrap();
        let (context, probe) = mock_with("shop", config);
        (BasePlugin::new(context).unwrap(), probe)
    }

    async fn answer(topic: &str, data: Value) -> Result<ProcessingStatus, PluginError> {
        shop().0.process_message(&Topic::new(topic).unwrap(), &message(&data)).await
    }

    #[tokio::test]
    async fn data_comes_parsed_to_the_handler_of_its_topic() {
        let (shop, probe) = shop();
        let topic = Topic::new("orders.eu.created").unwrap();
        let order = request(&json!({ "pieces": 3 }));
        let status = shop.process_message(&topic, &order).await.unwrap();
        assert_eq!(status, ProcessingStatus::Acknowledged);
        assert_eq!(probe.replies()[0].message.json::<Value>().unwrap(), json!(["eu", 3]));
        let second = std::time::Duration::from_secs(1);
        let sent = answer("orders.sent", json!({ "pieces": 1 })).await.unwrap();
        assert_eq!(sent, ProcessingStatus::RetryLater(second));
    }

    #[tokio::test]
    async fn what_cannot_go_better_is_given_up_and_the_rest_is_tried_again() {
        let given_up = async |topic, data| match answer(topic, data).await {
            Ok(ProcessingStatus::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let reason = given_up("orders.sent", json!({ "piecs": 1 })).await;
        assert!(reason.contains("missing field `pieces`"), "{reason}");
        let reason = given_up("orders.eu.created", json!({ "pieces": 1 })).await;
        assert!(reason.contains("2 pieces at least"), "{reason}");
        let reason = given_up("letters.sent", json!({})).await;
        assert!(reason.contains("`letters.sent`") && reason.contains("`orders.>`"), "{reason}");
        let error = answer("orders.lost", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "the shop is closed");
    }

    #[tokio::test]
    async fn each_message_is_counted_and_timed_under_its_handler() {
        let (shop, probe) = shop();
        for (topic, data) in [("orders.eu.created", json!({})), ("orders.x", json!(1))] {
            let _ = shop.process_message(&Topic::new(topic).unwrap(), &message(&data)).await;
        }
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            vec![text("handler", "orders.*.created"), text("status", "failed")],
            vec![text("handler", "orders.>"), text("status", "error")],
        ];
        for name in ["handled", "handling_seconds"] {
            let about: Vec<_> = probe.measured(name).into_iter().map(|it| it.attributes).collect();
            assert_eq!(about, expected, "{name}");
        }
        assert_eq!(probe.spans(), ["orders.*.created", "orders.>"]);
    }

    #[test]
    fn what_cannot_work_is_refused_when_the_plugin_is_made() {
        struct Faulty;
        impl PluginProcessor for Faulty {
            type Config = super::super::NoConfig;
            fn new(_: PluginContext, _: super::super::NoConfig) -> Result<Self, PluginError> {
                Ok(Self)
            }
            fn handlers() -> Handlers<Self> {
                Handlers::new().on("a..b", Self::all)
            }
        }
        impl Faulty {
            async fn all(&self, _: Value) -> Result<(), PluginError> {
                Ok(())
            }
        }
        let context = |config: Value| mock_with("x", config.as_object().cloned().unwrap()).0;
        let error = BasePlugin::<Faulty>::new(context(json!({}))).unwrap_err();
        assert!(error.to_string().contains("a..b"), "{error}");
        let error = BasePlugin::<Faulty>::new(context(json!({ "a": 1 }))).unwrap_err();
        assert!(matches!(&error, PluginError::Config(text) if text.contains("`a`")), "{error}");
    }
}
