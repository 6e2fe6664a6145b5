//! The tiers that cannot serve a request, and why: they lack something, or are of a level that it may not have.

use std::fmt;

use super::{
    capabilities::{Lack, Needs},
    shared::Shared,
    tier::TierFacts,
};
use crate::{ErrorKind, LlmRequest};

/// A tier that cannot serve the request.
pub(super) struct Unable {
    pub(super) tier: usize,
    pub(super) why: Why,
    /// Whether the record has it: it does once the walk has come past.
    pub(super) told: bool,
}

/// The tiers that cannot serve the request.
#[cold]
pub(super) fn unable(shared: &Shared, request: &LlmRequest) -> Vec<Unable> {
    let needs = if shared.limited { Needs::of(request) } else { None };
    let (least, worst) = (request.context().min_level, request.context().worst_level);
    let worst = worst.min(shared.level_policy(request).worst);
    let why = |facts: &TierFacts| {
        if facts.level > worst {
            return Some(Why::TooBad { level: facts.level, worst });
        }
        let lack = needs.as_ref().and_then(|needs| facts.capabilities.lacks(needs));
        let too_good = (facts.level < least).then_some(Why::TooGood { level: facts.level, least });
        lack.map(Why::Lacks).or(too_good)
    };
    (0..shared.tiers())
        .filter_map(|tier| why(shared.facts(tier)).map(|why| Unable { tier, why, told: false }))
        .collect()
}

/// Why a tier cannot serve a request.
pub(super) enum Why {
    Lacks(Lack),
    /// It is of a better level than the request was stepped down to.
    TooGood {
        level: u8,
        least: u8,
    },
    /// It is of a worse level than is accepted.
    TooBad {
        level: u8,
        worst: u8,
    },
}

impl Why {
    /// The kind of failure that stands for it.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Lacks(lack) => lack.kind(),
            Self::TooGood { .. } | Self::TooBad { .. } => ErrorKind::Exhausted,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(lack) => write!(f, "lacks {lack}"),
            Self::TooGood { level, least } => {
                write!(f, "is of level {level}, and the request was stepped down to {least}")
            }
            Self::TooBad { level, worst } => write!(f, "is of level {level}, and none worse than {worst} is accepted"),
        }
    }
}
