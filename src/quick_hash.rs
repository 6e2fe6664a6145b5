//! A quick hash, for tables into which nobody outside can put a key.
//!
//! Where callers choose the keys that a table gets, they could choose such as collide; to look for what is not there does no
//! harm. In return it takes a fifth of what std's hash takes.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A table with the quick hash.
pub(crate) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// Each number is shifted in and the whole multiplied, as in Firefox's hash (FxHash).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuickHasher(u64);

impl QuickHasher {
    #[inline]
    fn add(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for QuickHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        // With how many they are, in front of seven at most: zeros tell themselves from nothing.
        let rest = rest.iter().rev().fold(rest.len() as u64, |number, byte| number << 8 | u64::from(*byte));
        self.add(rest);
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.add(number.into());
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.add(number.cast_unsigned() as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::*;

    #[test]
    fn what_differs_has_another_hash() {
        let hash = |text: &str| BuildHasherDefault::<QuickHasher>::default().hash_one(text);
        let texts =
            ["", "a", "b", "ab", "ba", "gpt-4o", "gpt-4o-m", "gpt-4o-mini", "gpt-4o-mini-2024-07-18", "\0", "\0\0"];
        let mut hashes: Vec<u64> = texts.into_iter().map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), texts.len());
        assert_eq!(hash("gpt-4o"), hash("gpt-4o"));
    }
}
