//! All that there is to say of a plugin.

use echo_sdk::contract::host::PluginShown;

use super::{Managed, State};
use crate::library::LoadedLibrary;

impl Managed {
    /// The plugin as its host shows it; it is asked for its health and its figures.
    pub(crate) async fn shown(&self) -> PluginShown {
        let State { since, reason, .. } = self.state.lock().clone();
        PluginShown {
            slot: self.slot_info(),
            since,
            reason,
            library: self.library.as_ref().map(LoadedLibrary::info),
            pool: self.pool_config.clone(),
            health: self.health().await,
            metrics: self.own_metrics().await,
            manifest: self.manifest.clone(),
        }
    }
}
