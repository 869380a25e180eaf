//! `plugin load`, `unload`, `pause`, `resume` and `reset`: orders for the plugins of running hosts.

use std::path::Path;

use echo_sdk::contract::host::{
    self, PluginLoad, PluginOrder, PluginOrdered, PluginUnload, PluginsUnloaded,
};
use echo_sdk::contract::system::PluginStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::Layout;
use crate::args::{PluginLoadArgs, PluginOrderArgs};
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure};
use crate::summary::plural;

/// What a host made of an order.
#[derive(Debug, Serialize)]
struct Outcome {
    host: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<String>,
    status: Option<&'static str>,
    error: Option<String>,
    /// What went wrong though the order was carried out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
}

/// What a host says when it carried an order out.
struct Done {
    /// The plugins that it concerned.
    plugins: Vec<String>,
    status: PluginStatus,
    faults: Vec<String>,
}

impl From<PluginOrdered> for Done {
    fn from(PluginOrdered { plugin, status }: PluginOrdered) -> Self {
        Self { plugins: vec![plugin], status, faults: Vec::new() }
    }
}

impl From<PluginsUnloaded> for Done {
    fn from(PluginsUnloaded { plugins, unfinished, mut faults }: PluginsUnloaded) -> Self {
        if unfinished > 0 {
            faults.push(format!("{} were not handled", plural(unfinished, "message")));
        }
        Self { plugins, status: PluginStatus::Unloaded, faults }
    }
}

/// Orders a plugin to pause, resume or reset.
pub async fn order(talk: &Talk<'_>, topic: &str, args: PluginOrderArgs) -> CommandResult {
    let order = PluginOrder { plugin: args.name.clone() };
    carry_out::<_, PluginOrdered>(talk, topic, &order, &args).await
}

/// Has a plugin unloaded.
pub async fn unload(talk: &Talk<'_>, args: PluginOrderArgs, cascade: bool) -> CommandResult {
    let order = PluginUnload { plugin: args.name.clone(), cascade };
    carry_out::<_, PluginsUnloaded>(talk, host::UNLOAD, &order, &args).await
}

/// Has a library loaded: the one of a plugin that was built, or a file.
pub async fn load(talk: &Talk<'_>, layout: &Layout, args: PluginLoadArgs) -> CommandResult {
    let PluginLoadArgs { library, profile, json, at } = args;
    let built = layout.library(&library, profile);
    let file = if built.exists() { built } else { Path::new(&library).to_owned() };
    let file = std::path::absolute(&file).unwrap_or(file);
    let order = PluginLoad { library: file.display().to_string() };
    let args = PluginOrderArgs { name: library, json, at };
    carry_out::<_, PluginOrdered>(talk, host::LOAD, &order, &args).await
}

/// Asks every host; done where one that can did it, and none failed at it.
async fn carry_out<Q, A>(
    talk: &Talk<'_>,
    topic: &str,
    order: &Q,
    args: &PluginOrderArgs,
) -> CommandResult
where
    Q: Serialize,
    A: DeserializeOwned + Into<Done>,
{
    let mut remote = talk.connect(args.at.url.as_deref()).await?;
    let answers = remote.ask_hosts::<_, A>(topic, order).await?;
    let outcomes = answers.into_iter().map(|(host, answer)| match answer.map(Into::into) {
        Ok(Done { plugins, status, faults }) => {
            Outcome { host, plugins, status: Some(status.as_str()), error: None, faults }
        }
        Err(error) => {
            let (plugins, faults) = (Vec::new(), Vec::new());
            Outcome { host, plugins, status: None, error: Some(error), faults }
        }
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let done = outcomes.iter().filter(|it| it.status.is_some()).count();
    let first = outcomes.iter().find_map(|it| Some((&it.plugins, it.status?)));
    if args.json {
        talk.output.json(&outcomes).map_err(Failure::surroundings)?;
    } else if let Some((plugins, status)) = first {
        talk.output.result(told(plugins, status, done)).map_err(Failure::surroundings)?;
    }
    for fault in outcomes.iter().flat_map(|outcome| &outcome.faults) {
        talk.output.complain(format_args!("{fault}\n"));
    }
    let faults: Vec<&str> = outcomes.iter().filter_map(|it| it.error.as_deref()).collect();
    match faults.first() {
        None => Ok(Exit::Success),
        Some(fault) if done == 0 => Err(Failure::usage((*fault).to_owned())),
        Some(fault) => {
            let hosts = plural(faults.len(), "host");
            talk.output.complain(format_args!("on {hosts}: {fault}\n"));
            Ok(Exit::Success)
        }
    }
}

/// What has become of plugins, on so many hosts.
fn told(plugins: &[String], status: &str, hosts: usize) -> String {
    let names = echo_toml::list(plugins.iter().map(String::as_str), "and");
    let are = if plugins.len() == 1 { "is" } else { "are" };
    format!("{names} {are} {status} on {}\n", plural(hosts, "host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_went_along_are_told_too() {
        let unloaded = |plugins: &[&str]| {
            let plugins = plugins.iter().map(|name| (*name).to_owned()).collect();
            Done::from(PluginsUnloaded { plugins, unfinished: 2, faults: Vec::new() })
        };
        let Done { plugins, status, faults } = unloaded(&["top", "shop"]);
        assert_eq!(told(&plugins, status.as_str(), 1), "`top` and `shop` are unloaded on 1 host\n");
        assert_eq!(faults, ["2 messages were not handled"]);
        let Done { plugins, status, .. } = unloaded(&["shop"]);
        assert_eq!(told(&plugins, status.as_str(), 2), "`shop` is unloaded on 2 hosts\n");
    }
}
