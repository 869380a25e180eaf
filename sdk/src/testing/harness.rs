//! One test for a plugin in each of its forms.
//!
//! A plugin that passes its tests linked in may still fail as a library: its messages, its futures and its panics cross
//! a boundary then. So a test is written once, against a [`Stage`], and a [`Harness`] runs it with the plugin as a value
//! and as whatever other [`Form`] it is given. The SDK knows no host, so it holds the one form alone; the host's crate
//! has the library (`echo_core::testing::Library`).

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use serde_json::Value;

use super::{Probe, checked, mock_with};
use crate::{
    BaseMessage, BoxFuture, Created, Health, Manifest, Plugin, PluginContext, PluginError,
    ProcessingStatus, StateSnapshot, Topic,
};

/// A plugin as a host drives it, wherever its code is.
pub trait Driven: Send + Sync {
    /// As [`Plugin::init`].
    fn init(&self) -> BoxFuture<'_, Result<(), PluginError>>;
    /// As [`Plugin::process_message`].
    fn process_message<'a>(
        &'a self,
        topic: &'a Topic,
        message: &'a BaseMessage,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>>;
    /// As [`Plugin::shutdown`].
    fn shutdown(&self) -> BoxFuture<'_, Result<(), PluginError>>;
    /// As [`Plugin::health_check`].
    fn health_check(&self) -> BoxFuture<'_, Health>;
    /// As [`Plugin::metrics`].
    fn metrics(&self) -> BoxFuture<'_, Value>;
    /// As [`Plugin::pause`].
    fn pause(&self) -> BoxFuture<'_, Result<(), PluginError>>;
    /// As [`Plugin::resume`].
    fn resume(&self) -> BoxFuture<'_, Result<(), PluginError>>;
    /// As [`Plugin::reset`].
    fn reset(&self) -> BoxFuture<'_, Result<(), PluginError>>;
    /// As [`Plugin::export_state`].
    fn export_state(&self) -> BoxFuture<'_, Result<Option<StateSnapshot>, PluginError>>;
    /// As [`Plugin::import_state`].
    fn import_state(&self, state: StateSnapshot) -> BoxFuture<'_, Result<(), PluginError>>;
}

impl<P: Plugin> Driven for P {
    fn init(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        Box::pin(Plugin::init(self))
    }
    fn process_message<'a>(
        &'a self,
        topic: &'a Topic,
        message: &'a BaseMessage,
    ) -> BoxFuture<'a, Result<ProcessingStatus, PluginError>> {
        Box::pin(Plugin::process_message(self, topic, message))
    }
    fn shutdown(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        Box::pin(Plugin::shutdown(self))
    }
    fn health_check(&self) -> BoxFuture<'_, Health> {
        Box::pin(Plugin::health_check(self))
    }
    fn metrics(&self) -> BoxFuture<'_, Value> {
        Box::pin(Plugin::metrics(self))
    }
    fn pause(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        Box::pin(Plugin::pause(self))
    }
    fn resume(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        Box::pin(Plugin::resume(self))
    }
    fn reset(&self) -> BoxFuture<'_, Result<(), PluginError>> {
        Box::pin(Plugin::reset(self))
    }
    fn export_state(&self) -> BoxFuture<'_, Result<Option<StateSnapshot>, PluginError>> {
        Box::pin(Plugin::export_state(self))
    }
    fn import_state(&self, state: StateSnapshot) -> BoxFuture<'_, Result<(), PluginError>> {
        Box::pin(Plugin::import_state(self, state))
    }
}

/// A plugin that is on stage, and how it leaves.
pub trait Staged: Send {
    /// The plugin.
    fn plugin(&self) -> &dyn Driven;

    /// Takes the plugin away, after its shutdown.
    ///
    /// # Errors
    /// What it left behind, as a sentence.
    fn end(self: Box<Self>) -> Result<(), String>;
}

/// A form in which a plugin comes.
pub trait Form: Send + Sync {
    /// What it is called where a test fails: `built-in`, `library`.
    fn name(&self) -> &'static str;

    /// Makes the plugin.
    ///
    /// # Errors
    /// Why there is none.
    fn make(&self, context: PluginContext) -> Result<Box<dyn Staged>, PluginError>;
}

/// A plugin that is linked in.
struct BuiltIn<F>(F);

struct Linked<P>(P);

impl<P: Plugin> Staged for Linked<P> {
    fn plugin(&self) -> &dyn Driven {
        &self.0
    }
    fn end(self: Box<Self>) -> Result<(), String> {
        Ok(())
    }
}

impl<P: Plugin, F: Fn(PluginContext) -> Result<P, PluginError> + Send + Sync> Form for BuiltIn<F> {
    fn name(&self) -> &'static str {
        "built-in"
    }
    fn make(&self, context: PluginContext) -> Result<Box<dyn Staged>, PluginError> {
        Ok(Box::new(Linked((self.0)(context)?)))
    }
}

/// Where a test has its plugin.
pub struct Stage {
    /// Sees all that the plugin does.
    pub probe: Probe,
    form: &'static str,
    plugin: Box<dyn Staged>,
}

