use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceExt};

use super::{
    circuit::{NamedCircuit, outward},
    service::{Circuits, Shared},
};
use crate::{Context, Event, Events, LlmError, LlmRequest, LlmResponse, events::CircuitState};

/// Looks at a circuit, and moves it by hand. Clones are handles of the same circuit.
///
/// Made by [`CircuitBreakerLayer::handle`](super::CircuitBreakerLayer::handle) and
/// [`handle_for`](super::CircuitBreakerLayer::handle_for).
#[derive(Clone)]
pub struct CircuitBreakerHandle {
    shared: Arc<Shared>,
    key: Arc<str>,
    events: Events,
}

impl CircuitBreakerHandle {
    pub(super) fn new(shared: Arc<Shared>, key: Arc<str>, events: Events) -> Self {
        Self { shared, key, events }
    }

    /// The name of the circuit, as its events say it; `name/key` if it is one of several.
    pub fn name(&self) -> Arc<str> {
        self.circuit().name.clone()
    }

    /// The state now.
    ///
    /// A circuit whose cooldown is over is still [`Open`](CircuitState::Open) until somebody calls, and a
    /// throttled one is `Open` until its time is over.
    pub fn state(&self) -> CircuitState {
        outward(self.circuit().machine.peek(Instant::now()).0)
    }

    /// The earliest moment at which a call may be admitted: now, if at once; `None` for a circuit that was opened by
    /// hand. While probes are under way it is when the first of them may be replaced, though it may well end sooner.
    pub fn earliest_probe(&self) -> Option<Instant> {
        self.circuit().machine.earliest_probe(Instant::now())
    }

    /// How many calls have failed in a row; 0 unless closed.
    pub fn consecutive_failures(&self) -> u32 {
        self.circuit().machine.failures()
    }

    /// Opens the circuit until [`force_close`](Self::force_close) or [`reset`](Self::reset).
    pub fn force_open(&self) {
        let circuit = self.circuit();
        circuit.tell(circuit.machine.force_open());
    }

    /// Closes the circuit until [`force_open`](Self::force_open) or [`reset`](Self::reset): all calls are admitted and
    /// their outcomes ignored, throttles included.
    pub fn force_close(&self) {
        let circuit = self.circuit();
        circuit.tell(circuit.machine.force_close());
    }

    /// Closes the circuit as a new one is: nothing counted, and working by itself again.
    pub fn reset(&self) {
        let circuit = self.circuit();
        circuit.tell(circuit.machine.reset());
    }

    /// Listens from now on. These are all events of the channel that the layer was given, or of its own.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// An active probe: while the circuit is open, sends `request` to `service` at each `interval` (at least 10 ms), and
    /// closes the circuit early when an answer comes whole.
    ///
    /// `service` is what the breaker stands around, or a clone of it; through the breaker itself the probe would be
    /// rejected. Each probe is given up after the interval or 30 s, whichever is longer. What was opened by hand stays
    /// open, and a throttle is waited out. A cheap question to the *same model* is a good request: cheaper endpoints
    /// have been healthy while the models were down.
    ///
    /// Nothing is spawned: this is a future for the caller to spawn. It ends when nobody has the circuit any more (no
    /// layer, service or handle), or when it is dropped, at any await point.
    #[must_use = "a future does nothing until it is spawned or awaited"]
    pub fn probe_with<S>(
        &self,
        service: S,
        request: LlmRequest,
        interval: Duration,
    ) -> impl Future<Output = ()> + use<S>
    where
        S: Service<LlmRequest, Response = LlmResponse> + Clone,
        S::Error: Into<LlmError>,
    {
        probe(Arc::downgrade(&self.shared), self.key.clone(), service, request, interval.max(SHORTEST_INTERVAL))
    }

    fn circuit(&self) -> Arc<NamedCircuit> {
        circuit(&self.shared, &self.key)
    }
}

impl fmt::Debug for CircuitBreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The circuit of a key: a keyed one may have been forgotten since, and is then a new one.
fn circuit(shared: &Shared, key: &str) -> Arc<NamedCircuit> {
    match &shared.circuits {
        Circuits::One(lanes) => lanes.gate().clone(),
        Circuits::Keyed(keyed) => keyed.get(key),
    }
}

async fn probe<S>(shared: Weak<Shared>, key: Arc<str>, service: S, request: LlmRequest, interval: Duration)
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    loop {
        sleep(interval).await;
        let Some(generation) = shared.upgrade().map(|shared| circuit(&shared, &key).machine.recoverable()) else {
            return;
        };
        let Some(generation) = generation else { continue };
        // Nothing of the circuit is held while the probe is under way.
        let fresh = request.with_context(Context::default());
        let answer = timeout(interval.max(LONGEST_PROBE), answers(service.clone(), fresh)).await;
        if answer != Ok(true) {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        let circuit = circuit(&shared, &key);
        circuit.tell(circuit.machine.recover(generation));
    }
}

async fn answers<S>(service: S, request: LlmRequest) -> bool
where
    S: Service<LlmRequest, Response = LlmResponse>,
    S::Error: Into<LlmError>,
{
    match service.oneshot(request).await {
        Ok(response) => response.collect().await.is_ok(),
        Err(_) => false,
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_PROBE: Duration = Duration::from_secs(30);
