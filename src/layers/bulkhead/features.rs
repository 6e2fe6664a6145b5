//! All gates of one layer, found by a feature's name.

use std::sync::{Arc, Weak};

use super::{gate::FeatureGate, plan::Plan, semaphore::ResizableSemaphore, settings::Settings};
use crate::{
    internal::{quick_hash::QuickMap, sharded::ShardedArc},
    layers::draft,
};

/// The gates of the named features, and the one that all others share.
#[derive(Debug)]
pub(super) struct Features {
    named: Vec<(Arc<str>, ShardedArc<FeatureGate>)>,
    /// The index of each gate, if there are too many to compare each. Names in requests are only looked up.
    index: Option<QuickMap<Arc<str>, usize>>,
    default: ShardedArc<FeatureGate>,
    /// The places of names that an earlier layer had and this one has not, as long as their calls are in flight:
    /// the name may come back.
    gone: Vec<(Arc<str>, Weak<ResizableSemaphore>)>,
}

/// A few names are compared faster than one is hashed: nearly all differ in their length.
const FEW: usize = 8;

impl Features {
    /// Creates the gates of a plan. They share the counts of known gates.
    pub(super) fn new(plan: &Plan, known: Option<&Self>) -> Self {
        let mut named: Vec<(Arc<str>, ShardedArc<FeatureGate>)> = Vec::new();
        let mut index = QuickMap::<Arc<str>, usize>::default();
        let gone: QuickMap<&str, &Weak<ResizableSemaphore>> =
            known.map(|known| known.gone.iter().map(|(name, places)| (&**name, places)).collect()).unwrap_or_default();
        for (name, limits) in &plan.named {
            let settings = plan.settings(*limits);
            let sharded = match known.and_then(|known| known.find(name)) {
                Some(sharded) => with_settings(sharded, settings),
                None => {
                    let semaphore = gone.get(&**name).and_then(|places| places.upgrade());
                    ShardedArc::new(Arc::new(FeatureGate::new(Some(name.clone()), settings, semaphore)))
                }
            };
            // Of two with one name, the later stays.
            match index.get(name) {
                Some(place) => named[*place].1 = sharded,
                None => {
                    index.insert(name.clone(), named.len());
                    named.push((name.clone(), sharded));
                }
            }
        }
        let settings = plan.settings(plan.default);
        let default = match known {
            Some(known) => with_settings(&known.default, settings),
            None => ShardedArc::new(Arc::new(FeatureGate::new(None, settings, None))),
        };
        let mut gone = known.map(Self::gone).unwrap_or_default();
        gone.retain(|(name, semaphore)| semaphore.strong_count() > 0 && !index.contains_key(name));
        let index = (named.len() > FEW).then_some(index);
        Self { named, index, default, gone }
    }

    /// Returns the places of all names, for the next layer.
    fn gone(&self) -> Vec<(Arc<str>, Weak<ResizableSemaphore>)> {
        let named = self.named.iter().map(|(name, sharded)| (name.clone(), Arc::downgrade(sharded.shared_semaphore())));
        named.chain(self.gone.iter().cloned()).collect()
    }

    /// Returns the gate of a feature, or the one that all unnamed features share.
    pub(super) fn gate(&self, feature: Option<&str>) -> &Arc<FeatureGate> {
        self.sharded(feature).value()
    }

    /// Returns the sharded gate of a feature, for a call.
    #[inline]
    pub(super) fn sharded(&self, feature: Option<&str>) -> &ShardedArc<FeatureGate> {
        feature.and_then(|name| self.find(name)).unwrap_or(&self.default)
    }

    pub(super) fn named(&self, feature: &str) -> Option<&Arc<FeatureGate>> {
        self.find(feature).map(ShardedArc::value)
    }

    #[inline]
    fn find(&self, feature: &str) -> Option<&ShardedArc<FeatureGate>> {
        match &self.index {
            None => {
                for (name, sharded) in &self.named {
                    if **name == *feature {
                        return Some(sharded);
                    }
                }
                None
            }
            Some(_) => self.find_among_many(feature),
        }
    }

    #[inline(never)]
    fn find_among_many(&self, feature: &str) -> Option<&ShardedArc<FeatureGate>> {
        let place = *self.index.as_ref()?.get(feature)?;
        Some(&self.named[place].1)
    }

    pub(super) fn default_gate(&self) -> &Arc<FeatureGate> {
        self.default.value()
    }

    pub(super) fn all_named(&self) -> impl Iterator<Item = &Arc<FeatureGate>> {
        self.named.iter().map(|(_, sharded)| sharded.value())
    }
}

impl draft::Plan for Plan {
    type State = Features;

    fn make(self: &Arc<Self>, before: Option<&Features>) -> Arc<Features> {
        Arc::new(Features::new(self, self.state.as_deref().or(before)))
    }
}

/// Returns a gate with other settings over the same counts; the same gate if the settings are the same.
fn with_settings(known: &ShardedArc<FeatureGate>, settings: Settings) -> ShardedArc<FeatureGate> {
    let gate = known.value().with_settings(settings);
    if Arc::ptr_eq(&gate, known.value()) { known.clone() } else { ShardedArc::new(gate) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BulkheadLayer;

    /// Looking through all names for each would take half a minute in a debug build.
    #[test]
    fn many_features_are_laid_out_and_reloaded_by_one_look_at_each() {
        let of =
            |names: &str| (0..20_000).fold(BulkheadLayer::new(), |layer, n| layer.feature(format!("{names} {n}"), 3));
        let begun = tokio::time::Instant::now();
        let first = of("first").handle();
        let held = first.features().named("first 7").unwrap().clone();
        let other = of("other").state(&first).handle();
        let again = of("first").state(&other).handle();
        assert_eq!((other.limit("other 19999"), again.limit("first 7"), other.limit("first 7")), (3, 3, 64));
        drop(held);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    }

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
