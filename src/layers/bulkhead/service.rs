use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{BulkheadHandle, ResponseFuture, features::Features, gate::Admission};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    body::admission::Permit,
    layers::{
        call::Call,
        deadline::{self, Deadline},
        draft::View,
    },
};

/// A service that bounds each feature's requests in flight. See the [module docs](super).
///
/// Clones share the limits and all counts.
#[derive(Clone, Debug)]
pub struct Bulkhead<S> {
    inner: S,
    features: Arc<Features>,
}

steadfast_core::inner_service!(Bulkhead);

impl<S> Bulkhead<S> {
    pub(super) fn new(inner: S, features: Arc<Features>) -> Self {
        Self { inner, features }
    }

    /// Returns a handle to read the limits and to change them.
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle::new(View::Settled(self.features.clone()))
    }
}

impl<S> Service<LlmRequest> for Bulkhead<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: only the request decides which limit applies.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        if deadline::is_unkept(request.context()) {
            return self.call_in_time(request.clone()).unwrap_or_else(ResponseFuture::refused);
        }
        let sharded = self.features.sharded(request.feature());
        let place = if request.key().is_none() { sharded.try_enter() } else { None };
        let permit = match place {
            Some(ticket) => Permit::new(sharded.shard(), ticket),
            None => match sharded.value().admit(&request.clone()) {
                Ok(Admission::Goes(permit)) => permit,
                // A fresh clone was never polled: it reserves nothing until it has its place.
                Ok(Admission::Waits(wait)) => return ResponseFuture::waits(wait, self.inner.clone(), request),
                Err(refused) => return ResponseFuture::refused(refused),
            },
        };
        ResponseFuture::goes(Call::first(&mut self.inner, request), permit)
    }
}

impl<S> Bulkhead<S>
where
    S: LlmService + Clone,
{
    /// A call that ends at its deadline.
    #[cold]
    fn call_in_time(&mut self, mut request: LlmRequest) -> Result<ResponseFuture<S>, LlmError> {
        let deadline = Deadline::keep(&mut request)?;
        Ok(self.call(request).until(deadline))
    }
}
