//! What turns a plugin into a library.

#![allow(unsafe_code, reason = "the macro's attributes name a symbol and a section")]

use crate::{Plugin, PluginContext, PluginError};

/// A plugin with its constructor; [`export_plugin!`](crate::export_plugin) implements it.
pub trait Export {
    /// The plugin.
    type Plugin: Plugin;

    /// Makes the plugin.
    ///
    /// # Errors
    /// The constructor's own.
    fn create(context: PluginContext) -> Result<Self::Plugin, PluginError>;
}

/// The ELF note that a host reads before it loads a library: the boundary's version and `manifest.json`.
///
/// Name `Echo`, type 1. The description is major and minor as 32-bit numbers, then the manifest.
#[repr(C)]
#[derive(Debug)]
pub struct Note<const N: usize> {
    name_len: u32,
    desc_len: u32,
    kind: u32,
    name: [u8; 8],
    major: u32,
    minor: u32,
    manifest: [u8; N],
}

impl<const N: usize> Note<N> {
    /// The note for a manifest of `N` bytes.
    pub const fn new(json: &str) -> Self {
        let mut manifest = [0; N];
        manifest.copy_from_slice(json.as_bytes());
        Self {
            name_len: 5,
            desc_len: 8 + N as u32,
            kind: 1,
            name: *b"Echo\0\0\0\0",
            major: super::MAJOR,
            minor: super::MINOR,
            manifest,
        }
    }
}

/// Whether a text holds another; for the check of a manifest while its plugin is compiled.
pub const fn contains(text: &str, wanted: &str) -> bool {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    let mut at = 0;
    while at + wanted.len() <= text.len() {
        let mut same = 0;
        while same < wanted.len() && text[at + same] == wanted[same] {
            same += 1;
        }
        if same == wanted.len() {
            return true;
        }
        at += 1;
    }
    false
}

/// Makes the crate a plugin library, besides whatever else it is.
///
/// Takes the plugin's type and the path of its `manifest.json` from the crate's own folder. The type has a
/// function `new(context: PluginContext)` that gives the plugin, or a `Result` with it. The crate's
/// `Cargo.toml` says `crate-type = ["cdylib", "rlib"]` (`rlib` when the plugin is linked into programs too),
/// and the manifest's `entry_point` is `echo_entry_` with the crate's name; anything else does not compile.
///
/// A third argument names topics that the plugin subscribes to beside those of its manifest, such as those of its
/// [hooks](crate::hooks): a constant `&[&str]`, which is written into the library's manifest.
///
/// ```
/// # use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};
/// struct Silent;
///
/// impl Silent {
///     fn new(_context: PluginContext) -> Self {
///         Self
///     }
/// }
///
/// impl Plugin for Silent {
///     fn name(&self) -> &str {
///         "silent"
///     }
///     async fn process_message(
///         &self,
///         _topic: &Topic,
///         _message: &BaseMessage,
///     ) -> Result<ProcessingStatus, PluginError> {
///         Ok(ProcessingStatus::Acknowledged)
///     }
/// }
///
/// # /*
/// echo_sdk::export_plugin!(Silent, "manifest.json");
/// # */
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty, $manifest:literal) => {
        $crate::export_plugin!($plugin, $manifest, &[]);
    };
    ($plugin:ty, $manifest:literal, $subscriptions:expr) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin's panics must unwind, so that the host survives them: \
             remove `panic = \"abort\"` from the profile"
        );

        const _: () = {
            const WRITTEN: &str = ::core::include_str!(::core::concat!(
                ::core::env!("CARGO_MANIFEST_DIR"),
                "/",
                $manifest
            ));

            const TEXT: &[u8] = &{
                let mut text =
                    [0; $crate::hooks::with_subscriptions(WRITTEN, $subscriptions, &mut [])];
                $crate::hooks::with_subscriptions(WRITTEN, $subscriptions, &mut text);
                text
            };

            const MANIFEST: &str = $crate::hooks::text(TEXT);

            const _: () = ::core::assert!(
                $crate::abi::contains(
                    MANIFEST,
                    ::core::concat!("\"echo_entry_", ::core::env!("CARGO_CRATE_NAME"), "\""),
                ),
                ::core::concat!(
                    $manifest,
                    " has to name this library's symbol: \"entry_point\": \"echo_entry_",
                    ::core::env!("CARGO_CRATE_NAME"),
                    "\"",
                ),
            );

            struct Exported;

            impl $crate::abi::Export for Exported {
                type Plugin = $plugin;
                fn create(
                    context: $crate::PluginContext,
                ) -> ::core::result::Result<$plugin, $crate::PluginError> {
                    $crate::Created::<$plugin>::created(<$plugin>::new(context))
                }
            }

            #[used]
            #[unsafe(link_section = ".note.echo")]
            static NOTE: $crate::abi::Note<{ MANIFEST.len() }> = $crate::abi::Note::new(MANIFEST);

            static DECLARATION: $crate::abi::Declaration = $crate::abi::Declaration::of::<Exported>(
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
                MANIFEST,
            );

            // The crate's name keeps the symbols of plugins apart that are linked into one program.
            #[unsafe(export_name = concat!("echo_entry_", env!("CARGO_CRATE_NAME")))]
            extern "C" fn entry() -> *const $crate::abi::Declaration {
                &raw const DECLARATION
            }
        };
    };
}
