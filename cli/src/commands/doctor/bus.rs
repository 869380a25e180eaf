//! Whether a NATS server is where one is expected.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Finding, Looked};

/// How long a server on this or a near machine takes to say hello.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many bytes of a greeting are read; a real one has about 500.
const LONGEST_GREETING: u64 = 64 * 1024;

const DEFAULT: &str = "nats://127.0.0.1:4222";

/// Looks at `ECHO_URL`, or where a server listens by default.
pub async fn look() -> Finding {
    let url = std::env::var("ECHO_URL").unwrap_or_else(|_| DEFAULT.to_owned());
    Finding::new(
        "NATS server",
        greet(&url).await,
        "nothing yet; runs on a NATS server, and commands that speak to a running host, will need it",
        "start `nats-server`, or set ECHO_URL to one that runs",
    )
}

async fn greet(url: &str) -> Looked {
    let address = address(url);
    let greeting = timeout(PATIENCE, greeting(&address)).await;
    let line = greeting
        .map_err(|_| format!("{address} does not say who it is"))?
        .map_err(|error| format!("{address} is not reached: {error}"))?;
    #[derive(Deserialize)]
    struct Info {
        version: String,
    }
    let info = line.strip_prefix("INFO ").and_then(|json| serde_json::from_str::<Info>(json).ok());
    let info = info.ok_or_else(|| format!("{address} does not speak NATS"))?;
    Ok(format!("version {} at {address}", info.version))
}

/// A NATS server speaks first, with one line.
async fn greeting(address: &str) -> std::io::Result<String> {
    let mut line = String::new();
    let stream = TcpStream::connect(address).await?.take(LONGEST_GREETING);
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

/// Host and port; what may stand before them, a scheme and a token, is not for the eyes.
fn address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.rsplit('@').next().unwrap_or(rest).trim_end_matches('/');
    if host.contains(':') { host.to_owned() } else { format!("{host}:4222") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn server(says: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://secret@{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(says.as_bytes()).await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_greeting() {
        let url = server("INFO {\"version\":\"2.12.1\"}\r\n").await;
        let found = greet(&url).await.unwrap();
        assert!(found.starts_with("version 2.12.1 at 127.0.0.1:") && !found.contains("secret"));
        let other = server("HTTP/1.1 400 Bad Request\r\n").await;
        assert!(greet(&other).await.unwrap_err().contains("does not speak NATS"));
    }

    #[test]
    fn the_port_may_be_left_out() {
        assert_eq!(address("nats://t@example/"), "example:4222");
        assert_eq!(address("127.0.0.1:9"), "127.0.0.1:9");
    }
}
