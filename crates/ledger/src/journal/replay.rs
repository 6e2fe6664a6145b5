//! The journals of dead processes, read once and then deleted.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek as _},
    path::{Path, PathBuf},
};

use super::{
    record::{Record, decode},
    segment::{DAMAGED, UNFINISHED, parse_name},
};
use crate::{id::RowId, row::LedgerRow};

/// The journal of a dead process, locked by this one.
#[derive(Debug)]
pub(crate) struct Replay {
    segments: Vec<Dead>,
    /// The requests that have ended, known once all segments were looked through.
    ended: Option<HashSet<RowId>>,
    /// The requests that were given out by their estimate.
    estimated: HashSet<RowId>,
    /// The segment that is read.
    at: usize,
    /// Lines that could not be read.
    pub(crate) damaged: u64,
}

#[derive(Debug)]
struct Dead {
    path: PathBuf,
    lines: BufReader<File>,
    is_damaged: bool,
}

/// Finds and locks the journals in a folder whose processes are dead.
///
/// The process that locks the first segment of a writer reads all of them: a begun request may end in a later one.
pub(crate) fn find(folder: &Path) -> io::Result<Vec<Replay>> {
    let mut writers: BTreeMap<u128, BTreeMap<u64, PathBuf>> = BTreeMap::new();
    for found in fs::read_dir(folder)? {
        let path = found?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some((writer, number)) = parse_name(name) {
            writers.entry(writer).or_default().insert(number, path);
        } else if parse_name(&name.replace(&format!(".{UNFINISHED}"), ".jsonl")).is_some()
            && path.extension().is_some_and(|extension| extension == UNFINISHED)
            && File::open(&path).is_ok_and(|file| file.try_lock().is_ok())
            && is_old(&path)
        {
            // Its process died before it had a name: the segment before has the same requests.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(writers.into_values().filter_map(|segments| Replay::lock(segments.into_values().collect())).collect())
}

/// Returns true if the file was not written to for a minute: a process that starts is about to lock its new one.
fn is_old(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|found| found.modified()).ok();
    let age = written.and_then(|written| steadfast_internal::wall_clock::now().duration_since(written).ok());
    age.is_some_and(|age| age.as_secs() > 60)
}

impl Replay {
    fn lock(paths: Vec<PathBuf>) -> Option<Self> {
        let mut segments = Vec::new();
        for path in paths {
            let file = File::options().read(true).write(true).open(&path).ok()?;
            file.try_lock().ok()?;
            // Another process may have read and deleted it between.
            if !path.exists() {
                return None;
            }
            segments.push(Dead { path, lines: BufReader::new(file), is_damaged: false });
        }
        Some(Self { segments, ended: None, estimated: HashSet::new(), at: 0, damaged: 0 })
    }

    /// Returns the next rows, at most so many. None are left once there are none.
    ///
    /// A settled row comes as it is; a request that only began, by its estimate.
    pub(crate) fn next_rows(&mut self, limit: usize) -> io::Result<Vec<LedgerRow>> {
        let ended = match &mut self.ended {
            Some(ended) => ended,
            None => {
                let (ended, damaged) = look_through(&mut self.segments)?;
                self.damaged = damaged;
                self.ended.insert(ended)
            }
        };
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(segment) = self.segments.get_mut(self.at)
        {
            match segment.next_line()? {
                None => self.at += 1,
                Some((line, _)) => match decode(&line) {
                    Some(Record::Ended(row)) => rows.push(row),
                    Some(Record::Begun(row)) if !ended.contains(&row.id) && self.estimated.insert(row.id) => {
                        rows.push(LedgerRow { is_estimate: true, ..row });
                    }
                    _ => {}
                },
            }
        }
        Ok(rows)
    }

    /// Deletes the files, once all rows are stored. A damaged one gets another name instead, for people to look at.
    pub(crate) fn remove(self) -> io::Result<()> {
        let mut result = Ok(());
        for segment in self.segments {
            let done = match segment.is_damaged {
                true => fs::rename(&segment.path, segment.path.with_extension(DAMAGED)),
                false => fs::remove_file(&segment.path),
            };
            result = result.and(done);
        }
        result
    }
}

impl Dead {
    /// Returns the next line, and true if it has its line feed.
    fn next_line(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut line = Vec::new();
        if self.lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let is_whole = line.pop_if(|last| *last == b'\n').is_some();
        Ok(Some((line, is_whole)))
    }
}

/// Returns the requests that have ended, and the number of damaged lines.
fn look_through(segments: &mut [Dead]) -> io::Result<(HashSet<RowId>, u64)> {
    let (mut ended, mut damaged) = (HashSet::new(), 0);
    for segment in segments {
        let mut number = 0_u64;
        segment.lines.rewind()?;
        while let Some((line, is_whole)) = segment.next_line()? {
            number += 1;
            match decode(&line) {
                Some(Record::Ended(row)) => {
                    ended.insert(row.id);
                }
                Some(Record::Begun(_)) => {}
                // The kill came in the middle of the last line.
                None if !is_whole => {}
                None => {
                    let file = segment.path.display();
                    tracing::warn!(%file, line = number, "damaged line of a journal left out");
                    segment.is_damaged = true;
                    damaged += 1;
                }
            }
        }
        segment.lines.rewind()?;
    }
    Ok((ended, damaged))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::journal::segment;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn damage_is_logged_with_the_files_name_and_the_lines_number() {
        let folder = std::env::temp_dir().join(format!("steadfast-ledger-log-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let id = RowId { writer: 5, sequence: 1 };
        let mut line = Vec::new();
        Record::Ended(&LedgerRow { id, ..LedgerRow::default() }).encode(&mut line);
        let name = segment::name(5, 1);
        fs::write(folder.join(&name), [&line, &b"nonsense\n"[..], &line, &line[..9]].concat()).unwrap();
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let rows = tracing::subscriber::with_default(subscriber, || {
            let mut replays = find(&folder).unwrap();
            let rows = replays[0].next_rows(10).unwrap();
            assert!(replays[0].next_rows(10).unwrap().is_empty() && replays.len() == 1);
            rows
        });
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [id, id]);
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&name) && said.contains("\"line\":2"), "{said}");
    }
}
