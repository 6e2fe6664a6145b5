//! A file of the journal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// The ending of a file that is not whole yet.
pub(crate) const UNFINISHED: &str = "tmp";
/// The ending of a file that was read and is kept for its damage.
pub(crate) const DAMAGED: &str = "damaged";
const PREFIX: &str = "ledger-";
const SUFFIX: &str = ".jsonl";

/// A file of the journal, locked by this process.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    path: PathBuf,
    file: File,
    /// The length of whole lines.
    bytes: u64,
    /// The settled rows in it that are not stored yet.
    pub(crate) rows: usize,
    /// True if the file may end in a part of a line.
    is_torn: bool,
}

/// Returns the name of a segment.
pub(crate) fn name(writer: u128, number: u64) -> String {
    format!("{PREFIX}{writer:032x}-{number:08}{SUFFIX}")
}

/// Returns the writer and the number of a segment with this name.
pub(crate) fn parse_name(name: &str) -> Option<(u128, u64)> {
    let (writer, number) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((u128::from_str_radix(writer, 16).ok()?, number.parse().ok()?))
}

impl Segment {
    /// Creates the file with these lines, for its owner alone.
    ///
    /// It has another name until it is locked and whole: another process would take it for a dead one's.
    pub(crate) fn create(folder: &Path, writer: u128, number: u64, lines: &[u8]) -> io::Result<Self> {
        let path = folder.join(name(writer, number));
        let unfinished = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&unfinished)?;
        let mut segment = Self { number, path: unfinished, file, bytes: 0, rows: 0, is_torn: false };
        let mut finish = || {
            segment.file.try_lock()?;
            segment.write(lines)?;
            fs::rename(&segment.path, &path)
        };
        if let Err(error) = finish() {
            let _ = fs::remove_file(&segment.path);
            return Err(error);
        }
        segment.path = path;
        Ok(segment)
    }

    /// Returns the length of whole lines.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends lines, all or none of them. Returns the place of the first.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<u64> {
        if self.is_torn {
            self.file.set_len(self.bytes)?;
            self.is_torn = false;
        }
        if let Err(error) = self.file.write_all(lines) {
            self.is_torn = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        let start = self.bytes;
        self.bytes += lines.len() as u64;
        Ok(start)
    }

    /// Reads a line back.
    pub(crate) fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut line = vec![0; length];
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut line)?;
        Ok(line)
    }

    /// Empties the file.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.bytes, self.is_torn) = (0, false);
        Ok(())
    }

    /// Deletes the file.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}
