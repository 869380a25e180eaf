//! The file that a configuration was read from.

use std::sync::Arc;

use echo_toml::Document;

/// Kept with the configuration, so that a setting that does not fit a plugin is told with its line, although plugins are
/// known only when a host starts.
///
/// Two configurations that say the same are the same, wherever each stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Source(Option<Arc<Document>>);

impl Source {
    pub(super) fn new(document: Document) -> Self {
        Self(Some(Arc::new(document)))
    }

    /// The file, where the configuration was read from one.
    pub(super) fn document(&self) -> Option<&Document> {
        self.0.as_deref()
    }
}

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
