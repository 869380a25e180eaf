//! How much time the plugin itself takes: `cargo bench -p echo-plugin-process`, on a quiet machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use echo_sdk::Plugin;
use serde_json::json;
use support::Bench;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let bench = Bench::new();
    let (mut starts, mut stops, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..21 {
        let keys = json!({ "command": ["sleep", "1000"] });
        starts.push(timed(bench.start("api", keys)).await);
        commands.push(timed(bench.run(&["true"])).await);
        stops.push(timed(bench.stop("api")).await);
    }
    let (start, stop, command) = (median(starts), median(stops), median(commands));
    println!("start {start:?}, stop {stop:?}, command {command:?} (medians of 21)");
    bench.plugin.shutdown().await.unwrap();
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
