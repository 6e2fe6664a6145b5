//! Keys in the durable store, which all replicas share.
//!
//! Each replica has all of them in memory, so that no request waits for the store, and a guess costs no more than an
//! honest call. Every second it asks for the changes after the last one that it knows. While the store is away the
//! keys stay as they are; a copy on the disk lets a process start then.

mod copy;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use steadfast::{
    Events,
    store::{StoreError, StoreErrorKind, StoreTrouble, StoreWatch},
};
use steadfast_stores::registry::{EntryKind, RegistryEdit, RegistryEntry, RegistrySnapshot, RegistryStore};
use tokio::time::{Instant, timeout};

use self::copy::KeyCopy;
use super::{
    Keys,
    entry::{KeyEntry, KeyRecord},
    file::concealed,
};
use crate::lock::lock;

/// The interval at which a replica asks for changes.
const TURN: Duration = Duration::from_secs(1);
/// The time for the store's answer.
const SILENCE: Duration = Duration::from_secs(5);
/// The changes of one question.
const PAGE: usize = 1000;

/// The keys of the durable store, as this process knows them.
#[derive(Debug)]
pub(super) struct StoredKeys {
    pub(super) store: Arc<dyn RegistryStore>,
    watch: StoreWatch,
    copy: Option<KeyCopy>,
    known: Mutex<Known>,
    /// Locked during a turn.
    turn: tokio::sync::Mutex<()>,
    /// The number of orders to read all entries, and how many of them are carried out.
    wanted: AtomicU64,
    done: AtomicU64,
    is_unread: AtomicBool,
}

/// The store's content as the process knows it.
#[derive(Debug, Default)]
struct Known {
    revision: u64,
    keys: BTreeMap<Arc<str>, StoredKey>,
    /// True if callers are not served by all of it yet: whoever asks the store may leave half-way.
    is_new: bool,
}

impl Known {
    /// Takes a change over that follows the last one.
    fn take(&mut self, revision: u64, kind: EntryKind, name: Arc<str>, document: Option<Arc<str>>) {
        self.revision = revision;
        if kind != EntryKind::Key {
            return;
        }
        match document {
            Some(document) => {
                let entry = RegistryEntry { kind, name: name.clone(), document, revision };
                self.keys.insert(name, StoredKey::new(&entry));
            }
            None => drop(self.keys.remove(&name)),
        }
        self.is_new = true;
    }
}

/// An entry of the store.
#[derive(Clone, Debug)]
pub(super) struct StoredKey {
    pub(super) revision: u64,
    pub(super) document: Arc<str>,
    /// `None` for a document that this version does not understand.
    pub(super) record: Option<Arc<KeyRecord>>,
}

impl StoredKey {
    fn new(entry: &RegistryEntry) -> Self {
        let record = record(&entry.document).and_then(|record| match *record.entry.name == *entry.name {
            true => Ok(record),
            false => Err(format!("it names itself `{}`", record.entry.name)),
        });
        if let Err(problem) = &record {
            warn_of_key(&entry.name, &format!("this version cannot read it: {problem}"));
        }
        let record = record.ok().map(Arc::new);
        Self { revision: entry.revision, document: entry.document.clone(), record }
    }
}

/// Logs a key that does not count.
pub(super) fn warn_of_key(key: &str, problem: &str) {
    tracing::warn!(key, problem, "a stored key does not count");
}

/// Reads a document.
pub(super) fn record(document: &str) -> Result<KeyRecord, String> {
    let entry = serde_json::from_str::<KeyEntry>(document);
    // A secret may stand there by mistake.
    entry.map_err(|error| concealed(&error.to_string()))?.record()
}

impl StoredKeys {
    /// Creates the keys of a store, none of which is read yet. `folder` is where a copy is kept.
    pub(super) fn new(store: Arc<dyn RegistryStore>, folder: Option<PathBuf>, events: &Events) -> Self {
        let watch = StoreWatch::new("keys");
        watch.set_events(events);
        Self {
            store,
            watch,
            copy: folder.map(KeyCopy::new),
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            wanted: AtomicU64::new(1),
            done: AtomicU64::new(0),
            is_unread: AtomicBool::new(true),
        }
    }