impl Stage {
    /// The form that the plugin has here, as it is called where a test fails.
    pub fn form(&self) -> &'static str {
        self.form
    }

    /// The plugin.
    pub fn plugin(&self) -> &dyn Driven {
        self.plugin.plugin()
    }

    /// Gives the plugin a message.
    ///
    /// # Errors
    /// What the plugin's handler says.
    ///
    /// # Panics
    /// When the topic is malformed.
    pub async fn give(
        &self,
        topic: &str,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        self.plugin().process_message(&checked(Topic::new(topic)), message).await
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Runs tests with a plugin in each of its forms.
///
/// ```
/// # use echo_sdk::{BaseMessage, Manifest, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};
/// # struct Quiet;
/// # impl Plugin for Quiet {
/// #     fn name(&self) -> &str { "quiet" }
/// #     async fn process_message(&self, _: &Topic, _: &BaseMessage) -> Result<ProcessingStatus, PluginError> {
/// #         Ok(ProcessingStatus::Acknowledged)
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let manifest = r#"{"name":"quiet","version":"1.0.0","description":"d"}"#;
/// # let manifest = Manifest::from_json(manifest).unwrap();
/// use echo_sdk::testing::{Harness, message};
///
/// let harness = Harness::new(&manifest, |_context| Quiet);
/// harness
///     .run(async |stage| {
///         let status = stage.give("a.b", &message(&1)).await.unwrap();
///         assert_eq!(status, ProcessingStatus::Acknowledged);
///         assert!(stage.probe.published().is_empty());
///     })
///     .await;
/// # }
/// ```
pub struct Harness {
    manifest: Manifest,
    forms: Vec<Box<dyn Form>>,
}

impl Harness {
    /// A harness with the plugin linked in.
    pub fn new<P, C>(
        manifest: &Manifest,
        constructor: impl Fn(PluginContext) -> C + Send + Sync + 'static,
    ) -> Self
    where
        P: Plugin,
        C: Created<P> + 'static,
    {
        let made = BuiltIn(move |context| constructor(context).created());
        Self { manifest: manifest.clone(), forms: vec![Box::new(made)] }
    }

    /// The same with one more form.
    #[must_use]
    pub fn and(mut self, form: impl Form + 'static) -> Self {
        self.forms.push(Box::new(form));
        self
    }

    /// The same with settings over the manifest's configuration.
    #[must_use]
    pub fn with_config(mut self, settings: serde_json::Map<String, Value>) -> Self {
        self.manifest.config.extend(settings);
        self
    }

    /// Runs a test with each form: the plugin is made anew, initialised, and shut down and taken away after it.
    ///
    /// # Panics
    /// When the test does, with the form before what it said; and when the plugin cannot be made, initialised, shut
    /// down or taken away.
    pub async fn run(&self, test: impl AsyncFn(&Stage)) {
        for form in &self.forms {
            let ran = contained(self.run_one(&**form, &test)).await;
            if let Err(fault) = ran.flatten() {
                failed(form.name(), &fault);
            }
        }
    }

    async fn run_one(&self, form: &dyn Form, test: &impl AsyncFn(&Stage)) -> Result<(), String> {
        let (context, probe) = mock_with(&self.manifest.name, self.manifest.config.clone());
        let fault = |what: &'static str| move |error| format!("it could not be {what}: {error}");
        let plugin = form.make(context).map_err(fault("made"))?;
        let stage = Stage { probe, form: form.name(), plugin };
        stage.plugin().init().await.map_err(fault("initialised"))?;
        test(&stage).await;
        stage.plugin().shutdown().await.map_err(fault("shut down"))?;
        stage.plugin.end()
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = self.forms.iter().map(|form| form.name());
        f.debug_struct("Harness").field("forms", &forms.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// What a future gives, or what it says when it panics.
async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(said(&*payload))),
    })
    .await
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

#[expect(clippy::panic, reason = "a test that failed")]
fn failed(form: &str, fault: &str) -> ! {
    panic!("with the plugin as {form}: {fault}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::message;

    struct Counter(PluginContext);

    impl Plugin for Counter {
        fn name(&self) -> &str {
            self.0.plugin_name()
        }
        async fn process_message(
            &self,
            topic: &Topic,
            message: &BaseMessage,
        ) -> Result<ProcessingStatus, PluginError> {
            let by = self.0.config().get("by").and_then(Value::as_u64).unwrap_or(1);
            self.0.publish_data(topic.child("done")?, &(message.json::<u64>()? + by)).await?;
            Ok(ProcessingStatus::Acknowledged)
        }
    }

    fn harness() -> Harness {
        let manifest = r#"{"name":"counter","version":"1.0.0","description":"d"}"#;
        Harness::new(&Manifest::from_json(manifest).unwrap(), Counter)
    }

    /// A form that leaves something behind.
    struct Untidy;

    impl Form for Untidy {
        fn name(&self) -> &'static str {
            "untidy"
        }
        fn make(&self, context: PluginContext) -> Result<Box<dyn Staged>, PluginError> {
            Ok(Box::new(UntidyStaged(Counter(context))))
        }
    }

    struct UntidyStaged(Counter);

    impl Staged for UntidyStaged {
        fn plugin(&self) -> &dyn Driven {
            &self.0
        }
        fn end(self: Box<Self>) -> Result<(), String> {
            Err("a thread of it still runs".into())
        }
    }

    #[tokio::test]
    async fn a_test_runs_with_each_form_and_its_settings() {
        let config = serde_json::json!({ "by": 5 }).as_object().cloned().unwrap();
        let ran = std::sync::Mutex::new(Vec::new());
        let test = async |stage: &Stage| {
            stage.give("a", &message(&1)).await.unwrap();
            let next = stage.probe.next("a.done").await.message.json::<u64>().unwrap();
            ran.lock().unwrap().push((stage.form(), next));
        };
        harness().with_config(config).run(test).await;
        let failed = contained(harness().and(Untidy).run(test)).await.unwrap_err();
        assert_eq!(failed, "with the plugin as untidy: a thread of it still runs");
        assert_eq!(*ran.lock().unwrap(), [("built-in", 6), ("built-in", 2), ("untidy", 2)]);
    }

    #[tokio::test]
    async fn a_test_that_fails_says_with_which_form() {
        let failed = contained(harness().run(async |_| panic!("wrong"))).await.unwrap_err();
        assert_eq!(failed, "with the plugin as built-in: wrong");
    }
}
