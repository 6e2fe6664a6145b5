//! The tiers that cannot serve a request, and the reasons: they lack a capability, are of a level that it may not
//! use, or were drained by hand.

use std::{cell::OnceCell, fmt};

use super::{
    capabilities::{Lack, Needs},
    config::Config,
    feature_policy::PolicyTerms,
    tier::TierFacts,
};
use crate::{DegradedReason, ErrorKind, LlmRequest};

/// A tier that cannot serve the request.
pub(crate) struct ExcludedTier {
    pub(crate) tier: usize,
    pub(crate) reason: ExclusionReason,
    /// True if the record has it: it does once the request has passed it.
    pub(crate) recorded: bool,
}

impl ExcludedTier {
    /// Returns whether it is this tier, out of service for all requests.
    pub(crate) fn is_out(&self, tier: usize) -> bool {
        self.tier == tier && self.reason.is_out()
    }
}

/// Returns the tiers that cannot serve the request.
#[cold]
pub(crate) fn exclusions(config: &Config, request: &LlmRequest, terms: &PolicyTerms) -> Vec<ExcludedTier> {
    let needs = OnceCell::new();
    let (least, worst) = (request.context().min_level, request.context().worst_level);
    let worst = worst.min(terms.worst_level());
    let orders = config.orders.given();
    let pinned = orders.as_ref().and_then(|orders| orders.level(request.feature()));
    let reason = |facts: &TierFacts| {
        if request.is_compaction() && facts.settings.compaction.is_none() {
            return Some(ExclusionReason::NoCompaction);
        }
        if let Some(call) = request.opaque()
            && facts.settings.pools.iter().all(|pool| **pool != *call.pool())
        {
            return Some(ExclusionReason::OtherPool(call.pool().into()));
        }
        let (level, capabilities) = (facts.settings.level, &facts.settings.capabilities);
        // A person is not of a worse level for a request that requires one.
        if level > worst && !request.is_human_required() {
            return Some(ExclusionReason::BelowLevel { level, worst });
        }
        // Few tiers have known capabilities, and to look for a request's needs takes its time.
        let needs = || needs.get_or_init(|| Needs::of(request)).as_ref();
        let lack = if capabilities.is_limited() { needs().and_then(|needs| capabilities.lacks(needs)) } else { None };
        let drained = || {
            orders.as_ref().is_some_and(|orders| orders.is_drained(facts.name())).then_some(ExclusionReason::Drained)
        };
        let too_good = || (level < least).then_some(ExclusionReason::AboveLevel { level, least });
        let above = || {
            let (pinned, for_all) = pinned.filter(|(pinned, _)| level < *pinned)?;
            Some(ExclusionReason::AbovePinned { level, pinned, for_all, is_final: terms.pins_are_final() })
        };
        // Reasons that no operator's order can change come first, and reasons that the fallback may lift come last.
        lack.map(ExclusionReason::Lacks).or_else(drained).or_else(above).or_else(too_good)
    };
    (0..config.tiers())
        .filter_map(|tier| reason(config.facts(tier)).map(|reason| ExcludedTier { tier, reason, recorded: false }))
        .collect()
}

/// The reason why a tier cannot serve a request.
pub(crate) enum ExclusionReason {
    Lacks(Lack),
    /// It cannot compact a conversation.
    NoCompaction,
    /// It does not stand in for the model of an opaque call.
    OtherPool(Box<str>),
    /// It is of a better level than the request was stepped down to.
    AboveLevel {
        level: u8,
        least: u8,
    },
    /// It takes no requests until it is undrained.
    Drained,
    /// It is of a better level than is pinned.
    AbovePinned {
        level: u8,
        pinned: u8,
        /// True if the pin is not for the request's feature alone.
        for_all: bool,
        /// True if it may not serve even if no other tier can.
        is_final: bool,
    },
    /// It is of a worse level than is accepted.
    BelowLevel {
        level: u8,
        worst: u8,
    },
}

impl ExclusionReason {
    /// Returns the kind of failure that stands for it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Lacks(lack) => lack.kind(),
            Self::NoCompaction | Self::OtherPool(_) => ErrorKind::UnsupportedFeature,
            Self::Drained | Self::AbovePinned { .. } => ErrorKind::OutOfService,
            Self::AboveLevel { .. } | Self::BelowLevel { .. } => ErrorKind::Exhausted,
        }
    }

    /// Returns the reason why a tier of a worse level answers then.
    pub(crate) fn degraded_reason(&self) -> DegradedReason {
        match self {
            Self::Lacks(_) | Self::NoCompaction | Self::OtherPool(_) => DegradedReason::Failure(self.kind()),
            Self::Drained => DegradedReason::Drained,
            Self::AbovePinned { .. } => DegradedReason::Pinned,
            Self::AboveLevel { .. } => DegradedReason::SteppedDown,
            // A worse tier is excluded for the same reason.
            Self::BelowLevel { .. } => DegradedReason::Order,
        }
    }

    /// Returns whether the tier may still serve if no other tier can.
    pub(crate) fn may_be_lifted(&self) -> bool {
        matches!(self, Self::AboveLevel { .. } | Self::AbovePinned { is_final: false, .. })
    }

    /// Returns whether an operator has taken the tier out of service for all requests.
    pub(crate) fn is_out(&self) -> bool {
        matches!(self, Self::Drained | Self::AbovePinned { for_all: true, .. })
    }
}

impl fmt::Display for ExclusionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(lack) => write!(f, "lacks {lack}"),
            Self::NoCompaction => f.write_str("lacks /v1/responses/compact"),
            Self::OtherPool(pool) => write!(f, "does not serve {pool}"),
            Self::AboveLevel { level, least } => {
                write!(f, "is of level {level}, and the request was stepped down to {least}")
            }
            Self::Drained => f.write_str("is drained by hand"),
            Self::AbovePinned { level, pinned, .. } => {
                write!(f, "is of level {level}, and level {pinned} is pinned by hand")
            }
            Self::BelowLevel { level, worst } => {
                write!(f, "is of level {level}, and none worse than {worst} is accepted")
            }
        }
    }
}
