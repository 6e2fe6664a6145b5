use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;

use super::{ResponseFuture, circuit::NamedCircuit, keyed::Keyed};
use crate::{
    LlmError, LlmRequest, LlmResponse,
    layers::{admission::Permit, call::Call},
};

/// Rejects calls to a provider that is down. See the [module docs](super).
///
/// Clones share the circuit, as do all services that one layer makes.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What the services and handles of one layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) circuits: Circuits,
    pub(super) slow_after: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Circuits {
    One(Arc<NamedCircuit>),
    Keyed(Keyed),
}

impl Shared {
    #[inline]
    fn admit(&self, request: &LlmRequest) -> Result<Option<Permit>, LlmError> {
        match &self.circuits {
            Circuits::One(circuit) => admit(circuit, request),
            Circuits::Keyed(keyed) => admit(&keyed.of(request), request),
        }
    }
}

#[inline]
fn admit(circuit: &Arc<NamedCircuit>, request: &LlmRequest) -> Result<Option<Permit>, LlmError> {
    match circuit.admit(request) {
        Ok(permit) => Ok(Some(permit)),
        // Nowhere else to go: it is sent whatever the state, and says nothing to the circuit.
        Err(_) if request.context().last_resort => Ok(None),
        Err(rejection) => Err(circuit.refusal(rejection)),
    }
}

impl<S> CircuitBreaker<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> Service<LlmRequest> for CircuitBreaker<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: an open circuit rejects at once, whether or not the inner service is ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        match self.shared.admit(&request) {
            Ok(permit) => ResponseFuture::new(Call::first(&mut self.inner, request), permit, self.shared.slow_after),
            Err(refusal) => ResponseFuture::new(Call::Failed(refusal), None, None),
        }
    }
}
