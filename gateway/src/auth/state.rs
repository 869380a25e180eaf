//! How a running host is found: a file for each in `<state folder>/hosts/`, readable by its user alone.
//!
//! A host holds its file locked as long as it lives, which the kernel ends with the process, however that ends.
//! So a file that nobody holds is of a host that is gone: readers pass over it, and the next host that starts
//! removes it. Hosts put files in and take files out one at a time, under the lock of `hosts/.lock`; a file
//! appears whole and locked.
//!
//! For the command line: [`find`] gives the host that is meant, and [`HostState::url`] its address with the
//! token, `nats://TOKEN@127.0.0.1:4222`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use echo_core::config::Secret;
use serde::{Deserialize, Serialize};

use super::token::make_folder;

/// What a running host says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// Its process.
    pub pid: u32,
    /// Where NATS clients connect, unless that door is off.
    pub nats: Option<SocketAddr>,
    /// Where HTTP clients connect, unless that door is off.
    pub http: Option<SocketAddr>,
    /// Its token; none where everybody is let in.
    pub token: Option<Secret>,
    /// Whether its doors speak TLS.
    #[serde(default)]
    pub tls: bool,
}

impl HostState {
    /// The address for NATS clients on this machine, with the token: `nats://TOKEN@127.0.0.1:4222`.
    pub fn url(&self) -> Option<String> {
        self.nats.map(|address| self.address(if self.tls { "tls" } else { "nats" }, address, true))
    }

    /// The address for HTTP clients on this machine, without the token, which goes into a header.
    pub fn http_url(&self) -> Option<String> {
        self.http
            .map(|address| self.address(if self.tls { "https" } else { "http" }, address, false))
    }

    fn address(&self, scheme: &str, address: SocketAddr, with_token: bool) -> String {
        let token = self.token.as_ref().filter(|_| with_token);
        let token = token.map(|token| format!("{}@", token.reveal())).unwrap_or_default();
        format!("{scheme}://{token}{}", reachable(address))
    }

    /// What tells hosts of one machine apart: the port for NATS clients, or else for HTTP ones.
    pub fn port(&self) -> u16 {
        self.nats.or(self.http).map_or(0, |address| address.port())
    }
}

/// An address that a client on the same machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Why a running host was not found, or cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// None runs.
    #[error(
        "no host runs here; start one with `echo-core serve`, or set ECHO_URL to one elsewhere"
    )]
    NoHost,
    /// None runs at that port.
    #[error("no host listens on port {port} here; {}", known(ports))]
    NoSuchPort {
        /// The port that was asked for.
        port: u16,
        /// Those at which one listens.
        ports: Vec<u16>,
    },
    /// Several run, and none was chosen.
    #[error("several hosts run here; choose one by its port: {}", list(ports))]
    Several {
        /// Their ports.
        ports: Vec<u16>,
    },
    /// A file of the state folder cannot be read or written.
    #[error("the hosts that run cannot be read or written in {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn known(ports: &[u16]) -> String {
    match ports {
        [] => "none runs at all, start one with `echo-core serve`".to_owned(),
        ports => format!("there are hosts on {}", list(ports)),
    }
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// Finds the host at `port`, or the only one that runs. Blocks for files.
///
/// `folder` is the state folder: [`state_dir`](super::token::state_dir).
///
/// # Errors
/// [`StateError`] when none runs, none at that port, or several and no port is given.
pub fn find(folder: &Path, port: Option<u16>) -> Result<HostState, StateError> {
    let mut hosts = running(folder)?;
    let ports: Vec<u16> = hosts.iter().map(HostState::port).collect();
    match port {
        Some(port) => {
            let is_it = |host: &HostState| {
                [host.nats, host.http].iter().flatten().any(|address| address.port() == port)
            };
            let found = hosts.into_iter().find(is_it);
            found.ok_or(StateError::NoSuchPort { port, ports })
        }
        None if hosts.len() > 1 => Err(StateError::Several { ports }),
        None => hosts.pop().ok_or(StateError::NoHost),
    }
}

/// The hosts of this user that run, by their ports. Blocks for files.
///
/// # Errors
/// [`StateError::File`] when the folder cannot be read.
pub fn running(folder: &Path) -> Result<Vec<HostState>, StateError> {
    let folder = folder.join("hosts");
    let mut hosts = Vec::new();
    for path in files(&folder)? {
        if is_held(&path)
            && let Some(host) =
                fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())
        {
            hosts.push(host);
        }
    }
    hosts.sort_by_key(HostState::port);
    Ok(hosts)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, StateError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StateError::File { path: folder.to_owned(), source }),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect())
}

