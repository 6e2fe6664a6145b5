//! A check that a file is still where it was opened.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use rusqlite::{Connection, OpenFlags};
use steadfast_internal::system::file_id;

use super::schema;

/// The identity of a file and its write-ahead log at the time of opening.
///
/// SQLite continues on a file that was deleted, moved or replaced, and reports success: what it writes then ends with
/// the process.
#[derive(Debug)]
pub(super) struct FileIdentity {
    files: Vec<(PathBuf, Identity)>,
    /// The file's length at the last look, in bytes.
    length: AtomicU64,
    was_truncated: AtomicBool,
}

/// The state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileState {
    Whole,
    /// It was deleted, moved or replaced.
    Replaced,
    /// It was truncated.
    Truncated,
}

/// The identity of a file, independent of its name. The log of an open file exists, and stays the same.
type Identity = Option<(u64, u64)>;

impl FileIdentity {
    /// Returns the place of a file that is open by now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let length = AtomicU64::new(fs::metadata(&path)?.len());
        let files = [path, log.into()].map(|path| identify(&path).map(|(identity, _)| (path, identity)));
        Ok(Self { files: files.into_iter().collect::<Result<_, _>>()?, length, was_truncated: AtomicBool::new(false) })
    }

    /// Returns whether the same files are still there, and whole.
    pub(super) fn state(&self, connection: &Connection) -> FileState {
        let mut length = None;
        for (path, known) in &self.files {
            match identify(path) {
                // Only SQLite manages the log's length.
                Ok((identity, bytes)) if identity == *known => length = length.or(Some(bytes)),
                _ => return FileState::Replaced,
            }
        }
        let length = length.unwrap_or_default();
        if length < self.length.swap(length, Relaxed) && (length == 0 || is_incomplete(connection, &self.files[0].0)) {
            self.was_truncated.store(true, Relaxed);
        }
        if self.was_truncated.load(Relaxed) { FileState::Truncated } else { FileState::Whole }
    }
}

/// Returns whether a file that is shorter than before is incomplete: `VACUUM` shortens one too.
fn is_incomplete(connection: &Connection, path: &Path) -> bool {
    // Pages that are only in the log belong to the file too.
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
    // Use a new connection, which has read no page yet.
    let fresh = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    fresh.map_or(true, |fresh| schema::intact(&fresh).is_err())
}

/// Returns the identity and the length in bytes.
fn identify(path: &Path) -> io::Result<(Identity, u64)> {
    fs::metadata(path).map(|found| (file_id(&found), found.len()))
}
