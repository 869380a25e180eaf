//! Puts what cannot be handled aside at once: the poison queue.

use echo_sdk::{PluginError, ProcessingStatus, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{After, Attempt, Ending, Memo, Middleware};

/// The names of the fields that say why a message was put aside.
pub mod field {
    /// Why: one line.
    pub const REASON: &str = "Echo-Dead-Reason";
    /// The slot that could not handle it.
    pub const SLOT: &str = "Echo-Dead-Slot";
    /// The topic that it came on.
    pub const TOPIC: &str = "Echo-Dead-Topic";
    /// How many attempts there were.
    pub const ATTEMPTS: &str = "Echo-Dead-Attempts";
}

/// How the handling of a message can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The handler answered `Failed`.
    Failed,
    /// It returned an error.
    Error,
    /// It panicked.
    Panicked,
    /// It took too long, for a timeout further in.
    TimedOut,
}

impl Fault {
    fn of(ending: &Ending) -> Option<Self> {
        match ending {
            Ending::Answered(ProcessingStatus::Failed(_)) => Some(Self::Failed),
            Ending::Answered(_) => None,
            Ending::Error(PluginError::Panicked(_)) => Some(Self::Panicked),
            Ending::Error(_) => Some(Self::Error),
            Ending::TimedOut(_) => Some(Self::TimedOut),
        }
    }
}

/// What is put aside, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersOptions {
    /// Where it goes.
    pub topic: Topic,
    /// What goes there.
    #[serde(default = "failed")]
    #[schemars(length(min = 1))]
    pub faults: Vec<Fault>,
    /// Only what says this, if anything is set; letters' case counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containing: Option<String>,
}

fn failed() -> Vec<Fault> {
    vec![Fault::Failed]
}

/// Forwards a message that went wrong in some way to a topic, and so acknowledges it: no retry, no dead letter of
/// the host's. The message keeps its data and id; fields tell why it is there ([`field`]).
///
/// Inside of a retry it acts on the first fault, outside of it on the last.
#[derive(Debug, Clone)]
pub struct DeadLetters(DeadLettersOptions);

impl DeadLetters {
    /// Puts aside by these options.
    pub fn new(options: DeadLettersOptions) -> Self {
        Self(options)
    }

    fn is_meant(&self, ending: &Ending) -> bool {
        let named = Fault::of(ending).is_some_and(|fault| self.0.faults.contains(&fault));
        let text = self.0.containing.as_deref();
        named && text.is_none_or(|text| ending.to_string().contains(text))
    }
}

impl Middleware for DeadLetters {
    fn name(&self) -> &str {
        "dead_letters"
    }

    fn after(&self, attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
        if !self.is_meant(&ending) {
            return After::Done(ending);
        }
        let message = attempt.message();
        // A field is one line.
        let reason: String =
            ending.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (slot, id) = (attempt.slot, message.id());
        tracing::warn!(slot, %id, to = %self.0.topic, reason, "a message was put aside");
        let letter = message
            .to_builder()
            .field(field::REASON, reason.trim())
            .field(field::SLOT, slot)
            .field(field::TOPIC, attempt.topic.as_str())
            .field(field::ATTEMPTS, &message.attempt().to_string())
            .build();
        After::Done(match letter {
            Ok(letter) => {
                let letter = letter.with_hops(message.hops());
                Ending::Answered(ProcessingStatus::Forward(self.0.topic.clone(), letter))
            }
            // So large that the fields do not fit; the host's own dead letter takes it.
            Err(_) => ending,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::attempt;
    use super::*;

    fn endings() -> [Ending; 5] {
        [
            Ending::Answered(ProcessingStatus::Acknowledged),
            Ending::Answered(ProcessingStatus::Failed("bad\norder".into())),
            Ending::Error(PluginError::ProcessingError("bad day".into())),
            Ending::Error(PluginError::Panicked("bad luck".into())),
            Ending::TimedOut(Duration::from_secs(1)),
        ]
    }

    fn forwards(faults: &[Fault], containing: Option<&str>) -> [bool; 5] {
        let topic = Topic::new("orders.poison").unwrap();
        let (faults, containing) = (faults.to_vec(), containing.map(str::to_owned));
        let dead = DeadLetters::new(DeadLettersOptions { topic, faults, containing });
        endings().map(|ending| {
            let after = dead.after(&attempt(), &mut Memo::new(), ending);
            let After::Done(ending) = after else { panic!("{after:?}") };
            matches!(ending, Ending::Answered(ProcessingStatus::Forward(..)))
        })
    }

    #[test]
    fn what_is_named_goes_and_nothing_else() {
        use Fault::{Error, Failed, Panicked, TimedOut};
        assert_eq!(forwards(&[Failed], None), [false, true, false, false, false]);
        assert_eq!(forwards(&[Error, TimedOut], None), [false, false, true, false, true]);
        let all = [Failed, Error, Panicked, TimedOut];
        assert_eq!(forwards(&all, Some("bad")), [false, true, true, true, false]);
    }

    #[test]
    fn the_message_says_why_it_is_there() {
        let options = serde_json::from_str(r#"{"topic": "orders.poison"}"#).unwrap();
        let attempt = attempt();
        let [_, failed, ..] = endings();
        let After::Done(Ending::Answered(ProcessingStatus::Forward(topic, letter))) =
            DeadLetters::new(options).after(&attempt, &mut Memo::new(), failed)
        else {
            panic!("`Failed` goes there by default");
        };
        assert_eq!(topic.as_str(), "orders.poison");
        assert_eq!((letter.id(), letter.data_bytes()), (attempt.message().id(), &b"{\"n\":1}"[..]));
        assert_eq!(letter.field(field::REASON), Some("bad order"));
        assert_eq!(letter.field(field::SLOT), Some("slot"));
        assert_eq!(letter.field(field::TOPIC), Some("orders.placed"));
        assert_eq!(letter.field(field::ATTEMPTS), Some("1"));
    }
}
