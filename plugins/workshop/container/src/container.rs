//! A container from its creation to its removal.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use echo_sdk::contract::service::{PeerAddress, ServiceAddress, ServiceId};
use echo_sdk::service::LogSink;
use tokio::time::timeout;

use crate::config::{Network, Port, Protocol};
use crate::engine::{Engine, EngineError};
use crate::labels;
use crate::logs::Follower;
use crate::reach;
use crate::shared::{Needs, Suite};

/// How long the last lines of a container that has ended may take to arrive.
const LAST_LINES: Duration = Duration::from_secs(1);

/// All that it takes to start a container.
#[derive(Debug)]
pub struct Launch {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Whose container it is.
    pub id: ServiceId,
    /// What the suite's services share.
    pub suite: Arc<Suite>,
    /// What of it the container needs.
    pub needs: Needs,
    /// What is created.
    pub body: ContainerCreateBody,
    /// The ports that are reached from this machine.
    pub ports: Vec<Port>,
    /// How it is connected.
    pub network: Network,
    /// Where its lines go.
    pub log: LogSink,
}

/// A container that was started; it is removed by [`stop`](Self::stop).
#[derive(Debug)]
pub struct Container {
    pub(crate) engine: Arc<Engine>,
    pub(crate) id: String,
    /// The folder that commands run in when they do not say.
    pub(crate) workdir: String,
    name: String,
    /// Its name on the suite's network, if it is on it.
    alias: Option<String>,
    suite: Arc<Suite>,
    has_left: AtomicBool,
    ports: Vec<Reach>,
    stop_signal: String,
    log: Follower,
}

/// How a port is reached from this machine.
#[derive(Debug)]
struct Reach {
    port: Port,
    host: u16,
    /// Where the container itself has it, if this machine reaches that.
    direct: Option<SocketAddr>,
}

impl Launch {
    /// Creates and starts the container, along with what its suite shares and does not have yet.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says; nothing of the container is left then, unless the engine fails
    /// at that too.
    pub async fn run(self) -> Result<Container, EngineError> {
        let (engine, suite) = (self.engine.clone(), self.suite.clone());
        let launched = self.launch().await;
        if launched.is_err() {
            // The run's cleanup finds what cannot be removed now.
            let _ = suite.leave(&engine).await;
        }
        launched
    }

    async fn launch(self) -> Result<Container, EngineError> {
        let engine = &self.engine;
        self.suite.enter(engine, &self.needs).await?;
        let name = labels::container_name(&self.id);
        let id = engine.create(&name, self.body).await?;
        let started = async {
            engine.start(&id).await?;
            engine.inspect(&id).await
        };
        let seen = match started.await {
            Ok(seen) => seen,
            Err(error) => {
                // As above.
                let _ = engine.remove(&id).await;
                return Err(error);
            }
        };
        let config = seen.config.as_ref();
        let text = |text: Option<&String>, default: &str| {
            text.filter(|text| !text.is_empty()).map_or(default, |text| text).to_owned()
        };
        let is_running = seen.state.as_ref().and_then(|state| state.running).unwrap_or_default();
        let container = Container {
            stop_signal: text(config.and_then(|config| config.stop_signal.as_ref()), "SIGTERM"),
            workdir: text(config.and_then(|config| config.working_dir.as_ref()), "/"),
            ports: reaches(&self.ports, self.network, &seen),
            log: Follower::start(engine, &id, self.log),
            engine: self.engine,
            suite: self.suite,
            has_left: AtomicBool::new(false),
            alias: (self.network == Network::Suite).then_some(self.id.service),
            id,
            name,
        };
        if is_running {
            return Ok(container);
        }
        let ending = container.ended().await;
        // As above.
        let _ = container.engine.remove(&container.id).await;
        Err(EngineError::Ended(ending))
    }
}

