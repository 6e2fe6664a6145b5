//! The record of the steps that led to an error.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

use super::{Attempt, Inner, Next};

/// The steps that led to an error, or the time of the one step that failed, which becomes an [`Attempt`] when somebody
/// reads it: most refusals go on to the next tier, or to a caller who asks for the kind alone.
#[derive(Clone, Default)]
pub(super) struct Record {
    steps: OnceLock<Vec<Attempt>>,
    own: Option<OwnStep>,
}

/// The time of the step whose failure is the error itself.
#[derive(Clone, Copy)]
struct OwnStep {
    begun: Instant,
    took: Duration,
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
}

impl Inner {
    pub(super) fn steps(&self) -> &[Attempt] {
        match self.record.own {
            None => self.record.steps.get().map_or(&[], Vec::as_slice),
            Some(own) => self.record.steps.get_or_init(|| vec![self.step(own)]),
        }
    }

    pub(super) fn take_steps(&mut self) -> Vec<Attempt> {
        let (steps, own) = (self.record.steps.take(), self.record.own.take());
        match (steps, own) {
            (Some(steps), _) => steps,
            (None, Some(own)) => {
                // Room for the step that answers in the end.
                let mut steps = Vec::with_capacity(2);
                steps.push(self.step(own));
                steps
            }
            (None, None) => Vec::new(),
        }
    }

    /// Returns the step whose failure is this error.
    fn step(&self, OwnStep { begun, took }: OwnStep) -> Attempt {
        let now = begun + took;
        Attempt {
            tier: None,
            deployment: None,
            provider: self.provider.clone(),
            model: self.model.clone(),
            begun,
            took,
            failure: Some(self.kind()),
            status: self.exchange().status,
            message: match self.timed_out {
                Some(timeout) => timeout.to_string().into(),
                None => self.message.clone(),
            },
            retry_after: self.retry_at.map(|at| at.saturating_duration_since(now)),
            timeout: self.timed_out,
            usage: None,
            next: Next::GaveUp,
        }
    }
}
