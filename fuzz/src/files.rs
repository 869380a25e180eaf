//! Files that people write.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::LazyLock;

use echo_sdk::Manifest;
use echo_suite::ServiceTypes;
use miette::{Diagnostic, NarratableReportHandler};
use tempfile::TempDir;

const MANIFESTS: [&str; 2] = [
    include_str!("../../plugins/workshop/process/manifest.json"),
    include_str!("../../plugins/workshop/container/manifest.json"),
];

/// Any text is a suite or is told its faults, which can be shown.
pub fn suite_file(data: &[u8]) {
    static TYPES: LazyLock<ServiceTypes> = LazyLock::new(|| {
        let manifests = MANIFESTS.map(|text| Manifest::from_json(text).unwrap());
        let types = manifests.into_iter().flat_map(|manifest| manifest.services);
        ServiceTypes::new(types).unwrap()
    });
    thread_local! {
        static FILE: RefCell<(TempDir, PathBuf)> = RefCell::new({
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("fuzz.suite.toml");
            (folder, path)
        });
    }
    FILE.with_borrow(|(_, path)| {
        std::fs::write(path, data).unwrap();
        if let Err(faults) = echo_suite::load(path, &TYPES) {
            show(&faults);
        }
    });
}

/// Any text is a manifest or is told why not; a manifest is written as text that reads as the same manifest.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Manifest::from_json(text) {
        Ok(manifest) => {
            let written = serde_json::to_string(&manifest).unwrap();
            assert_eq!(Manifest::from_json(&written).expect("what was written reads"), manifest);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Any text is a configuration or is told its faults, which can be shown.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(error) = echo_core::Config::parse("echo-core.toml", text) {
        show(&error);
    }
}

/// Writes a report as a person gets it, which looks at every place that a fault points at.
fn show(fault: &dyn Diagnostic) {
    let mut report = String::new();
    NarratableReportHandler::new().render_report(&mut report, fault).unwrap();
    assert!(!report.is_empty());
}
