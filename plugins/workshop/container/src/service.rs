//! The service type `generic_container`.

use std::sync::Arc;
use std::time::Duration;

use echo_sdk::Health;
use echo_sdk::contract::service::{ExecReply, ServiceAddress, ServiceExec, ServiceStart};
use echo_sdk::contract::suite::{Readiness, ServiceSpec};
use echo_sdk::service::{LogSink, Scope, ServiceError, ServicePlugin, config_of};
use serde_json::Value;
use tokio::sync::{OnceCell, oneshot};

use crate::config::{Config, Protocol};
use crate::container::{Container, Launch};
use crate::create::{Place, container};
use crate::engine::{Engine, EngineError};
use crate::shared::Registry;
use crate::{exec, labels};

/// Containers on a Docker or Podman engine. The engine is looked for when it is first needed.
#[derive(Debug, Default)]
pub struct Containers {
    address: Option<String>,
    engine: OnceCell<Arc<Engine>>,
    registry: Registry,
}

impl Containers {
    /// Containers on the engine at `address`, such as `unix:///var/run/docker.sock`; without one, on the
    /// engine that [`Engine::find`] finds.
    pub fn new(address: Option<String>) -> Self {
        Self { address, ..Self::default() }
    }

    async fn engine(&self) -> Result<&Arc<Engine>, EngineError> {
        let find = || async { Engine::find(self.address.as_deref()).await.map(Arc::new) };
        self.engine.get_or_try_init(find).await
    }
}

impl ServicePlugin for Containers {
    type Instance = Container;

    fn service_type(&self) -> &str {
        "generic_container"
    }

    async fn start(&self, request: &ServiceStart, log: LogSink) -> Result<Container, ServiceError> {
        let config: Config = config_of(request)?;
        config.validate().map_err(ServiceError::Config)?;
        let engine = self.engine().await?.clone();
        engine.provide_image(&config.image, config.pull).await?;
        let (ports, network) = (config.ports.clone(), config.network);
        let is_local = engine.is_local();
        let place = Place { id: &request.id, dir: request.dir.as_deref(), is_local };
        let (body, needs) = container(config, place).map_err(ServiceError::Config)?;
        let (id, suite) = (request.id.clone(), self.registry.suite(&request.id));
        let start = self.registry.begin(&request.id);
        let launch = Launch { engine, id, suite, needs, body, ports, network, log };
        // In a task of its own, since an engine goes on with what it was asked even if nobody waits for
        // the answer: what is not claimed is removed here, and a cleanup waits until it is.
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let _start = start;
            if let Err(Ok(unclaimed)) = answer.send(launch.run().await) {
                // What this cannot remove, the cleanup that waits for it finds by its labels.
                let _ = unclaimed.stop(Duration::ZERO).await;
            }
        });
        let lost = |_| ServiceError::Failed("the plugin is shutting down".to_owned());
        Ok(answered.await.map_err(lost)??)
    }

    fn address(&self, container: &Container) -> ServiceAddress {
        container.address()
    }

    /// The first TCP port accepts connections; without one, that it runs.
    fn default_readiness(&self, spec: &ServiceSpec) -> Readiness {
        let config = serde_json::from_value::<Config>(Value::Object(spec.config.clone()));
        let ports = config.map(|config| config.ports).unwrap_or_default();
        let tcp = ports.into_iter().find(|port| port.protocol == Protocol::Tcp);
        Readiness { port: tcp.map(|port| port.key()), ..Readiness::default() }
    }

    async fn accepts(
        &self,
        container: &Container,
        port: &str,
        address: (&str, u16),
    ) -> std::io::Result<()> {
        container.accepts(port, address).await
    }

    async fn exec(&self, container: &Container, request: &ServiceExec) -> ExecReply {
        exec::run(container, request).await
    }

    async fn ended(&self, container: &Container) -> String {
        container.ended().await
    }

    async fn ended_by_itself(&self, container: &Container) -> bool {
        container.ended_by_itself().await
    }

    async fn stop(&self, container: &Container, timeout: Duration) -> Result<(), ServiceError> {
        Ok(container.stop(timeout).await?)
    }

    async fn cleanup(&self, scope: Scope<'_>) -> Result<Vec<String>, ServiceError> {
        let engine = match self.engine().await {
            Ok(engine) => engine,
            // Without an engine nothing was made.
            Err(EngineError::NoEngine { .. } | EngineError::Address(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        self.registry.settled(scope).await;
        let (removed, failures) = engine.sweep(&labels::of_scope(scope)).await;
        if let Scope::Run(run_id) = scope {
            self.registry.forget(run_id);
        }
        if failures.is_empty() {
            return Ok(removed);
        }
        let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
        Err(ServiceError::Failed(failures.join("; ")))
    }

    async fn health_check(&self) -> Health {
        match Engine::find(self.address.as_deref()).await {
            Ok(_) => Health::Healthy,
            Err(error) => Health::Degraded(error.to_string()),
        }
    }
}
