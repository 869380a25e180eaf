//! The host's own token: a file that the user who started the host can read, and nobody else.
//!
//! Made at the first start and kept, so that what was told the address goes on working. Hosts that start at once
//! agree: the file is written aside and linked into place, which one of them wins and the others read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use echo_core::config::Secret;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The name of the token's file in the state folder.
pub const FILE_NAME: &str = "token";

/// How much of a token's file is read at most, in bytes.
const MAX_LEN: u64 = 4_096;

/// The shortest token that is taken from a file, in bytes.
const MIN_LEN: usize = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No place is known for it.
    #[error(
        "there is no place for the host's token; set XDG_STATE_HOME or HOME, or `gateway.state_dir`"
    )]
    NoPlace,
    /// The folder cannot be made.
    #[error("the folder {} for the host's token cannot be made; set `gateway.state_dir` to one that can", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("the host's token cannot be written to {}; set `gateway.state_dir` to a folder where it can", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("the host's token cannot be read from {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the file, or have written it.
    #[error(
        "the host's token in {} {fault}; delete the file, and the next start makes a new token",
        file.display()
    )]
    Unsafe {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers, without which a token is none")]
    Random,
}

/// The folder in which a host keeps its token and says that it runs: the configured one, or
/// `$XDG_STATE_HOME/echo-core`, or `~/.local/state/echo-core`.
///
/// # Errors
/// [`TokenError::NoPlace`] when none of them is known.
pub fn state_dir(configured: Option<&Path>) -> Result<PathBuf, TokenError> {
    echo_core::config::state_dir(configured).ok_or(TokenError::NoPlace)
}

/// The token in `folder`; made when there is none. Blocks for the file.
///
/// # Errors
/// [`TokenError`] when it cannot be read or made, or others can read it.
pub fn load_or_make(folder: &Path) -> Result<Secret, TokenError> {
    let file = folder.join(FILE_NAME);
    match load(&file) {
        Err(TokenError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        loaded => return loaded,
    }
    make_folder(folder)
        .map_err(|source| TokenError::Folder { folder: folder.to_owned(), source })?;
    match write_new(folder, &file, &random()?) {
        Ok(()) => load(&file),
        // Another host was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(&file),
        Err(source) => Err(TokenError::Write { file, source }),
    }
}

/// Makes a folder that only its owner can look into, and those above it.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Puts a whole file in place that only its owner can read, or nothing.
fn write_new(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    // Such files have the mode 0600 from the moment they exist.
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(text.as_bytes())?;
    aside.write_all(b"\n")?;
    aside.as_file().sync_all()?;
    aside.persist_noclobber(file).map_err(|refused| refused.error)?;
    File::open(folder)?.sync_all()
}

fn random() -> Result<String, TokenError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads a file that only this user can read.
fn load(file: &Path) -> Result<Secret, TokenError> {
    let failed = |source| TokenError::Read { file: file.to_owned(), source };
    let fault = |fault| TokenError::Unsafe { file: file.to_owned(), fault };
    // A link could lead anywhere, and a pipe would block.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file).map_err(failed)?;
    let about = opened.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(fault("is no plain file"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(fault("can be read or written by others, who may know it by now"));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(fault("belongs to another user"));
    }
    let mut text = String::new();
    opened.take(MAX_LEN).read_to_string(&mut text).map_err(failed)?;
    let token = text.trim();
    let is_plain =
        token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
    if token.len() < MIN_LEN || !is_plain {
        return Err(fault("is no token: at least 16 letters, digits, `-`, `_`, `.` or `~`"));
    }
    Ok(Secret::new(token))
}

/// Whether there is a token in `folder`, without making one. Blocks for the file.
///
/// # Errors
/// As [`load_or_make`].
pub fn load_existing(folder: &Path) -> Result<Option<Secret>, TokenError> {
    let file = folder.join(FILE_NAME);
    match fs::symlink_metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => load(&file).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        assert!(load_existing(&folder).unwrap().is_none());
        let token = load_or_make(&folder).unwrap();
        assert_eq!(token.reveal().len(), 43);
        assert_eq!(load_or_make(&folder).unwrap(), token);
        assert_eq!(load_existing(&folder).unwrap(), Some(token));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.join(FILE_NAME)), mode(&folder)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn hosts_that_start_at_once_agree() {
        let home = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let tokens: Vec<Secret> = std::thread::scope(|scope| {
            let make = || {
                start.wait();
                load_or_make(home.path()).unwrap()
            };
            let hosts: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            hosts.into_iter().map(|host| host.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]), "{}", tokens.len());
    }

    #[test]
    fn a_token_that_others_could_know_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(FILE_NAME);
        let refused = || load_or_make(home.path()).unwrap_err().to_string();
        load_or_make(home.path()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused().contains("can be read or written by others"), "{}", refused());
        assert!(
            refused().contains(file.to_str().unwrap()) && refused().contains("delete the file")
        );
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert!(refused().contains("cannot be read"), "{}", refused());
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(refused().contains("no plain file"), "{}", refused());
        fs::remove_dir(&file).unwrap();
        write_new(home.path(), &file, "short").unwrap();
        assert!(refused().contains("is no token"), "{}", refused());
    }
}
