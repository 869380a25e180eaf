//! The documents of the delivery contract and of the log, and the tests that prove them, name each other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn document() -> String {
    fs::read_to_string(root().join("docs/contracts/delivery.md")).unwrap()
}

/// The files of the conformance suite that hold sentences, and their names.
fn sentences() -> Vec<(PathBuf, String)> {
    let folder = root().join("tests/src/conformance");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let with_sentences = |path: &PathBuf| !path.ends_with("mod.rs") && !path.ends_with("bed.rs");
    files
        .filter(with_sentences)
        .flat_map(|path| {
            let source = fs::read_to_string(&path).unwrap();
            let name = |line: &str| {
                let (name, _) = line.strip_prefix("pub async fn ")?.split_once('(')?;
                Some(name.to_owned())
            };
            let names: Vec<_> = source.lines().filter_map(name).collect();
            names.into_iter().map(move |name| (path.clone(), name))
        })
        .collect()
}

#[test]
fn every_sentence_of_the_contracts_names_a_test_that_exists() {
    let log = fs::read_to_string(root().join("docs/contracts/log.md")).unwrap();
    let document = document() + &log;
    let mut named = 0;
    for row in document.lines().filter(|line| line.starts_with("| ") && !line.contains("proven by"))
    {
        let proofs = row.rsplit('|').nth(1).unwrap();
        let tests: Vec<_> = proofs.split('`').filter(|text| text.contains("::")).collect();
        assert!(!tests.is_empty(), "no test proves: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let source = fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{file}, which is to prove `{row}`: {error}"));
            assert!(source.contains(&format!("fn {name}(")), "{file} has no test `{name}`");
            named += 1;
        }
    }
    assert!(named >= 60, "only {named} tests were found in the document");
}

#[test]
fn every_conformance_test_is_in_the_contract_and_runs_on_every_transport() {
    let document = document();
    let suite = fs::read_to_string(root().join("tests/src/conformance/mod.rs")).unwrap();
    let sentences = sentences();
    assert!(sentences.len() >= 60, "only {} sentences were found", sentences.len());
    for (file, name) in sentences {
        let module = file.file_stem().unwrap().to_str().unwrap();
        let proof = format!("tests/src/conformance/{module}.rs::{name}`");
        assert!(document.contains(&proof), "the contract does not name `{proof}");
        let listed = suite.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == name);
        assert!(listed, "`sentences!` does not list {module}::{name}, so no transport runs it");
    }
}
