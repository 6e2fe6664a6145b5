use std::{sync::Arc, time::Duration};

use tower::Layer;

use super::{
    Cache, CacheHandle,
    key::CacheKey,
    lifetime::Lifetime,
    settings::{self, Settings},
};
use crate::{Classifier, LlmRequest};

/// Applies [`Cache`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the answers.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    settings: Arc<Settings>,
    handle: CacheHandle,
}

impl CacheLayer {
    /// The default of [`ttl`](Self::ttl): 5 minutes.
    pub const TTL: Duration = settings::TTL;
    /// The default of [`stale_for`](Self::stale_for): 1 hour.
    pub const STALE_FOR: Duration = settings::STALE_FOR;
    /// The default of [`max_answer`](Self::max_answer): 1 MiB.
    pub const MAX_ANSWER: usize = settings::MAX_ANSWER;

    /// Keeps answers for five minutes, in 64 MiB of memory.
    pub fn new() -> Self {
        Self::over(&CacheHandle::default())
    }

    /// Keeps answers where another layer keeps them. Layers over one handle share answers if the same properties
    /// count for both.
    pub fn over(handle: &CacheHandle) -> Self {
        Self { settings: Arc::default(), handle: handle.clone() }
    }

    /// Sets how long an answer is given to requests that ask the same. Default: 5 minutes. With zero, an answer is
    /// given only when the call fails.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.change().ttl = ttl;
        self
    }

    /// Sets the time to live for each request, such as by its feature. A request for which the function returns
    /// `None` passes by. The function runs for each request, so keep it quick.
    ///
    /// The limit is that of the request that asks now, not of the request that first made the answer.
    #[must_use]
    pub fn ttl_by(mut self, by: impl Fn(&LlmRequest) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.change().ttl_by = Some(Arc::new(by));
        self
    }

    /// Sets how long after that an answer is still given if the call fails. Default: 1 hour.
    #[must_use]
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.change().stale_for = stale_for;
        self
    }

    /// Sets the largest answer that is kept, in bytes. Default: 1 MiB. A larger stream goes through, and at most
    /// this much of it stays in memory.
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.change().max_answer = bytes;
        self
    }

    /// Sets the largest request in wire form that is hashed, in bytes. Larger requests pass by. Default: 1 MiB.
    /// Hashing takes a few milliseconds for each megabyte, and a request that long is hardly asked twice.
    #[must_use]
    pub fn max_request(mut self, bytes: usize) -> Self {
        self.change().max_request = bytes;
        self
    }

    /// Leaves the model out of the key: an answer of any model will do. Default: the model counts.
    #[must_use]
    pub fn ignore_model(mut self) -> Self {
        self.change().counts.model = false;
        self
    }

    /// Leaves the feature out of the key. Default: the feature counts.
    #[must_use]
    pub fn ignore_feature(mut self) -> Self {
        self.change().counts.feature = false;
        self
    }

    /// Gives one [tenant](super::Tenant)'s answers to another. Default: never. Use it only if no tenant's answers
    /// are confidential.
    #[must_use]
    pub fn share_between_tenants(mut self) -> Self {
        self.change().counts.tenant = false;
        self
    }

    /// Sets the key, in place of what the request says. Requests for which the function returns equal texts share
    /// an answer. A request for which it returns `None` passes by. Tenant, feature and model still count.
    #[must_use]
    pub fn key_by(mut self, by: impl Fn(&LlmRequest) -> Option<String> + Send + Sync + 'static) -> Self {
        self.change().counts.by = Some(Arc::new(by));
        self
    }

    /// Lets requests pass by that ask for a higher temperature, or name none: their callers expect another answer
    /// each time. Default: answers at every temperature are kept, since a user who adds this layer wants the same
    /// answer again. A caller who does not can send [`CacheControl::NoCache`](super::CacheControl::NoCache).
    #[must_use]
    pub fn temperature_at_most(mut self, temperature: f64) -> Self {
        self.change().hottest = Some(temperature);
        self
    }

    /// Sets whether requests that ask the same at the same time share one call. Default: yes.
    #[must_use]
    pub fn single_flight(mut self, single: bool) -> Self {
        self.change().single_flight = single;
        self
    }

    /// Sets the table that decides for which failures an old answer is given: those that fail over. Default: the
    /// crate's.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.change().classifier = classifier;
        self
    }

    /// Returns the handle, to inspect the answers, forget them, or give them to
    /// [`CachedAnswers`](crate::cached::CachedAnswers).
    pub fn handle(&self) -> CacheHandle {
        self.handle.clone()
    }

    /// Returns the key of a request and the age limits of its answer, or `None` if the request passes by.
    pub(crate) fn key(&self, request: &LlmRequest) -> Option<(CacheKey, Lifetime)> {
        self.settings.key(request)
    }

    fn change(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Default for CacheLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache::new(inner, self.settings.clone(), self.handle.clone())
    }
}
