//! The keys of a file, which is read again whenever it changes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, UNIX_EPOCH},
};

use steadfast_internal::wall_clock;
use steadfast_stack::{Config, EndMark};
use tokio::time::{Instant, sleep};

use super::{
    entry::KeyRecord,
    file::{self, Contents, KeyFileError, Reading},
};
use crate::lock::lock;

/// A file of keys, as of the last look that was right.
#[derive(Debug)]
pub(super) struct FileKeys {
    pub(super) path: PathBuf,
    /// True if nobody else has a key: an empty file is wrong then.
    is_alone: bool,
    /// The last look at the file; locked during a reload.
    seen: Mutex<Look>,
    /// The number of looks that its watch should know of.
    pub(super) readings: AtomicU64,
}

/// A look at the file.
#[derive(Debug)]
struct Look {
    text: Contents,
    /// The mark of the last text that was right.
    mark: EndMark,
    /// The keys of that text.
    records: Vec<Arc<KeyRecord>>,
    /// The time since which this text has its last entry held back.
    held: Option<Instant>,
}

/// The result of a look.
struct Replacement {
    mark: EndMark,
    records: Vec<Arc<KeyRecord>>,
    /// The name of the key whose entry does not count yet.
    held_back: Option<Box<str>>,
}

/// The time for which a file must rest until an entry counts that may be the beginning of a longer one.
pub(super) const REST: Duration = Duration::from_secs(5);
/// The same at the start, which waits for it.
const REST_AT_START: Duration = Duration::from_secs(2);

impl FileKeys {
    /// # Errors
    ///
    /// The file is wrong.
    pub(super) fn load(path: &Path, is_alone: bool) -> Result<Self, KeyFileError> {
        let text = file::contents(path);
        let Reading { records, mark, .. } = read(path, &text, is_alone)?;
        let records = records.into_iter().map(Arc::new).collect();
        let seen = Mutex::new(Look { text, mark, records, held: None });
        Ok(Self { path: path.to_owned(), is_alone, seen, readings: AtomicU64::new(0) })
    }

    /// Waits until a file has rested that was changed a moment ago, and whose last entry may be the beginning of a
    /// longer one: a start has no earlier keys to go by.
    pub(super) async fn settle(path: &Path) {
        for _ in 0..5 {
            let changed = std::fs::metadata(path).and_then(|facts| facts.modified());
            let changed = changed.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            let age = wall_clock::since_1970().saturating_sub(changed);
            // A file that has rested is not read for this: it may be large.
            if age >= REST_AT_START || !file::read(path, &file::contents(path)).is_ok_and(|reading| reading.is_open) {
                return;
            }
            sleep(REST_AT_START - age).await;
        }
    }

    /// Returns the keys of the last text that was right.
    pub(super) fn records(&self) -> Vec<Arc<KeyRecord>> {
        lock(&self.seen).records.clone()
    }

    /// Returns each name of a feature or a model that the configuration does not have, with its place.
    pub(super) fn unknown_names(&self, config: &Config) -> Vec<KeyFileError> {
        let seen = lock(&self.seen);
        // The text alone has the places, and it may be large.
        match seen.records.iter().all(|record| record.unknown_names(config).is_empty()) {
            true => Vec::new(),
            false => file::unknown_names(&self.path, &seen.text, config),
        }
    }

    /// Reads the file, and has the keys `used` if it is right; an `order` reads the same text again too. Returns
    /// whether it had them used.
    pub(super) fn look<E: std::fmt::Display>(
        &self,
        order: bool,
        used: impl FnOnce(Vec<Arc<KeyRecord>>) -> Result<(), E>,
    ) -> bool {
        let mut seen = lock(&self.seen);
        let text = file::contents(&self.path);
        let held = seen.held.filter(|_| seen.text == text);
        let has_rested = held.is_some_and(|since| since.elapsed() >= REST);
        // A change that SIGHUP has read already is not logged twice.
        if seen.text == text && !order && !has_rested {
            if held.is_some() {
                // The watch looks again.
                self.readings.fetch_add(1, Relaxed);
            }
            return false;
        }
        (seen.text, seen.held) = (text, None);
        let replaced = self.replace(&seen, has_rested).and_then(|replacement| {
            used(replacement.records.clone()).map_err(|problem| KeyFileError::new(&self.path, problem))?;
            Ok(replacement)
        });
        match replaced {
            Ok(Replacement { mark, records, held_back }) => {
                (seen.mark, seen.records) = (mark, records);
                if let Some(key) = held_back {
                    tracing::warn!(
                        event = "key_held_back",
                        key = &*key,
                        seconds = REST.as_secs(),
                        "the file's last entry may still be written: it counts once the file has rested; a last line \
                         `...` marks the end"
                    );
                    seen.held = held.or_else(|| Some(Instant::now()));
                    self.readings.fetch_add(1, Relaxed);
                }
                true
            }
            Err(problem) => {
                tracing::warn!(%problem, "keys not reloaded; the previous ones stay");
                false
            }
        }
    }

    /// Returns what the text that was seen puts in the place of the one before.
    fn replace(&self, seen: &Look, has_rested: bool) -> Result<Replacement, KeyFileError> {
        let Reading { mut records, mark, is_open } = read(&self.path, &seen.text, self.is_alone)?;
        let mark = mark.after(seen.mark).map_err(|problem| KeyFileError::new(&self.path, problem))?;
        let held_back = if is_open && !has_rested { hold_back_last(&seen.records, &mut records) } else { None };
        let known: HashMap<&str, &Arc<KeyRecord>> =
            seen.records.iter().map(|known| (&*known.entry.name, known)).collect();
        let kept = |record: KeyRecord| match known.get(&*record.entry.name) {
            Some(known) if ***known == record => (*known).clone(),
            _ => Arc::new(record),
        };
        Ok(Replacement { mark, records: records.into_iter().map(kept).collect(), held_back })
    }
}

fn read(path: &Path, text: &Contents, is_alone: bool) -> Result<Reading, KeyFileError> {
    if is_alone { file::read(path, text) } else { file::read_any(path, text) }
}

/// Holds back the last of the keys that follow these, unless the same key allowed as much before. Returns its name.
fn hold_back_last(before: &[Arc<KeyRecord>], records: &mut Vec<KeyRecord>) -> Option<Box<str>> {
    let last = records.pop()?;
    let has_hash = |record: &&Arc<KeyRecord>| {
        record.hashes.iter().any(|hash| last.hashes.iter().any(|other| other.digest == hash.digest))
    };
    let Some(before) = before.iter().find(has_hash) else { return Some(last.entry.name) };
    if last.is_within(before) {
        records.push(last);
        return None;
    }
    if records.iter().all(|record| record.entry.name != before.entry.name) {
        records.push(KeyRecord::clone(before));
    }
    Some(last.entry.name)
}
