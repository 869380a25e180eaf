//! The engine: where it is, and what is asked of it.

mod find;
mod probe;
mod resources;

use std::collections::HashMap;
use std::future::ready;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
    InspectContainerOptions, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptions,
};
use echo_sdk::service::ServiceError;
use futures_util::{Stream, StreamExt, TryStreamExt};

use crate::config::Pull;

pub use probe::{EngineInfo, probe};

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No engine answers.
    #[error(
        "no container engine answers ({tried}); start Docker or Podman, or set DOCKER_HOST to one that runs"
    )]
    NoEngine {
        /// Where was looked, and what came of it.
        tried: String,
    },
    /// The address of the engine is of a kind that is not spoken.
    #[error(
        "the engine's address `{0}` is of a kind that is not supported; use unix:///path/of/the.sock or \
         tcp://host:port"
    )]
    Address(String),
    /// The image is not there and cannot be had.
    #[error(
        "the image `{image}` is missing and {reason}; check its name, fetch it with `docker pull {image}`, \
         or bring it with `docker load` or `docker build`"
    )]
    NoImage {
        /// The image.
        image: String,
        /// Why it was not pulled.
        reason: String,
    },
    /// A port of this machine is taken.
    #[error(
        "{said}; free the port, or write only the container's port in `ports` to be given a free one"
    )]
    PortTaken {
        /// What the engine said.
        said: String,
    },
    /// A container ended before anything could be asked of it.
    #[error("it ended at once: {0}")]
    Ended(String),
    /// The engine refused.
    #[error("the engine could not {action}: {said}")]
    Refused {
        /// What it was asked to do.
        action: String,
        /// What it said.
        said: String,
    },
}

impl From<EngineError> for ServiceError {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::Refused { .. } | EngineError::Ended(_) => Self::Failed(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// A connection to an engine that has answered.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    host: String,
    is_local: bool,
}

impl Engine {
    /// The name or address at which the ports that it publishes are reached.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it shares this machine's files and network, as far as its address tells.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Makes sure that the image is there, as far as `pull` allows. May take as long as a download.
    ///
    /// # Errors
    /// [`EngineError::NoImage`] when it is not there and cannot be pulled.
    pub async fn provide_image(&self, image: &str, pull: Pull) -> Result<(), EngineError> {
        if pull != Pull::Always {
            match self.docker.inspect_image(image).await {
                Ok(_) => return Ok(()),
                Err(error) if !is_missing(&error) => {
                    return Err(refused(format!("look for the image `{image}`"), &error));
                }
                Err(_) => {}
            }
        }
        let missing = |reason| EngineError::NoImage { image: image.to_owned(), reason };
        if pull == Pull::Never {
            return Err(missing("`pull = \"never\"` forbids to pull it".to_owned()));
        }
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(image)).build();
        let progress = self.docker.create_image(Some(options), None, None);
        let pulled = progress.try_for_each(|_| async { Ok(()) }).await;
        pulled.map_err(|error| missing(format!("could not be pulled ({})", said(&error))))
    }

