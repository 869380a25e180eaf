//! The examples of a manifest, held against what the plugin does.

use std::fmt::Write as _;

use super::{Probe, Published, REPLY_TOPIC, When, message, mock_with, request};
use crate::{
    BaseMessage, Created, Example, ExampleStatus, Manifest, Plugin, PluginError, ProcessingStatus,
    Topic,
};

/// What was seen of a plugin that was given an [`Example`]'s message.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How the first attempt ended.
    pub status: ExampleStatus,
    /// Why, where it went wrong.
    pub reason: Option<String>,
    /// What took effect of what it published, in order; an answer on [`REPLY_TOPIC`].
    pub published: Vec<(Topic, BaseMessage)>,
}

impl Seen {
    /// What an answer and what was published until then come to.
    pub fn new(
        answer: &Result<ProcessingStatus, PluginError>,
        published: Vec<(Topic, BaseMessage)>,
    ) -> Self {
        let (status, reason) = match answer {
            Ok(ProcessingStatus::Acknowledged) => (ExampleStatus::Acknowledged, None),
            Ok(ProcessingStatus::RetryLater(_)) => (ExampleStatus::RetryLater, None),
            Ok(ProcessingStatus::Forward(..)) => (ExampleStatus::Forward, None),
            Ok(ProcessingStatus::Failed(reason)) => (ExampleStatus::Failed, Some(reason.clone())),
            Err(error) => (ExampleStatus::Error, Some(error.to_string())),
        };
        Self { status, reason, published }
    }
}

impl Example {
    /// The message that it gives to the plugin.
    ///
    /// # Panics
    /// Never with an example that was parsed: its data serialises.
    pub fn message(&self) -> BaseMessage {
        match self.expect_reply {
            Some(_) => request(&self.data),
            None => message(&self.data),
        }
    }

    /// What was otherwise than it says, each a sentence; nothing where it holds.
    pub fn faults(&self, seen: &Seen) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(expected) = self.expect_status
            && expected != seen.status
        {
            let why = seen.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            faults.push(format!("the status is `{}`{why}, not `{expected}`", seen.status));
        }
        let is_reply = |(topic, _): &&(Topic, BaseMessage)| topic.as_str() == REPLY_TOPIC;
        let (replies, published): (Vec<_>, Vec<_>) = seen.published.iter().partition(is_reply);
        if let Some(expected) = &self.expect_reply {
            faults.extend(differs("the answer", expected, replies.into_iter().map(|(_, it)| it)));
        }
        match &self.expect_topic {
            Some(expected) => faults.extend(self.topic_fault(expected, &published)),
            None if published.is_empty() => {}
            None => faults.push(format!(
                "it publishes on {}, and the example has no `expect_topic`",
                topics(&published)
            )),
        }
        if let (Some(why), false) =
            (&seen.reason, faults.is_empty() || self.expect_status.is_some())
        {
            faults.push(format!("the plugin said: {why}"));
        }
        faults
    }

    fn topic_fault(&self, expected: &str, published: &[&(Topic, BaseMessage)]) -> Option<String> {
        let mut there = published.iter().filter(|(topic, _)| topic.as_str() == expected).peekable();
        if there.peek().is_none() {
            return Some(match published.is_empty() {
                true => format!("it publishes nothing, not on `{expected}` either"),
                false => format!("it publishes on {}, not on `{expected}`", topics(published)),
            });
        }
        let data = self.expect_data.as_ref()?;
        differs(&format!("what it publishes on `{expected}`"), data, there.map(|(_, it)| it))
    }
}

/// Says what `what` holds, unless one of the messages holds what is expected.
fn differs<'a>(
    what: &str,
    expected: &serde_json::Value,
    messages: impl Iterator<Item = &'a BaseMessage>,
) -> Option<String> {
    let mut held = String::new();
    for message in messages {
        match message.data() {
            Ok(data) if data == expected => return None,
            Ok(data) => drop(write!(held, " and {data}")),
            Err(error) => drop(write!(held, " and data that is none ({error})")),
        }
    }
    Some(match held.strip_prefix(" and ") {
        Some(held) => format!("{what} is {held}, not {expected}"),
        None => format!("{what} is missing; {expected} is expected"),
    })
}

