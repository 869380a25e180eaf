//! Holds the repository to the invariants that `docs/architecture.md` states, one test for each.
//!
//! A breach is reported as `file:line: rule`. The files are those of the working tree, tracked or
//! not, so that a breach shows before it is committed.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot read the repository has nothing to say"
)]

mod architecture;
mod rust;
mod tree;
mod workspace;

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::architecture::{ARCHITECTURE, marked_list};
use crate::rust::{Source, sources};
use crate::tree::{files, names_path, paths_of_this_machine};
use crate::workspace::{OwnCrate, own_crates};

/// The most lines of a file that a reader should have to go through.
const MAX_PRODUCTION_LINES: usize = 500;

/// Where the crates that are plugins live.
const WORKSHOP: &str = "plugins/workshop/";

/// Which of our own crates each of them may depend on. The crates on top put everything together,
/// so they may depend on all; plugins have an invariant of their own.
const DIRECTION: [(&str, &[&str]); 10] = [
    ("echo-sdk", &[]),
    ("echo-toml", &[]),
    ("echo-log", &[]),
    ("echo-bus", &["echo-sdk", "echo-log"]),
    ("echo-nats", &["echo-sdk", "echo-bus"]),
    ("echo-suite", &["echo-sdk", "echo-toml"]),
    ("echo-core", &["echo-sdk", "echo-toml", "echo-bus"]),
    ("echo-gateway", &["echo-sdk", "echo-bus", "echo-core"]),
    ("echo-test-ledger", &["echo-sdk"]),
    ("echo-test-runtime", &["echo-sdk"]),
];
const ON_TOP: [&str; 3] = ["echo-bench", "echo-core-cli", "echo-tests"];

/// What has to be mended.
#[derive(Default)]
struct Breaches(Vec<String>);

impl Breaches {
    fn add(&mut self, path: &str, line: usize, rule: impl Display) {
        self.0.push(format!("{path}:{line}: {rule}"));
    }

    /// Fails with all of them at once, so that one run shows everything there is to mend.
    fn assert_none(self) {
        let Self(breaches) = self;
        assert!(breaches.is_empty(), "{} to mend:\n{}", breaches.len(), breaches.join("\n"));
    }
}

#[test]
fn plugins_depend_on_the_sdk_alone() {
    let mut breaches = Breaches::default();
    for plugin in plugins() {
        for name in plugin.own_dependencies().filter(|name| *name != "echo-sdk") {
            let rule = "a plugin depends, of our own crates, on echo-sdk alone";
            let message = format!("{rule}, not on {name}");
            breaches.add(&plugin.manifest, plugin.line_of(name), message);
        }
    }
    breaches.assert_none();
}

#[test]
fn dependencies_point_one_way() {
    let mut breaches = Breaches::default();
    for member in own_crates() {
        let name = &*member.name;
        if ON_TOP.contains(&name) || member.is_in(WORKSHOP) {
            continue;
        }
        let Some((_, allowed)) = DIRECTION.iter().find(|(known, _)| *known == name) else {
            let rule = format!(
                "say in {ARCHITECTURE} where {name} stands among our own crates, \
                 and in DIRECTION of this test"
            );
            breaches.add(&member.manifest, 1, rule);
            continue;
        };
        for above in member.own_dependencies().filter(|it| !allowed.contains(it)) {
            let rule =
                format!("of our own crates, {name} may depend on {allowed:?}, not on {above}");
            breaches.add(&member.manifest, member.line_of(above), rule);
        }
    }
    breaches.assert_none();
}

#[test]
fn the_sdk_depends_on_what_the_list_says() {
    const LIST: &str = "sdk-dependencies";
    let listed = marked_list(LIST);
    let sdk = own_crates().iter().find(|it| it.name == "echo-sdk");
    let sdk = sdk.expect("echo-sdk is a member of the workspace");
    let described = |name: &str, is_optional| {
        let optional = if is_optional { " (optional)" } else { "" };
        format!("{name}{optional}")
    };

    let mut breaches = Breaches::default();
    let mut actual = BTreeSet::new();
    for dependency in sdk.dependencies.iter().filter(|it| it.is_normal) {
        let name = &dependency.name;
        let is_listed = |item: &architecture::Item| {
            item.name == *name && item.note.contains("(optional)") == dependency.is_optional
        };
        if !listed.iter().any(is_listed) {
            let described = described(name, dependency.is_optional);
            let rule = format!("`{described}` is missing in the list {LIST} of {ARCHITECTURE}");
            breaches.add(&sdk.manifest, sdk.line_of(name), rule);
        }
        actual.insert(name);
    }
    for item in listed.iter().filter(|item| !actual.contains(&item.name)) {
        let rule = format!("echo-sdk does not depend on {}", item.name);
        breaches.add(ARCHITECTURE, item.line, rule);
    }
    breaches.assert_none();
}

