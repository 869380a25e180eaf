//! Finding an engine that answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::time::timeout;

use super::{Engine, EngineError, said};

/// How long an engine may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the engine may take to begin with an answer, in seconds; what waits by design, waits longer in
/// the answer.
const ANSWER_TIMEOUT: u64 = 120;

/// An address at which an engine may be, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    url: String,
    from: &'static str,
}

impl Engine {
    /// Finds the engine: the one at `address` if there is one, else that of `DOCKER_HOST`, else the first
    /// that answers of those that Docker and Podman usually listen on.
    ///
    /// # Errors
    /// [`EngineError::NoEngine`] when none answers, [`EngineError::Address`] when the address is of a kind
    /// that is not spoken.
    pub async fn find(address: Option<&str>) -> Result<Self, EngineError> {
        let mut tried = Vec::new();
        for Candidate { url, from } in candidates(address, |name| std::env::var(name).ok()) {
            match Self::connect(&url).await? {
                Ok(engine) => return Ok(engine),
                Err(reason) => tried.push(format!("{from}{url}: {reason}")),
            }
        }
        Err(EngineError::NoEngine { tried: tried.join("; ") })
    }

    async fn connect(url: &str) -> Result<Result<Self, String>, EngineError> {
        let docker = match url.split_once("://") {
            Some(("unix", path)) if !Path::new(path).exists() => {
                return Ok(Err("not there".into()));
            }
            Some(("unix", path)) => {
                Docker::connect_with_unix(path, ANSWER_TIMEOUT, API_DEFAULT_VERSION)
            }
            Some(("tcp" | "http", address)) => {
                Docker::connect_with_http(address, ANSWER_TIMEOUT, API_DEFAULT_VERSION)
            }
            _ => return Err(EngineError::Address(url.to_owned())),
        };
        let docker = match docker {
            Ok(docker) => docker,
            Err(error) => return Ok(Err(said(&error))),
        };
        Ok(match timeout(PING_TIMEOUT, docker.ping()).await {
            Ok(Ok(_)) => {
                Ok(Self { docker, host: host_of(url), is_local: url.starts_with("unix://") })
            }
            Ok(Err(error)) => Err(said(&error)),
            Err(_) => Err("no answer".to_owned()),
        })
    }
}

/// Where to look. An address that somebody chose is the only one.
fn candidates(address: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Vec<Candidate> {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(url) = address {
        return vec![Candidate { url: url.to_owned(), from: "" }];
    }
    if let Some(url) = variable("DOCKER_HOST") {
        return vec![Candidate { url, from: "DOCKER_HOST=" }];
    }
    let runtime_dir = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let home = variable("HOME").map(PathBuf::from);
    let sockets = [
        Some("/var/run/docker.sock".into()),
        runtime_dir.as_ref().map(|dir| dir.join("docker.sock")),
        home.map(|home| home.join(".docker/run/docker.sock")),
        runtime_dir.map(|dir| dir.join("podman/podman.sock")),
        Some("/run/podman/podman.sock".into()),
    ];
    let url = |socket: PathBuf| format!("unix://{}", socket.display());
    sockets.into_iter().flatten().map(|socket| Candidate { url: url(socket), from: "" }).collect()
}

/// Where the ports are that an engine publishes: on its own machine.
fn host_of(url: &str) -> String {
    let Some(("tcp" | "http", rest)) = url.split_once("://") else { return "127.0.0.1".to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(address: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        };
        candidates(address, variable).into_iter().map(|candidate| candidate.url).collect()
    }

    #[test]
    fn an_address_that_was_chosen_is_the_only_one() {
        let chosen = [("DOCKER_HOST", "tcp://a:2375")];
        assert_eq!(urls(Some("unix:///b"), &chosen), ["unix:///b"]);
        assert_eq!(urls(None, &chosen), ["tcp://a:2375"]);
    }

    #[test]
    fn the_usual_sockets_are_tried_docker_first() {
        let found = urls(None, &[("XDG_RUNTIME_DIR", "/run/user/7"), ("DOCKER_HOST", "")]);
        assert_eq!(
            found,
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/7/docker.sock",
                "unix:///run/user/7/podman/podman.sock",
                "unix:///run/podman/podman.sock",
            ]
        );
    }

    #[test]
    fn ports_are_on_the_engine_s_machine() {
        assert_eq!(host_of("unix:///var/run/docker.sock"), "127.0.0.1");
        assert_eq!(host_of("tcp://build.example:2375"), "build.example");
        assert_eq!(host_of("tcp://[::1]:2375/"), "::1");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named_with_the_way_out() {
        let error =
            Engine::find(Some("unix:///nowhere/docker.sock")).await.unwrap_err().to_string();
        assert!(error.contains("unix:///nowhere/docker.sock: not there"), "{error}");
        assert!(error.contains("DOCKER_HOST"), "{error}");
        let error = Engine::find(Some("ssh://somewhere")).await.unwrap_err().to_string();
        assert!(error.contains("ssh://somewhere") && error.contains("unix://"), "{error}");
    }
}
