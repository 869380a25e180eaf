//! Writes down a message's way, with all that it can be found by.

use echo_sdk::BaseMessage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::log::{Level, event};
use super::{After, Attempt, Before, Ending, Memo, Middleware, Outgoing, Publishing};

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceOptions {
    /// The level of the lines.
    pub level: Level,
    /// How many bytes of the data are shown.
    pub data: usize,
}

impl Default for TraceOptions {
    /// At `debug`, without data.
    fn default() -> Self {
        Self { level: Level::Debug, data: 0 }
    }
}

/// Writes a line when a message comes in, when it goes out, and when it is published, with the target
/// `middleware` and its ids: the message's, the trace's, the attempt, the hops, the key, and what it follows from.
/// Where it stands in the list is where it looks. The host's own spans exist whether it is there or not.
#[derive(Debug, Clone, Copy)]
pub struct Trace(TraceOptions);

impl Trace {
    /// Traces by these options.
    pub fn new(options: TraceOptions) -> Self {
        Self(options)
    }

    fn data(&self, message: &BaseMessage) -> Option<String> {
        let data = message.data_bytes();
        let shown = data.get(..self.0.data.min(data.len())).unwrap_or_default();
        (!shown.is_empty()).then(|| String::from_utf8_lossy(shown).into_owned())
    }

    fn write(&self, what: &str, attempt: &Attempt<'_>, ending: Option<&Ending>) {
        let (message, topic) = (attempt.message(), attempt.topic);
        let trace = message.trace_context().map(|trace| trace.traceparent());
        let ending = ending.map(ToString::to_string);
        event!(
            self.0.level,
            slot = attempt.slot,
            %topic,
            id = %message.id(),
            trace,
            source = message.source(),
            attempt = message.attempt(),
            hops = message.hops(),
            key = message.key(),
            data = self.data(message),
            ending,
            "{what}"
        );
    }
}

impl Middleware for Trace {
    fn name(&self) -> &str {
        "trace"
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        let (message, topic) = (&outgoing.message, &outgoing.topic);
        let trace = message.trace_context().map(|trace| trace.traceparent());
        event!(
            self.0.level,
            sender = outgoing.sender,
            %topic,
            id = %message.id(),
            trace,
            follows = outgoing.handled.as_ref().map(|handled| handled.id().to_string()),
            key = message.key(),
            data = self.data(message),
            "published"
        );
        Publishing::Go
    }

    fn before(&self, attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
        self.write("in", attempt, None);
        Before::Go
    }

    fn after(&self, attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
        self.write("out", attempt, Some(&ending));
        After::Done(ending)
    }

    fn cut_off(&self, attempt: &Attempt<'_>, _memo: &mut Memo) {
        self.write("cut off", attempt, None);
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::ProcessingStatus;
    use serde_json::json;

    use super::super::testing::{attempt, message, outgoing};
    use super::*;
    use crate::middleware::captured::captured;

    #[tokio::test(start_paused = true)]
    async fn the_way_of_a_message_is_written_down() {
        let trace = Trace::new(TraceOptions { data: 5, ..TraceOptions::default() });
        let mut attempt = attempt();
        let next = message(&json!("short"));
        let lines = captured(|| {
            assert!(matches!(trace.before(&mut attempt, &mut Memo::new()), Before::Go));
            let handled = Some(attempt.message().clone());
            trace.publishing(&mut outgoing(next.clone(), handled));
            let answered = Ending::Answered(ProcessingStatus::Failed("why".into()));
            trace.after(&attempt, &mut Memo::new(), answered);
            trace.cut_off(&attempt, &mut Memo::new());
        });
        let field = |line: usize, key: &str| lines[line]["fields"][key].clone();
        let said: Vec<_> = (0..4).map(|line| field(line, "message")).collect();
        assert_eq!(said, ["in", "published", "out", "cut off"]);
        let id = attempt.message().id().to_string();
        assert_eq!((field(0, "id"), field(1, "follows")), (json!(id), json!(id)));
        assert_eq!(field(1, "id"), json!(next.id().to_string()));
        assert_eq!((field(0, "attempt"), field(0, "data")), (json!(1), json!("{\"n\":")));
        assert_eq!(field(2, "ending"), "why");
    }
}
