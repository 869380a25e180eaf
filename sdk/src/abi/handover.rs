//! State that crosses when one version of a plugin follows another.

#![allow(unsafe_code, reason = "reads what the host lends through the library boundary")]

use super::answer::{Answer, tag};
use super::bytes::{Bytes, Fault};
use super::table::{Call, StateCall};
use crate::{PluginError, StateSnapshot};

impl StateCall {
    /// Lends a state, whose data is `json`, that is to be taken to the form `target`.
    pub fn lend(state: &StateSnapshot, json: &str, target: u32) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            schema: state.schema,
            target,
            is_entry: state.entry.is_some().into(),
            entry: Bytes::lend(state.entry.as_deref().unwrap_or_default()),
            data: Bytes::lend(json),
        }
    }
}

impl Call {
    /// The state that the call brings, and the form that it is to be taken to.
    ///
    /// # Errors
    /// [`Fault`] when there is none, or one that cannot be read.
    ///
    /// # Safety
    /// What the call lends is alive.
    pub(super) unsafe fn snapshot(&self) -> Result<(StateSnapshot, u32), Fault> {
        // SAFETY: the caller vouches for it; no later version of the struct is shorter than the first.
        let call = unsafe { self.state.as_ref() };
        let call = call.ok_or(Fault::Number { what: "address of a state", found: 0 })?;
        // SAFETY: as above.
        let (entry, data) = unsafe { (call.entry.text()?, call.data.slice()?) };
        let data = serde_json::from_slice(data).map_err(|error| Fault::Json(error.to_string()))?;
        let entry = (call.is_entry != 0).then(|| entry.to_owned());
        Ok((StateSnapshot { schema: call.schema, entry, data }, call.target))
    }
}

impl From<Option<StateSnapshot>> for Answer {
    fn from(state: Option<StateSnapshot>) -> Self {
        match state {
            Some(state) => Self {
                numbers: [state.schema.into(), 0],
                ..Self::with_text(tag::SNAPSHOT, state.data.to_string())
            },
            None => Self::new(tag::NOTHING),
        }
    }
}

/// Reading what a plugin answers.
impl Answer {
    /// The form of the state of a plugin that was created; 1 where it does not say.
    pub fn schema(&self) -> u32 {
        let [schema, _] = self.numbers;
        u32::try_from(schema).unwrap_or(u32::MAX).max(1)
    }

    /// A state; `entry` is the name of the one that was asked about.
    ///
    /// # Errors
    /// What the plugin returned, or that it panicked or broke the boundary's rules.
    pub fn snapshot(self, entry: Option<String>) -> Result<Option<StateSnapshot>, PluginError> {
        match self.tag {
            tag::NOTHING => Ok(None),
            tag::SNAPSHOT => {
                let [schema, _] = self.numbers;
                let wrong = |_| Fault::Number { what: "form of a state", found: schema };
                let schema = u32::try_from(schema).map_err(wrong)?;
                let data = serde_json::from_str(&self.text()?);
                let data = data.map_err(|error| Fault::Json(error.to_string()))?;
                Ok(Some(StateSnapshot { schema, entry, data }))
            }
            _ => Err(self.error("state")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_crosses_both_ways() {
        let state = StateSnapshot::of_entry(7, "count", json!({ "n": [1, "ä"] }));
        let json = state.data.to_string();
        let lent = StateCall::lend(&state, &json, 9);
        let call = Call { state: &raw const lent, ..Call::NONE };
        // SAFETY: both are this test's.
        assert_eq!(unsafe { call.snapshot() }, Ok((state.clone(), 9)));
        let answer = Answer::from(Some(state.clone()));
        assert_eq!(answer.snapshot(state.entry.clone()).unwrap(), Some(state));
        assert_eq!(Answer::from(None::<StateSnapshot>).snapshot(None).unwrap(), None);
        // SAFETY: there is none to read.
        assert!(unsafe { Call::NONE.snapshot() }.is_err());
        let wrong = Answer { numbers: [u64::MAX, 0], ..Answer::with_text(tag::SNAPSHOT, "1") };
        assert!(wrong.snapshot(None).is_err());
        assert!(Answer::with_text(tag::SNAPSHOT, "{").snapshot(None).is_err());
        assert!(Answer::done().snapshot(None).is_err());
    }

    #[test]
    fn a_call_of_an_older_host_brings_no_state() {
        let older = Call {
            size: std::mem::offset_of!(Call, state) as u32,
            op: 1,
            state: std::ptr::dangling(),
            ..Call::NONE
        };
        // SAFETY: there are as many bytes as it says.
        let read = unsafe { Call::read(&raw const older) };
        assert!(read.state.is_null());
        assert_eq!(read.op, 1);
    }
}
