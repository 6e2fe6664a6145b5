//! The rule of before: calls count, whatever ended them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{BoxLlmService, ErrorKind, LlmError, LlmRequest, LlmResponse};
use tokio::time::Instant;
use tower::ServiceExt;

const FAILURES: u32 = 5;
const COOLDOWN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// A circuit that opens for a minute after five failed calls in a row, and then lets one through.
#[derive(Clone)]
pub(super) struct Former {
    inner: BoxLlmService,
    state: Arc<Mutex<(State, u64)>>,
}

impl Former {
    pub(super) fn new(inner: BoxLlmService) -> Self {
        Self { inner, state: Arc::new(Mutex::new((State::Closed { failures: 0 }, 0))) }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state.lock().unwrap().0, State::Closed { .. })
    }

    /// Sends a request to the provider, unless the circuit is open.
    pub(super) async fn call(self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        let generation = self.admit().ok_or_else(|| LlmError::new(ErrorKind::CircuitOpen, "open"))?;
        let answer = self.inner.clone().oneshot(request).await;
        self.settle(generation, answer.is_ok());
        answer
    }

    /// Returns the generation that the call belongs to, if it is admitted.
    fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap();
        match state.0 {
            State::Closed { .. } => Some(state.1),
            State::Open { until } if Instant::now() >= until => {
                *state = (State::HalfOpen, state.1 + 1);
                Some(state.1)
            }
            State::Open { .. } | State::HalfOpen => None,
        }
    }

    fn settle(&self, generation: u64, is_well: bool) {
        let mut state = self.state.lock().unwrap();
        if state.1 != generation {
            return;
        }
        let open = (State::Open { until: Instant::now() + COOLDOWN }, generation + 1);
        *state = match (state.0, is_well) {
            (State::HalfOpen, true) => (State::Closed { failures: 0 }, generation + 1),
            (State::Closed { .. }, true) => (State::Closed { failures: 0 }, generation),
            (State::Closed { failures }, false) if failures + 1 < FAILURES => {
                (State::Closed { failures: failures + 1 }, generation)
            }
            _ => open,
        };
    }
}
