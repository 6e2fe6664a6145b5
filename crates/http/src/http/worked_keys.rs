//! The callers' keys that have worked.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::CallerTransport;

/// The keys of callers that have worked at a leaf. It holds neither a key nor a lock: a seeded hash of each key and its
/// address has one place, and a newer key in the same place is remembered in its stead.
#[derive(Default)]
pub(super) struct WorkedKeys {
    hasher: RandomState,
    /// Laid out for the first key: most leaves never see one.
    places: OnceLock<Box<[AtomicU64]>>,
}

/// The number of keys that are remembered: 8 KiB for each leaf.
const PLACES: usize = 1024;

impl WorkedKeys {
    /// Notes that a caller's key was taken.
    pub(super) fn add(&self, caller: &CallerTransport) {
        let Some(hash) = self.hash(caller) else { return };
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::default()).collect());
        places[hash as usize % PLACES].store(hash, Relaxed);
    }

    /// Returns true if a caller's key was taken before.
    pub(super) fn has(&self, caller: &CallerTransport) -> bool {
        let (Some(places), Some(hash)) = (self.places.get(), self.hash(caller)) else { return false };
        places[hash as usize % PLACES].load(Relaxed) == hash
    }

    fn hash(&self, caller: &CallerTransport) -> Option<u64> {
        // Zero stands for an empty place.
        caller.key().map(|key| self.hasher.hash_one((caller.place(), key)).max(1))
    }
}

impl fmt::Debug for WorkedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkedKeys").finish_non_exhaustive()
    }
}
