//! The causes that an alert names.

use std::{fmt, sync::Arc};

use steadfast::events::{Failure, RequestEnded};

/// The failures of the last request that no tier answered, one for each tier.
#[derive(Debug, Default)]
pub(super) struct Causes {
    steps: Vec<(Arc<str>, Failure)>,
    /// The tiers beyond those.
    more: usize,
    request_id: Option<Arc<str>>,
}

impl Causes {
    pub(super) fn of(request: &RequestEnded) -> Self {
        let mut causes = Self { request_id: request.request_id.clone(), ..Self::default() };
        for step in request.failures.as_deref().unwrap_or_default() {
            let Some(failure) = Failure::of_attempt(step, None) else { continue };
            let name = step.tier.as_ref().or(step.provider.as_ref()).cloned().unwrap_or_default();
            match causes.steps.iter().position(|(tier, _)| *tier == name) {
                Some(place) => causes.steps[place].1 = failure,
                None if causes.steps.len() < MOST => causes.steps.push((name, failure)),
                None => causes.more += 1,
            }
        }
        causes
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}

impl fmt::Display for Causes {
    /// Writes them behind a sentence; nothing if none is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "; for one: ";
        for (tier, failure) in &self.steps {
            write!(f, "{between}{tier} {failure}")?;
            between = ", ";
        }
        if self.more > 0 {
            write!(f, ", and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Returns the details of a failure.
pub(super) fn details(failure: &Failure) -> impl Iterator<Item = (&'static str, String)> {
    let Failure { status, message, request_id, .. } = failure;
    let status = status.map(|status| ("status", status.to_string()));
    let error = message.as_ref().map(|words| ("error", words.to_string()));
    let request = request_id.as_ref().map(|id| ("request_id", id.to_string()));
    status.into_iter().chain(error).chain(request)
}

/// The tiers that a sentence names.
const MOST: usize = 4;
