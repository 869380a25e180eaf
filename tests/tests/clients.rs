//! Clients in three languages do the same with a NATS server and with the gateway of a host: what they find is the
//! same. Each language's flows are in a folder of its own and know nothing of what answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "clients/rust.rs"]
mod rust;
#[path = "clients/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use server::Server;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// How long all flows of a language may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many flows each language has that every server carries.
const FLOWS: usize = 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What `scripts/setup-clients` has set up.
fn set_up(path: &str) -> PathBuf {
    let path = root().join("target/clients").join(path);
    assert!(path.exists(), "{} is missing; run scripts/setup-clients", path.display());
    path
}

fn python() -> Command {
    let mut command = Command::new(set_up("python/bin/python"));
    command.arg(root().join("tests/tests/clients/python/flows.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", set_up("node/node_modules"));
    command.arg(root().join("tests/tests/clients/node/flows.js"));
    command
}

/// Runs a program's flows, and restarts the server when it says so: the flows that it went through.
async fn run(mut program: Command, server: &mut Server, flows: &[&str]) -> Vec<String> {
    let program = program.arg(server.url()).args(flows).kill_on_drop(true);
    let mut process = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut errors = process.stderr.take().unwrap();
    let mut told = String::new();
    let mut done = Vec::new();
    let following = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            match line.strip_prefix("ok ") {
                Some(flow) => done.push(flow.to_owned()),
                None if line == "restart" => server.restart().await,
                None => panic!("nobody knows what `{line}` means"),
            }
        }
    };
    let all = async { tokio::join!(following, errors.read_to_string(&mut told)) };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    assert!(ended.is_ok(), "it hangs after {done:?}");
    let status = process.wait().await.unwrap();
    assert!(status.success(), "after {done:?}: {told}");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_finds_a_nats_server() {
    let mut server = Server::nats();
    assert_eq!(run(python(), &mut server, &[]).await.len(), FLOWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_finds_the_gateway_no_different() {
    let mut server = Server::gateway().await;
    assert_eq!(run(python(), &mut server, &[]).await.len(), FLOWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_runs_a_suite_on_a_host() {
    let mut server = Server::gateway().await;
    assert_eq!(run(python(), &mut server, &["run"]).await, ["run"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_finds_a_nats_server() {
    let mut server = Server::nats();
    assert_eq!(run(node(), &mut server, &[]).await.len(), FLOWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_finds_the_gateway_no_different() {
    let mut server = Server::gateway().await;
    assert_eq!(run(node(), &mut server, &[]).await.len(), FLOWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_runs_a_suite_on_a_host() {
    let mut server = Server::gateway().await;
    assert_eq!(run(node(), &mut server, &["run"]).await, ["run"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_finds_a_nats_server() {
    rust::all(&mut Server::nats()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_finds_the_gateway_no_different() {
    rust::all(&mut Server::gateway().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_runs_a_suite_on_a_host() {
    rust::run(&Server::gateway().await).await;
}
