//! The fuzz targets without a fuzzer: their corpora, and changes of them. `FUZZ_INPUTS` asks for more inputs.

#![allow(clippy::print_stdout, reason = "how far it searched is part of the test's output")]

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

/// How many changes of its corpus a target gets, where one input takes a given share of the usual time.
fn changes(share: u64) -> u64 {
    let asked = std::env::var("FUZZ_INPUTS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(20_000 / share)
}

fn search(name: &str, target: fn(&[u8]), share: u64) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let (changes, began) = (changes(share), std::time::Instant::now());
    let count = fuzz::search(target, &corpus, changes);
    assert!(count > changes, "the corpus is part of it");
    println!("{name}: {count} inputs in {:?}", began.elapsed());
}

#[test]
fn messages() {
    search("message_json", fuzz::message_json, 1);
}

#[test]
fn what_tools_send() {
    search("wire_read", fuzz::wire_read, 1);
}

#[test]
fn patterns() {
    search("pattern", fuzz::pattern, 1);
}

#[test]
fn what_clients_of_the_gateway_say() {
    search("gateway_parser", fuzz::gateway_parser, 1);
}

#[test]
fn manifests() {
    search("manifest", fuzz::manifest, 1);
}

#[test]
fn libraries() {
    search("library", fuzz::library, 1);
}

#[test]
fn segments_of_the_log() {
    search("log_segment", fuzz::log_segment, 100);
}

#[test]
fn suites() {
    search("suite_file", fuzz::suite_file, 20);
}

#[test]
fn configurations() {
    search("config", fuzz::config, 200);
}
