//! Networks and volumes, and whatever carries a label.

use std::collections::HashMap;

use bollard::models::{
    ContainerSummary, Network, NetworkCreateRequest, Volume, VolumeCreateRequest,
};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};
use futures_util::future::join_all;

use super::{Engine, EngineError, is_conflict, is_missing, refused};

type Labels = HashMap<String, String>;

impl Engine {
    /// Creates a network; one of that name that is there already will do.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says.
    pub async fn create_network(&self, name: &str, labels: Labels) -> Result<(), EngineError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(labels),
            ..Default::default()
        };
        match self.docker.create_network(request).await {
            Err(error) if !is_conflict(&error) => {
                Err(refused(format!("create the network `{name}`"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a network; one that is gone is no error.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says: a container that somebody else connected to it.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        match self.docker.remove_network(name).await {
            Err(error) if !is_missing(&error) => {
                Err(refused(format!("remove the network `{name}`"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Creates a volume; one of that name that is there already will do.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says.
    pub async fn create_volume(&self, name: &str, labels: Labels) -> Result<(), EngineError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..Default::default()
        };
        let created = self.docker.create_volume(request).await;
        created.map(drop).map_err(|error| refused(format!("create the volume `{name}`"), &error))
    }

    /// Removes a volume; one that is gone is no error.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says: a container that uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        match self.docker.remove_volume(name, Some(options)).await {
            Err(error) if !is_missing(&error) => {
                Err(refused(format!("remove the volume `{name}`"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the containers that carry all of the labels, then the networks, then the volumes. Says what
    /// was removed, and what was not and why.
    pub async fn sweep(&self, labels: &Labels) -> (Vec<String>, Vec<EngineError>) {
        let (mut removed, mut failures) = (Vec::new(), Vec::new());
        // In this order, since a network or volume in use stays.
        for kind in [Kind::Container, Kind::Network, Kind::Volume] {
            let found = match self.list(kind, labels).await {
                Ok(found) => found,
                Err(error) => {
                    failures.push(error);
                    continue;
                }
            };
            let removals = found.iter().map(|Found { id, name, .. }| async move {
                self.remove_a(kind, id).await.map(|()| format!("{} `{name}`", kind.as_str()))
            });
            for removal in join_all(removals).await {
                match removal {
                    Ok(what) => removed.push(what),
                    Err(error) => failures.push(error),
                }
            }
        }
        (removed, failures)
    }

    /// What carries all of the labels. The engine is only asked for candidates: Podman takes several
    /// labels of a volume as alternatives.
    async fn list(&self, kind: Kind, labels: &Labels) -> Result<Vec<Found>, EngineError> {
        let wanted = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let filters: HashMap<_, Vec<String>> = HashMap::from([("label".to_owned(), wanted)]);
        let listed = match kind {
            Kind::Container => {
                let options = ListContainersOptionsBuilder::default().all(true).filters(&filters);
                let listed = self.docker.list_containers(Some(options.build())).await;
                listed.map(|all| all.into_iter().filter_map(Found::container).collect())
            }
            Kind::Network => {
                let options = ListNetworksOptionsBuilder::default().filters(&filters);
                let listed = self.docker.list_networks(Some(options.build())).await;
                listed.map(|all| all.into_iter().filter_map(Found::network).collect())
            }
            Kind::Volume => {
                let options = ListVolumesOptionsBuilder::default().filters(&filters);
                let listed = self.docker.list_volumes(Some(options.build())).await;
                listed.map(|all| all.volumes.into_iter().flatten().map(Found::volume).collect())
            }
        };
        let mut found: Vec<Found> =
            listed.map_err(|error| refused(format!("list its {}s", kind.as_str()), &error))?;
        found
            .retain(|found| labels.iter().all(|(key, value)| found.labels.get(key) == Some(value)));
        Ok(found)
    }

    async fn remove_a(&self, kind: Kind, id: &str) -> Result<(), EngineError> {
        match kind {
            Kind::Container => self.remove(id).await,
            Kind::Network => self.remove_network(id).await,
            Kind::Volume => self.remove_volume(id).await,
        }
    }
}

/// What an engine makes for a run.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Container,
    Network,
    Volume,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// One of them: by what it is removed, by what people know it, and whose it is.
struct Found {
    id: String,
    name: String,
    labels: Labels,
}

impl Found {
    fn container(listed: ContainerSummary) -> Option<Self> {
        let id = listed.id?;
        let name = listed.names.into_iter().flatten().next();
        let name = name.map_or_else(|| id.clone(), |name| name.trim_start_matches('/').to_owned());
        Some(Self { id, name, labels: listed.labels.unwrap_or_default() })
    }

    fn network(listed: Network) -> Option<Self> {
        let labels = listed.labels.unwrap_or_default();
        Some(Self { id: listed.id?, name: listed.name?, labels })
    }

    fn volume(listed: Volume) -> Self {
        Self { id: listed.name.clone(), name: listed.name, labels: listed.labels }
    }
}
