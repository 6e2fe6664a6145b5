//! Whether a file is where it was when it was opened.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A file and its write-ahead log, as they were when they were opened.
///
/// SQLite goes on with a file that was deleted, moved or replaced, and says that all is well: what it writes then ends with the
/// process.
#[derive(Debug)]
pub(super) struct Place {
    files: Vec<(PathBuf, Identity)>,
}

/// Which file it is, whatever it is called. The log of a file that is open is there, and stays the same.
type Identity = Option<(u64, u64)>;

impl Place {
    /// Where a file is that is open by now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let files = [path, log.into()].map(|path| identity(&path).map(|identity| (path, identity)));
        Ok(Self { files: files.into_iter().collect::<Result<_, _>>()? })
    }

    /// Whether the same files are there still.
    pub(super) fn holds(&self) -> bool {
        self.files.iter().all(|(path, known)| identity(path).is_ok_and(|found| found == *known))
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map(|found| Some((found.dev(), found.ino())))
}

/// Elsewhere a file that is open is not deleted.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|_| None)
}
