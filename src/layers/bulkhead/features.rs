//! All gates of one layer, found by a feature's name.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use super::{gate::FeatureGate, layer::Plan};

/// The gates of the named features, and the one that all others share.
#[derive(Debug)]
pub(super) struct Features {
    named: HashMap<Arc<str>, Arc<FeatureGate>, BuildHasherDefault<NameHasher>>,
    default: Arc<FeatureGate>,
}

impl Features {
    pub(super) fn new(plan: &Plan) -> Self {
        let named = plan.named.iter().map(|(name, limits)| {
            let gate = FeatureGate::new(Some(name.clone()), plan.settings(*limits));
            (name.clone(), Arc::new(gate))
        });
        // Of two with one name, the later stays.
        Self { named: named.collect(), default: Arc::new(FeatureGate::new(None, plan.settings(plan.default))) }
    }

    /// The gate for requests of this feature.
    pub(super) fn gate(&self, feature: Option<&str>) -> &Arc<FeatureGate> {
        feature.and_then(|name| self.named.get(name)).unwrap_or(&self.default)
    }

    /// The gate of a feature that was named.
    pub(super) fn named(&self, feature: &str) -> Option<&Arc<FeatureGate>> {
        self.named.get(feature)
    }

    /// The gate of all others.
    pub(super) fn default_gate(&self) -> &Arc<FeatureGate> {
        &self.default
    }

    /// The gates of the named features, in no order.
    pub(super) fn all_named(&self) -> impl Iterator<Item = &Arc<FeatureGate>> {
        self.named.values()
    }
}

/// FNV-1a (Fowler, Noll and Vo, 1991): for names of some ten bytes it takes a third of the default hasher's time. The
/// keys come from the configuration; what comes from requests is only looked up, so that nobody can fill the table.
#[derive(Clone, Copy)]
struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
