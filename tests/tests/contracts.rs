//! The documents of contracts name tests that exist.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::path::Path;

#[test]
fn every_sentence_of_the_delivery_contract_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = std::fs::read_to_string(root.join("docs/contracts/delivery.md")).unwrap();
    let mut named = 0;
    for row in document.lines().filter(|line| line.starts_with("| ") && !line.contains("proven by"))
    {
        let proofs = row.rsplit('|').nth(1).unwrap();
        let tests: Vec<_> = proofs.split('`').filter(|text| text.contains("::")).collect();
        assert!(!tests.is_empty(), "no test proves: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{file}, which is to prove `{row}`: {error}"));
            assert!(source.contains(&format!("fn {name}()")), "{file} has no test `{name}`");
            named += 1;
        }
    }
    assert!(named >= 20, "only {named} tests were found in the document");
}
