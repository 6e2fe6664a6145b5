//! Orders for stored keys: make, change, rotate and remove them.
//!
//! An order reads the key, changes its document, and writes it for the revision that it read. Where another order was
//! faster it does so again, so that two at once lose nothing.

use std::{collections::HashSet, fmt, slice, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use steadfast::{Events, store::StoreError};
use steadfast_internal::wall_clock;
use steadfast_stores::registry::{EntryKind, RegistryChange, RegistryEdit, RegistryOutcome, RegistryStore};
use tokio::time::timeout;

use super::{
    Keys, VirtualKey,
    entry::KeyRecord,
    stored::{self, StoredKey, StoredKeys},
};
use crate::lock::lock;

/// A key's document.
pub(crate) type Document = Map<String, Value>;

/// The reason for which an order is not carried out.
#[derive(Debug)]
pub(crate) enum KeyOrderError {
    /// The keys are in no store.
    NotStored,
    /// The document would be wrong.
    Invalid(String),
    /// A key of this name is there already.
    Exists(Arc<str>),
    /// There is no such key.
    Unknown(Arc<str>),
    /// The key is in the file.
    InFile(Arc<str>),
    /// Others changed it again and again.
    Busy(Arc<str>),
    /// The store failed before it was asked to change anything.
    Away(StoreError),
    /// The store failed at the order itself.
    Unsure(StoreError),
    /// The system has no randomness.
    NoRandomness(std::io::Error),
}

impl fmt::Display for KeyOrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStored => f.write_str(
                "this gateway has its keys in a file alone: add `gateway: { keys: { store: durable } }` and a durable \
                 store to its configuration",
            ),
            Self::Invalid(problem) => f.write_str(problem),
            Self::Exists(name) => write!(f, "there is a key `{name}` already: change it, or choose another name"),
            Self::Unknown(name) => write!(f, "there is no key `{name}`"),
            Self::InFile(name) => write!(f, "the key `{name}` is in the file of keys: change it there"),
            Self::Busy(name) => write!(f, "others are changing the key `{name}` at the moment: try again"),
            Self::Away(error) => write!(f, "the store of keys failed: {error}"),
            Self::Unsure(error) => write!(
                f,
                "the store of keys failed, and may have carried the order out: look at `steadfast key log`: {error}"
            ),
            Self::NoRandomness(error) => write!(f, "no randomness: {error}"),
        }
    }
}

impl From<StoreError> for KeyOrderError {
    fn from(error: StoreError) -> Self {
        Self::Away(error)
    }
}

/// A key with a new secret, which is shown once.
#[derive(Debug)]
pub(crate) struct MadeKey {
    pub(crate) name: Arc<str>,
    pub(crate) secret: VirtualKey,
}

