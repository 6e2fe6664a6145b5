use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{KEEP, REFRESH, StoreFuture, WorkedKey, WorkedKeyStore};
use steadfast_internal::sync::{Mutex, lock};

/// The keys that have worked in the memory of the process, for tests. They end with it, and clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryWorkedKeys {
    known: Arc<Mutex<HashMap<Arc<str>, Noted>>>,
}

/// A note of a success, which was some time ago by then.
#[derive(Clone, Copy, Debug)]
struct Noted {
    at: Instant,
    ago: Duration,
}

impl Noted {
    fn age(self) -> Duration {
        self.at.elapsed().saturating_add(self.ago)
    }
}

impl MemoryWorkedKeys {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl WorkedKeyStore for MemoryWorkedKeys {
    fn find(&self, names: Vec<Arc<str>>) -> StoreFuture<'_, Vec<WorkedKey>> {
        Box::pin(async move {
            let known = lock(&self.known);
            let aged = names.into_iter().filter_map(|name| Some((known.get(&name)?.age(), name)));
            Ok(aged.filter(|(ago, _)| *ago < KEEP).map(|(ago, name)| WorkedKey { name, ago }).collect())
        })
    }

    fn note(&self, worked: Vec<WorkedKey>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut known = lock(&self.known);
            for WorkedKey { name, ago } in worked {
                let new = Noted { at: Instant::now(), ago };
                match known.entry(name) {
                    Entry::Occupied(mut entry) if entry.get().age() >= new.age().saturating_add(REFRESH) => {
                        entry.insert(new);
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(entry) => drop(entry.insert(new)),
                }
            }
            known.retain(|_, noted| noted.age() < KEEP);
            Ok(())
        })
    }
}