impl Container {
    /// Where it is reached from this machine, and from the suite's other containers.
    pub fn address(&self) -> ServiceAddress {
        let own = self.ports.iter().map(|reach| (reach.port.key(), reach.port.container));
        let peers = self.alias.clone().map(|host| PeerAddress { host, ports: own.collect() });
        ServiceAddress {
            host: self.engine.host().to_owned(),
            ports: self.ports.iter().map(|reach| (reach.port.key(), reach.host)).collect(),
            instance: self.name.clone(),
            peers,
        }
    }

    /// Whether something listens on a port: within the container, where this machine can see that, since
    /// engines accept connections to published ports before anybody listens behind them.
    ///
    /// # Errors
    /// Why not, as the connection failed.
    pub async fn accepts(&self, name: &str, published: (&str, u16)) -> std::io::Result<()> {
        let reach = self.ports.iter().find(|reach| reach.port.key() == name);
        match reach.and_then(|reach| reach.direct) {
            Some(direct) => reach::connects(direct).await,
            None => reach::answers_for_itself(published).await,
        }
    }

    /// Waits until it has ended by itself; says how. Its last lines are in the log by then.
    pub async fn ended(&self) -> String {
        let ended = self.engine.wait(&self.id).await;
        // What is not in the log by then has not been written.
        let _ = timeout(LAST_LINES, self.log.at_end()).await;
        match ended {
            Ok(code) => self.ending(code).await,
            Err(error) => error.to_string(),
        }
    }

    /// Whether it has ended and was not stopped, as the engine sees it; of one that is removed nothing is
    /// seen any more.
    pub async fn ended_by_itself(&self) -> bool {
        let seen = self.engine.inspect(&self.id).await.ok();
        seen.and_then(|seen| seen.state?.running).is_some_and(|is_running| !is_running)
    }

    async fn ending(&self, code: i64) -> String {
        let seen = self.engine.inspect(&self.id).await.ok();
        let was_oom = seen.and_then(|seen| seen.state?.oom_killed).unwrap_or_default();
        match code {
            _ if was_oom => format!("exit code {code}, out of memory; raise `memory`"),
            129..=192 => format!("exit code {code} (signal {})", code - 128),
            _ => format!("exit code {code}"),
        }
    }

    /// Stops it, by force after `limit`, and removes it with all that it left; the last of its suite takes
    /// the network and the volumes along. Stopping it again does no harm.
    ///
    /// # Errors
    /// [`EngineError`] that names what may be left.
    pub async fn stop(&self, limit: Duration) -> Result<(), EngineError> {
        if !limit.is_zero() && self.engine.signal(&self.id, &self.stop_signal).await.is_ok() {
            // However this comes out, it is removed by force.
            let _ = timeout(limit, self.engine.wait(&self.id)).await;
        }
        self.engine.remove(&self.id).await?;
        if self.has_left.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.suite.leave(&self.engine).await
    }
}

/// How each port is reached.
fn reaches(ports: &[Port], network: Network, seen: &ContainerInspectResponse) -> Vec<Reach> {
    let settings = seen.network_settings.as_ref();
    let endpoint = settings.and_then(|settings| settings.networks.as_ref()?.values().next());
    let address = |text: Option<&String>| text.and_then(|text| text.parse::<IpAddr>().ok());
    let own = endpoint.and_then(|endpoint| {
        let gateway = address(endpoint.gateway.as_ref())?;
        address(endpoint.ip_address.as_ref()).filter(|own| reach::is_attached(*own, gateway))
    });
    let reach = |port: &Port| {
        if network == Network::Host {
            return Some(Reach { port: *port, host: port.container, direct: None });
        }
        let published = settings?.ports.as_ref()?.get(&port.engine_key())?.as_ref()?;
        let host = published.iter().find_map(|binding| binding.host_port.as_ref()?.parse().ok())?;
        let direct = own.filter(|_| port.protocol == Protocol::Tcp);
        Some(Reach { port: *port, host, direct: direct.map(|own| (own, port.container).into()) })
    };
    ports.iter().filter_map(reach).collect()
}
