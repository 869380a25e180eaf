//! The files of the working tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A text file of the repository.
#[derive(Debug)]
pub struct File {
    /// Relative to the repository's root, with `/` between its parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Every text file, in order of path. Build output and git's own folder are left out.
pub fn files() -> &'static [File] {
    static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
        let mut files = Vec::new();
        read_folder(root(), &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    });
    &FILES
}

fn read_folder(folder: &Path, files: &mut Vec<File>) {
    // A tool's cache says so itself, wherever it is put: cargo marks its target folder.
    if folder.ends_with(".git") || folder.join("CACHEDIR.TAG").exists() {
        return;
    }
    for path in entries(folder) {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            read_folder(&path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root()).expect("the walk starts at the root");
            files.push(File { path: relative.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // An editor's or a build's scratch folder can go while the walk is under way.
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The repository's own folder and whatever lies beside it. Next to `/` or in the folder for
/// temporary files lies everybody's, so there the neighbours say nothing.
pub fn paths_of_this_machine() -> Vec<String> {
    let mut paths = vec![root().to_path_buf()];
    if let Some(parent) = root().parent()
        && parent.parent().is_some()
        && parent != std::env::temp_dir()
    {
        paths.extend(entries(parent).into_iter().filter(|path| path != root()));
    }
    paths.into_iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Whether `line` names `path` itself or something in it: `/a/b` is in `cd /a/b/c`, not in `/a/bc`
/// and not in `x/a/b`.
pub fn names_path(line: &str, path: &str) -> bool {
    let of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let mut after = line[start + path.len()..].chars();
        let ends = match after.next() {
            // The full stop that ends a sentence, and no extension.
            Some('.') => !after.next().is_some_and(of_a_name),
            next => !next.is_some_and(of_a_name),
        };
        ends && !before.is_some_and(of_a_name)
    })
}

#[test]
fn a_path_is_named_as_a_whole() {
    for line in ["/a/b", "cd /a/b/c", "(see /a/b).", "It is in /a/b.", "X=/a/b"] {
        assert!(names_path(line, "/a/b"), "{line}");
    }
    for line in ["/a/bc", "x/a/b", "/a/b-c", "/a/b.d", "/a"] {
        assert!(!names_path(line, "/a/b"), "{line}");
    }
}
