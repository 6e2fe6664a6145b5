//! The record of the steps that led to an error.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

use super::Attempt;

/// The steps that led to an error, or the time of the one step that failed, which becomes an [`Attempt`] when somebody
/// reads it: most refusals go on to the next tier, or to a caller who asks for the kind alone.
#[derive(Clone, Default)]
pub(super) struct Record {
    steps: OnceLock<Vec<Attempt>>,
    own: Option<OwnStep>,
}

/// The time of the step whose failure is the error itself.
#[derive(Clone, Copy)]
pub(super) struct OwnStep {
    pub(super) begun: Instant,
    pub(super) took: Duration,
}

impl Record {
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_none() && self.steps.get().is_none_or(Vec::is_empty)
    }

    /// Makes the error itself the one step of an empty record.
    #[inline]
    pub(super) fn set_own_step(&mut self, begun: Instant, now: Instant) {
        self.own = Some(OwnStep { begun, took: now.saturating_duration_since(begun) });
    }

    pub(super) fn set_steps(&mut self, steps: Vec<Attempt>) {
        *self = Self { steps: OnceLock::from(steps), own: None };
    }

    /// Returns the steps; `own` writes the one that is the error itself.
    pub(super) fn steps(&self, own: impl FnOnce(OwnStep) -> Attempt) -> &[Attempt] {
        match self.own {
            None => self.steps.get().map_or(&[], Vec::as_slice),
            Some(step) => self.steps.get_or_init(|| vec![own(step)]),
        }
    }

    /// Takes the steps out, or the one of the error itself.
    pub(super) fn take(&mut self) -> (Option<Vec<Attempt>>, Option<OwnStep>) {
        (self.steps.take(), self.own.take())
    }
}