/// Plugins' folders have plain English names (`process`, `container`), so the word by itself says
/// nothing. What names a plugin is its crate (`echo_plugin_process`, `"echo-plugin-process"`), a
/// whole string literal (`"orchestrator"`), and its own topics (`"plugin.process.limits"`). The
/// crates' own tests may call their plugins what they like.
#[test]
fn core_and_bus_name_no_plugin() {
    let names: Vec<&str> = plugins().map(OwnCrate::folder).collect();
    let in_code = |word: &str| {
        let is_crate = |name: &&str| word == format!("echo_plugin_{}", name.replace('-', "_"));
        names.iter().any(is_crate)
    };
    let in_literal = |literal: &str| {
        names.iter().any(|name| {
            let topic = literal.strip_prefix("plugin.").and_then(|it| it.strip_prefix(name));
            literal == *name
                || literal.contains(&format!("echo-plugin-{name}"))
                || topic.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };

    let mut breaches = Breaches::default();
    let hosts = |source: &&Source| {
        source.path.starts_with("core/src/") || source.path.starts_with("bus/src/")
    };
    for source in sources().iter().filter(hosts) {
        let words = source.words().filter(|(_, word)| in_code(word));
        let literals = source.literals().filter(|(_, literal)| in_literal(literal));
        for (line, found) in words.chain(literals) {
            if line <= source.production_lines() {
                let rule = format!("core and bus name no plugin, and `{found}` is one");
                breaches.add(&source.path, line, rule);
            }
        }
    }
    breaches.assert_none();
}

#[test]
fn unsafe_stays_in_the_listed_modules() {
    let modules = marked_list("unsafe-modules");
    let mut breaches = Breaches::default();
    for source in sources() {
        if modules.iter().any(|module| module.covers(&source.path)) {
            continue;
        }
        for line in source.unsafe_lines() {
            let rule = format!("`unsafe` is for the modules that {ARCHITECTURE} lists");
            breaches.add(&source.path, line, rule);
        }
    }
    breaches.assert_none();
}

#[test]
fn the_listed_modules_hold_unsafe_code() {
    let mut breaches = Breaches::default();
    for module in marked_list("unsafe-modules") {
        let covered = || sources().iter().filter(|source| module.covers(&source.path));
        let fault = if covered().next().is_none() {
            "does not exist"
        } else if covered().all(|source| source.unsafe_lines().next().is_none()) {
            "holds no `unsafe`"
        } else {
            continue;
        };
        let rule = format!("{} {fault}: take it off the list", module.name);
        breaches.add(ARCHITECTURE, module.line, rule);
    }
    breaches.assert_none();
}

#[test]
fn nothing_is_left_unfinished() {
    const IN_CODE: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
    const ANYWHERE: &str = "FIXME";
    let mut breaches = Breaches::default();
    for source in sources() {
        let lines = source.code.lines().zip(source.without_literals.lines());
        for (index, (code, with_comments)) in lines.enumerate() {
            let in_code = IN_CODE.into_iter().filter(|mark| code.contains(mark));
            let anywhere = with_comments.contains(ANYWHERE).then_some(ANYWHERE);
            for mark in in_code.chain(anywhere) {
                let rule = format!("nothing is left unfinished, and `{mark}` says that this is");
                breaches.add(&source.path, index + 1, rule);
            }
        }
    }
    breaches.assert_none();
}

#[test]
fn files_stay_readable() {
    let mut breaches = Breaches::default();
    for source in sources() {
        let lines = source.production_lines();
        if lines > MAX_PRODUCTION_LINES {
            let rule = format!(
                "a file has at most {MAX_PRODUCTION_LINES} lines of production code and this one \
                 has {lines}: give a part of it a module of its own"
            );
            breaches.add(&source.path, MAX_PRODUCTION_LINES + 1, rule);
        }
    }
    breaches.assert_none();
}

#[test]
fn no_file_names_a_path_of_this_machine() {
    let paths = paths_of_this_machine();
    let mut breaches = Breaches::default();
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            for path in paths.iter().filter(|path| names_path(line, path)) {
                let rule = format!("{path} exists on this machine alone: name no such path");
                breaches.add(&file.path, index + 1, rule);
            }
        }
    }
    breaches.assert_none();
}

/// The crates of the workshop.
fn plugins() -> impl Iterator<Item = &'static OwnCrate> {
    own_crates().iter().filter(|member| member.is_in(WORKSHOP))
}