/// Whether a living host holds the file.
fn is_held(path: &Path) -> bool {
    let tried = File::open(path).map(|file| file.try_lock_shared());
    matches!(tried, Ok(Err(fs::TryLockError::WouldBlock)))
}

/// The word of a host that it runs; taken back when it is dropped.
#[derive(Debug)]
#[must_use = "a host is found as long as this lives"]
pub struct Announced {
    path: PathBuf,
    folder: PathBuf,
    held: File,
}

impl Announced {
    /// Whether the file is still ours: a host that took the port over has put its own there.
    fn is_ours(&self) -> bool {
        let ours = self.held.metadata().map(|about| about.ino());
        matches!((ours, fs::metadata(&self.path)), (Ok(ours), Ok(about)) if about.ino() == ours)
    }
}

/// Says that a host runs, so that [`find`] finds it, and removes what hosts left that are gone. Blocks for
/// files.
///
/// # Errors
/// [`StateError::File`] when the file cannot be written.
pub fn announce(folder: &Path, state: &HostState) -> Result<Announced, StateError> {
    let folder = folder.join("hosts");
    let path = folder.join(format!("{}.json", state.port()));
    let held = write(&folder, &path, state)
        .map_err(|source| StateError::File { path: path.clone(), source })?;
    Ok(Announced { path, folder, held })
}

fn write(folder: &Path, path: &Path, state: &HostState) -> io::Result<File> {
    make_folder(folder)?;
    let _alone = alone(folder)?;
    let others = files(folder).unwrap_or_default();
    for stale in others.iter().filter(|path| !is_held(path)) {
        // One that stays is passed over by all readers.
        let _ = fs::remove_file(stale);
    }
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.as_file().lock()?;
    serde_json::to_writer(&mut aside, state)?;
    aside.flush()?;
    aside.persist(path).map_err(|refused| refused.error)
}

/// Holds the lock under which files are put in and taken out.
fn alone(folder: &Path) -> io::Result<File> {
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(".lock"))?;
    lock.lock()?;
    Ok(lock)
}

impl Drop for Announced {
    fn drop(&mut self) {
        // A file that cannot be removed is stale from now on, and the next host removes it.
        if let Ok(_alone) = alone(&self.folder)
            && self.is_ours()
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(port: u16) -> HostState {
        HostState {
            pid: std::process::id(),
            nats: Some(SocketAddr::from(([0, 0, 0, 0], port))),
            http: Some(SocketAddr::from(([127, 0, 0, 1], port + 1))),
            token: Some(Secret::new("secret")),
            tls: false,
        }
    }

    #[test]
    fn a_host_is_found_while_it_lives() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(find(home.path(), None), Err(StateError::NoHost)));
        let announced = announce(home.path(), &state(4222)).unwrap();
        let found = find(home.path(), None).unwrap();
        assert_eq!(found, state(4222));
        assert_eq!(found.url().unwrap(), "nats://secret@127.0.0.1:4222");
        assert_eq!(found.http_url().unwrap(), "http://127.0.0.1:4223");
        let tls = HostState { tls: true, token: None, ..found };
        assert_eq!(tls.url().unwrap(), "tls://127.0.0.1:4222");
        drop(announced);
        assert!(matches!(find(home.path(), None), Err(StateError::NoHost)));
        assert!(!home.path().join("hosts/4222.json").exists());
    }

    #[test]
    fn one_of_several_is_chosen_by_its_port() {
        let home = tempfile::tempdir().unwrap();
        let _hosts = [4222, 5222].map(|port| announce(home.path(), &state(port)).unwrap());
        let several = find(home.path(), None).unwrap_err().to_string();
        assert!(several.contains("4222, 5222"), "{several}");
        assert_eq!(find(home.path(), Some(5223)).unwrap(), state(5222));
        let none = find(home.path(), Some(1)).unwrap_err().to_string();
        assert!(none.contains("port 1 ") && none.contains("4222, 5222"), "{none}");
    }

    #[test]
    fn what_a_killed_host_left_is_passed_over_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let left = home.path().join("hosts/4222.json");
        fs::create_dir(home.path().join("hosts")).unwrap();
        fs::write(&left, serde_json::to_vec(&state(4222)).unwrap()).unwrap();
        assert!(running(home.path()).unwrap().is_empty());
        let _host = announce(home.path(), &state(5222)).unwrap();
        assert_eq!(running(home.path()).unwrap(), [state(5222)]);
        assert!(!left.exists());
    }

    #[test]
    fn only_its_user_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let _host = announce(home.path(), &state(4222)).unwrap();
        let about = fs::metadata(home.path().join("hosts/4222.json")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }
}
