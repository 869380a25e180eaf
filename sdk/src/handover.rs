//! What a version of a plugin hands over to the next: its state, and the way between the forms that versions give it.
//!
//! A version of a plugin says in which form it keeps its state with [`Plugin::state_schema`], a number that grows. It
//! knows one step: [`Plugin::state_up`] takes a state from one form to the next, [`Plugin::state_down`] back again.
//! A version that also knows the steps before takes up what is older still, one step after the other. Before a
//! host puts a version in another's place it takes the state up and down again and compares ([`take_up`]), since a
//! way that loses something shows there and nowhere else.
//!
//! The same steps serve what a plugin exports as a whole and the entries of its
//! [managed state](crate::State), which the host keeps.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Plugin, PluginError};

/// A plugin's state, or one entry of its managed state, in the form of one of its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateSnapshot {
    /// The form: the [`Plugin::state_schema`] of the version that it comes from.
    pub schema: u32,
    /// The name of the entry, where it is one of the managed state; none for what a plugin exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The state itself.
    pub data: Value,
}

impl StateSnapshot {
    /// What a plugin exports, in this form.
    pub fn new(schema: u32, data: Value) -> Self {
        Self { schema, entry: None, data }
    }

    /// An entry of the managed state, in this form.
    pub fn of_entry(schema: u32, name: impl Into<String>, data: Value) -> Self {
        Self { schema, entry: Some(name.into()), data }
    }
}

/// What a plugin says that writes no [`Plugin::import_state`].
pub(crate) fn no_import() -> PluginError {
    let text = "it takes over no state; write `import_state` beside `export_state`";
    PluginError::ProcessingError(text.to_owned())
}

/// What a plugin says that writes no [`Plugin::state_up`].
pub(crate) fn no_way_up(from: u32) -> PluginError {
    PluginError::ProcessingError(format!("it knows no way up from form {from} of its state"))
}

/// What a plugin says that writes no [`Plugin::state_down`].
pub(crate) fn no_way_down(to: u32) -> PluginError {
    PluginError::ProcessingError(format!("it knows no way down to form {to} of its state"))
}

/// Takes a state to another form, a step at a time; what [`Plugin::convert_state`] does unless it is written anew.
///
/// # Errors
/// What the plugin's own step says.
pub fn convert<P: Plugin + ?Sized>(
    plugin: &P,
    mut state: StateSnapshot,
    to: u32,
) -> Result<StateSnapshot, PluginError> {
    let entry = state.entry.as_deref();
    while state.schema != to {
        if state.schema < to {
            state.data = plugin.state_up(entry, state.schema, state.data)?;
            state.schema += 1;
        } else {
            state.data = plugin.state_down(entry, state.schema - 1, state.data)?;
            state.schema -= 1;
        }
    }
    Ok(state)
}

/// Why a state cannot be handed over. Nothing of it has been taken over then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The state is of a later version.
    #[error(
        "the state has form {found} and this version knows {known} at most; the later version has to take it down first"
    )]
    Later {
        /// The state's form.
        found: u32,
        /// That of the version that was to take it over.
        known: u32,
    },
    /// A step has failed.
    #[error("{0}")]
    Step(#[source] PluginError),
    /// The state that came back is another.
    #[error(
        "taken from form {from} to {to} and back again, {what} is not what it was; \
         mend the plugin's `state_up` or `state_down`"
    )]
    Lossy {
        /// The form that it had.
        from: u32,
        /// The form that it was taken to.
        to: u32,
        /// What was taken there.
        what: String,
    },
}

