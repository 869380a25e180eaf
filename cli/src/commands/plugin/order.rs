//! `plugin pause`, `resume` and `reset`: orders for the plugins of running hosts.

use echo_sdk::contract::host::{PluginOrder, PluginOrdered};
use serde::Serialize;

use crate::args::PluginOrderArgs;
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure};
use crate::summary::plural;

/// What a host made of an order.
#[derive(Debug, Serialize)]
struct Outcome {
    host: String,
    status: Option<&'static str>,
    error: Option<String>,
}

/// Asks every host; done where one that has the plugin did it, and none failed at it.
pub async fn order(talk: &Talk<'_>, topic: &str, args: PluginOrderArgs) -> CommandResult {
    let mut remote = talk.connect(args.at.url.as_deref()).await?;
    let order = PluginOrder { plugin: args.name.clone() };
    let answers = remote.ask_hosts::<_, PluginOrdered>(topic, &order).await?;
    let outcomes = answers.into_iter().map(|(host, ordered)| match ordered {
        Ok(PluginOrdered { status, .. }) => {
            Outcome { host, status: Some(status.as_str()), error: None }
        }
        Err(error) => Outcome { host, status: None, error: Some(error) },
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let done: Vec<&str> = outcomes.iter().filter_map(|it| it.status).collect();
    if args.json {
        talk.output.json(&outcomes).map_err(Failure::surroundings)?;
    } else if let Some(status) = done.first() {
        let hosts = plural(done.len(), "host");
        let text = format!("`{}` is {status} on {hosts}\n", args.name);
        talk.output.result(text).map_err(Failure::surroundings)?;
    }
    let faults: Vec<&str> = outcomes.iter().filter_map(|it| it.error.as_deref()).collect();
    match faults.first() {
        None => Ok(Exit::Success),
        Some(fault) if done.is_empty() => Err(Failure::usage((*fault).to_owned())),
        Some(fault) => {
            let hosts = plural(faults.len(), "host");
            talk.output.complain(format_args!("on {hosts}: {fault}\n"));
            Ok(Exit::Success)
        }
    }
}
