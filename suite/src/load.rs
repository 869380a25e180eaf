//! Reading a suite's file.

use std::path::{Path, PathBuf};

use echo_sdk::contract::check;
use echo_sdk::contract::suite::Suite;
use echo_toml::{Document, Fault, Faults};

use crate::types::ServiceTypes;

/// Reads and checks the suite in the file `path`.
///
/// A suite without a name is named after its file, `web` for `web.suite.toml`, or after the folder of a
/// `suite.toml`. The suite's `dir` and `file` are absolute.
///
/// # Errors
/// [`Faults`] with everything that is wrong with the file: its syntax; or else its keys and their types; or
/// else what they mean.
pub fn load(path: &Path, types: &ServiceTypes) -> Result<Suite, Faults> {
    let (document, suite) = read(path, types)?;
    let faults = check::check(&suite).into_iter();
    document.refuse(faults.map(|fault| locate(&document, &fault.pointer, &fault)).collect())?;
    Ok(suite)
}

/// Reads and checks the suites of one run, which need names of their own.
///
/// # Errors
/// The [`Faults`] of each file that has some.
pub fn load_all(paths: &[PathBuf], types: &ServiceTypes) -> Result<Vec<Suite>, Vec<Faults>> {
    let mut refused = Vec::new();
    let mut documents = Vec::new();
    let mut suites = Vec::new();
    for path in paths {
        match read(path, types) {
            Ok((document, suite)) => {
                documents.push(document);
                suites.push(suite);
            }
            Err(faults) => refused.push(faults),
        }
    }
    let faults = check::check_all(&suites);
    for (index, document) in documents.iter().enumerate() {
        let prefix = format!("/{index}");
        let own = faults.iter().filter_map(|fault| {
            let pointer = fault.pointer.strip_prefix(&prefix)?;
            let is_own = pointer.is_empty() || pointer.starts_with('/');
            is_own.then(|| locate(document, pointer, fault))
        });
        refused.extend(document.refuse(own.collect()).err());
    }
    if refused.is_empty() { Ok(suites) } else { Err(refused) }
}

fn read(path: &Path, types: &ServiceTypes) -> Result<(Document, Suite), Faults> {
    let mut document = Document::open(path)?;
    document.refuse(types.schema().check(&document))?;
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    document.set_default("name", name_of(&file));
    let mut suite: Suite = document.decode()?;
    suite.dir = file.parent().map(Path::to_owned);
    suite.file = Some(file);
    Ok((document, suite))
}

/// The name of a suite whose file gives none.
fn name_of(file: &Path) -> String {
    let name =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let file_name = name(file.file_name());
    if file_name == "suite.toml" {
        return name(file.parent().and_then(Path::file_name));
    }
    let stem = file_name.strip_suffix(".toml").unwrap_or(&file_name);
    stem.strip_suffix(".suite").unwrap_or(stem).to_owned()
}

/// Points at what the check found.
fn locate(document: &Document, pointer: &str, fault: &check::Fault) -> Fault {
    let located = document.fault_at(pointer, fault.message.clone());
    if pointer == "/name" && !document.contains(pointer) {
        return located.help("the suite is named after its file; set `name` at the top");
    }
    match &fault.help {
        Some(help) => located.help(help.clone()),
        None => located,
    }
}
