//! `url`: how other tools reach the running host.

use echo_core::config::Config;
use echo_gateway::auth::state;
use echo_gateway::auth::token::state_dir;
use serde::Serialize;

use crate::args::UrlArgs;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;

/// A host's addresses, as they are printed for programs.
#[derive(Debug, Serialize)]
struct Addresses<'a> {
    nats: Option<String>,
    http: Option<String>,
    token: Option<&'a str>,
    pid: u32,
}

/// Prints the address.
pub fn url(output: &Output, config: &Config, args: &UrlArgs) -> CommandResult {
    let folder = state_dir(config.gateway.state_dir.as_deref()).map_err(Failure::surroundings)?;
    let host = state::find(&folder, args.port).map_err(Failure::surroundings)?;
    let door = |name: &str, url: Option<String>| {
        let off = || format!("the running host has no door for {name} clients");
        url.ok_or_else(|| Failure::surroundings(off()))
    };
    let printed = if args.json {
        let token = host.token.as_ref().map(|token| token.reveal());
        output.json(&Addresses { nats: host.url(), http: host.http_url(), token, pid: host.pid })
    } else if args.http {
        output.result(format_args!("{}\n", door("HTTP", host.http_url())?))
    } else {
        output.result(format_args!("{}\n", door("NATS", host.url())?))
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}
