//! A bounded memory of recently used entries.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, mem};

/// A bounded map. The least recently used entries go first, half of them at a time: there are two generations of
/// half the capacity each, and a used entry moves to the younger.
#[derive(Debug)]
pub struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// Creates a map of so many entries.
    pub fn new(capacity: usize) -> Self {
        Self { half: capacity.div_ceil(2), young: HashMap::new(), old: HashMap::new() }
    }

    /// Returns the value of a key, which is young again.
    pub fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Iterates over all entries, the older half first: inserting them into another map in this order keeps the
    /// most recent ones.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.old.iter().chain(&self.young)
    }

    /// Adds an entry, and drops the older half if there are too many.
    pub fn insert(&mut self, key: K, value: V) {
        if self.half == 0 {
            return;
        }
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_map_is_bounded() {
        let mut recent = Recent::<String, usize>::new(100);
        recent.insert("kept".into(), 1);
        for n in 0..10_000 {
            recent.insert(format!("s{n}"), 0);
            assert_eq!(recent.get("kept"), Some(1));
            assert!(recent.young.len() + recent.old.len() <= 100);
        }
        assert_eq!(recent.get("s0"), None);
        assert_eq!(recent.get("s9999"), Some(0));
    }

    #[test]
    fn what_is_handed_on_is_there_once_and_what_was_used_last_is_forgotten_last() {
        let mut before = Recent::<&str, usize>::new(4);
        for (value, key) in ["a", "b", "c", "a"].into_iter().enumerate() {
            before.insert(key, value);
        }
        let mut handed: Vec<_> = before.iter().map(|(key, value)| (*key, *value)).collect();
        handed.sort_unstable();
        assert_eq!(handed, [("a", 3), ("b", 1), ("c", 2)]);

        let mut after = Recent::new(4);
        before.iter().for_each(|(key, value)| after.insert(*key, *value));
        after.insert("d", 4);
        after.insert("e", 5);
        assert_eq!((after.get("b"), after.get("d"), after.get("e")), (None, Some(4), Some(5)));
    }

    #[test]
    fn a_capacity_of_zero_remembers_nothing() {
        let mut recent = Recent::<String, usize>::new(0);
        recent.insert("a".into(), 1);
        assert_eq!(recent.get("a"), None);
    }
}
