use std::{fmt, sync::Arc};

use super::{features::Features, gate::FeatureGate};
use crate::InvalidConfig;

/// Looks at the limits of a [`Bulkhead`](super::Bulkhead), and changes them while it runs.
///
/// Clones are the same handle. It keeps nothing alive but the counts.
#[derive(Clone)]
pub struct BulkheadHandle {
    features: Arc<Features>,
}

impl BulkheadHandle {
    pub(super) fn new(features: Arc<Features>) -> Self {
        Self { features }
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    /// Sets how many requests of a feature may be in flight.
    ///
    /// A higher limit lets in whoever waits at once. A lower one interrupts nobody: it is reached as calls end, and
    /// until then no other begins. 0 closes the feature: newcomers are refused, and those that wait go on waiting
    /// until it opens again or their wait is over. An [adaptive](super::Limits::adaptive) limit goes on from this one,
    /// as near to it as its bounds allow; 0 closes it all the same.
    ///
    /// # Errors
    ///
    /// The feature was not named in the layer. Use [`set_default_limit`](Self::set_default_limit) for the others.
    pub fn set_limit(&self, feature: &str, limit: usize) -> Result<(), InvalidConfig> {
        let Some(gate) = self.features.named(feature) else {
            let problem = format!("{feature:?} has no limit of its own: name it in the layer");
            return Err(InvalidConfig::new("feature", problem));
        };
        gate.set_limit(limit);
        Ok(())
    }

    /// Sets how many requests may be in flight of all features together that were not named. As
    /// [`set_limit`](Self::set_limit) in all else.
    pub fn set_default_limit(&self, limit: usize) {
        self.features.default_gate().set_limit(limit);
    }

    /// How many requests of a feature may be in flight. For one that was not named, how many of all such together;
    /// likewise below.
    pub fn limit(&self, feature: &str) -> usize {
        self.features.gate(Some(feature)).places().counts().limit()
    }

    /// How many requests are in flight: from their admission to the end of their answer.
    pub fn in_flight(&self, feature: &str) -> usize {
        self.features.gate(Some(feature)).places().counts().taken()
    }

    /// How many requests wait for a place.
    pub fn queued(&self, feature: &str) -> usize {
        self.features.gate(Some(feature)).places().counts().waiting()
    }

    /// All counts: the named features by name, then what the others share.
    pub fn snapshot(&self) -> Vec<FeatureLoad> {
        let mut gates: Vec<_> = self.features.all_named().collect();
        gates.sort_by_key(|gate| gate.name());
        gates.push(self.features.default_gate());
        let load = |gate: &Arc<FeatureGate>| {
            let now = gate.places().counts();
            let feature = gate.name().cloned();
            FeatureLoad { feature, limit: now.limit(), in_flight: now.taken(), queued: now.waiting() }
        };
        gates.into_iter().map(load).collect()
    }

    /// The rates of all features, by names under which replicas with the same settings find each other's.
    #[cfg(feature = "redis")]
    pub(crate) fn shared_rates(&self) -> Vec<(Arc<str>, super::SharedRate)> {
        let gates = self.features.all_named().chain([self.features.default_gate()]);
        gates
            .flat_map(|gate| {
                let whose = gate.name().map_or_else(|| "others".to_owned(), |name| format!("feature {name}"));
                let rates = gate.shared_rates().into_iter().flat_map(super::SharedRate::of);
                rates.map(move |(what, rate)| (format!("rate {whose} {what}").into(), rate))
            })
            .collect()
    }
}

impl fmt::Debug for BulkheadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BulkheadHandle").field(&self.snapshot()).finish()
    }
}

/// What a feature has in flight and in its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureLoad {
    /// Its name; `None` for what all that were not named share.
    pub feature: Option<Arc<str>>,
    /// How many may be in flight.
    pub limit: usize,
    /// How many are. More than the limit after it was lowered, until enough have ended.
    pub in_flight: usize,
    /// How many wait.
    pub queued: usize,
}
