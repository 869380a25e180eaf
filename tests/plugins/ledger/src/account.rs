//! What a key has, and the forms in which versions keep it.

use echo_sdk::PluginError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    pub(crate) sum: i64,
    /// How many amounts were added.
    pub(crate) count: u64,
    /// The number of the last one.
    pub(crate) last: u64,
}

impl Account {
    /// The account after an amount.
    pub(crate) fn plus(self, seq: u64, amount: i64) -> Self {
        Self { sum: self.sum + amount, count: self.count + 1, last: seq }
    }
}

/// The form of the first version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct First {
    sum: i64,
    count: u64,
    last: u64,
}

/// The form of the second version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Second {
    balance: i64,
    postings: Postings,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Postings {
    count: u64,
    last: u64,
}

/// The form of this version.
#[cfg(not(feature = "second"))]
pub(crate) type Kept = First;
#[cfg(feature = "second")]
pub(crate) type Kept = Second;

impl From<First> for Account {
    fn from(First { sum, count, last }: First) -> Self {
        Self { sum, count, last }
    }
}

impl From<Account> for First {
    fn from(Account { sum, count, last }: Account) -> Self {
        Self { sum, count, last }
    }
}

impl From<Second> for Account {
    fn from(Second { balance, postings: Postings { count, last } }: Second) -> Self {
        Self { sum: balance, count, last }
    }
}

impl From<Account> for Second {
    fn from(Account { sum, count, last }: Account) -> Self {
        Self { balance: sum, postings: Postings { count, last } }
    }
}

/// Takes an account from the first form to the second.
pub(crate) fn up(data: Value) -> Result<Value, PluginError> {
    let first: First = serde_json::from_value(data).map_err(PluginError::processing)?;
    let second = Second::from(Account::from(first));
    serde_json::to_value(second).map_err(PluginError::processing)
}

/// Takes an account from the second form to the first.
pub(crate) fn down(data: Value) -> Result<Value, PluginError> {
    let second: Second = serde_json::from_value(data).map_err(PluginError::processing)?;
    let first = First::from(Account::from(second));
    serde_json::to_value(first).map_err(PluginError::processing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;
    use serde_json::json;

    #[test]
    fn the_way_up_and_down_loses_nothing() {
        let first = json!({"sum": -7, "count": 2, "last": u64::MAX});
        let second = json!({"balance": -7, "postings": {"count": 2, "last": u64::MAX}});
        assert_eq!(up(first.clone()).unwrap(), second);
        assert_eq!(down(second.clone()).unwrap(), first);
        assert!(up(second).is_err() && down(first).is_err());
    }
}
