//! The file's queues: the requests that wait in a store while every circuit is open.

use super::{AllOpen, Config, Feature, Provider};

pub(crate) fn is_queue(policy: Option<AllOpen>) -> bool {
    matches!(policy, Some(AllOpen::Queue(_)))
}

impl Config {
    /// Returns a feature's behaviour while every circuit is open.
    pub(crate) fn all_open(&self, feature: &Feature) -> Option<AllOpen> {
        feature.all_open.or(self.fallback.all_open)
    }

    /// Returns whether requests are queued in a store. A file with a tier of people needs a redrive for that, because
    /// its tasks must not reach a model unasked.
    pub(crate) fn queues(&self) -> bool {
        let mut policies = self.features.values().chain(&self.default_feature).map(|feature| self.all_open(feature));
        let queues = is_queue(self.fallback.all_open) || policies.any(is_queue);
        let redrives = self.handoff.as_ref().is_some_and(|handoff| handoff.redrive.is_some());
        queues && (redrives || !self.hands_over())
    }

    fn hands_over(&self) -> bool {
        self.tiers.iter().any(|tier| tier.provider == Provider::Handoff)
    }
}
