//! Why a library is not loaded.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use echo_sdk::abi::{MAGIC, MAJOR, MINOR};
use echo_sdk::{ManifestError, PluginError};

use super::file::MAX_FILE;

/// A library that is not loaded: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {fault}", path.display())]
pub struct LibraryError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a library; reads on from its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// There is a folder, or a device.
    #[error("is no file; name the library itself")]
    NotAFile,
    /// The file is larger than any library.
    #[error("has {len} bytes, more than the {MAX_FILE} that a library may have; strip its symbols")]
    TooLarge {
        /// The file's length in bytes.
        len: u64,
    },
    /// The file holds something else.
    #[error(
        "is no shared library (no ELF file); name the `.so` file that `cargo build` made of the plugin"
    )]
    NotElf,
    /// The file is a program, or an object file.
    #[error("is a program or an object file, no shared library; set `crate-type = [\"cdylib\"]`")]
    NotShared,
    /// The end of the file is missing.
    #[error("is cut short at {len} bytes of {wanted}; copy or build it again")]
    Truncated {
        /// How many bytes there are.
        len: usize,
        /// How many bytes there have to be at least.
        wanted: u64,
    },
    /// The file is for other machines.
    #[error(
        "is built for {found} and this host runs on {}; build it for this machine",
        std::env::consts::ARCH
    )]
    Architecture {
        /// The machine that it is built for.
        found: String,
    },
    /// The library is no plugin.
    #[error(
        "is a shared library but no plugin (no note `.note.echo`); \
         add `echo_sdk::export_plugin!` to its crate and build it again"
    )]
    NoNote,
    /// The library speaks another version of the boundary.
    #[error(
        "is built for version {}.{} of the plugin boundary and this host speaks {MAJOR}.{MINOR}; \
         build it with this host's version of echo-sdk", found.0, found.1
    )]
    Version {
        /// The library's version, major and minor.
        found: (u32, u32),
    },
    /// The manifest cannot be worked with.
    #[error("cannot be used: {0}; mend its manifest.json and build it again")]
    Manifest(ManifestError),
    /// The manifest is no text.
    #[error("cannot be used: its manifest is not UTF-8; mend its manifest.json and build it again")]
    ManifestNotUtf8,
    /// The copy that is loaded could not be made.
    #[error("could not be copied into memory: {0}")]
    Copy(io::Error),
    /// The system's loader refuses it.
    #[error("is refused by the system's loader: {0}")]
    Open(String),
    /// The manifest's entry point is not there.
    #[error(
        "has no symbol `{symbol}`, which its manifest names as entry_point; \
         name the one that `echo_sdk::export_plugin!` makes"
    )]
    NoEntryPoint {
        /// The symbol.
        symbol: String,
    },
    /// The entry point leads to something else.
    #[error(
        "has an entry point that leads to no plugin (it starts with `{}` instead of `{}`); \
         build it with `echo_sdk::export_plugin!`", found.escape_ascii(), MAGIC.escape_ascii()
    )]
    Magic {
        /// What stands there.
        found: [u8; 8],
    },
    /// The declaration cannot be read.
    #[error("breaks the rules of the plugin boundary: its declaration {0}")]
    Declaration(&'static str),
    /// A host ended while it loaded this library.
    #[error(
        "has brought a host down while it was loaded, and is not loaded again; \
         mend it, or delete {} to try it once more", marker.display()
    )]
    Crashed {
        /// The file that remembers it.
        marker: PathBuf,
    },
    /// The plugin's constructor does not return.
    #[error(
        "has a plugin that was not created within {}; look what its constructor waits for",
        echo_sdk::duration::format(*patience)
    )]
    Late {
        /// How long it was waited for.
        patience: Duration,
    },
    /// The plugin's constructor failed or panicked.
    #[error("has a plugin that could not be created: {0}")]
    Create(PluginError),
    /// Manifest and plugin disagree.
    #[error(
        "has a plugin that calls itself `{plugin}` while its manifest says `{manifest}`; \
         give both the same name"
    )]
    Name {
        /// The manifest's name.
        manifest: String,
        /// The plugin's name.
        plugin: String,
    },
    /// The system gives no thread.
    #[error("could not be given threads of its own: {0}")]
    Threads(io::Error),
}
