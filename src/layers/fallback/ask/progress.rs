//! The progress of a request along its tiers, and its failures so far.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    ErrorKind, LlmError,
    classify::{Class, Failover},
    error::Evidence,
};

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