/// The longest name of a key, in bytes.
const NAME_BYTES: usize = 200;
/// The largest document. A hash of a rotation takes some 130 bytes.
const DOCUMENT_BYTES: usize = 64 << 10;
/// The most tries of one order while others change the same key.
const TRIES: usize = 10;
/// The time for the store to carry an order out.
const SILENCE: Duration = Duration::from_secs(10);
/// The longest time for which an earlier secret goes on beside a new one.
const LONGEST_OVERLAP: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl Keys {
    /// Makes a key with a new secret.
    ///
    /// # Errors
    ///
    /// The document is wrong, the name is taken, or the store failed.
    pub(crate) async fn create(&self, actor: &str, mut document: Document) -> Result<MadeKey, KeyOrderError> {
        let stored = self.stored()?;
        if document.contains_key("hash") || document.contains_key("hashes") {
            let problem = "a new key has its secret from the gateway: leave `hash` and `hashes` out, or import it";
            return Err(KeyOrderError::Invalid(problem.to_owned()));
        }
        let secret = VirtualKey::generate().map_err(KeyOrderError::NoRandomness)?;
        document.insert("hashes".to_owned(), json!([{ "hash": secret.hash() }]));
        self.turn().await?;
        let (edit, record) = new_entry(stored, "create", document)?;
        let name = edit.name.clone();
        if self.names_in_file().contains(&*name) {
            return Err(KeyOrderError::InFile(name));
        }
        self.check(&[record], |_| true)?;
        self.apply(stored, actor, vec![edit]).await?.map_err(KeyOrderError::Exists)?;
        Ok(MadeKey { name, secret })
    }

    /// Adds keys whose secrets exist, all or none. Returns their number. Keys of the file beside the store count once
    /// the file lets them go.
    ///
    /// # Errors
    ///
    /// A document is wrong, a name is taken, or the store failed.
    pub(crate) async fn import(&self, actor: &str, documents: Vec<Document>) -> Result<usize, KeyOrderError> {
        let stored = self.stored()?;
        self.turn().await?;
        let entries = documents.into_iter().map(|document| new_entry(stored, "import", document));
        let (edits, records): (Vec<_>, Vec<_>) = entries.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let mut digests = HashSet::new();
        for record in &records {
            if !record.hashes.iter().all(|hash| digests.insert(hash.digest)) {
                return Err(KeyOrderError::Invalid(format!("the hash of `{}` occurs twice", record.entry.name)));
            }
        }
        self.check(&records, |_| true)?;
        let count = edits.len();
        self.apply(stored, actor, edits).await?.map_err(KeyOrderError::Exists)?;
        Ok(count)
    }

    /// Changes a key by a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    ///
    /// The document would be wrong, the key is unknown or in the file, or the store failed.
    pub(crate) async fn change(&self, actor: &str, name: &str, patch: &Document) -> Result<(), KeyOrderError> {
        for fixed in ["name", "hash", "hashes"] {
            if patch.contains_key(fixed) {
                let problem = match fixed {
                    "name" => "a key keeps its name: make another one",
                    _ => "a key's hashes change by a rotation",
                };
                return Err(KeyOrderError::Invalid(problem.to_owned()));
            }
        }
        let action = match (patch.len(), patch.get("paused")) {
            (1, Some(Value::Bool(true))) => "pause",
            (1, Some(Value::Bool(false) | Value::Null)) => "resume",
            _ => "limit",
        };
        let new = |known: &StoredKey| {
            let mut document: Document = serde_json::from_str(&known.document).map_err(|_| broken(name))?;
            merge(&mut document, patch);
            let record = read(document)?;
            // The rest may name what the configuration no longer has, and keeps nobody from a pause.
            self.check(slice::from_ref(&record), |field| patch.contains_key(field))?;
            Ok(Some(record))
        };
        self.replace(actor, name, action, new).await
    }

    /// Gives a key a new secret. Its earlier ones go on for a while.
    ///
    /// # Errors
    ///
    /// The overlap is too long, the key is unknown or in the file, or the store failed.
    pub(crate) async fn rotate(&self, actor: &str, name: &str, overlap: Duration) -> Result<MadeKey, KeyOrderError> {
        if overlap > LONGEST_OVERLAP {
            return Err(KeyOrderError::Invalid("`overlap` is at most 366 days".to_owned()));
        }
        let secret = VirtualKey::generate().map_err(KeyOrderError::NoRandomness)?;
        let now = wall_clock::since_1970();
        let new = |known: &StoredKey| {
            let mut record = known.record.as_deref().cloned().ok_or_else(|| broken(name))?;
            record.rotate(&secret, now, overlap);
            Ok(Some(record))
        };
        self.replace(actor, name, "rotate", new).await?;
        Ok(MadeKey { name: name.into(), secret })
    }

    /// Removes a key. Its requests under way end as they would.
    ///
    /// # Errors
    ///
    /// The key is unknown or in the file, or the store failed.
    pub(crate) async fn remove(&self, actor: &str, name: &str) -> Result<(), KeyOrderError> {
        self.replace(actor, name, "remove", |_| Ok(None)).await
    }

    fn stored(&self) -> Result<&StoredKeys, KeyOrderError> {
        self.stored.as_ref().ok_or(KeyOrderError::NotStored)
    }

    /// Replaces a key by what `new` makes of it, as often as others are faster.
    async fn replace(
        &self,
        actor: &str,
        name: &str,
        action: &str,
        new: impl Fn(&StoredKey) -> Result<Option<KeyRecord>, KeyOrderError>,
    ) -> Result<(), KeyOrderError> {
        let stored = self.stored()?;
        for _ in 0..TRIES {
            self.turn().await?;
            let Some(known) = stored.named(name) else {
                let in_file = self.names_in_file().contains(name);
                return Err(if in_file {
                    KeyOrderError::InFile(name.into())
                } else {
                    KeyOrderError::Unknown(name.into())
                });
            };
            let document = new(&known)?.as_ref().map(written).transpose()?;
            let (name, action, replaces) = (Arc::from(name), action.into(), Some(known.revision));
            let edit = RegistryEdit { kind: EntryKind::Key, name, action, replaces, document };
            if self.apply(stored, actor, vec![edit]).await?.is_ok() {
                return Ok(());
            }
            // A restored backup may have the revisions that are known, of other changes.
            stored.read_again();
        }
        Err(KeyOrderError::Busy(name.into()))
    }

    fn names_in_file(&self) -> HashSet<Box<str>> {
        lock(&self.sources).file.iter().map(|record| record.entry.name.clone()).collect()
    }

    /// Checks that nobody else has the keys' hashes; and of fields that are given, that the configuration has what they
    /// name, and can keep their budgets.
    fn check(&self, records: &[KeyRecord], is_given: impl Fn(&str) -> bool) -> Result<(), KeyOrderError> {
        let invalid = |problem: String| Err(KeyOrderError::Invalid(problem));
        let current = self.current.load();
        for record in records {
            for hash in &record.hashes {
                if current.owner(&hash.digest).is_some_and(|owner| *owner.name != *record.entry.name) {
                    return invalid(format!("another key has a hash of `{}`", record.entry.name));
                }
            }
        }
        let Some(stack) = &self.stack else { return Ok(()) };
        if is_given("features") || is_given("models") {
            let config = stack.config();
            let problems: Vec<String> = records.iter().flat_map(|record| record.unknown_names(&config)).collect();
            if !problems.is_empty() {
                return invalid(problems.join("; "));
            }
        }
        if is_given("budget") {
            let caps: Vec<_> = records.iter().filter_map(KeyRecord::cap).collect();
            stack.check_budgets(&caps).map_err(|problem| KeyOrderError::Invalid(problem.to_string()))?;
        }
        Ok(())
    }

    /// Carries an order out. `Err` names the key that was in its way.
    async fn apply(
        &self,
        stored: &StoredKeys,
        actor: &str,
        edits: Vec<RegistryEdit>,
    ) -> Result<Result<(), Arc<str>>, KeyOrderError> {
        let orders: Vec<_> = edits.iter().take(20).map(|edit| (edit.action.clone(), edit.name.clone())).collect();
        let applied = timeout(SILENCE, stored.store.apply(actor, edits.clone())).await;
        match applied.unwrap_or_else(|_| Err(silent())).map_err(KeyOrderError::Unsure)? {
            RegistryOutcome::Applied(revision) => {
                for (action, key) in orders {
                    tracing::info!(by = actor, action = &*action, key = &*key, revision, "keys changed");
                }
                if !self.took(stored, revision, &edits).await {
                    // Others' changes came between; the store may be away again.
                    let _ = self.turn().await;
                }
                Ok(Ok(()))
            }
            RegistryOutcome::Conflict(_, name) => Ok(Err(name)),
        }
    }
}

