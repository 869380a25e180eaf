//! A ledger: it adds up the amounts of each key, in order, and publishes each sum.
//!
//! It is there twice. The second version, with the feature `second`, keeps an account in another form, and has a fault
//! where its configuration says so: it panics at one message in twenty, fails at as many, hangs at as many, takes three
//! times as long, or wants messages later, always.

#![forbid(unsafe_code)]

mod account;

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use account::{Account, Kept};

#[cfg(not(feature = "second"))]
echo_sdk::export_plugin!(Ledger, "first.json");
#[cfg(feature = "second")]
echo_sdk::export_plugin!(Ledger, "second.json");

/// The version that this is, which is the form of its accounts as well.
pub const VERSION: u32 = if cfg!(feature = "second") { 2 } else { 1 };

/// The topic of what was added.
pub const ADDED: &str = "ledger.added";

/// The entry of the managed state that a key has.
pub const ENTRY: &str = "account";

/// One message in so many meets the fault.
const FAULT_EVERY: u64 = 20;

/// How much later it wants messages.
const LATER: Duration = Duration::from_millis(5);

/// What is to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// The key, which is the message's ordering key as well.
    pub key: u64,
    /// 1 for the key's first message, and one more for each that follows.
    pub seq: u64,
    /// How much.
    pub amount: i64,
}

/// What was added; published on [`ADDED`]. Both versions say the same, so that what they do can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The key.
    pub key: u64,
    /// The message's number.
    pub seq: u64,
    /// The number before it that the account knows.
    pub last: u64,
    /// The sum of the key's amounts so far.
    pub sum: i64,
}

/// What is wrong with the second version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It panics.
    Panic,
    /// It fails.
    Errors,
    /// It takes three times as long.
    Slow,
    /// It wants messages later, always.
    Later,
    /// It is never done.
    Hang,
}

#[derive(Debug, Deserialize)]
struct Config {
    /// How long the handler computes for each message.
    #[serde(with = "echo_sdk::duration")]
    work: Duration,
    fault: Fault,
}

/// The plugin.
#[derive(Debug)]
pub struct Ledger {
    context: PluginContext,
    config: Config,
}

impl Ledger {
    /// Makes the plugin.
    ///
    /// # Errors
    /// [`PluginError::Config`] when the configuration has another form.
    pub fn new(context: PluginContext) -> Result<Self, PluginError> {
        let mut config: Config = context.config_as()?;
        if VERSION == 1 {
            config.fault = Fault::None;
        }
        Ok(Self { config, context })
    }

    /// Does what the second version may have wrong.
    async fn meet_fault(
        &self,
        add: Add,
        attempt: u16,
        began: Instant,
    ) -> Result<ProcessingStatus, PluginError> {
        // Another message at each attempt, and of each key.
        let is_met = (add.seq + add.key + u64::from(attempt)).is_multiple_of(FAULT_EVERY);
        match self.config.fault {
            // As a panic does, without telling the terminal of each.
            Fault::Panic if is_met => {
                resume_unwind(Box::new(format!("the second version panics at {add:?}")))
            }
            Fault::Errors if is_met => {
                Err(PluginError::ProcessingError(format!("the second version fails at {add:?}")))
            }
            Fault::Slow => {
                compute(began, began.elapsed() * 3);
                Ok(ProcessingStatus::Acknowledged)
            }
            Fault::Later => Ok(ProcessingStatus::RetryLater(LATER)),
            Fault::Hang if is_met => std::future::pending().await,
            Fault::None | Fault::Panic | Fault::Errors | Fault::Hang => {
                Ok(ProcessingStatus::Acknowledged)
            }
        }
    }
}

impl Plugin for Ledger {
    fn name(&self) -> &str {
        self.context.plugin_name()
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        let began = Instant::now();
        let add: Add = message.json()?;
        let state = self.context.state();
        let account = state.get::<Kept>(ENTRY).await?.map(Account::from).unwrap_or_default();
        let Account { last, .. } = account;
        let account = account.plus(add.seq, add.amount);
        state.set(ENTRY, &Kept::from(account)).await?;
        compute(Instant::now(), self.config.work);
        let answer = self.meet_fault(add, message.attempt(), began).await?;
        let Add { key, seq, .. } = add;
        let added = Added { key, seq, last, sum: account.sum };
        self.context.publish_data(ADDED, &added).await?;
        Ok(answer)
    }

    fn state_schema(&self) -> u32 {
        VERSION
    }

    fn state_up(&self, _: Option<&str>, _: u32, data: Value) -> Result<Value, PluginError> {
        account::up(data)
    }

    fn state_down(&self, _: Option<&str>, _: u32, data: Value) -> Result<Value, PluginError> {
        account::down(data)
    }
}

/// Keeps the core busy until so long after `began`.
fn compute(began: Instant, time: Duration) {
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}
