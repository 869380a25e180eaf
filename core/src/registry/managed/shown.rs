//! All that there is to say of a plugin.

use echo_sdk::contract::host::PluginShown;

use super::{Managed, State};
use crate::library::LoadedLibrary;

impl Managed {
    /// The plugin as its host shows it; it is asked for its health and its figures.
    pub(crate) async fn shown(&self) -> PluginShown {
        let State { since, reason, .. } = self.state.lock().clone();
        let version = self.current();
        PluginShown {
            slot: self.slot_info(),
            since,
            reason,
            library: version.library.as_ref().map(LoadedLibrary::info),
            pool: version.pool_config.clone(),
            health: version.health().await,
            metrics: version.own_metrics().await,
            manifest: version.manifest.clone(),
        }
    }
}
