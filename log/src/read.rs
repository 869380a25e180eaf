//! Reading single records back.

use std::io;

use crate::disk::DiskFile;
use crate::files::name_of;
use crate::frame::{HEAD, claimed_len, frame_at};
use crate::index::Location;
use crate::record::{Op, op_at};

/// A message as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: [u8; 16],
    /// What it says.
    pub body: Vec<u8>,
}

/// Why something that the log holds cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What stands there is not what was written.
    #[error("the log's file {file} is damaged at byte {offset}; what stood there is lost")]
    Damaged {
        /// The file's name.
        file: String,
        /// Where the record starts.
        offset: u64,
    },
    /// The disk failed.
    #[error("the log's file {file} cannot be read; look after the disk")]
    Io {
        /// The file's name.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
}

/// Reads the operation at a place, checked, and hands it to `then`.
pub(crate) fn with_op<T>(
    file: &dyn DiskFile,
    at: Location,
    then: impl FnOnce(Op<'_>) -> Option<T>,
) -> Result<T, ReadError> {
    let failed = |source| ReadError::Io { file: name_of(at.segment), source };
    let damaged = || ReadError::Damaged { file: name_of(at.segment), offset: at.record.into() };
    // Most records hold one operation, so this is all of it.
    let mut bytes = vec![0; HEAD + at.op as usize + at.len as usize];
    let got = file.read(&mut bytes, at.record.into()).map_err(failed)?;
    let claimed = bytes.get(..got).and_then(claimed_len).ok_or_else(damaged)?;
    if claimed > bytes.len() {
        // A length that lies costs no more memory than the file has bytes.
        let left = file.len().map_err(failed)?.saturating_sub(at.record.into());
        bytes.resize(claimed.min(usize::try_from(left).unwrap_or(usize::MAX)), 0);
        file.read(&mut bytes, at.record.into()).map_err(failed)?;
    }
    let frame = frame_at(&bytes, 0, at.segment);
    let op = frame.and_then(|frame| op_at(frame.body, at.op as usize));
    op.and_then(then).ok_or_else(damaged)
}
