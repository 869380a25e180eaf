//! A middleware in its list: whom it is for, and the lists that come of it.

use std::fmt;
use std::sync::Arc;

use echo_sdk::{
    BaseMessage, BoxFuture, MessageTransport, Plugin, ProcessingStatus, Received, Topic,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outgoing::{Publisher, through};
use super::passage::Passage;
use super::{Attempt, Ending, Middleware};
use crate::current;

/// The hooks that a middleware is asked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Around each attempt of a handler.
    #[default]
    Delivery,
    /// Before a message leaves a plugin or a tool.
    Publish,
}

/// A text that names no plugins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no plugins; use letters, digits, `-` and `_`, and `*` for any of them")]
pub struct NamePatternError(String);

/// Names of plugins: a name in which each `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r"^[A-Za-z0-9_*-]{1,64}$"))]
pub struct NamePattern(String);

impl NamePattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`NamePatternError`] when it holds a character that no name has.
    pub fn new(text: impl Into<String>) -> Result<Self, NamePatternError> {
        let text = text.into();
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
        let valid = !text.is_empty() && text.len() <= 64 && text.chars().all(known);
        if valid { Ok(Self(text)) } else { Err(NamePatternError(text)) }
    }

    /// Whether a name is among those that are meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|start| name.strip_prefix(start)) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NamePatternError;

    fn try_from(text: String) -> Result<Self, NamePatternError> {
        Self::new(text)
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

type Make = dyn Fn(&str) -> Arc<dyn Middleware> + Send + Sync;

/// A middleware with whom it is for.
#[derive(Clone)]
pub struct Layer {
    make: Arc<Make>,
    on: Option<On>,
    plugins: Vec<NamePattern>,
}

impl Layer {
    /// One value that all plugins share. A middleware stands for this by itself.
    pub fn shared(middleware: impl Middleware) -> Self {
        let shared: Arc<dyn Middleware> = Arc::new(middleware);
        Self { make: Arc::new(move |_| Arc::clone(&shared)), on: None, plugins: Vec::new() }
    }

    /// A value for each plugin or tool, made from its name.
    pub fn each<M: Middleware>(make: impl Fn(&str) -> M + Send + Sync + 'static) -> Self {
        let make = move |name: &str| Arc::new(make(name)) as Arc<dyn Middleware>;
        Self { make: Arc::new(make), on: None, plugins: Vec::new() }
    }

    /// Asked at one of the hooks alone; at both without it.
    #[must_use]
    pub fn on(mut self, on: On) -> Self {
        self.on = Some(on);
        self
    }

    /// For these plugins and tools alone; for all without it.
    #[must_use]
    pub fn plugins(mut self, plugins: impl IntoIterator<Item = NamePattern>) -> Self {
        self.plugins.extend(plugins);
        self
    }

    fn is_for(&self, name: &str) -> bool {
        self.plugins.is_empty() || self.plugins.iter().any(|pattern| pattern.matches(name))
    }
}

impl<M: Middleware> From<M> for Layer {
    fn from(middleware: M) -> Self {
        Self::shared(middleware)
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("on", &self.on)
            .field("plugins", &self.plugins)
            .finish_non_exhaustive()
    }
}

/// A tool's way to the bus, by way of the middleware that is for it.
pub(crate) fn tool_transport(
    layers: &[Layer],
    tool: &str,
    bus: Arc<dyn MessageTransport>,
) -> Arc<dyn MessageTransport> {
    let at_publish = layers.iter().filter(|layer| layer.on != Some(On::Delivery));
    let chosen = at_publish.filter(|layer| layer.is_for(tool)).map(|layer| (layer.make)(tool));
    through(Publisher::new(tool, chosen.collect()), bus)
}

/// The middleware of one slot.
#[derive(Clone)]
pub(crate) struct SlotMiddleware {
    slot: Arc<str>,
    max_attempts: u16,
    delivery: Vec<Arc<dyn Middleware>>,
    publisher: Option<Publisher>,
}

impl SlotMiddleware {
    /// What is for the slot of this name; nothing where no middleware is.
    pub(crate) fn new<'l>(
        layers: impl Iterator<Item = &'l Layer>,
        slot: &str,
        max_attempts: u16,
    ) -> Option<Self> {
        let (mut delivery, mut publish) = (Vec::new(), Vec::new());
        for layer in layers.filter(|layer| layer.is_for(slot)) {
            let middleware = (layer.make)(slot);
            if layer.on != Some(On::Publish) {
                delivery.push(Arc::clone(&middleware));
            }
            if layer.on != Some(On::Delivery) {
                publish.push(middleware);
            }
        }
        let publisher = Publisher::new(slot, publish);
        let is_empty = delivery.is_empty() && publisher.is_none();
        (!is_empty).then(|| Self { slot: Arc::from(slot), max_attempts, delivery, publisher })
    }

    /// The plugin's way to the bus, by way of the middleware that is for it.
    pub(crate) fn transport(&self, bus: Arc<dyn MessageTransport>) -> Arc<dyn MessageTransport> {
        through(self.publisher.clone(), bus)
    }

    /// Has a message handled, through all middleware.
    pub(crate) fn deliver<'a, P: Plugin>(
        &'a self,
        plugin: &'a P,
        topic: &'a Topic,
        message: &BaseMessage,
    ) -> BoxFuture<'a, Ending> {
        let attempt = Attempt::new(&self.slot, topic, message.clone(), self.max_attempts);
        Box::pin(async move {
            current::set_handled(Some(attempt.message().clone()));
            let handler = |message| async move {
                let answer = plugin.process_message(topic, &message).await;
                current::note_handled(&message, &answer);
                answer
            };
            let ending = Passage::new(&self.delivery, attempt).run(handler).await;
            let ending = self.forwarding(ending).await;
            current::set_handled(None);
            ending
        })
    }

    /// What is forwarded leaves the plugin as what it publishes does.
    async fn forwarding(&self, ending: Ending) -> Ending {
        let Some(publisher) = &self.publisher else { return ending };
        let Ending::Answered(ProcessingStatus::Forward(topic, message)) = ending else {
            return ending;
        };
        match publisher.pass(&topic, message).await {
            Ok(Some(Received { topic, message })) => {
                Ending::Answered(ProcessingStatus::Forward(topic, message))
            }
            Ok(None) => Ending::Answered(ProcessingStatus::Acknowledged),
            Err(error) => Ending::Error(error.into()),
        }
    }
}

impl fmt::Debug for SlotMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.delivery.iter().map(|middleware| middleware.name());
        f.debug_struct("SlotMiddleware")
            .field("slot", &self.slot)
            .field("delivery", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches = |pattern: &str, name: &str| NamePattern::new(pattern).unwrap().matches(name);
        for (pattern, yes, no) in [
            ("orders", &["orders"][..], &["order", "orders2", ""][..]),
            ("*", &["", "a", "orders"], &[]),
            ("a*", &["a", "ab"], &["ba"]),
            ("*-api", &["x-api", "-api"], &["api", "x-api2"]),
            ("a*b*c", &["abc", "axxbyyc", "abbc"], &["ab", "acb", "abcd"]),
            ("a*a", &["aa", "aba"], &["a"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
        for wrong in ["", "a.b", "a b", "ä"] {
            assert!(NamePattern::new(wrong).is_err(), "{wrong}");
        }
    }
}
