//! The plan of a request's failover.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    ErrorKind, LlmRequest,
    internal::sharded::Shard,
    layers::{
        fallback::{
            choose::{Chain, Config, PolicyTerms},
            shared::Shared,
        },
        patience::{SHORT_WAIT, begins_soon},
    },
};

/// The part of a failover that is settled before the first tier is asked. It changes once at most: for an answer whose
/// body goes on by itself.
pub(super) struct Plan {
    pub(super) shared: Arc<Shard<Shared>>,
    pub(super) request: LlmRequest,
    /// The terms of the request's policy.
    pub(super) terms: PolicyTerms,
    pub(super) chain: Chain,
    /// The known chain that the request takes, to which a switch belongs.
    pub(super) known: usize,
    /// The first tier of the request's own chain, if the request asks it first: then another tier's answer is a switch.
    pub(super) first: Option<usize>,
    /// True if the primary can still be called from the current holder.
    pub(super) primary_at_hand: bool,
}

impl Plan {
    /// Creates the plan of a request to this chain, the primary first.
    pub(super) fn new(shared: Arc<Shard<Shared>>, request: LlmRequest, terms: PolicyTerms, chain: Chain) -> Self {
        Self { shared, request, terms, chain, known: 0, first: Some(0), primary_at_hand: true }
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Returns the tiers that the request may go to, in order.
    pub(super) fn tiers(&self) -> impl Iterator<Item = usize> {
        self.chain.iter(self.config().tiers())
    }

    /// Returns the time limit of a tier begun now, while other models are left.
    pub(super) fn patience(&self, tier: usize, begun: Instant, limit: Option<Instant>) -> Option<Instant> {
        let Some(known) = self.request.known_failures() else { return limit };
        if !begins_soon(&self.request) || !known.is_silent(self.config().facts(tier).name()) {
            return limit;
        }
        limit.into_iter().chain(begun.checked_add(SHORT_WAIT)).min()
    }

    /// Returns the failure of a tier of a better level than this one that is asked last for it.
    pub(super) fn known_failure(&self, level: u8) -> Option<ErrorKind> {
        let known = self.request.known_failures()?;
        let better = self.tiers().filter(|tier| self.config().settings(*tier).level < level);
        better.filter_map(|tier| known.kind_at(self.config().facts(tier).name())).next()
    }

    /// Returns the most attempts at a tier, of those that the request has left.
    pub(super) fn most_attempts(&self, tier: usize, left: u16) -> u16 {
        let known = self.request.known_failures();
        let most = known.and_then(|known| known.calls_left(self.config().facts(tier).name()));
        most.map_or(left, |most| left.min(most.max(1)))
    }
}
