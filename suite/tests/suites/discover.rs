//! Which files are suites.

use std::fs;
use std::path::{Path, PathBuf};

use echo_suite::{SuiteError, discover};
use miette::Diagnostic;
use tempfile::TempDir;

fn folder(files: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn names(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let relative = files.iter().map(|file| file.strip_prefix(root).unwrap());
    relative.map(|file| file.to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_folder_gives_its_suites_in_order_and_a_file_is_taken_as_it_is() {
    let root = folder(&[
        "b/suite.toml",
        "a.suite.toml",
        "b/c/z.suite.toml",
        "Cargo.toml",
        "b/notes.toml",
        ".hidden/suite.toml",
        "mysuite.toml",
    ]);
    let found = discover([root.path()]).unwrap();
    assert_eq!(names(root.path(), &found), ["a.suite.toml", "b/c/z.suite.toml", "b/suite.toml"]);
    let notes = root.path().join("b/notes.toml");
    let found = discover([&notes, &root.path().join("b"), &notes]).unwrap();
    assert_eq!(names(root.path(), &found), ["b/notes.toml", "b/c/z.suite.toml", "b/suite.toml"]);
}

#[test]
fn links_to_folders_are_not_followed() {
    let root = folder(&["a/suite.toml"]);
    std::os::unix::fs::symlink(root.path(), root.path().join("a/again")).unwrap();
    let found = discover([root.path()]).unwrap();
    assert_eq!(names(root.path(), &found), ["a/suite.toml"]);
}

#[test]
fn nothing_to_run_is_an_error_that_says_so() {
    let root = folder(&["a/other.toml"]);
    let none = discover([root.path()]).unwrap_err();
    assert!(matches!(&none, SuiteError::None { path } if path == root.path()));
    assert!(none.help().unwrap().to_string().contains("`suite.toml`"));
    let nowhere = root.path().join("nowhere");
    let missing = discover([&nowhere]).unwrap_err();
    assert_eq!(missing.to_string(), format!("there is no file or folder `{}`", nowhere.display()));
}