    /// Creates a container; gives its id.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says.
    pub async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let created = self.docker.create_container(Some(options), body).await;
        created.map(|created| created.id).map_err(|error| refused("create the container", &error))
    }

    /// Starts a container that was created.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says: a program that is not there, a port that is taken.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let started = self.docker.start_container(id, None::<StartContainerOptions>).await;
        started.map_err(|error| {
            let said = runtime_reason(&said(&error));
            let is_taken = said.contains("already allocated") || said.contains("already in use");
            match is_taken && said.contains("port") || said.contains("address already in use") {
                true => EngineError::PortTaken { said },
                false => EngineError::Refused { action: "start the container".to_owned(), said },
            }
        })
    }

    /// Looks at a container; of one that is just ending there may be nothing to see.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says.
    pub async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        let inspected = self.docker.inspect_container(id, None::<InspectContainerOptions>).await;
        match inspected {
            // Podman has states that the client has no word for, all of them between running and ended.
            Err(Error::JsonDataError { .. }) => Ok(ContainerInspectResponse::default()),
            inspected => inspected.map_err(|error| refused("look at the container", &error)),
        }
    }

    /// Waits until a container does not run; gives its exit code.
    ///
    /// # Errors
    /// [`EngineError`] when the container was removed or the engine went away meanwhile.
    pub async fn wait(&self, id: &str) -> Result<i64, EngineError> {
        let mut endings = self.docker.wait_container(id, None::<WaitContainerOptions>);
        match endings.next().await {
            Some(Ok(ending)) => Ok(ending.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(refused("wait for the container", &error)),
            None => Err(EngineError::Refused {
                action: "wait for the container".to_owned(),
                said: "it hung up".to_owned(),
            }),
        }
    }

    /// Sends a signal to a container's first process; one that has ended is no error.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match self.docker.kill_container(id, Some(options)).await {
            Err(error) if !is_missing(&error) && !is_conflict(&error) => {
                Err(refused(format!("send {signal}"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a container, running or not, and its unnamed volumes; one that is gone is no error.
    ///
    /// # Errors
    /// [`EngineError`] as the engine says.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(id, Some(options)).await {
            // Who else is removing it has begun already and is waited for.
            Err(error) if is_conflict(&error) => self.removed(id).await,
            Err(error) if !is_missing(&error) => {
                Err(refused(format!("remove the container `{id}`"), &error))
            }
            _ => Ok(()),
        }
    }

    async fn removed(&self, id: &str) -> Result<(), EngineError> {
        let options = WaitContainerOptions { condition: "removed".to_owned() };
        let mut endings = self.docker.wait_container(id, Some(options));
        match endings.next().await {
            Some(Err(error)) if !is_missing(&error) && !is_exit(&error) => {
                Err(refused(format!("remove the container `{id}`"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Yields whenever a command in a container may have ended, or the container as a whole has; also for
    /// such events of before, as far as the engine remembers, so that none falls between two looks.
    pub fn endings(&self, id: &str, exec: &str) -> impl Stream<Item = ()> + use<> {
        let filters = HashMap::from([("container", vec![id])]);
        let options = EventsOptionsBuilder::default().since("1").filters(&filters).build();
        let exec = exec.to_owned();
        let of_interest = move |event: Result<EventMessage, Error>| {
            let EventMessage { action, actor, .. } = event.ok()?;
            let attributes = actor.and_then(|actor| actor.attributes).unwrap_or_default();
            let is_other = attributes.get("execID").is_some_and(|other| *other != exec);
            // `exec_die`, or `die` of the container; podman has `exec_died` and `died`.
            (action?.contains("die") && !is_other).then_some(())
        };
        self.docker.events(Some(options)).filter_map(move |event| ready(of_interest(event))).boxed()
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }
}

/// What the engine said, without what the client puts around it.
pub(crate) fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    }
}

/// The part of a runtime's message that says what went wrong.
pub(crate) fn runtime_reason(text: &str) -> String {
    let text = text.trim().trim_end_matches(": unknown");
    let reason = match text.rsplit_once("container process: ") {
        Some((_, reason)) => reason,
        None => text.trim_start_matches("Error: ").trim_start_matches("crun: "),
    };
    // Podman puts the kind of the failure last.
    let reason = reason.split(": OCI ").next().unwrap_or(reason);
    let port = reason.split_once("external connectivity on endpoint ");
    port.and_then(|(_, rest)| rest.split_once(": ")).map_or(reason, |(_, reason)| reason).to_owned()
}

pub(crate) fn refused(action: impl Into<String>, error: &Error) -> EngineError {
    EngineError::Refused { action: action.into(), said: said(error) }
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn is_missing(error: &Error) -> bool {
    status(error) == Some(404)
}

fn is_conflict(error: &Error) -> bool {
    status(error) == Some(409)
}

fn is_exit(error: &Error) -> bool {
    matches!(error, Error::DockerContainerWaitError { .. })
}

/// An image with its tag; without one the engine would pull all that there are.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pulled_with_one_tag() {
        assert_eq!(with_tag("busybox"), "busybox:latest");
        assert_eq!(with_tag("registry:5000/a/b"), "registry:5000/a/b:latest");
        assert_eq!(with_tag("a/b:1"), "a/b:1");
        assert_eq!(with_tag("a@sha256:0123"), "a@sha256:0123");
    }

    #[test]
    fn the_reason_is_found_in_a_runtime_s_message() {
        let exec = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": \
                    executable file not found in $PATH: unknown\r\n";
        assert_eq!(runtime_reason(exec), "exec: \"nope\": executable file not found in $PATH");
        let start = "failed to create shim task: OCI runtime create failed: runc create failed: unable to \
                     start container process: exec: \"nope\": executable file not found in $PATH: unknown";
        assert_eq!(runtime_reason(start), "exec: \"nope\": executable file not found in $PATH");
        let port = "driver failed programming external connectivity on endpoint a.b (0123): Bind for \
                    127.0.0.1:80 failed: port is already allocated";
        assert_eq!(runtime_reason(port), "Bind for 127.0.0.1:80 failed: port is already allocated");
        let podman = "Error: crun: executable file `nope` not found in $PATH: OCI runtime attempted to \
                      invoke a command that was not found";
        assert_eq!(runtime_reason(podman), "executable file `nope` not found in $PATH");
        assert_eq!(runtime_reason("anything else"), "anything else");
    }
}
