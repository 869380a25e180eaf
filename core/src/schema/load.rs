//! Schemas from a folder.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::compiled::{Compiled, Source};
use super::{SchemaError, Schemas, check_name};
use crate::config::SchemasConfig;

/// What a file's name ends in; before it stands the schema's name.
const ENDING: &str = ".schema.json";

/// Why the schemas of a folder cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The folder or a file of it cannot be read.
    #[error("the schema file or folder {} cannot be read", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is too large to be a schema.
    #[error(
        "{} has {size} bytes, and {most} are the most for a schema (`schemas.max_size`)",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The largest size.
        most: usize,
    },
    /// A file is no JSON.
    #[error("{} is no JSON", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file's schema is not taken.
    #[error("{} is not taken", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SchemaError,
    },
}

impl Schemas {
    /// A registry with the schemas of the configured folder: `order` from `order.schema.json`. They may refer to
    /// each other in any order. Other files are passed over.
    ///
    /// # Errors
    /// [`LoadError`] when the folder cannot be read, or a schema of it is not taken.
    pub fn load(config: &SchemasConfig) -> Result<Self, LoadError> {
        let schemas = Self::new(config);
        let Some(dir) = &config.dir else { return Ok(schemas) };
        let files = read(dir, config.max_size)?;
        let by_name: HashMap<String, Value> =
            files.iter().map(|file| (file.name.clone(), file.schema.clone())).collect();
        let source: Source = Arc::new(move |name| by_name.get(name).cloned());
        for File { path, name, schema } in files {
            let compiled = Compiled::new(&name, schema, config.max_size, Arc::clone(&source));
            let added = compiled.and_then(|compiled| schemas.add(&name, compiled));
            added.map_err(|source| LoadError::Schema { path, source })?;
        }
        Ok(schemas)
    }
}

struct File {
    path: PathBuf,
    name: String,
    schema: Value,
}

/// The schema files of a folder, by name.
fn read(dir: &Path, max_size: usize) -> Result<Vec<File>, LoadError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable(dir))? {
        let entry = entry.map_err(unreadable(dir))?;
        let (path, file_name) = (entry.path(), entry.file_name());
        let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(ENDING)) else {
            continue;
        };
        if let Err(source) = check_name(name) {
            return Err(LoadError::Schema { path, source });
        }
        let size = std::fs::metadata(&path).map_err(unreadable(&path))?.len();
        if size > u64::try_from(max_size).unwrap_or(u64::MAX) {
            return Err(LoadError::TooLarge { path, size, most: max_size });
        }
        let text = std::fs::read(&path).map_err(unreadable(&path))?;
        match serde_json::from_slice(&text) {
            Ok(schema) => files.push(File { name: name.to_owned(), path, schema }),
            Err(source) => return Err(LoadError::NotJson { path, source }),
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}
