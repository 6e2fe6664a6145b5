use std::{sync::Arc, time::Duration};

use tower::Layer;

use super::{
    Backoff, Jitter, RetryBudget, RetryWithJitter,
    policy::{self, Policy},
};
use crate::{Classifier, ErrorKind};

/// Applies [`RetryWithJitter`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the retry budget and the source of randomness.
#[derive(Clone, Debug, Default)]
pub struct RetryWithJitterLayer {
    policy: Arc<Policy>,
}

impl RetryWithJitterLayer {
    /// The default of [`max_attempts`](Self::max_attempts).
    pub const MAX_ATTEMPTS: u16 = policy::MAX_ATTEMPTS;
    /// The default of [`max_delay`](Self::max_delay).
    pub const MAX_DELAY: Duration = policy::MAX_DELAY;

    /// Creates a layer with at most three attempts (one call and two retries) and full jitter. Waits are at most 30
    /// s (2 s if a `Fallback` further out has another model to ask). Its own [`RetryBudget`] allows retries for 10
    /// % of first tries, or one a second if that is more.
    ///
    /// The schedules: rate limits from 1 s, doubling; overload from 1 s, growing by half; connection failures from
    /// 100 ms, doubling; a timeout after 1 s, once, and only if no other tier is left; all else from 500 ms,
    /// doubling.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the attempts in all, the first included. Default: 3; 0 counts as 1. Attempts of another retry layer
    /// further in count too, and a request may allow [fewer](crate::LlmRequest::with_max_attempts).
    ///
    /// If a model refuses a parameter that the request can do without, the layer repeats the request without it, at
    /// once. Such a repeat counts as an attempt, but a limit of 2 is then one of 3. A limit of 1 allows no repeat.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.change().max_attempts = attempts;
        self
    }

    /// Sets the longest wait. Default: 30 s. No schedule waits longer. If the provider asks for more (Retry-After),
    /// the failure goes up at once, so that a fallback can act on it. This limit applies if no other model is left
    /// to ask; otherwise the [`failover_delay`](Self::failover_delay) does, if that is shorter.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.change().max_delay = delay;
        self
    }

    /// Sets the longest wait while a [`Fallback`](crate::Fallback) further out could still ask another model.
    /// Default: 2 s. No schedule waits longer there. If the provider asks for more, the request goes on to that
    /// model at once. With `Duration::MAX`, only [`max_delay`](Self::max_delay) decides.
    #[must_use]
    pub fn failover_delay(mut self, delay: Duration) -> Self {
        self.change().failover_delay = delay;
        self
    }

    /// Sets whether a failure goes on to another model, where a [`Fallback`](crate::Fallback) further out has one to
    /// ask, rather than being retried here. A failure for which the provider names a short time is still retried,
    /// within the [`RetryBudget`]. A budget of a retry for each first try asks for all retries, whatever this says.
    /// Default: no.
    #[must_use]
    pub fn failover_first(mut self, first: bool) -> Self {
        self.change().failover_first = first;
        self
    }

    /// Sets the jitter of all schedules but the timeouts' fixed one and those set with [`schedule`](Self::schedule).
    /// Default: [`Jitter::Full`].
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.change().jitter = jitter;
        self
    }

    /// Sets the schedule for failures of this kind, jitter included. The [classifier](Self::classifier) decides
    /// whether the kind is retried at all. Default: 1 s and twice as long each time for a rate limit, 1 s and 1.5
    /// times for an overload, 100 ms and twice for a connection, 500 ms and twice for the rest; a timeout waits 1
    /// s.
    #[must_use]
    pub fn schedule(mut self, kind: ErrorKind, backoff: Backoff) -> Self {
        let schedules = &mut self.change().schedules;
        schedules.retain(|(of, _)| *of != kind);
        schedules.push((kind, backoff));
        self
    }

    /// Sets whether a timeout is retried, once, even if another tier is left. Default: no.
    #[must_use]
    pub fn retry_timeouts(mut self, retry: bool) -> Self {
        self.change().retry_timeouts = retry;
        self
    }

    /// Sets the budget for retries. Default: one of this layer's own. Give clones of one budget to all layers that
    /// retry against the same provider; each counts a request once.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.change().budget = budget;
        self
    }

    /// Sets the table that decides which failures are retried. Default: [`Classifier::default`]. A refusal on this
    /// side is never retried.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        let policy = self.change();
        policy.acts_on_refusals = classifier.acts_on_refusals();
        policy.classifier = classifier;
        self
    }

    /// Makes the jitter repeatable: the same seed and the same order of failures give the same waits. Default: a
    /// random seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.change().reseed(fastrand::Rng::with_seed(seed));
        self
    }

    fn change(&mut self) -> &mut Policy {
        Arc::make_mut(&mut self.policy)
    }
}

impl<S: Clone> Layer<S> for RetryWithJitterLayer {
    type Service = RetryWithJitter<S>;

    fn layer(&self, inner: S) -> RetryWithJitter<S> {
        RetryWithJitter::new(inner, (*self.policy).clone())
    }
}
