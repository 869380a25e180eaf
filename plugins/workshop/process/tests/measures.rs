//! How much time the plugin itself takes; run on a quiet machine:
//! `cargo test --release -p echo-plugin-process --test measures -- --ignored --nocapture`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use echo_sdk::Plugin;
use serde_json::json;
use support::Bench;

#[tokio::test]
#[ignore = "measures the clock"]
async fn start_and_stop_are_quick() {
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
    assert!(start < Duration::from_millis(50), "{start:?}");
    assert!(stop < Duration::from_secs(2), "{stop:?}");
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
