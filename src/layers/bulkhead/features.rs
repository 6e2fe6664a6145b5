//! All gates of one layer, found by a feature's name.

use std::sync::{Arc, Weak};

use super::{
    gate::FeatureGate,
    layer::{Plan, Settings},
    places::Places,
};
use crate::{internal::quick_hash::QuickMap, layers::lanes::Lanes};

/// The gates of the named features, and the one that all others share.
#[derive(Debug)]
pub(super) struct Features {
    named: Vec<(Arc<str>, Lanes<FeatureGate>)>,
    /// The index of each gate, if there are too many to compare each. Names in requests are only looked up.
    places: Option<QuickMap<Arc<str>, usize>>,
    default: Lanes<FeatureGate>,
    /// The places of names that an earlier layer had and this one has not, as long as their calls are in flight:
    /// the name may come back.
    gone: Vec<(Arc<str>, Weak<Places>)>,
}

/// A few names are compared faster than one is hashed: nearly all differ in their length.
const FEW: usize = 8;

impl Features {
    /// Creates the gates of a plan. Gates that existed before carry over, with their counts.
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

    /// Returns the places of all names, for the next layer.
    fn gone(&self) -> Vec<(Arc<str>, Weak<Places>)> {
        let named = self.named.iter().map(|(name, lanes)| (name.clone(), Arc::downgrade(lanes.gate().shared_places())));
        named.chain(self.gone.iter().cloned()).collect()
    }

    /// Returns the gate of a feature, or the one that all unnamed features share.
    pub(super) fn gate(&self, feature: Option<&str>) -> &Arc<FeatureGate> {
        self.lanes(feature).gate()
    }

    /// Returns the sharded gate of a feature, for a call.
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

/// Returns the gate that takes the place of another; the same one if nothing changes.
fn succeeded(before: &Lanes<FeatureGate>, settings: Settings) -> Lanes<FeatureGate> {
    let gate = before.gate().succeeded(settings);
    if Arc::ptr_eq(&gate, before.gate()) { before.clone() } else { Lanes::new(gate) }
}

#[cfg(test)]
mod tests {
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
}
