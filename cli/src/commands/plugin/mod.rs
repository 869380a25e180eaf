//! `plugin`: lists, writes, builds, tests and activates plugins, and orders those of running hosts about.

mod activate;
mod build;
mod layout;
mod list;
mod new;
mod order;
mod show;
mod template;
mod test;
mod transition;

use echo_core::config::{Config, TelemetryConfig};
use echo_sdk::contract::host;

use crate::args::PluginCommand;
use crate::commands::{hosting, talking};
use crate::exit::{CommandResult, Failure};
use crate::output::Output;

use layout::Layout;
use order::order;

/// Does what was asked.
pub fn plugin(output: &Output, config: Config, command: PluginCommand) -> CommandResult {
    let layout = Layout::here(&config.plugins).map_err(Failure::surroundings)?;
    let order =
        |config, topic, args| talking(output, config, async |it| order(it, topic, args).await);
    match command {
        PluginCommand::List(args) => list::list(output, &layout, &args),
        PluginCommand::Show { name, json, at } => {
            let url = at.url.as_deref();
            talking(output, config, async |it| show::show(it, &layout, &name, json, url).await)
        }
        PluginCommand::New { name, template, path } => {
            new::new(output, &layout, &name, template, path.as_deref())
        }
        PluginCommand::Build { name, profile, path } => {
            build::build(output, &layout, &name, profile, path.as_deref())
        }
        PluginCommand::Test { name, profile, timeout, json } => {
            let asked = test::Asked { name, profile, timeout, json };
            let mut config = config;
            // Examples of what goes wrong are no warnings, unless somebody wants to follow.
            if config.telemetry.log == TelemetryConfig::default().log {
                config.telemetry.log = "error".to_owned();
            }
            hosting(output, config, async |it| test::test(it, &layout, &asked).await)
        }
        PluginCommand::Activate { name, profile } => {
            activate::activate(output, &layout, &name, profile)
        }
        PluginCommand::Deactivate { name } => activate::deactivate(output, &layout, &name),
        PluginCommand::Load(args) => {
            talking(output, config, async |it| order::load(it, &layout, args).await)
        }
        PluginCommand::Unload { order, cascade } => {
            talking(output, config, async |it| order::unload(it, order, cascade).await)
        }
        PluginCommand::Transition(args) => {
            talking(output, config, async |it| transition::transition(it, &layout, args).await)
        }
        PluginCommand::Reload(args) => {
            talking(output, config, async |it| transition::reload(it, args).await)
        }
        PluginCommand::Rollback(args) => {
            talking(output, config, async |it| transition::rollback(it, args).await)
        }
        PluginCommand::Pause(args) => order(config, host::PAUSE, args),
        PluginCommand::Resume(args) => order(config, host::RESUME, args),
        PluginCommand::Reset(args) => order(config, host::RESET, args),
    }
}

/// A text that cannot name a plugin.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot name a plugin; use up to 64 lower-case letters, digits and `-`, a letter first"
)]
pub struct NameError(String);

/// Checks that a text can name a plugin: as a token of topics, a folder, a package and a library.
fn check_name(name: &str) -> Result<(), NameError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let letter_first = name.starts_with(|c: char| c.is_ascii_lowercase());
    if letter_first && name.len() <= 64 && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_paths_and_packages() {
        for name in ["x", "my-plugin", "a2"] {
            check_name(name).unwrap();
        }
        for name in ["", "2a", "../x", "A", "a b", "-a", "a/b", "é"] {
            check_name(name).unwrap_err();
        }
    }
}
