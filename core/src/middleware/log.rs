//! Writes a line for each message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{After, Attempt, Ending, Memo, Middleware, Outgoing, Publishing};

/// How urgent a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What only the author wants to see.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happened.
    #[default]
    Info,
    /// What someone should look at.
    Warn,
}

/// Writes an event of a level that is known at run time only.
macro_rules! event {
    ($level:expr, $($rest:tt)+) => {
        match $level {
            Level::Trace => tracing::event!(target: "middleware", tracing::Level::TRACE, $($rest)+),
            Level::Debug => tracing::event!(target: "middleware", tracing::Level::DEBUG, $($rest)+),
            Level::Info => tracing::event!(target: "middleware", tracing::Level::INFO, $($rest)+),
            Level::Warn => tracing::event!(target: "middleware", tracing::Level::WARN, $($rest)+),
        }
    };
}
pub(super) use event;

/// What is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// The level of the lines; those of faults and of `Failed` are at least warnings.
    pub level: Level,
}

/// Writes a line for each message, with the target `middleware`: on delivery what became of it and how long that
/// took, on publish who sends it where.
#[derive(Debug, Clone, Copy)]
pub struct Log(LogOptions);

impl Log {
    /// Logs by these options.
    pub fn new(options: LogOptions) -> Self {
        Self(options)
    }
}

impl Middleware for Log {
    fn name(&self) -> &str {
        "log"
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        let (sender, topic, id) = (outgoing.sender, &outgoing.topic, outgoing.message.id());
        event!(self.0.level, sender, %topic, %id, "a message is published");
        Publishing::Go
    }

    fn after(&self, attempt: &Attempt<'_>, memo: &mut Memo, ending: Ending) -> After {
        let (slot, topic, id) = (attempt.slot, attempt.topic, attempt.message().id());
        let (number, took) = (attempt.message().attempt(), memo.since.elapsed());
        let level = if ending.is_bad() { Level::Warn } else { self.0.level };
        event!(level, slot, %topic, %id, attempt = number, ?took, %ending, "a message was handled");
        After::Done(ending)
    }

    fn cut_off(&self, attempt: &Attempt<'_>, memo: &mut Memo) {
        let (slot, topic, id) = (attempt.slot, attempt.topic, attempt.message().id());
        let took = memo.since.elapsed();
        tracing::warn!(target: "middleware", slot, %topic, %id, ?took, "a handling was cut off");
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::{PluginError, ProcessingStatus};
    use serde_json::{Value, json};

    use super::super::testing::{attempt, message, outgoing};
    use super::*;
    use crate::middleware::captured::captured;

    #[tokio::test(start_paused = true)]
    async fn a_line_says_what_became_of_which_message() {
        let log = Log::new(LogOptions { level: Level::Debug });
        let attempt = attempt();
        let lines = captured(|| {
            let mut memo = Memo::new();
            let answered = Ending::Answered(ProcessingStatus::Acknowledged);
            assert!(matches!(log.after(&attempt, &mut memo, answered), After::Done(_)));
            let error = PluginError::ProcessingError("no such order".into());
            log.after(&attempt, &mut memo, Ending::Error(error));
            log.cut_off(&attempt, &mut memo);
            let published = log.publishing(&mut outgoing(message(&json!(1)), None));
            assert!(matches!(published, Publishing::Go));
        });
        let id = attempt.message().id().to_string();
        let levels: Vec<&Value> = lines.iter().map(|line| &line["level"]).collect();
        assert_eq!(levels, ["DEBUG", "WARN", "WARN", "DEBUG"]);
        for line in &lines[..3] {
            let fields = &line["fields"];
            assert_eq!((&fields["id"], &fields["slot"]), (&json!(id), &json!("slot")));
        }
        assert_eq!(lines[1]["fields"]["ending"], "no such order");
        assert_eq!(lines[3]["fields"]["sender"], "slot");
    }
}
