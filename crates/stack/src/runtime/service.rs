//! A stack's service, which follows its reloads.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    generation::{Generation, RequestService},
    state::StackState,
};
use steadfast::{LlmError, LlmRequest, LlmResponse};

/// Sends each request through the configuration of the moment. A request in flight stays in its generation.
#[derive(Clone)]
pub(super) struct ReloadingService {
    shared: Arc<StackState>,
    generation: Arc<Generation>,
    service: RequestService,
}

impl ReloadingService {
    pub(super) fn new(shared: Arc<StackState>) -> Self {
        let generation = shared.current.load_full();
        Self { service: generation.whole.clone(), shared, generation }
    }
}

impl Service<LlmRequest> for ReloadingService {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = <RequestService as Service<LlmRequest>>::Future;

    /// Always ready, as the layers are.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: LlmRequest) -> Self::Future {
        let current = self.shared.current.load();
        if !Arc::ptr_eq(&current, &self.generation) {
            self.generation = Arc::clone(&current);
            self.service = self.generation.whole.clone();
        }
        self.generation.prepare(&mut request);
        match self.generation.timed(request.feature()) {
            // The library's layers are always ready.
            None => self.service.call(request),
            Some(timed) => timed.clone().call(request),
        }
    }
}
