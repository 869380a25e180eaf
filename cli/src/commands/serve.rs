//! `serve`: a host that stays, with doors for other tools.
//!
//! The doors open when the plugins run, and close before they end: first clients are told and let go, so that
//! nothing more comes in, then the queues run empty. A signal on the way up ends it as well; a second one
//! on the way down ends it at once, and the system with it takes back what it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use echo_core::Host;
use echo_core::config::{Config, Secret};
use echo_gateway::auth::state::{self, Announced, HostState};
use echo_gateway::auth::token::{self, state_dir};
use echo_gateway::auth::{Auth, AuthSetupError};
use echo_gateway::http::{Guard, HostReport};
use echo_gateway::{Gateway, GatewayError, GatewayOptions, HttpSettings, tls};

use crate::args::ServeArgs;
use crate::commands::Setup;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host;
use crate::interrupts::Interrupts;

/// Runs a host until a signal comes.
pub async fn serve(setup: &Setup<'_>, args: ServeArgs) -> CommandResult {
    let mut config = setup.config.clone();
    config.gateway.open |= args.open;
    config.check().map_err(Failure::usage)?;
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    // What stands in the way of the doors is known before anything is started.
    let doors = Doors::prepare(&config)?;
    let host = tokio::select! {
        host = host::start_watching(setup, config) => Arc::new(host?),
        _ = interrupts.next() => return Ok(Exit::Interrupted),
    };
    let report = HostReport::new(&host, setup.telemetry.prometheus_renderer());
    let open = match doors.open(&host, report).await {
        Ok(open) => open,
        Err(failure) => {
            shut_down(setup, host).await;
            return Err(failure);
        }
    };
    setup.output.result(ready(&host, &open.state)).map_err(Failure::surroundings)?;
    let signal = interrupts.next().await;
    setup.output.say(format_args!("{signal}: finishing what is there; once more ends it at once"));
    let Open { gateway, announced, .. } = open;
    let ending = async {
        // A host that takes no more is not one to be found.
        drop(announced);
        gateway.shutdown().await;
        shut_down(setup, host).await
    };
    tokio::select! {
        clean = ending => Ok(if clean { Exit::Success } else { Exit::Surroundings }),
        _ = interrupts.next() => Ok(Exit::Interrupted),
    }
}

/// Ends the host, whose doors are closed or were never opened: nobody else holds it.
async fn shut_down(setup: &Setup<'_>, host: Arc<Host>) -> bool {
    match Arc::into_inner(host) {
        Some(host) => host::shut_down(setup.output, host).await,
        None => {
            setup.output.complain("the host is still in use, and was not shut down\n");
            false
        }
    }
}

/// The line by which others know that the host is ready.
fn ready(host: &Host, state: &HostState) -> String {
    let mut line = "ready".to_owned();
    for (door, address) in [("nats", state.nats), ("http", state.http)] {
        if let Some(address) = address {
            line.push_str(&format!(" {door}={address}"));
        }
    }
    let (bus, plugins) = (&host.config().bus.url, host.plugins().len());
    format!("{line} bus={bus} plugins={plugins}\n")
}

/// What the doors need.
struct Doors {
    folder: PathBuf,
    options: GatewayOptions,
    /// Where HTTP clients connect, and what keeps web pages out.
    http: Option<(std::net::SocketAddr, Guard)>,
    token: Option<Secret>,
    tls: bool,
}

/// Doors that are open, and the word of it; gone when dropped.
struct Open {
    gateway: Gateway,
    announced: Announced,
    state: HostState,
}

impl Doors {
    /// Reads what they need from files: token, keys, certificates.
    fn prepare(config: &Config) -> Result<Self, Failure> {
        let gateway = &config.gateway;
        let folder = state_dir(gateway.state_dir.as_deref()).map_err(Failure::surroundings)?;
        let token = own_token(&folder, gateway.open)?;
        let auth = Auth::new(gateway, token.as_ref()).map_err(auth_failure)?;
        let tls = gateway.tls.as_ref().map(tls::acceptor).transpose().map_err(Failure::usage)?;
        let is_tls = tls.is_some();
        let options = GatewayOptions {
            nats: gateway.nats.address(),
            tls,
            limits: gateway.limits.clone(),
            ..GatewayOptions::new(auth)
        };
        let http = gateway.http.address().map(|address| (address, Guard::new(gateway)));
        Ok(Self { folder, options, http, token, tls: is_tls })
    }

    async fn open(self, host: &Host, report: HostReport) -> Result<Open, Failure> {
        let Self { folder, options, http, token, tls } = self;
        let http = http.map(|(address, guard)| {
            let host = Arc::new(report);
            HttpSettings { address, guard, host }
        });
        let transport = Arc::clone(host.transport());
        let options = GatewayOptions { http, ..options };
        let gateway = Gateway::start(options, transport).await.map_err(gateway_failure)?;
        let (nats, http) = (gateway.nats_address(), gateway.http_address());
        let state = HostState { pid: std::process::id(), nats, http, token, tls };
        match state::announce(&folder, &state) {
            Ok(announced) => Ok(Open { gateway, announced, state }),
            Err(error) => {
                gateway.shutdown().await;
                Err(Failure::surroundings(error))
            }
        }
    }
}

fn own_token(folder: &Path, open: bool) -> Result<Option<Secret>, Failure> {
    let token = (!open).then(|| token::load_or_make(folder));
    token.transpose().map_err(Failure::surroundings)
}

fn auth_failure(error: AuthSetupError) -> Failure {
    match error {
        AuthSetupError::Random => Failure::surroundings(error),
        _ => Failure::usage(error),
    }
}

fn gateway_failure(error: GatewayError) -> Failure {
    Failure::surroundings(error)
}