/// Takes the state of an earlier version to this version's form, and checks that nothing is lost on the way: taken
/// down again it has to be what it was. Takes over nothing.
///
/// # Errors
/// [`HandoverError`].
pub async fn take_up<P: Plugin + ?Sized>(
    plugin: &P,
    state: StateSnapshot,
) -> Result<StateSnapshot, HandoverError> {
    let (from, to) = (state.schema, plugin.state_schema());
    if from > to {
        return Err(HandoverError::Later { found: from, known: to });
    }
    if from == to {
        return Ok(state);
    }
    let up = plugin.convert_state(state.clone(), to).await.map_err(HandoverError::Step)?;
    let down = plugin.convert_state(up.clone(), from).await.map_err(HandoverError::Step)?;
    if up.schema == to && down == state {
        return Ok(up);
    }
    let what = state.entry.map_or("the state".to_owned(), |name| format!("the entry `{name}`"));
    Err(HandoverError::Lossy { from, to, what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BaseMessage, ProcessingStatus, Topic};
    use serde_json::json;

    /// Counts in form 1, counts by kind in form 2, and by kind with a unit in form 3; loses the unit when told.
    struct Third {
        loses: bool,
    }

    impl Plugin for Third {
        fn name(&self) -> &str {
            "third"
        }

        async fn process_message(
            &self,
            _: &Topic,
            _: &BaseMessage,
        ) -> Result<ProcessingStatus, PluginError> {
            Ok(ProcessingStatus::Acknowledged)
        }

        fn state_schema(&self) -> u32 {
            3
        }

        fn state_up(
            &self,
            entry: Option<&str>,
            from: u32,
            data: Value,
        ) -> Result<Value, PluginError> {
            match (entry, from) {
                (None, 1) => Ok(json!({ "all": data })),
                (None, 2) => Ok(json!({ "counts": data, "unit": if self.loses { 0 } else { 1 } })),
                (Some(_), _) => Ok(json!([data])),
                _ => Err(PluginError::InvalidData(format!("no form {from}"))),
            }
        }

        fn state_down(
            &self,
            entry: Option<&str>,
            to: u32,
            mut data: Value,
        ) -> Result<Value, PluginError> {
            match (entry, to) {
                (None, 1) => Ok(data["all"].take()),
                (None, 2) if data["unit"] == 0 => Ok(json!({ "all": 0 })),
                (None, 2) => Ok(data["counts"].take()),
                (Some(_), _) => Ok(data[0].take()),
                _ => Err(PluginError::InvalidData(format!("no form {to}"))),
            }
        }
    }

    #[tokio::test]
    async fn a_state_is_taken_up_step_by_step_and_proven_by_the_way_back() {
        let plugin = Third { loses: false };
        let up = take_up(&plugin, StateSnapshot::new(1, json!(7))).await.unwrap();
        let third = json!({ "counts": { "all": 7 }, "unit": 1 });
        assert_eq!(up, StateSnapshot::new(3, third.clone()));
        let entry = take_up(&plugin, StateSnapshot::of_entry(1, "n", json!(7))).await.unwrap();
        assert_eq!((entry.schema, entry.data), (3, json!([[7]])));
        let own = StateSnapshot::new(3, json!("as it is"));
        assert_eq!(take_up(&plugin, own.clone()).await.unwrap(), own);
        assert_eq!(plugin.convert_state(up, 1).await.unwrap().data, json!(7));
    }

    #[tokio::test]
    async fn a_way_that_loses_something_is_found_out() {
        let lossy =
            take_up(&Third { loses: true }, StateSnapshot::new(2, json!({ "all": 7 }))).await;
        assert!(matches!(lossy, Err(HandoverError::Lossy { from: 2, to: 3, .. })), "{lossy:?}");
        // Nothing to lose in a state that is what the way back makes of anything.
        assert!(take_up(&Third { loses: true }, StateSnapshot::new(1, json!(0))).await.is_ok());
        let later = take_up(&Third { loses: false }, StateSnapshot::new(4, json!(7))).await;
        assert!(matches!(later, Err(HandoverError::Later { found: 4, known: 3 })));
        let unknown = take_up(&Third { loses: false }, StateSnapshot::new(0, json!(7))).await;
        assert!(matches!(unknown, Err(HandoverError::Step(PluginError::InvalidData(_)))));
    }
}
