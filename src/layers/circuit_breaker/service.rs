use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;

use super::{ResponseFuture, circuit::NamedCircuit, keyed::Keyed, lanes::Lanes, state::Rejection};
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
    One(Lanes),
    Keyed(Keyed),
}

impl Shared {
    /// A permit; none for a last resort that ignores the circuit.
    #[inline]
    fn admit(&self, request: &LlmRequest) -> Result<Option<Permit>, LlmError> {
        match &self.circuits {
            Circuits::One(lanes) => match lanes.admit(request) {
                Ok(permit) => Ok(Some(permit)),
                Err(rejection) => rejected(lanes.circuit(), rejection, request),
            },
            Circuits::Keyed(keyed) => {
                let circuit = keyed.of(request);
                let permit = match circuit.free_ticket() {
                    Some(ticket) => return Ok(Some(Permit::new(circuit, ticket))),
                    None => circuit.admit_with_care(request),
                };
                permit.map(Some).or_else(|rejection| rejected(&circuit, rejection, request))
            }
        }
    }
}

#[cold]
fn rejected(circuit: &NamedCircuit, rejection: Rejection, request: &LlmRequest) -> Result<Option<Permit>, LlmError> {
    if request.context().last_resort {
        // Nowhere else to go: it is sent whatever the state, and says nothing to the circuit.
        return Ok(None);
    }
    Err(circuit.refusal(rejection))
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
