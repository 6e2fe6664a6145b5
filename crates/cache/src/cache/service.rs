use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    CacheHandle, ResponseFuture, StoreLookup,
    key::CacheControl,
    lookup::{Lookup, PendingLookup},
    settings::Settings,
};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, call::Call, clock, totals::count};

/// A service that gives answers again. See the [module docs](super).
///
/// Clones share the answers, and calls under way.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    settings: Arc<Settings>,
    handle: CacheHandle,
}

steadfast_core::inner_service!(Cache);

impl<S> Cache<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>, handle: CacheHandle) -> Self {
        Self { inner, settings, handle }
    }

    /// Returns a handle to the answers.
    pub fn handle(&self) -> CacheHandle {
        self.handle.clone()
    }
}

impl<S> Service<LlmRequest> for Cache<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: only the request decides whether the inner service is needed.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        // A model's earlier text is no person's answer.
        let key = if request.is_human_required() { None } else { self.settings.key(&request) };
        let Some((key, life)) = key else {
            count(&self.handle.counters().passed_by);
            return ResponseFuture::passes_by(Call::first(&mut self.inner, request));
        };
        let lookup = || PendingLookup::new((key, life), &request, &self.settings, &self.handle);
        if request.extensions().get() == Some(&CacheControl::NoCache) {
            let lookup = lookup().skipping_kept();
            let lead = lookup.solo_leader();
            return ResponseFuture::leads(Call::first(&mut self.inner, request), lookup, lead);
        }
        match self.handle.get(&key) {
            StoreLookup::Ready(Some(answer)) if life.is_fresh(&answer, clock::now()) => {
                ResponseFuture::hit(&answer, &request, &self.handle)
            }
            StoreLookup::Ready(found) => {
                let mut lookup = lookup();
                lookup.set_stale(found);
                match lookup.begin() {
                    Lookup::Hit(answer) => ResponseFuture::hit(&answer, &request, &self.handle),
                    Lookup::Leader(lead) => ResponseFuture::leads(Call::first(&mut self.inner, request), lookup, lead),
                    // A fresh clone was never polled, so that it reserves nothing.
                    Lookup::Follower(follow) => ResponseFuture::follows(lookup, follow, self.inner.clone(), request),
                }
            }
            StoreLookup::Pending(looking) => {
                let lookup = lookup();
                ResponseFuture::looks(looking, lookup, self.inner.clone(), request)
            }
        }
    }
}
