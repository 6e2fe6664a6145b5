use std::{collections::HashMap, sync::Arc};

use subtle::ConstantTimeEq;

use super::key::Key;

/// The keys of a reading, by their hashes.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// The keys in the order of the file.
    pub(super) list: Vec<Arc<Key>>,
    /// By the first eight bytes of their hashes, which tell nothing of the keys.
    by_prefix: HashMap<u64, Vec<Arc<Key>>>,
}

impl KeySet {
    pub(super) fn new(list: Vec<Arc<Key>>) -> Self {
        let mut by_prefix: HashMap<u64, Vec<Arc<Key>>> = HashMap::with_capacity(list.len());
        for key in &list {
            by_prefix.entry(prefix(&key.hash)).or_default().push(key.clone());
        }
        Self { list, by_prefix }
    }

    /// Returns the key with this hash.
    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<&Arc<Key>> {
        self.candidates(hash).iter().find(|key| bool::from(key.hash.ct_eq(hash)))
    }

    /// Returns the keys with which a hash is compared.
    pub(super) fn candidates(&self, hash: &[u8; 32]) -> &[Arc<Key>] {
        self.by_prefix.get(&prefix(hash)).map_or(&[], Vec::as_slice)
    }

    /// Holds back the last of the keys that follow these, unless the same key allowed as much before. Returns its name.
    pub(super) fn hold_back_last(&self, keys: &mut Vec<Arc<Key>>) -> Option<Arc<str>> {
        let last = keys.pop()?;
        let Some(before) = self.find(&last.hash) else { return Some(last.name.clone()) };
        if last.is_within(before) {
            keys.push(last);
            return None;
        }
        if keys.iter().all(|key| key.name != before.name) {
            keys.push(before.clone());
        }
        Some(last.name.clone())
    }
}

fn prefix(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
