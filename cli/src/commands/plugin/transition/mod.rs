//! `plugin transition`, `reload` and `rollback`: another version for running hosts, and how that goes.
//!
//! The steps are subscribed to before the order is given, so that none is missed. A transition is the host's: it goes on
//! whatever becomes of this program.

mod follow;
mod steps;

use std::path::Path;

use clap::ValueEnum;
use echo_sdk::contract::host::PluginOrder;
use echo_sdk::contract::transition::{PluginTransition, ROLLBACK, TRANSITION, TransitionTaken};
use echo_sdk::{Pattern, TransitionSettings};
use serde::Serialize;

use super::layout::Layout;
use crate::args::{
    PluginReloadArgs, PluginRollbackArgs, PluginTransitionArgs, Profile, TransitionFollowing,
    TransitionGoing,
};
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure};
use crate::remote::Remote;
use crate::summary::plural;

use follow::{Following, Wanted};

/// A host that has taken the order.
#[derive(Debug, Serialize)]
struct TakenBy {
    host: String,
    #[serde(flatten)]
    taken: TransitionTaken,
}

/// Has another library take a plugin's place.
pub async fn transition(
    talk: &Talk<'_>,
    layout: &Layout,
    args: PluginTransitionArgs,
) -> CommandResult {
    let PluginTransitionArgs { name, library, going, following } = args;
    let file = library_file(layout, &name, library);
    change(talk, name, Some(file), going, &following).await
}

/// Has the file of a plugin's library, as it is now, take the place of what was loaded from it.
pub async fn reload(talk: &Talk<'_>, args: PluginReloadArgs) -> CommandResult {
    let PluginReloadArgs { name, going, following } = args;
    change(talk, name, None, going, &following).await
}

/// Has the version before take its place again.
pub async fn rollback(talk: &Talk<'_>, args: PluginRollbackArgs) -> CommandResult {
    let PluginRollbackArgs { name, following } = args;
    let order = PluginOrder { plugin: name.clone() };
    carry_out(talk, ROLLBACK, &order, &name, Wanted::VersionBefore, &following).await
}

/// The file that is meant: that of a build, or the one that is named. A file of a build's name is named with its folder.
fn library_file(layout: &Layout, plugin: &str, library: String) -> String {
    let file = match Profile::from_str(&library, false) {
        Ok(profile) => layout.library(plugin, profile),
        Err(_) => Path::new(&library).to_owned(),
    };
    std::path::absolute(&file).unwrap_or(file).display().to_string()
}

async fn change(
    talk: &Talk<'_>,
    plugin: String,
    library: Option<String>,
    going: TransitionGoing,
    following: &TransitionFollowing,
) -> CommandResult {
    let (settings, queue) = going.settings();
    TransitionSettings::validate(&settings).map_err(Failure::usage)?;
    let order = PluginTransition { plugin: plugin.clone(), library, settings, queue };
    carry_out(talk, TRANSITION, &order, &plugin, Wanted::NewVersion, following).await
}

async fn carry_out<Q: Serialize>(
    talk: &Talk<'_>,
    topic: &str,
    order: &Q,
    plugin: &str,
    wanted: Wanted,
    following: &TransitionFollowing,
) -> CommandResult {
    let mut remote = talk.connect(following.at.url.as_deref()).await?;
    let steps = match following.no_wait {
        true => None,
        false => {
            let pattern = Pattern::new(format!("{TRANSITION}.>")).map_err(Failure::usage)?;
            Some(remote.subscribe(&pattern, None).await?)
        }
    };
    let taken = ask(talk, &mut remote, topic, order).await?;
    let Some(steps) = steps else { return tell_taken(talk, &taken, following.json) };
    if let Some(waiting) = taken.iter().find(|it| it.taken.queued && !following.json) {
        let plugin = &waiting.taken.plugin;
        talk.output.say(format_args!("another transition of `{plugin}` goes on; this one waits"));
    }
    let taken = taken.into_iter().map(|it| (it.host, it.taken.id));
    Following::new(plugin, wanted, taken, following.json).follow(talk, remote, steps).await
}

/// Gives the order to all hosts; those that take it.
async fn ask<Q: Serialize>(
    talk: &Talk<'_>,
    remote: &mut Remote,
    topic: &str,
    order: &Q,
) -> Result<Vec<TakenBy>, Failure> {
    let (mut takers, mut faults) = (Vec::new(), Vec::new());
    for (host, answer) in remote.ask_hosts::<_, TransitionTaken>(topic, order).await? {
        match answer {
            Ok(taken) => takers.push(TakenBy { host, taken }),
            Err(fault) => faults.push(fault),
        }
    }
    match faults.first() {
        Some(fault) if takers.is_empty() => return Err(Failure::usage(fault.clone())),
        Some(fault) => {
            let hosts = plural(faults.len(), "host");
            talk.output.complain(format_args!("on {hosts}: {fault}\n"));
        }
        None => {}
    }
    Ok(takers)
}

/// Says what is known without following.
fn tell_taken(talk: &Talk<'_>, takers: &[TakenBy], json: bool) -> CommandResult {
    for taker in takers {
        let TransitionTaken { id, plugin, queued } = &taker.taken;
        let becomes = if *queued { "waits for another" } else { "goes on" };
        let printed = match json {
            true => talk.output.json_line(taker),
            false => talk
                .output
                .result_line(format_args!("the transition {id} of `{plugin}` {becomes}\n")),
        };
        printed.map_err(Failure::surroundings)?;
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_named_by_its_profile_and_a_file_by_its_path() {
        let layout = Layout::new(Path::new("/project"), Path::new("plugins/enabled"));
        let file = |library: &str| library_file(&layout, "x", library.to_owned());
        let built = layout.library("x", Profile::Production);
        assert_eq!(file("production"), built.display().to_string());
        assert_eq!(file("/other/libx.so"), "/other/libx.so");
        let here = std::env::current_dir().unwrap().join("libx.so");
        assert_eq!(file("libx.so"), here.display().to_string());
    }
}
