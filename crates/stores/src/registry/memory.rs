use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    EntryKind, KnownEntries, RegistryChange, RegistryChanges, RegistryEdit, RegistryEntry, RegistryOutcome,
    RegistrySnapshot, RegistryStore, StoreFuture,
};
use steadfast_internal::{
    sync::{Mutex, lock},
    wall_clock,
};

/// A registry in the memory of the process, for tests. It ends with it, and clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryRegistry {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<(EntryKind, Arc<str>), RegistryEntry>,
    log: Vec<RegistryChange>,
}

impl MemoryRegistry {
    /// Creates an empty registry.
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn latest(&self) -> u64 {
        self.log.last().map_or(0, |change| change.revision)
    }
}

impl RegistryStore for MemoryRegistry {
    fn read(&self, kind: EntryKind) -> StoreFuture<'_, RegistrySnapshot> {
        Box::pin(async move {
            let state = lock(&self.state);
            let entries = state.entries.values().filter(|entry| entry.kind == kind);
            Ok(RegistrySnapshot { revision: state.latest(), entries: entries.cloned().collect() })
        })
    }

    fn changes(&self, after: u64, limit: usize) -> StoreFuture<'_, RegistryChanges> {
        Box::pin(async move {
            let state = lock(&self.state);
            let later = state.log.iter().filter(|change| change.revision > after);
            Ok(RegistryChanges { latest: state.latest(), changes: later.take(limit).cloned().collect() })
        })
    }

    fn history<'a>(
        &'a self,
        name: Option<(EntryKind, &'a str)>,
        before: Option<u64>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<RegistryChange>> {
        Box::pin(async move {
            let state = lock(&self.state);
            let earlier = state.log.iter().rev().filter(|change| before.is_none_or(|before| change.revision < before));
            let of_name = earlier.filter(|change| name.is_none_or(|name| name == (change.kind, &*change.name)));
            Ok(of_name.take(limit).cloned().collect())
        })
    }

    fn apply<'a>(&'a self, actor: &'a str, edits: Vec<RegistryEdit>) -> StoreFuture<'a, RegistryOutcome> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let places = edits.iter().map(|edit| (edit.kind, edit.name.clone()));
            let known = places.filter_map(|place| state.entries.get_key_value(&place));
            let mut known: KnownEntries =
                known.map(|(place, entry)| (place.clone(), (entry.revision, entry.document.clone()))).collect();
            let at = Duration::from_millis(u64::try_from(wall_clock::since_1970().as_millis()).unwrap_or(u64::MAX));
            let changes = match super::changes(actor, at, state.latest(), &mut known, edits) {
                Ok(changes) => changes,
                Err((kind, name)) => return Ok(RegistryOutcome::Conflict(kind, name)),
            };
            for change in changes {
                let place = (change.kind, change.name.clone());
                match change.after.clone() {
                    Some(document) => {
                        let RegistryChange { revision, kind, name, .. } = change.clone();
                        state.entries.insert(place, RegistryEntry { kind, name, document, revision });
                    }
                    None => drop(state.entries.remove(&place)),
                }
                state.log.push(change);
            }
            Ok(RegistryOutcome::Applied(state.latest()))
        })
    }
}