/// Returns the log of a store's changes, the newest first; of one key, if it is named.
///
/// # Errors
///
/// There is no store, or it failed.
pub(crate) async fn history(
    store: Option<Arc<dyn RegistryStore>>,
    key: Option<&str>,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<RegistryChange>, KeyOrderError> {
    let store = store.ok_or(KeyOrderError::NotStored)?;
    let asked = store.history(key.map(|name| (EntryKind::Key, name)), before, limit);
    Ok(timeout(SILENCE, asked).await.unwrap_or_else(|_| Err(silent()))?)
}

fn silent() -> StoreError {
    StoreError::new(steadfast::store::StoreErrorKind::Unavailable, "changing keys: no answer in time")
}

/// Returns the edit that adds a key, and its record.
fn new_entry(
    stored: &StoredKeys,
    action: &str,
    document: Document,
) -> Result<(RegistryEdit, KeyRecord), KeyOrderError> {
    let record = read(document)?;
    let name: Arc<str> = (*record.entry.name).into();
    if name.len() > NAME_BYTES || name.chars().any(char::is_control) || name.trim() != &*name {
        let problem = format!("a name has at most {NAME_BYTES} bytes, of characters that can be seen");
        return Err(KeyOrderError::Invalid(problem));
    }
    if stored.named(&name).is_some() {
        return Err(KeyOrderError::Exists(name));
    }
    let (kind, action, document) = (EntryKind::Key, action.into(), Some(written(&record)?));
    Ok((RegistryEdit { kind, name, action, replaces: None, document }, record))
}

fn read(document: Document) -> Result<KeyRecord, KeyOrderError> {
    stored::record(&Value::from(document).to_string()).map_err(KeyOrderError::Invalid)
}

/// Returns the document of a key as it is stored, in one form however it was written.
fn written(record: &KeyRecord) -> Result<Arc<str>, KeyOrderError> {
    let text = Value::from(record.document()).to_string();
    if text.len() > DOCUMENT_BYTES {
        return Err(KeyOrderError::Invalid(format!("a key has at most {} KiB", DOCUMENT_BYTES >> 10)));
    }
    Ok(text.into())
}

fn broken(name: &str) -> KeyOrderError {
    KeyOrderError::Invalid(format!(
        "this version cannot read the stored key `{name}`: use a later one, or remove the key"
    ))
}

/// Merges a patch into a document.
fn merge(document: &mut Document, patch: &Document) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(document.remove(name)),
            Value::Object(inner) => {
                let place = document.entry(name.as_str()).or_insert_with(|| json!({}));
                if !place.is_object() {
                    *place = json!({});
                }
                if let Some(place) = place.as_object_mut() {
                    merge(place, inner);
                }
            }
            other => drop(document.insert(name.clone(), other.clone())),
        }
    }
}

/// Makes a key in a store, without a gateway: for the first administrator.
///
/// # Errors
///
/// The document is wrong, the name is taken, or the store failed; the text says so.
#[doc(hidden)]
pub async fn make_key(store: Arc<dyn RegistryStore>, document: Document) -> Result<VirtualKey, String> {
    let keys = Keys::none().with_store(store, None, &Events::default());
    keys.create("command line", document).await.map(|made| made.secret).map_err(|problem| problem.to_string())
}
