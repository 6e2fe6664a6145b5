//! The plan of a request's failover, and how far it has come.

use std::sync::Arc;

use tokio::time::Instant;

use super::{chain::Chain, feature_policy::PolicyTerms, shared::Shared};
use crate::{
    ErrorKind, LlmError, LlmRequest,
    classify::{Class, Failover},
    error::Evidence,
    internal::sharded::Shard,
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

    /// Returns the tiers that the request may go to, in order.
    pub(super) fn tiers(&self) -> impl Iterator<Item = usize> {
        self.chain.iter(&self.shared)
    }
}

/// The progress of a request along its tiers.
pub(super) enum Progress {
    /// No tier has failed so far.
    First {
        /// True if the request passes a first tier that an operator has taken out of service for all requests.
        passes_first: bool,
    },
    /// A further tier was chosen after failures.
    Further(Failures),
    /// No tier is left.
    Over {
        /// The earliest moment at which a tier that failed may work again.
        earliest: Option<Instant>,
        /// True if every tier that may serve the request has failed or refused it.
        all_failed: bool,
        /// True if no tier works that the request may use, and it has attempts left.
        none_works: bool,
        /// True if the last tier did not find the request itself at fault.
        is_valid: bool,
    },
}

impl Default for Progress {
    fn default() -> Self {
        Self::First { passes_first: false }
    }
}

impl Progress {
    /// Returns the reason why the previous tier did not answer, if there was one.
    pub(super) fn reason(&self) -> Option<ErrorKind> {
        match self {
            Self::First { passes_first } => passes_first.then_some(ErrorKind::OutOfService),
            Self::Further(failures) => Some(failures.reason),
            Self::Over { .. } => None,
        }
    }

    /// Returns the kind of the first tier's failure.
    pub(super) fn root(&self) -> Option<ErrorKind> {
        match self {
            Self::Further(failures) => Some(failures.root.kind()),
            Self::First { .. } | Self::Over { .. } => None,
        }
    }

    /// Returns whether the next call is the one that a second opinion takes.
    pub(super) fn asks_one(&self) -> bool {
        matches!(self, Self::Further(failures) if Doubt::asks_one(failures.doubt.as_ref()))
    }

    /// Returns the failures so far, and leaves none behind.
    pub(super) fn take(&mut self) -> Option<Failures> {
        match std::mem::take(self) {
            Self::Further(failures) => Some(failures),
            Self::First { .. } | Self::Over { .. } => None,
        }
    }
}

/// The failures that have led to a further tier.
pub(super) struct Failures {
    /// The first tier's failure.
    pub(super) root: LlmError,
    /// True if a call was sent to the first tier.
    pub(super) was_sent: bool,
    /// The reason why the previous tier did not answer.
    pub(super) reason: ErrorKind,
    /// The earliest moment at which a tier that failed may work again.
    pub(super) earliest: Option<Instant>,
    pub(super) doubt: Option<Doubt>,
}

/// The doubt about a tier that has called the request invalid and may be wrong: other models are asked, until one
/// agrees. A tier is doubted by its circuit, or because the request has come to it in another's place. Where it has
/// only not said what is wrong, one other model is asked.
pub(super) struct Doubt {
    /// The evidence against that tier.
    evidence: Option<Arc<dyn Evidence>>,
    /// True if one other model is asked, once: the tier has only not said what is wrong.
    asks_one: bool,
}

impl Doubt {
    /// Takes the failure of a tier that calls the request invalid, `behind` another's failure or not. Returns whether
    /// an earlier tier did so too: then it is the caller's mistake, and no evidence against either tier.
    pub(super) fn is_settled_by(error: &LlmError, class: Class, behind: bool, doubt: &mut Option<Self>) -> bool {
        match doubt {
            Some(Self { evidence, .. }) => {
                evidence.iter().chain(error.evidence()).for_each(|evidence| evidence.withdraw());
                true
            }
            None => {
                let asks_one = class.failover == Failover::SecondOpinion;
                let is_doubted = behind || error.is_doubted() || asks_one;
                *doubt = is_doubted.then(|| Self { evidence: error.evidence().cloned(), asks_one });
                false
            }
        }
    }

    /// Returns whether one other model is asked, and no further one.
    pub(super) fn asks_one(doubt: Option<&Self>) -> bool {
        doubt.is_some_and(|doubt| doubt.asks_one)
    }
}