fn topics(published: &[&(Topic, BaseMessage)]) -> String {
    let topics: Vec<String> = published.iter().map(|(topic, _)| format!("`{topic}`")).collect();
    topics.join(", ")
}

/// Gives each of a manifest's examples to a plugin of its own; what was otherwise than they say, each a sentence that
/// begins with the example's description.
///
/// The plugin is made with the manifest's configuration and initialised, on a bus where nobody answers.
pub async fn example_faults<P: Plugin, C: Created<P>>(
    manifest: &Manifest,
    constructor: impl Fn(crate::PluginContext) -> C,
) -> Vec<String> {
    let mut faults = Vec::new();
    for example in &manifest.examples {
        let (context, probe) = mock_with(&manifest.name, manifest.config.clone());
        let found = match constructor(context).created() {
            Ok(plugin) => example_fault(&plugin, &probe, example).await,
            Err(error) => vec![format!("the plugin cannot be made: {error}")],
        };
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", example.description)));
    }
    faults
}

async fn example_fault<P: Plugin>(plugin: &P, probe: &Probe, example: &Example) -> Vec<String> {
    let topic = match Topic::new(&example.topic) {
        Ok(topic) => topic,
        Err(error) => return vec![error.to_string()],
    };
    if let Err(error) = plugin.init().await {
        return vec![format!("the plugin cannot be initialised: {error}")];
    }
    let answer = plugin.process_message(&topic, &example.message()).await;
    example.faults(&Seen::new(&answer, effects(&answer, probe)))
}

/// What took effect: without an acknowledgement, only what was published at once.
fn effects(
    answer: &Result<ProcessingStatus, PluginError>,
    probe: &Probe,
) -> Vec<(Topic, BaseMessage)> {
    let forwarded = match answer {
        Ok(ProcessingStatus::Forward(topic, message)) => Some((topic.clone(), message.clone())),
        _ => None,
    };
    let done = matches!(answer, Ok(ProcessingStatus::Acknowledged | ProcessingStatus::Forward(..)));
    let published = probe.published().into_iter();
    let effective = published.filter(|it| done || it.when != When::WithAcknowledgement);
    effective.map(|Published { topic, message, .. }| (topic, message)).chain(forwarded).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example(more: serde_json::Value) -> Example {
        let mut example = json!({ "description": "d", "topic": "in", "data": 1 });
        example.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(example).unwrap()
    }

    fn seen(published: &[(&str, serde_json::Value)]) -> Seen {
        let published = published.iter();
        let published = published.map(|(topic, data)| (Topic::new(topic).unwrap(), message(data)));
        Seen::new(&Ok(ProcessingStatus::Acknowledged), published.collect())
    }

    #[test]
    fn what_is_otherwise_than_expected_is_told_with_what_was_seen() {
        let asked = json!({ "expect_status": "failed", "expect_topic": "out", "expect_data": 2,
            "expect_reply": 3 });
        let faults = example(asked).faults(&seen(&[("out", json!(4)), ("out", json!(5))]));
        let expected = [
            "the status is `acknowledged`, not `failed`",
            "the answer is missing; 3 is expected",
            "what it publishes on `out` is 4 and 5, not 2",
        ];
        assert_eq!(faults, expected);
        let faults = example(json!({})).faults(&seen(&[("out", json!(4))]));
        assert_eq!(faults, ["it publishes on `out`, and the example has no `expect_topic`"]);
        let faults = example(json!({ "expect_topic": "out" })).faults(&seen(&[]));
        assert_eq!(faults, ["it publishes nothing, not on `out` either"]);
        let error = Err(PluginError::ProcessingError("no luck".into()));
        let faults = example(json!({ "expect_topic": "out" })).faults(&Seen::new(&error, vec![]));
        assert_eq!(faults[1], "the plugin said: no luck");
    }

    #[test]
    fn what_is_as_expected_holds() {
        let both = json!({ "expect_topic": "out", "expect_data": 2, "expect_reply": 3 });
        let published = [("out", json!(1)), (REPLY_TOPIC, json!(3)), ("out", json!(2))];
        assert_eq!(example(both).faults(&seen(&published)), [""; 0]);
        assert_eq!(example(json!({})).faults(&seen(&[])), [""; 0]);
    }
}
