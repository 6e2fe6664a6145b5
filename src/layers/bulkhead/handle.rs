use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{RateLevel, features::Features, gate::FeatureGate, plan::Plan};
use crate::{InvalidConfig, layers::draft::View};

/// Reads the limits of a [`Bulkhead`](super::Bulkhead), and changes them while it runs.
///
/// Clones are the same handle. It keeps only the counts alive.
#[derive(Clone)]
pub struct BulkheadHandle {
    view: View<Plan>,
}

impl BulkheadHandle {
    pub(super) fn new(view: View<Plan>) -> Self {
        Self { view }
    }

    pub(super) fn features(&self) -> Arc<Features> {
        self.view.state()
    }

    /// Sets how many requests of a feature may be in flight.
    ///
    /// A higher limit admits waiters at once. A lower one interrupts no call: it is reached as calls end, and until
    /// then no other begins. 0 closes the feature: newcomers are refused, and waiters go on waiting until it opens
    /// again or their wait is over. An [adaptive](super::Limits::adaptive) limit continues from this one, as near
    /// to it as its bounds allow; 0 closes it all the same.
    ///
    /// # Errors
    ///
    /// Fails if the feature was not named in the layer. Use [`set_default_limit`](Self::set_default_limit) for the
    /// others.
    pub fn set_limit(&self, feature: &str, limit: usize) -> Result<(), InvalidConfig> {
        let features = self.features();
        let Some(gate) = features.named(feature) else {
            let problem = format!("{feature:?} has no limit of its own; name it in the layer");
            return Err(InvalidConfig::new("feature", problem));
        };
        gate.set_limit(limit);
        Ok(())
    }

    /// Sets how many requests of all unnamed features together may be in flight. It otherwise works as
    /// [`set_limit`](Self::set_limit).
    pub fn set_default_limit(&self, limit: usize) {
        self.features().default_gate().set_limit(limit);
    }

    /// Returns how many requests of a feature may be in flight. For an unnamed feature, this is the number for all
    /// unnamed ones together; likewise below.
    pub fn limit(&self, feature: &str) -> usize {
        self.features().gate(Some(feature)).semaphore().counts().limit()
    }

    /// Returns how many requests are in flight: from their admission to the end of their answer.
    pub fn in_flight(&self, feature: &str) -> usize {
        self.features().gate(Some(feature)).semaphore().counts().taken()
    }

    /// Returns how many requests wait for a place.
    pub fn queued(&self, feature: &str) -> usize {
        self.features().gate(Some(feature)).semaphore().counts().waiting()
    }

    /// Returns all counts: the named features by name, then the shared ones.
    pub fn snapshot(&self) -> Vec<FeatureLoad> {
        let features = self.features();
        let mut gates: Vec<_> = features.all_named().collect();
        gates.sort_by_key(|gate| gate.name());
        gates.push(features.default_gate());
        let load = |gate: &Arc<FeatureGate>| {
            let now = gate.semaphore().counts();
            let feature = gate.name().cloned();
            FeatureLoad { feature, limit: now.limit(), in_flight: now.taken(), queued: now.waiting() }
        };
        gates.into_iter().map(load).collect()
    }

    /// Returns the levels of the requests and of the tokens of all unnamed features together.
    #[doc(hidden)]
    pub fn default_levels(&self) -> [Option<RateLevel>; 2] {
        let features = self.features();
        features.default_gate().rates().map(|rates| rates.levels(Instant::now())).unwrap_or_default()
    }

    /// Returns the rates of all features, by names under which replicas with the same settings find each other's.
    pub fn shared_rates(&self) -> Vec<(Arc<str>, super::SharedRate)> {
        let features = self.features();
        let gates = features.all_named().chain([features.default_gate()]);
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

/// A feature's requests in flight and in its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureLoad {
    /// The feature's name; `None` for the share of all unnamed features.
    pub feature: Option<Arc<str>>,
    /// The most that may be in flight.
    pub limit: usize,
    /// The number in flight. It exceeds the limit after that was lowered, until enough have ended.
    pub in_flight: usize,
    /// The number that wait.
    pub queued: usize,
}