    /// Has the next turn read all entries.
    pub(super) fn read_again(&self) {
        self.wanted.fetch_add(1, Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.is_unread.load(Relaxed)
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        self.watch.trouble()
    }

    /// Returns what is known of a key.
    pub(super) fn named(&self, name: &str) -> Option<StoredKey> {
        lock(&self.known).keys.get(name).cloned()
    }

    /// Returns whether a record is of this store.
    pub(super) fn has(&self, record: &Arc<KeyRecord>) -> bool {
        let known = lock(&self.known);
        let key = known.keys.get(&*record.entry.name);
        key.and_then(|key| key.record.as_ref()).is_some_and(|own| Arc::ptr_eq(own, record))
    }

    /// Asks the store for what changed. Whoever leaves half-way leaves the rest to the next.
    async fn read(&self) -> Result<(), StoreError> {
        let wanted = self.wanted.load(Relaxed);
        if self.done.load(Relaxed) == wanted {
            loop {
                let after = lock(&self.known).revision;
                let later = self.store.changes(after, PAGE).await?;
                if later.latest < after {
                    tracing::warn!(
                        known = after,
                        latest = later.latest,
                        "the store of keys is an older copy: read whole"
                    );
                    break;
                }
                if later.changes.is_empty() {
                    return Ok(());
                }
                let mut known = lock(&self.known);
                for change in later.changes {
                    known.take(change.revision, change.kind, change.name, change.after);
                }
            }
        }
        let snapshot = self.store.read(EntryKind::Key).await?;
        self.replace(snapshot);
        self.done.store(wanted, Relaxed);
        Ok(())
    }

    /// Takes over what an order has changed here. Returns false if others' changes came between.
    fn took(&self, revision: u64, edits: &[RegistryEdit]) -> bool {
        let mut known = lock(&self.known);
        let follows = known.revision.saturating_add(edits.len() as u64) == revision;
        for edit in edits.iter().filter(|_| follows) {
            let revision = known.revision + 1;
            known.take(revision, edit.kind, edit.name.clone(), edit.document.clone());
        }
        follows
    }

    /// Takes all entries over. Those that are known already stay as they are.
    fn replace(&self, snapshot: RegistrySnapshot) {
        let mut known = lock(&self.known);
        let mut before = std::mem::take(&mut known.keys);
        let keys = snapshot.entries.into_iter().map(|entry| {
            let kept = before.remove(&entry.name).filter(|known| known.document == entry.document);
            let kept = kept.map(|known| StoredKey { revision: entry.revision, ..known });
            (entry.name.clone(), kept.unwrap_or_else(|| StoredKey::new(&entry)))
        });
        known.keys = keys.collect();
        known.revision = snapshot.revision;
        known.is_new = true;
    }

    /// Has the copy written, if it is not what is known.
    fn write_copy(&self) {
        let Some(copy) = &self.copy else { return };
        let known = lock(&self.known);
        copy.write_if_new(known.revision, || {
            let entries = known.keys.iter().map(|(name, key)| RegistryEntry {
                kind: EntryKind::Key,
                name: name.clone(),
                document: key.document.clone(),
                revision: key.revision,
            });
            RegistrySnapshot { revision: known.revision, entries: entries.collect() }
        });
    }
}

impl Keys {
    /// Adds the keys of a store, which the first [turn](Self::turn) reads. `folder` is where a copy is kept.
    pub(crate) fn with_store(
        mut self,
        store: Arc<dyn RegistryStore>,
        folder: Option<PathBuf>,
        events: &Events,
    ) -> Self {
        self.stored = Some(StoredKeys::new(store, folder, events));
        self
    }

    /// Asks the store once for what changed, if there is one. A store that is away has its own line in the log.
    ///
    /// # Errors
    ///
    /// The store failed, or gave no answer in time. The keys stay as they are.
    pub(crate) async fn turn(&self) -> Result<(), StoreError> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let _turn = stored.turn.lock().await;
        let silent = || StoreError::new(StoreErrorKind::Unavailable, "reading the keys: no answer in time");
        let read = timeout(SILENCE, stored.read()).await.unwrap_or_else(|_| Err(silent()));
        match read {
            Ok(()) => {
                stored.watch.record_success(Instant::now());
                self.serve(stored);
                Ok(())
            }
            Err(error) => {
                stored.watch.record_failure(error.kind(), &error, Instant::now());
                Err(error)
            }
        }
    }

    /// Reads the keys of the store at a start. Where the store is away the copy serves.
    ///
    /// # Errors
    ///
    /// The store refuses for a reason that does not heal.
    pub(crate) async fn begin(&self) -> Result<(), StoreError> {
        self.read_issuer().await;
        let Some(stored) = &self.stored else { return Ok(()) };
        let Err(error) = self.turn().await else { return Ok(()) };
        if !error.heals() {
            return Err(error);
        }
        let copied = match &stored.copy {
            Some(copy) => copy.read().await,
            None => None,
        };
        match copied {
            Some(snapshot) => {
                let (keys, revision) = (snapshot.entries.len(), snapshot.revision);
                tracing::warn!(keys, revision, "the store of keys is away: serving the keys of the copy");
                stored.replace(snapshot);
                stored.read_again();
                self.take_over(stored);
            }
            None => tracing::error!(
                "the store of keys is away, and there is no copy: stored keys are refused until it is back"
            ),
        }
        Ok(())
    }

    /// Follows the store and the identity provider for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        let issuer = async {
            if let Some(tokens) = &self.tokens {
                tokens.verifier.clone().follow().await;
            }
        };
        let store = async {
            while self.stored.is_some() {
                tokio::time::sleep(TURN).await;
                // The log has a line for it.
                let _ = self.turn().await;
            }
        };
        tokio::join!(issuer, store);
    }

    /// Serves by what an order has changed, though the store may be away again. Returns false if only a turn can tell
    /// what is there now.
    pub(super) async fn took(&self, stored: &StoredKeys, revision: u64, edits: &[RegistryEdit]) -> bool {
        let _turn = stored.turn.lock().await;
        let follows = stored.took(revision, edits);
        self.serve(stored);
        follows
    }

    /// Serves callers by what is new, and has the copy follow. The turn is locked meanwhile.
    fn serve(&self, stored: &StoredKeys) {
        if lock(&stored.known).is_new {
            self.take_over(stored);
        }
        stored.write_copy();
    }

    fn take_over(&self, stored: &StoredKeys) {
        let records = lock(&stored.known).keys.values().filter_map(|key| key.record.clone()).collect();
        match self.publish(|sources| sources.stored = records) {
            Ok(lists) => {
                let names = self.log_changes(lists);
                lock(&stored.known).is_new = false;
                stored.is_unread.store(false, Relaxed);
                self.warn_of_stored_names(&names);
            }
            Err(problem) => tracing::warn!(%problem, "stored keys not taken over; the previous ones stay"),
        }
    }
}
