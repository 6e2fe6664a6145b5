use std::{collections::HashMap, sync::Arc, time::Duration};

use subtle::ConstantTimeEq;

use super::{
    denial::Denial,
    entry::{KeyRecord, SecretHash},
    key::Key,
    teams::Teams,
};

/// The keys that callers may show, by their hashes.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// The keys in the order of their sources.
    pub(super) list: Vec<Arc<Key>>,
    by_name: HashMap<Arc<str>, usize>,
    /// Hashes with the places of their keys, by their first eight bytes, which tell nothing of the secrets.
    by_prefix: HashMap<u64, Vec<(SecretHash, usize)>>,
    /// The limits of the keys' teams.
    pub(super) teams: Teams,
}

impl KeySet {
    /// Creates the set of these records. An unchanged record keeps its key, and an unchanged limit its state.
    pub(super) fn new(records: impl IntoIterator<Item = Arc<KeyRecord>>, before: &Self) -> Self {
        let teams = before.teams.clone();
        let key = |record: Arc<KeyRecord>| match before.named(&record.entry.name) {
            Some(known) if Arc::ptr_eq(&known.record, &record) => known.clone(),
            known => Arc::new(Key::new(record, known.map(|known| &**known), &teams)),
        };
        let list: Vec<Arc<Key>> = records.into_iter().map(key).collect();
        let mut by_prefix: HashMap<_, Vec<_>> = HashMap::with_capacity(list.len());
        for (place, key) in list.iter().enumerate() {
            for hash in &key.record.hashes {
                by_prefix.entry(prefix(&hash.digest)).or_default().push((*hash, place));
            }
        }
        let by_name = list.iter().enumerate().map(|(place, key)| (key.name.clone(), place)).collect();
        Self { list, by_name, by_prefix, teams }
    }

    /// Iterates over the keys' records.
    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<KeyRecord>> {
        self.list.iter().map(|key| &key.record)
    }

    /// Returns the key of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.by_name.get(name).map(|place| &self.list[*place])
    }

    /// Returns the key with this hash, if it may call at this time since 1970.
    ///
    /// # Errors
    ///
    /// The key or the hash is over, or the key is paused. `Ok(None)` for a hash that nobody has.
    pub(super) fn find(&self, digest: &[u8; 32], since_1970: Duration) -> Result<Option<&Arc<Key>>, Denial> {
        let Some((hash, place)) = self.place(digest) else { return Ok(None) };
        let key = &self.list[*place];
        if hash.until.is_some_and(|until| since_1970 >= until) {
            return Err(Denial::Expired(key.name.clone()));
        }
        Self::admit(key, since_1970).map(Some)
    }

    /// Returns a key, if it may call at this time since 1970.
    ///
    /// # Errors
    ///
    /// The key is over or paused.
    pub(super) fn admit(key: &Arc<Key>, since_1970: Duration) -> Result<&Arc<Key>, Denial> {
        let entry = &key.record.entry;
        if entry.expires.is_some_and(|expiry| expiry.is_over(since_1970)) {
            return Err(Denial::Expired(key.name.clone()));
        }
        if entry.paused { Err(Denial::Paused(key.name.clone())) } else { Ok(key) }
    }

    /// Returns the key with this hash, whether or not it may call.
    pub(super) fn owner(&self, digest: &[u8; 32]) -> Option<&Arc<Key>> {
        self.place(digest).map(|(_, place)| &self.list[*place])
    }

    fn place(&self, digest: &[u8; 32]) -> Option<&(SecretHash, usize)> {
        self.candidates(digest).iter().find(|(hash, _)| bool::from(hash.digest.ct_eq(digest)))
    }

    /// Returns the hashes with which one is compared.
    pub(super) fn candidates(&self, digest: &[u8; 32]) -> &[(SecretHash, usize)] {
        self.by_prefix.get(&prefix(digest)).map_or(&[], Vec::as_slice)
    }
}

fn prefix(digest: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
