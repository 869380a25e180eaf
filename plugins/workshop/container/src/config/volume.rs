//! `"./data:/data:ro"`, `"cache:/var/cache"`: what is mounted into a container.

use std::path::PathBuf;

use serde::Deserialize;

/// Where the files of a mount come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or folder of the engine's machine; a relative path starts at the suite's folder.
    Path(PathBuf),
    /// A volume that the suite's services share and that is removed with the last of them.
    Named(String),
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Volume {
    /// Where the files come from.
    pub source: Source,
    /// The absolute path in the container.
    pub target: String,
    /// Whether the container may only read.
    pub read_only: bool,
}

/// A text that is no mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no volume; write \"./folder:/path\" for a folder beside the suite or \"name:/path\" for a \
     volume of its own, with \":ro\" after it if the container shall only read"
)]
pub struct VolumeError(String);

impl TryFrom<String> for Volume {
    type Error = VolumeError;

    fn try_from(text: String) -> Result<Self, VolumeError> {
        parse(&text).ok_or(VolumeError(text))
    }
}

fn parse(text: &str) -> Option<Volume> {
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let (source, target) = rest.split_once(':')?;
    let is_path = source.contains('/') || matches!(source, "." | "..");
    let source = if is_path {
        Source::Path(source.into())
    } else if echo_sdk::is_name(source) {
        Source::Named(source.to_owned())
    } else {
        return None;
    };
    let usable = target.starts_with('/') && !target.contains(':');
    usable.then(|| Volume { source, target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_name_are_told_apart() {
        let path = |path: &str| Source::Path(path.into());
        let named = |name: &str| Source::Named(name.to_owned());
        for (text, source, target, read_only) in [
            ("./data:/data:ro", path("./data"), "/data", true),
            ("/srv/a b:/data", path("/srv/a b"), "/data", false),
            (".:/src", path("."), "/src", false),
            ("cache:/var/cache:rw", named("cache"), "/var/cache", false),
        ] {
            let volume = Volume { source, target: target.to_owned(), read_only };
            assert_eq!(Volume::try_from(text.to_owned()), Ok(volume), "{text}");
        }
        for text in
            ["", "data", "/data", ":/data", "data:", "data:rel", "a b:/x", "a:/x:z", "a:/x:ro:ro"]
        {
            assert!(Volume::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
