//! The registry of what holds at all gateways: callers' keys and orders by hand, with a log of who changed what.
//!
//! An entry is a document, which the store does not read. Each change has the next revision, and the log has its
//! entry before and after. So a replica that knows a revision asks for later changes alone, and two people who change
//! one entry at once lose nothing: the second names a revision that is no longer there, and is told so.

mod memory;

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::Duration};

pub use self::memory::MemoryRegistry;
pub use crate::responses::StoreFuture;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A caller's key.
    Key,
    /// An order by hand, such as that a tier is drained.
    Order,
}

impl EntryKind {
    /// Returns the kind's name: `key` or `order`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Order => "order",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EntryKind {
    type Err = UnknownEntryKind;

    fn from_str(name: &str) -> Result<Self, UnknownEntryKind> {
        match name {
            "key" => Ok(Self::Key),
            "order" => Ok(Self::Order),
            _ => Err(UnknownEntryKind(name.into())),
        }
    }
}

/// The error of a kind that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEntryKind(Box<str>);

impl fmt::Display for UnknownEntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the registry has an entry of the kind `{}`, which this version does not know", self.0)
    }
}

impl std::error::Error for UnknownEntryKind {}

/// A key or an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEntry {
    /// Its kind.
    pub kind: EntryKind,
    /// Its name, of which there is one for each kind.
    pub name: Arc<str>,
    /// Its settings, which the store does not read.
    pub document: Arc<str>,
    /// The revision of its last change.
    pub revision: u64,
}

/// The entries of a kind, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySnapshot {
    /// The revision of the last change of all kinds; 0 before the first.
    pub revision: u64,
    /// The entries, in the order of their names.
    pub entries: Vec<RegistryEntry>,
}

/// One change, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryChange {
    /// Its number: one more than that of the change before.
    pub revision: u64,
    /// Its time by the store's clock, since 1970, in whole milliseconds.
    pub at: Duration,
    /// The name of the person or the program that ordered it.
    pub actor: Arc<str>,
    /// The order's name, such as `rotate`.
    pub action: Arc<str>,
    /// The kind of the entry.
    pub kind: EntryKind,
    /// The name of the entry.
    pub name: Arc<str>,
    /// The document before; `None` for a new entry.
    pub before: Option<Arc<str>>,
    /// The document after; `None` for a removed entry.
    pub after: Option<Arc<str>>,
}

/// The later changes of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryChanges {
    /// The revision of the last change of all. A lower one than was known before tells of an older copy of the store.
    pub latest: u64,
    /// The changes, in the order of their revisions.
    pub changes: Vec<RegistryChange>,
}

/// A change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEdit {
    /// The kind of the entry.
    pub kind: EntryKind,
    /// The name of the entry.
    pub name: Arc<str>,
    /// The order's name, for the log.
    pub action: Arc<str>,
    /// The revision of the entry that it changes; `None` to make a new entry.
    pub replaces: Option<u64>,
    /// The new document; `None` to remove the entry.
    pub document: Option<Arc<str>>,
}

/// The outcome of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryOutcome {
    /// All changes are made, and this is the revision of the last one.
    Applied(u64),
    /// None is made: this entry is no longer at the revision that its edit names, or is there already.
    Conflict(EntryKind, Arc<str>),
}

/// A store of keys and orders.
///
/// Every read may be repeated after a failure. An order whose reply was lost may have been carried out: repeated, it is
/// a [conflict](RegistryOutcome::Conflict).
pub trait RegistryStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the entries of a kind.
    fn read(&self, kind: EntryKind) -> StoreFuture<'_, RegistrySnapshot>;

    /// Returns at most `limit` changes of all kinds after a revision, the oldest first.
    fn changes(&self, after: u64, limit: usize) -> StoreFuture<'_, RegistryChanges>;

    /// Returns at most `limit` changes before a revision (or the last ones), the newest first; of one name, if it is
    /// given.
    fn history<'a>(
        &'a self,
        name: Option<(EntryKind, &'a str)>,
        before: Option<u64>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<RegistryChange>>;

    /// Makes changes, all or none, in the name of `actor`.
    fn apply<'a>(&'a self, actor: &'a str, edits: Vec<RegistryEdit>) -> StoreFuture<'a, RegistryOutcome>;
}

/// The entries that an order changes, with their revisions and documents.
pub(crate) type KnownEntries = HashMap<(EntryKind, Arc<str>), (u64, Arc<str>)>;

/// Returns the changes of an order, or the entry that is in its way.
pub(crate) fn changes(
    actor: &str,
    at: Duration,
    latest: u64,
    known: &mut KnownEntries,
    edits: Vec<RegistryEdit>,
) -> Result<Vec<RegistryChange>, (EntryKind, Arc<str>)> {
    let actor: Arc<str> = actor.into();
    let change = |(edit, revision): (RegistryEdit, u64)| {
        let RegistryEdit { kind, name, action, replaces, document } = edit;
        let place = (kind, name);
        let before = known.get(&place);
        if before.map(|(revision, _)| *revision) != replaces {
            return Err(place);
        }
        let before = before.map(|(_, document)| document.clone());
        match &document {
            Some(document) => known.insert(place.clone(), (revision, document.clone())),
            None => known.remove(&place),
        };
        let (kind, name) = place;
        Ok(RegistryChange { revision, at, actor: actor.clone(), action, kind, name, before, after: document })
    };
    edits.into_iter().zip(latest + 1..).map(change).collect()
}
