//! The workspace's own crates, as cargo sees them.

use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::tree::{files, root};

/// A member of the workspace.
#[derive(Debug)]
pub struct OwnCrate {
    /// The package's name.
    pub name: String,
    /// Its Cargo.toml, relative to the repository's root.
    pub manifest: String,
    /// All that it declares, for building and for tests too.
    pub dependencies: Vec<Dependency>,
}

/// A dependency as its crate declares it.
#[derive(Debug)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// Neither for the build script nor for tests.
    pub is_normal: bool,
    /// Only there with a feature.
    pub is_optional: bool,
}

impl OwnCrate {
    /// The names of the workspace's crates that this one depends on, in whatever way.
    pub fn own_dependencies(&self) -> impl Iterator<Item = &str> {
        let is_own = |name: &&str| own_crates().iter().any(|member| member.name == *name);
        self.dependencies.iter().map(|dependency| &*dependency.name).filter(is_own)
    }

    /// Whether it lies somewhere in `folder`, which ends in `/`.
    pub fn is_in(&self, folder: &str) -> bool {
        self.manifest.starts_with(folder)
    }

    /// The name of the folder that the crate lies in.
    pub fn folder(&self) -> &str {
        self.manifest.rsplit('/').nth(1).unwrap_or_default()
    }

    /// The line of the manifest that names a dependency.
    pub fn line_of(&self, dependency: &str) -> usize {
        let names = |line: &str| {
            let key = line.split(['.', '=', ' ']).next().unwrap_or_default();
            key == dependency || line.starts_with('[') && line.contains(dependency)
        };
        let manifest = files().iter().find(|file| file.path == self.manifest);
        manifest.and_then(|file| file.text.lines().position(names)).map_or(1, |index| index + 1)
    }
}

/// Every member of the workspace.
pub fn own_crates() -> &'static [OwnCrate] {
    static CRATES: LazyLock<Vec<OwnCrate>> = LazyLock::new(|| {
        let metadata = metadata();
        list(&metadata, "packages").iter().map(own_crate).collect()
    });
    &CRATES
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {said}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn own_crate(package: &Value) -> OwnCrate {
    let manifest = text(package, "manifest_path").replace('\\', "/");
    let prefix = format!("{}/", root().to_string_lossy().replace('\\', "/"));
    OwnCrate {
        name: text(package, "name"),
        manifest: manifest.strip_prefix(&prefix).unwrap_or(&manifest).to_owned(),
        dependencies: list(package, "dependencies").iter().map(dependency).collect(),
    }
}

fn dependency(declared: &Value) -> Dependency {
    Dependency {
        name: text(declared, "name"),
        // `kind` is null for a normal one.
        is_normal: declared["kind"].is_null(),
        is_optional: declared["optional"] == true,
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("cargo metadata has no text {key}")).to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("cargo metadata has no list {key}"))
}
