//! `"8080"`, `"8080:80"`, `"53/udp"`: a port of a container, and where it is on this machine.

use std::fmt;

use serde::Deserialize;

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a container that is reached from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Port {
    /// The port on this machine; any free one when missing.
    pub host: Option<u16>,
    /// The port in the container.
    pub container: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// A text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no port; write \"8080\" for any free port of this machine, or \"8080:80\" for its port 8080, \
     with \"/udp\" after it if need be"
)]
pub struct PortError(String);

impl Port {
    /// How suites refer to it: by the container's number, with `-udp` after it for UDP.
    pub fn key(&self) -> String {
        match self.protocol {
            Protocol::Tcp => self.container.to_string(),
            Protocol::Udp => format!("{}-udp", self.container),
        }
    }

    /// How the engine names it.
    pub fn engine_key(&self) -> String {
        format!("{}/{}", self.container, self.protocol)
    }

    /// Whether it has another number on this machine.
    pub fn is_moved(&self) -> bool {
        self.host.is_some_and(|host| host != self.container)
    }
}

impl TryFrom<String> for Port {
    type Error = PortError;

    fn try_from(text: String) -> Result<Self, PortError> {
        parse(&text).ok_or(PortError(text))
    }
}

fn parse(text: &str) -> Option<Port> {
    let (numbers, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
        Some((numbers, "udp")) => (numbers, Protocol::Udp),
        Some(_) => return None,
    };
    let (host, container) = match numbers.split_once(':') {
        Some((host, container)) => (Some(number(host)?), container),
        None => (None, numbers),
    };
    Some(Port { host, container: number(container)?, protocol })
}

fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_with_its_place_and_protocol() {
        let port = |text: &str| Port::try_from(text.to_owned());
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        for (text, host, container, protocol) in [
            ("8080", None, 8080, tcp),
            ("8080:80", Some(8080), 80, tcp),
            ("80/tcp", None, 80, tcp),
            ("5353:53/udp", Some(5353), 53, udp),
        ] {
            assert_eq!(port(text), Ok(Port { host, container, protocol }), "{text}");
        }
        for text in [
            "",
            "http",
            "0",
            "65536",
            "+80",
            "1:2:3",
            "80/sctp",
            "80/tcp/tcp",
            ":80",
            "80:",
            "/tcp",
        ] {
            assert!(port(text).is_err(), "{text}");
        }
    }
}
