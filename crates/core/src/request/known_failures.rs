use std::sync::Arc;

use crate::ErrorKind;

/// The tiers where a caller's requests have failed a moment ago, known to whoever sends the next one.
///
/// A `Fallback` obeys it: see
/// [`LlmRequest::with_known_failures`](crate::LlmRequest::with_known_failures).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownFailures {
    last: Vec<(Arc<str>, ErrorKind)>,
    silent: Vec<Arc<str>>,
    calls_left: Vec<(Arc<str>, u16)>,
}

impl KnownFailures {
    /// Creates a list of no tiers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tier that has failed this very request, or its session, with this kind. It is asked after the other
    /// models.
    #[must_use]
    pub fn failed_at(mut self, tier: impl Into<Arc<str>>, kind: ErrorKind) -> Self {
        self.last.push((tier.into(), kind));
        self
    }

    /// Adds a tier that has left the caller waiting. While another model is left, a stream waits at most 10 s for its
    /// first token there, unless it asks the model to reason.
    #[must_use]
    pub fn silent_at(mut self, tier: impl Into<Arc<str>>) -> Self {
        self.silent.push(tier.into());
        self
    }

    /// Limits the calls that the request may still make to a tier, of those that it and its earlier repeats have
    /// together. A tier without one is left out while another model is left.
    #[must_use]
    pub fn calls_left_at(mut self, tier: impl Into<Arc<str>>, calls: u16) -> Self {
        self.calls_left.push((tier.into(), calls));
        self
    }

    /// Returns true if no tier is known.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty() && self.silent.is_empty() && self.calls_left.is_empty()
    }

    /// Returns the kind of the failure after which a tier is asked last.
    #[doc(hidden)]
    pub fn kind_at(&self, tier: &str) -> Option<ErrorKind> {
        self.last.iter().find(|(name, _)| **name == *tier).map(|(_, kind)| *kind)
    }

    /// Returns whether a tier has left the caller waiting.
    #[doc(hidden)]
    pub fn is_silent(&self, tier: &str) -> bool {
        self.silent.iter().any(|name| **name == *tier)
    }
    /// Returns the calls that the request may still make to a tier, if they are limited.
    #[doc(hidden)]
    pub fn calls_left(&self, tier: &str) -> Option<u16> {
        self.calls_left.iter().find(|(name, _)| **name == *tier).map(|(_, calls)| *calls)
    }
}
