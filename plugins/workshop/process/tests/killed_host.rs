//! A host that is killed leaves nothing either.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use echo_sdk::Plugin;
use support::{Bench, alive, ended, stdout};

/// The host that is to be killed: a process of its own, which the test below starts; nothing otherwise.
#[tokio::test]
async fn host() {
    if std::env::var_os("HOST_TO_BE_KILLED").is_none() {
        return;
    }
    let bench = Bench::new();
    // One that leaves the group, and one that leaves the mark behind.
    let script =
        "setsid sleep 1000 & left=$!; env -i sleep 1000 & echo up $$ $left $! $ECHO_SCRATCH; wait";
    let service = bench.start_script("api", script).await;
    let reply = bench.run(&["sh", "-c", "setsid sleep 1000 >&- 2>&- & echo $!"]).await;
    println!("processes: {} {service}", stdout(&reply).trim());
    std::future::pending::<()>().await;
    drop(bench.plugin.shutdown());
}

#[tokio::test]
async fn a_host_that_is_killed_leaves_no_process_and_no_folder() {
    let mut host = Command::new(std::env::current_exe().unwrap());
    host.args(["--exact", "host", "--nocapture"]).env("HOST_TO_BE_KILLED", "1");
    let mut host = host.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("processes: ")).expect("the host runs");
    let (_, line) = line.split_once("processes: ").unwrap();
    let (pids, scratch) = line.rsplit_once(' ').unwrap();
    assert!(pids.split(' ').all(alive), "{pids}");
    let root = Path::new(scratch).parent().unwrap();
    let guardian = guardian_of(root).expect("a guardian watches");

    host.kill().unwrap();
    host.wait().unwrap();
    ended(&format!("{pids} {guardian}")).await;
    assert!(!root.exists());
}

fn guardian_of(root: &Path) -> Option<String> {
    let root = root.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut guardians = processes.filter(|process| {
        let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.contains("\0echo-guardian\0") && line.split('\0').any(|word| word == root)
    });
    guardians.next().map(|process| process.file_name().into_string().unwrap())
}
