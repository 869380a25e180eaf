//! What is said of a plugin library before any of its code runs.

#[path = "../../core/src/library/error.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod error;
#[path = "../../core/src/library/file.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod file;

/// Any file is a library with a manifest, or is refused.
pub fn library(data: &[u8]) {
    if let Err(fault) = file::inspect(data) {
        assert!(!fault.to_string().is_empty());
    }
}
