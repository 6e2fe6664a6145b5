//! All gates of one layer, found by a feature's name.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Weak},
};

use super::{
    gate::FeatureGate,
    layer::{Plan, Settings},
    places::Places,
};
use crate::layers::lanes::Lanes;

/// The gates of the named features, and the one that all others share.
#[derive(Debug)]
pub(super) struct Features {
    named: Vec<(Arc<str>, Lanes<FeatureGate>)>,
    /// Where each is, when there are more than a look at each would be cheap for.
    places: Option<HashMap<Arc<str>, usize, BuildHasherDefault<NameHasher>>>,
    default: Lanes<FeatureGate>,
    /// The places of names that an earlier layer had and this one has not, for as long as calls of theirs are in flight:
    /// the name may come back.
    gone: Vec<(Arc<str>, Weak<Places>)>,
}

/// A few names are compared faster than one is hashed: nearly all differ in their length.
const FEW: usize = 8;

impl Features {
    /// The gates of a plan; those that were there before go on, with what they have counted.
    pub(super) fn new(plan: &Plan, before: Option<&Self>) -> Self {
        let mut named: Vec<(Arc<str>, Lanes<FeatureGate>)> = Vec::new();
        for (name, limits) in &plan.named {
            let settings = plan.settings(*limits);
            let lanes = match before.and_then(|before| before.find(name)) {
                Some(lanes) => succeeded(lanes, settings),
                None => {
                    let places = before.and_then(|before| before.find_gone(name));
                    Lanes::new(Arc::new(FeatureGate::new(Some(name.clone()), settings, places)))
                }
            };
            // Of two with one name, the later stays.
            match named.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = lanes,
                None => named.push((name.clone(), lanes)),
            }
        }
        let places = (named.len() > FEW)
            .then(|| named.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect());
        let settings = plan.settings(plan.default);
        let default = match before {
            Some(before) => succeeded(&before.default, settings),
            None => Lanes::new(Arc::new(FeatureGate::new(None, settings, None))),
        };
        let mut gone = before.map(Self::gone).unwrap_or_default();
        gone.retain(|(name, places)| places.strong_count() > 0 && named.iter().all(|(known, _)| known != name));
        Self { named, places, default, gone }
    }

    fn find_gone(&self, feature: &str) -> Option<Arc<Places>> {
        self.gone.iter().find(|(name, _)| &**name == feature)?.1.upgrade()
    }

    /// The places of all names, for whoever comes after.
    fn gone(&self) -> Vec<(Arc<str>, Weak<Places>)> {
        let named = self.named.iter().map(|(name, lanes)| (name.clone(), Arc::downgrade(lanes.gate().shared_places())));
        named.chain(self.gone.iter().cloned()).collect()
    }

    /// The gate of a feature, or the one that all unnamed share.
    pub(super) fn gate(&self, feature: Option<&str>) -> &Arc<FeatureGate> {
        self.lanes(feature).gate()
    }

    /// The same, for a call.
    #[inline]
    pub(super) fn lanes(&self, feature: Option<&str>) -> &Lanes<FeatureGate> {
        feature.and_then(|name| self.find(name)).unwrap_or(&self.default)
    }

    pub(super) fn named(&self, feature: &str) -> Option<&Arc<FeatureGate>> {
        self.find(feature).map(Lanes::gate)
    }

    #[inline]
    fn find(&self, feature: &str) -> Option<&Lanes<FeatureGate>> {
        match &self.places {
            None => {
                for (name, lanes) in &self.named {
                    if **name == *feature {
                        return Some(lanes);
                    }
                }
                None
            }
            Some(_) => self.find_among_many(feature),
        }
    }

    #[inline(never)]
    fn find_among_many(&self, feature: &str) -> Option<&Lanes<FeatureGate>> {
        let place = *self.places.as_ref()?.get(feature)?;
        Some(&self.named[place].1)
    }

    pub(super) fn default_gate(&self) -> &Arc<FeatureGate> {
        self.default.gate()
    }

    pub(super) fn all_named(&self) -> impl Iterator<Item = &Arc<FeatureGate>> {
        self.named.iter().map(|(_, lanes)| lanes.gate())
    }
}

/// The lanes of the gate that takes the place of another; the same ones where nothing changes.
fn succeeded(before: &Lanes<FeatureGate>, settings: Settings) -> Lanes<FeatureGate> {
    let gate = before.gate().succeeded(settings);
    if Arc::ptr_eq(&gate, before.gate()) { before.clone() } else { Lanes::new(gate) }
}

/// Eight bytes at a time, each folded in by a multiplication (as in Fowler, Noll and Vo's hash): for names of some ten
/// bytes it takes a fraction of the default hasher's time. The keys come from the configuration; what comes from
/// requests is only looked up, so that nobody can fill the table.
#[derive(Clone, Copy, Default)]
struct NameHasher(u64);

impl NameHasher {
    #[inline]
    fn fold(&mut self, word: u64) {
        // An odd number without a pattern: 2^64 divided by the golden ratio.
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // A product's high bits are its best, and the table reads the low ones too.
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for NameHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        // The length in the last word tells `a` from `a\0`.
        let last = rest.iter().fold(bytes.len() as u64, |word, byte| word << 8 | u64::from(*byte));
        self.fold(last);
    }

    /// The end mark of a `str`, which is alone here.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::BulkheadLayer;

    #[test]
    fn few_features_and_many_are_found_alike() {
        for count in [0, 1, FEW, FEW + 1, 100] {
            let layer = (0..count).fold(BulkheadLayer::new().default_limit(7), |layer, n| {
                layer.feature(format!("feature {n}"), n).feature(format!("feature {n}"), n + 1)
            });
            let handle = layer.handle();
            for n in 0..count {
                assert_eq!(handle.limit(&format!("feature {n}")), n + 1, "the later of two");
            }
            assert_eq!(handle.limit("unknown"), 7);
            assert_eq!(handle.snapshot().len(), count + 1);
        }
    }

    #[test]
    fn names_that_differ_a_little_differ_in_the_table() {
        let names = (0..5000).flat_map(|n| [format!("feature {n}"), format!("{n}"), format!("tenant/{n:08}/chat")]);
        let hash = |name: &str| {
            let mut hasher = NameHasher::default();
            hasher.write(name.as_bytes());
            hasher.finish()
        };
        let hashes: Vec<u64> = names.map(|name| hash(&name)).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        // The bits by which a table of as many entries tells them apart: random ones would leave 63 % of it in use.
        let low: HashSet<u64> = hashes.iter().map(|hash| hash % 15_000).collect();
        assert!(low.len() > 9_000, "{}", low.len());
    }
}
