//! Whether a file is where it was when it was opened.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use rusqlite::{Connection, OpenFlags};

use super::schema;

/// A file and its write-ahead log, as they were when they were opened.
///
/// SQLite goes on with a file that was deleted, moved or replaced, and says that all is well: what it writes then ends with the
/// process.
#[derive(Debug)]
pub(super) struct Place {
    files: Vec<(PathBuf, Identity)>,
    /// How long the file was at the last look, in bytes.
    length: AtomicU64,
    was_cut: AtomicBool,
}

/// How a file is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Whole,
    /// Deleted, moved or replaced.
    Elsewhere,
    /// Truncated.
    Cut,
}

/// Which file it is, whatever it is called. The log of a file that is open is there, and stays the same.
type Identity = Option<(u64, u64)>;

impl Place {
    /// Where a file is that is open by now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let length = AtomicU64::new(fs::metadata(&path)?.len());
        let files = [path, log.into()].map(|path| found(&path).map(|(identity, _)| (path, identity)));
        Ok(Self { files: files.into_iter().collect::<Result<_, _>>()?, length, was_cut: AtomicBool::new(false) })
    }

    /// Whether the same files are there still, and whole.
    pub(super) fn holds(&self, connection: &Connection) -> Held {
        let mut length = None;
        for (path, known) in &self.files {
            match found(path) {
                // The log's length is SQLite's own affair.
                Ok((identity, bytes)) if identity == *known => length = length.or(Some(bytes)),
                _ => return Held::Elsewhere,
            }
        }
        let length = length.unwrap_or_default();
        if length < self.length.swap(length, Relaxed) && (length == 0 || is_cut(connection, &self.files[0].0)) {
            self.was_cut.store(true, Relaxed);
        }
        if self.was_cut.load(Relaxed) { Held::Cut } else { Held::Whole }
    }
}

/// Whether a file that was longer before lacks something: also `VACUUM` shortens one.
fn is_cut(connection: &Connection, path: &Path) -> bool {
    // What is in the log alone belongs to it too.
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
    // By one that has read nothing of it yet.
    let anew = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    anew.map_or(true, |anew| schema::intact(&anew).is_err())
}

/// With its length in bytes.
#[cfg(unix)]
fn found(path: &Path) -> io::Result<(Identity, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map(|found| (Some((found.dev(), found.ino())), found.len()))
}

/// Elsewhere a file that is open is not deleted.
#[cfg(not(unix))]
fn found(path: &Path) -> io::Result<(Identity, u64)> {
    fs::metadata(path).map(|found| (None, found.len()))
}
