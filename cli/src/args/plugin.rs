//! What can be asked about plugins.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{At, PluginReloadArgs, PluginRollbackArgs, PluginTransitionArgs, TableArgs};

/// `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Lists the built-in plugins, the enabled ones and the libraries that are built.
    List(TableArgs),
    /// Shows a plugin: its manifest and library, and how it is on the hosts that run.
    Show {
        /// The plugin.
        name: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// The host; where none is named and none runs, only the files are shown.
        #[command(flatten)]
        at: At,
    },
    /// Writes a plugin that builds and passes its tests.
    New {
        /// The plugin's name: lower-case letters, digits and `-`.
        name: String,
        /// What it is to start from.
        #[arg(long, value_enum, default_value_t)]
        template: Template,
        /// The folder that it is written to; without it, plugins/workshop/NAME.
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// Builds a plugin's library, alone, into plugins/libraries/PROFILE.
    Build {
        /// The plugin: a folder of plugins/workshop.
        name: String,
        /// How it is compiled.
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
        /// The folder of its sources; without it, plugins/workshop/NAME.
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// Gives a built plugin the examples of its manifest, each in a host of its own, and says which of them hold.
    Test {
        /// The plugin.
        name: String,
        /// Which of its libraries.
        #[arg(value_enum, default_value_t)]
        profile: Profile,
        /// How long the plugin may take for one example.
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = echo_sdk::duration::parse)]
        timeout: Duration,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts a built library into plugins/enabled, from where hosts load it; in place of one that runs it takes that one's.
    Activate {
        /// The plugin.
        name: String,
        /// Which of its libraries.
        #[arg(value_enum, default_value_t)]
        profile: Profile,
    },
    /// Loads a library into each running host of this machine, where it runs at once.
    Load(PluginLoadArgs),
    /// Unloads a plugin that was loaded from a library, on each running host that has it.
    Unload {
        /// The plugin.
        #[command(flatten)]
        order: PluginOrderArgs,
        /// Unloads those that depend on it first.
        #[arg(long)]
        cascade: bool,
    },
    /// Has another version take a plugin's place while messages flow, and follows how it goes.
    Transition(PluginTransitionArgs),
    /// Has the library of a plugin, as its file is now, take the place of the one that is loaded.
    Reload(PluginReloadArgs),
    /// Has the version before take its place again: ends a transition that goes on, or begins one back.
    Rollback(PluginRollbackArgs),
    /// Lets a plugin's messages wait, on each running host that has it.
    Pause(PluginOrderArgs),
    /// Lets a paused plugin's messages flow again.
    Resume(PluginOrderArgs),
    /// Has a plugin of a running host forget what it remembers.
    Reset(PluginOrderArgs),
    /// Takes a library out of plugins/enabled; hosts that run unload it.
    Deactivate {
        /// The plugin.
        name: String,
    },
}

/// What a new plugin starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Template {
    /// The plugin trait alone.
    #[default]
    Basic,
    /// Typed handlers by topic, and the boilerplate done for them.
    Processor,
    /// A type of service for suites.
    Service,
    /// Hooks: what happens in runs.
    Observer,
}

/// How a plugin is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Profile {
    /// Quickly, with checks.
    #[default]
    Development,
    /// Small and fast.
    Production,
}

impl Profile {
    /// The folder below plugins/libraries.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// `plugin load`.
#[derive(Debug, Args)]
pub struct PluginLoadArgs {
    /// The plugin, which was built; or the file of its library, within the folder of plugins.
    pub library: String,
    /// Which build of the plugin, where it is named.
    #[arg(long, default_value = "development")]
    pub profile: Profile,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

/// `plugin pause`, `resume`, `reset` and `unload`.
#[derive(Debug, Args)]
pub struct PluginOrderArgs {
    /// The plugin.
    pub name: String,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}
