use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};
use tower::Service;

use super::{
    circuit::{NamedCircuit, outward},
    probe::{LONGEST_PROBE, ask},
    service::{Circuits, Shared},
    state::{Phase, Transition},
};
use crate::{
    Context, Event, Events, LlmError, LlmRequest, LlmResponse,
    events::{CircuitState, Operation},
};

/// Looks at a circuit, and moves it by hand. Clones are handles of the same circuit.
///
/// Made by [`CircuitBreakerLayer::handle`](super::CircuitBreakerLayer::handle) and
/// [`handle_for`](super::CircuitBreakerLayer::handle_for).
#[derive(Clone)]
pub struct CircuitBreakerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) key: Arc<str>,
    events: Events,
    by: Option<Arc<str>>,
}

impl CircuitBreakerHandle {
    pub(super) fn new(shared: Arc<Shared>, key: Arc<str>, events: Events) -> Self {
        Self { shared, key, events, by: None }
    }

    /// The same handle in the hands of somebody, who is named where it is told what was done by hand
    /// ([`Event::Operated`]). Default: nobody is named.
    #[must_use]
    pub fn acting_as(&self, who: impl Into<Arc<str>>) -> Self {
        Self { by: Some(who.into()), ..self.clone() }
    }

    /// The name of the circuit, as its events say it; `name/key` if it is one of several.
    pub fn name(&self) -> Arc<str> {
        self.with(|circuit| circuit.name.clone())
    }

    /// The state now.
    ///
    /// A circuit whose cooldown is over is still [`Open`](CircuitState::Open) until somebody calls, and a
    /// throttled one is `Open` until its time is over.
    pub fn state(&self) -> CircuitState {
        self.with(|circuit| outward(circuit.machine.peek(Instant::now())))
    }

    /// The earliest moment at which a call may be admitted: now, if at once; `None` for a circuit that was opened by
    /// hand. While probes are under way it is when the first of them may be replaced, though it may well end sooner.
    pub fn earliest_probe(&self) -> Option<Instant> {
        self.with(|circuit| circuit.machine.earliest_probe(Instant::now()))
    }

    /// Whether only a call can tell that the provider is well: it is open, half-open or closed off, also where the time for that is
    /// over and nobody has called since. Not where somebody has forced it.
    #[cfg(feature = "config")]
    pub(crate) fn awaits_call(&self) -> bool {
        self.with(|circuit| circuit.machine.awaits_call())
    }

    /// How many calls have failed in a row; 0 unless closed.
    pub fn consecutive_failures(&self) -> u32 {
        self.with(|circuit| circuit.machine.failures())
    }

    /// What the circuit is forced to be: [`Open`](CircuitState::Open) or [`Closed`](CircuitState::Closed); `None` while it
    /// judges by itself.
    pub fn forced(&self) -> Option<CircuitState> {
        let phase = self.with(|circuit| circuit.machine.peek(Instant::now()));
        matches!(phase, Phase::ForcedOpen | Phase::ForcedClosed).then(|| outward(phase))
    }

    /// How many calls are under way: admitted, and their answers not yet whole. Not those that a
    /// [last resort](crate::layers::fallback::Tier::last_resort) sends past a circuit that is open.
    pub fn in_flight(&self) -> usize {
        match &self.shared.circuits {
            Circuits::One(lanes) => lanes.out(),
            // The map's, and this one.
            Circuits::Keyed(keyed) => {
                keyed.known(&self.key).map_or(0, |circuit| Arc::strong_count(&circuit).saturating_sub(2))
            }
        }
    }

    /// Opens the circuit until [`release`](Self::release), [`force_close`](Self::force_close) or [`reset`](Self::reset).
    /// Calls under way end as they would. Gives whether that is new.
    ///
    /// [`Event::Operated`] tells of it, as of all that is done here by hand and is new.
    pub fn force_open(&self) -> bool {
        let to = CircuitState::Open;
        self.operate(|circuit| circuit.machine.force_open(), |circuit| Operation::CircuitForced { circuit, to })
    }

    /// Closes the circuit until [`release`](Self::release), [`force_open`](Self::force_open) or [`reset`](Self::reset):
    /// all calls are admitted and their outcomes ignored, throttles included. Gives whether that is new.
    pub fn force_close(&self) -> bool {
        let to = CircuitState::Closed;
        self.operate(|circuit| circuit.machine.force_close(), |circuit| Operation::CircuitForced { circuit, to })
    }

    /// Lets a circuit that was forced judge by itself again: one that was forced open is half-open, so that a probe shows
    /// whether the provider is well; one that was forced closed is closed, and counts from nothing. Gives whether it was
    /// forced; nothing else is changed by this.
    pub fn release(&self) -> bool {
        self.operate(|circuit| circuit.machine.release(), |circuit| Operation::CircuitReleased { circuit })
    }

    /// Closes the circuit as a new one is: nothing counted, and working by itself again. Gives whether it was anything else
    /// than closed.
    pub fn reset(&self) -> bool {
        let now = Instant::now();
        self.operate(|circuit| circuit.machine.reset(now), |circuit| Operation::CircuitReleased { circuit })
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

    /// Does something by hand, and tells of it if it changes anything.
    fn operate(
        &self,
        order: impl FnOnce(&NamedCircuit) -> Option<Transition>,
        operation: impl FnOnce(Arc<str>) -> Operation,
    ) -> bool {
        let order = |circuit: &NamedCircuit| {
            let Some(transition) = order(circuit) else { return false };
            let by = self.by.clone();
            let told = || Event::Operated { operation: operation(circuit.name.clone()), by, at: Instant::now() };
            self.events.send_with(told);
            circuit.tell(Some(transition));
            true
        };
        match &self.shared.circuits {
            Circuits::One(lanes) => order(lanes.gate()),
            Circuits::Keyed(keyed) => order(&keyed.get_by_hand(&self.key)),
        }
    }

    /// Looks at the circuit; of a key that has none, at one as it would be. Not by a reference of its own, which would look like
    /// a call under way.
    pub(super) fn with<R>(&self, look: impl FnOnce(&NamedCircuit) -> R) -> R {
        match &self.shared.circuits {
            Circuits::One(lanes) => look(lanes.gate()),
            Circuits::Keyed(keyed) => match keyed.known(&self.key) {
                Some(circuit) => look(&circuit),
                None => look(&keyed.new_circuit(&self.key)),
            },
        }
    }
}

impl fmt::Debug for CircuitBreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The circuit of a key, if it has one: a keyed one may have been forgotten since.
fn circuit(shared: &Shared, key: &str) -> Option<Arc<NamedCircuit>> {
    match &shared.circuits {
        Circuits::One(lanes) => Some(lanes.gate().clone()),
        Circuits::Keyed(keyed) => keyed.known(key),
    }
}

async fn probe<S>(shared: Weak<Shared>, key: Arc<str>, service: S, request: LlmRequest, interval: Duration)
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    loop {
        sleep(interval).await;
        let Some(known) = shared.upgrade().map(|shared| circuit(&shared, &key)) else { return };
        let Some(generation) = known.and_then(|circuit| circuit.machine.recoverable()) else { continue };
        // Nothing of the circuit is held while the probe is under way.
        let fresh = request.with_context(Context::default());
        let answer = ask(service.clone(), fresh, interval.max(LONGEST_PROBE)).await;
        if !matches!(answer, Some(Ok(()))) {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        let Some(circuit) = circuit(&shared, &key) else { continue };
        circuit.tell(circuit.machine.recover(generation, Instant::now()));
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
