//! `plugin show`: what a plugin's manifest says, and how the plugin is on the hosts that run.

use std::path::Path;

use echo_core::library;
use echo_sdk::Manifest;
use echo_sdk::contract::host::{self, LibraryInfo, PluginOrder, PluginShown};
use echo_sdk::duration::format as time;
use serde::Serialize;

use super::layout::Layout;
use super::list::{Listed, Status, collect};
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::{Palette, Style};
use crate::remote::RemoteError;

/// There is no such plugin.
#[derive(Debug, thiserror::Error)]
#[error("there is no plugin `{name}`; {way_out}")]
struct UnknownPlugin {
    name: String,
    way_out: String,
}

/// A plugin: here, and on each host that runs it.
#[derive(Debug, Serialize)]
struct Shown {
    manifest: Manifest,
    /// What becomes of it when a host starts here; nothing where no file of it is here.
    status: Option<Status>,
    library: Option<LibraryInfo>,
    hosts: Vec<OnHost>,
}

#[derive(Debug, Serialize)]
struct OnHost {
    host: String,
    #[serde(flatten)]
    plugin: PluginShown,
}

/// Shows one.
pub async fn show(
    talk: &Talk<'_>,
    layout: &Layout,
    name: &str,
    json: bool,
    url: Option<&str>,
) -> CommandResult {
    let url = url.filter(|url| !url.is_empty());
    let hosts = match ask(talk, name, url).await {
        Ok(hosts) => hosts,
        // Nobody said that there is one.
        Err(_) if url.is_none() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let plugins = collect(layout);
    let here = plugins.iter().find(|plugin| plugin.name == name);
    let shown = match (here, hosts.first()) {
        (Some(here), _) => of_file(here, hosts)?,
        (None, Some(OnHost { plugin, .. })) => {
            Shown { manifest: plugin.manifest.clone(), status: None, library: None, hosts }
        }
        (None, None) => return Err(Failure::usage(unknown(name, &plugins))),
    };
    let printed = match json {
        true => talk.output.json(&shown),
        false => talk.output.result(text(&shown, layout, talk.output.out)),
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

/// How the plugin is on each host that has it.
async fn ask(talk: &Talk<'_>, name: &str, url: Option<&str>) -> Result<Vec<OnHost>, RemoteError> {
    let mut remote = talk.connect(url).await?;
    let question = PluginOrder { plugin: name.to_owned() };
    let answers = remote.ask_hosts::<_, PluginShown>(host::SHOW, &question).await?;
    let having = answers.into_iter().filter_map(|(host, said)| Some((host, said.ok()?)));
    Ok(having.map(|(host, plugin)| OnHost { host, plugin }).collect())
}

fn of_file(here: &Listed, hosts: Vec<OnHost>) -> Result<Shown, Failure> {
    let Some(manifest) = here.manifest.clone() else {
        return Err(Failure::usage(here.fault.clone().unwrap_or_default()));
    };
    let library = match &here.path {
        Some(path) => Some(library::inspect(path).map_err(Failure::usage)?.1),
        None => None,
    };
    Ok(Shown { manifest, status: Some(here.status), library, hosts })
}

fn unknown(name: &str, plugins: &[Listed]) -> UnknownPlugin {
    let names = || plugins.iter().map(|plugin| plugin.name.as_str());
    let way_out = match echo_toml::nearest(name, names()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are {}", echo_toml::list(names(), "and")),
    };
    UnknownPlugin { name: name.to_owned(), way_out }
}

fn text(shown: &Shown, layout: &Layout, palette: Palette) -> String {
    let Shown { manifest, status, library, hosts } = shown;
    let mut text = palette.paint(Style::Strong, &manifest.name) + "\n";
    let mut line = |name: &str, value: String| text.push_str(&row(palette, name, &value));
    let list = |items: Vec<String>| match items.is_empty() {
        true => "-".to_owned(),
        false => items.join(", "),
    };
    line("version", manifest.version.clone());
    line("about", manifest.description.clone());
    line("type", word(&manifest.plugin_type));
    line("status", status.map_or("not here", Status::word).to_owned());
    let path = |file: &str| layout.shown(Path::new(file)).to_string();
    line("library", library.as_ref().map_or("-".to_owned(), |it| path(&it.file)));
    if let Some(LibraryInfo { abi, hash, .. }) = library {
        line("abi", abi.clone());
        line("hash", hash.clone());
    }
    line("handles", list(manifest.subscriptions.iter().map(ToString::to_string).collect()));
    let needs = manifest.dependencies.iter().map(|(name, version)| format!("{name} {version}"));
    line("needs", list(needs.collect()));
    line("services", list(manifest.services.iter().map(|it| it.service_type.clone()).collect()));
    let pool = &manifest.worker_pool;
    line("workers", format!("{} to {}", pool.min_workers, pool.max_workers));
    line("queue", format!("{} messages", pool.queue_size));
    line("config", serde_json::Value::Object(manifest.config.clone()).to_string());
    line("examples", manifest.examples.len().to_string());
    hosts.iter().for_each(|host| on_host(&mut text, host, palette));
    text
}

fn on_host(text: &mut String, OnHost { host, plugin }: &OnHost, palette: Palette) {
    let PluginShown { slot, since, reason, library, pool, health, metrics, manifest } = plugin;
    text.push_str(&format!("{} {host}\n", palette.paint(Style::Strong, "on host")));
    let mut line = |name: &str, value: String| text.push_str(&row(palette, name, &value));
    line("version", manifest.version.clone());
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let since = since.format("%Y-%m-%dT%H:%M:%SZ");
    line("state", format!("{} since {since}{reason}", slot.status.as_str()));
    if let Some(LibraryInfo { file, hash, abi }) = library {
        line("library", file.clone());
        line("abi", abi.clone());
        line("hash", hash.clone());
    }
    line("health", health.to_string());
    line("workers", format!("{} of {} to {}", slot.workers, pool.min_workers, pool.max_workers));
    let deadline = pool.deadline.map_or("none".to_owned(), time);
    line("deadline", format!("{deadline}, {} attempts", pool.max_attempts));
    let lag = slot.lag.map_or("?".to_owned(), |lag| lag.max(slot.depth).to_string());
    let (depth, capacity, delayed) = (slot.depth, slot.capacity, slot.delayed);
    line("queue", format!("{depth} of {capacity} messages, {delayed} to be retried, {lag} behind"));
    let counted = [
        ("accepted", slot.accepted),
        ("acknowledged", slot.acknowledged),
        ("retried", slot.retried),
        ("dead", slot.dead),
        ("dropped", slot.dropped),
    ];
    let counted = counted.map(|(name, count)| format!("{count} {name}"));
    line("counted", counted.join(", "));
    if !metrics.is_null() {
        line("figures", metrics.to_string());
    }
}

fn row(palette: Palette, name: &str, value: &str) -> String {
    format!("  {} {value}\n", palette.paint(Style::Dim, format_args!("{name:<9}")))
}

/// A value as it stands in files.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_with_what_is_near_it() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = collect(&Layout::new(folder.path(), "plugins/enabled".as_ref()));
        let nearest = unknown("proces", &plugins).to_string();
        assert!(nearest.contains("did you mean `process`?"), "{nearest}");
        let none = unknown("nothing-like-it", &plugins).to_string();
        assert!(none.contains("there are `orchestrator`"), "{none}");
    }
}
