//! What an engine says of itself, for people who ask what there is.

use super::{Engine, EngineError, refused};

/// An engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// What it is: "Docker Engine - Community", "Podman Engine".
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of the API that it speaks.
    pub api_version: String,
    /// Where its ports are reached, and with them the engine.
    pub host: String,
}

impl Engine {
    /// Asks the engine what it is.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when it does not say.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        let version = self.docker().version().await;
        let version = version.map_err(|error| refused("say what it is", &error))?;
        let component = version.components.into_iter().flatten().next().map(|it| it.name);
        let platform =
            version.platform.map(|platform| platform.name).filter(|name| !name.is_empty());
        Ok(EngineInfo {
            name: platform.or(component).unwrap_or_else(|| "an engine".to_owned()),
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            host: self.host().to_owned(),
        })
    }
}

/// Finds the engine that services would run on by default, and asks it what it is.
///
/// # Errors
/// [`EngineError`] as [`Engine::find`] and [`Engine::info`].
pub async fn probe() -> Result<EngineInfo, EngineError> {
    Engine::find(None).await?.info().await
}
