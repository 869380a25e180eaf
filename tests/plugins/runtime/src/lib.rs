//! A plugin with a tokio of its own, which tests load and measurements compare with the same plugin linked in.
//!
//! A message's data is what it is to do: `0` is nothing and `1` is to be read, which is what the boundary's price is
//! measured with; a text is one of the [orders](work).

#![forbid(unsafe_code)]

#[cfg(feature = "runtime")]
mod work;

use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};

echo_sdk::export_plugin!(Runtime, "manifest.json");

/// The plugin.
#[derive(Debug)]
pub struct Runtime {
    #[cfg(feature = "runtime")]
    work: work::Work,
}

impl Runtime {
    /// Makes the plugin; with a runtime it begins to tick at once.
    #[cfg(feature = "runtime")]
    pub fn new(context: PluginContext) -> Self {
        Self { work: work::Work::begin(context) }
    }

    /// Makes the plugin.
    #[cfg(not(feature = "runtime"))]
    pub fn new(_: PluginContext) -> Self {
        Self {}
    }
}

impl Plugin for Runtime {
    fn name(&self) -> &str {
        "runtime"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        match message.data_bytes() {
            b"0" => {}
            b"1" => drop(std::hint::black_box(message.json::<u32>()?)),
            #[cfg(feature = "runtime")]
            _ => self.work.obey(message).await?,
            #[cfg(not(feature = "runtime"))]
            _ => return Err(PluginError::InvalidData("it has no runtime to work with".to_owned())),
        }
        Ok(ProcessingStatus::Acknowledged)
    }

    #[cfg(feature = "runtime")]
    async fn metrics(&self) -> serde_json::Value {
        serde_json::json!({ "ticks": self.work.ticks() })
    }
}
