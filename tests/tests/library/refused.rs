//! Libraries that are not loaded: each in one sentence that names the file, the reason and the way out.

use std::path::Path;

use echo_core::library::Fault;
use serde_json::json;

use crate::kit::{Copy, echo, handle, load, load_with, misbehave, replace};

/// Loads what has to be refused.
fn refuse(path: &Path) -> (Fault, String) {
    let error = load_with(path, json!({})).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("`{}` ", path.display())), "{text}");
    assert!(!text.contains('\n'), "{text}");
    assert!(std::error::Error::source(&error).is_none(), "the sentence says it all: {text}");
    (error.fault, text)
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn a_file_that_is_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.so");
    for content in [&b"just text"[..], b"", b"\x7fEL", b"#!/bin/sh\n"] {
        std::fs::write(&file, content).unwrap();
        let (fault, text) = refuse(&file);
        assert!(matches!(fault, Fault::NotElf), "{text}");
        assert_says(&text, &["no ELF file", "cargo build"]);
    }
    assert!(matches!(refuse(folder.path()).0, Fault::NotAFile));
    let (fault, text) = refuse(&folder.path().join("nowhere.so"));
    assert!(matches!(fault, Fault::Unreadable(_)));
    assert_says(&text, &["No such file"]);
}

#[test]
fn a_library_that_is_no_plugin() {
    let (fault, text) = refuse(&std::env::current_exe().unwrap());
    assert!(matches!(fault, Fault::NoNote), "{text}");
    assert_says(&text, &["no plugin", "export_plugin!"]);
    let relocatable = Copy::of(echo(), |bytes| bytes[16] = 1);
    assert!(matches!(refuse(&relocatable.path()).0, Fault::NotShared));
}

#[test]
fn a_library_that_is_cut_short() {
    let len = std::fs::metadata(echo()).unwrap().len() as usize;
    for keep in [5, 63, 64, 4096, len / 2, len - 1] {
        let copy = Copy::of(echo(), |bytes| bytes.truncate(keep));
        let (fault, text) = refuse(&copy.path());
        assert!(matches!(fault, Fault::Truncated { len, .. } if len == keep), "{keep}: {text}");
        assert_says(&text, &["cut short", "build it again"]);
    }
}

#[test]
fn a_library_for_another_machine() {
    let here = std::env::consts::ARCH;
    // e_machine: AArch64 and x86_64, and one that has no name.
    let other: u16 = if here == "aarch64" { 62 } else { 183 };
    for machine in [other, 0xfefe] {
        let copy = Copy::of(echo(), |bytes| bytes[18..20].copy_from_slice(&machine.to_ne_bytes()));
        let (fault, text) = refuse(&copy.path());
        assert!(matches!(fault, Fault::Architecture { .. }));
        assert_says(&text, &["is built for ", here]);
    }
    let copy = Copy::of(echo(), |bytes| bytes[4] = 1);
    assert_says(&refuse(&copy.path()).1, &["32-bit", here]);
    let copy = Copy::of(echo(), |bytes| bytes[5] = 3 - bytes[5]);
    assert!(matches!(refuse(&copy.path()).0, Fault::Architecture { .. }));
}

#[test]
fn a_library_of_another_version_is_refused_before_it_is_loaded() {
    let copy = Copy::of(echo(), |bytes| {
        replace(bytes, b"Echo\0\0\0\0\x01\0\0\0\x02\0\0\0", b"Echo\0\0\0\0\x09\0\0\0\x04\0\0\0");
    });
    let (fault, text) = refuse(&copy.path());
    assert!(matches!(fault, Fault::Version { found: (9, 4) }), "{text}");
    assert_says(&text, &["version 9.4", "speaks 1.2"]);
    assert!(echo_core::library::manifest(&copy.path()).is_err());
}

#[test]
fn a_declaration_of_another_version_or_of_something_else() {
    let other_major = Copy::of(echo(), |bytes| {
        replace(bytes, b"EchoCore\x01\0\0\0", b"EchoCore\x02\0\0\0");
    });
    let (fault, text) = refuse(&other_major.path());
    assert!(matches!(fault, Fault::Version { found: (2, 2) }), "{text}");
    let no_plugin = Copy::of(echo(), |bytes| {
        replace(bytes, b"EchoCore\x01\0\0\0", b"Eggs\xffham\x01\0\0\0");
    });
    let (fault, text) = refuse(&no_plugin.path());
    assert!(matches!(fault, Fault::Magic { .. }));
    assert_says(&text, &["`Eggs\\xffham`", "`EchoCore`"]);
}

#[test]
fn a_missing_entry_point() {
    let copy = Copy::of(echo(), |bytes| {
        replace(bytes, b"\"echo_entry_echo_plugin_echo\"", b"\"echo_entry_other_one_here__\"");
    });
    let (fault, text) = refuse(&copy.path());
    assert!(matches!(fault, Fault::NoEntryPoint { .. }));
    assert_says(&text, &["`echo_entry_other_one_here__`", "entry_point"]);
}

#[test]
fn a_manifest_with_a_fault() {
    for (from, to, word) in [
        ("\"min_workers\": 1", "\"min_workers\": 0", "min_workers"),
        ("\"version\": \"0.1.0\"", "\"version\": \"0.1-0\"", "version"),
        ("\"plugin.echo.say\"", "\"plugin..echo.ay\"", "plugin..echo.ay"),
        ("\"type\": \"custom\"", "\"type\": \"costum\"", "costum"),
        ("\"config\"", "\"confic\"", "confic"),
        ("\"name\": \"echo\"", "\"name\": \"ec.o\"", "ec.o"),
    ] {
        let copy = Copy::of(echo(), |bytes| replace(bytes, from.as_bytes(), to.as_bytes()));
        let (fault, text) = refuse(&copy.path());
        assert!(matches!(fault, Fault::Manifest(_)), "{text}");
        assert_says(&text, &[word, "manifest.json"]);
    }
    let copy = Copy::of(echo(), |bytes| replace(bytes, b"Says again", b"Says\xffagain"));
    assert!(matches!(refuse(&copy.path()).0, Fault::ManifestNotUtf8));
}

#[test]
fn a_plugin_that_cannot_be_created() {
    for (create, words) in [
        ("panic", ["could not be created", "panicked: no constructor today"]),
        ("error", ["could not be created", "invalid configuration: `create` is `error`"]),
        ("name", ["calls itself `somebody-else`", "its manifest says `misbehave`"]),
    ] {
        let error = load_with(misbehave(), json!({ "create": create })).unwrap_err();
        assert_says(&error.to_string(), &words);
    }
    // The file is as good as before, with another configuration.
    let (library, _) = load(misbehave());
    let order = echo_sdk::testing::message(&json!({ "do": "measure" }));
    assert!(handle(&library, order).is_ok());
}

#[test]
fn a_library_that_the_systems_loader_refuses() {
    // A dynamic section that is not there any more: PT_DYNAMIC becomes PT_NULL.
    let copy = Copy::of(echo(), |bytes| {
        let word = |bytes: &[u8], at: usize| {
            u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
        };
        let (start, count) = (word(bytes, 32), usize::from(bytes[56]));
        let headers = (0..count).map(|index| start + index * 56);
        for at in headers.collect::<Vec<_>>() {
            if bytes[at] == 2 {
                bytes[at] = 0;
            }
        }
    });
    let (fault, text) = refuse(&copy.path());
    assert!(matches!(fault, Fault::Open(_)), "{text}");
    assert_says(&text, &["system's loader"]);
}
