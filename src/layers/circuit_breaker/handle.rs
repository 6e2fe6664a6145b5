use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};

use super::{
    circuit::{NamedCircuit, outward},
    plan::Plan,
    probe::{LONGEST_PROBE, ask},
    shared::{Circuits, Shared},
    state::{Phase, Transition},
};
use crate::{
    Context, Event, LlmRequest, LlmService,
    events::{CircuitState, Operation},
    layers::draft::{View, WeakView},
};

/// A handle that reads a circuit, and moves it by hand. Clones are handles of the same circuit.
///
/// [`CircuitBreakerLayer::handle`](super::CircuitBreakerLayer::handle) and
/// [`handle_for`](super::CircuitBreakerLayer::handle_for) create it.
#[derive(Clone)]
pub struct CircuitBreakerHandle {
    pub(super) view: View<Plan>,
    pub(super) key: Arc<str>,
    by: Option<Arc<str>>,
}

impl CircuitBreakerHandle {
    pub(super) fn new(view: View<Plan>, key: Arc<str>) -> Self {
        Self { view, key, by: None }
    }

    /// Returns the handle for an operator of this name, which appears in the event of each order by hand
    /// ([`Event::Operated`]). Default: no name.
    #[must_use]
    pub fn acting_as(&self, who: impl Into<Arc<str>>) -> Self {
        Self { by: Some(who.into()), ..self.clone() }
    }

    /// Returns the circuit's name, as its events contain it; `name/key` if it is one of several.
    pub fn name(&self) -> Arc<str> {
        self.with(|circuit| circuit.name.clone())
    }

    /// Returns the current state.
    ///
    /// A circuit whose cooldown is over is still [`Open`](CircuitState::Open) until the next call, and a throttled
    /// one is `Open` until its time is over.
    pub fn state(&self) -> CircuitState {
        self.with(|circuit| outward(circuit.machine.peek(Instant::now())))
    }

    /// Returns the earliest time at which a call may be admitted: now, if at once; `None` for a circuit that was
    /// opened by hand. While probes are under way it is when the first of them may be replaced, though it may well
    /// end sooner.
    pub fn earliest_probe(&self) -> Option<Instant> {
        self.with(|circuit| circuit.machine.earliest_probe(Instant::now()))
    }

    /// Returns the fate of a call that came now. A closed circuit costs one load.
    pub(crate) fn forecast(&self, now: Instant) -> Forecast {
        self.with(|circuit| match circuit.machine.admits_freely() {
            Some(_) => Forecast::Admits,
            None => match circuit.machine.peek(now) {
                Phase::Closed | Phase::ForcedClosed => Forecast::Admits,
                Phase::ForcedOpen | Phase::Throttled => Forecast::Refuses,
                Phase::Open | Phase::HalfOpen => match circuit.machine.earliest_probe(now) {
                    Some(at) if at <= now => Forecast::AwaitsProbe,
                    _ => Forecast::Refuses,
                },
            },
        })
    }

    /// Returns whether only a call can show that the provider is well. The circuit is open, half-open or closed
    /// off, even if the time for that is over and no call has come since. False if it is forced.
    pub fn awaits_call(&self) -> bool {
        self.with(|circuit| circuit.machine.awaits_call())
    }

    /// Returns how many calls have failed in a row; 0 unless closed.
    pub fn consecutive_failures(&self) -> u32 {
        self.with(|circuit| circuit.machine.failures())
    }

    /// Returns the forced state, [`Open`](CircuitState::Open) or [`Closed`](CircuitState::Closed); `None` while the
    /// circuit judges by itself.
    pub fn forced(&self) -> Option<CircuitState> {
        let phase = self.with(|circuit| circuit.machine.peek(Instant::now()));
        matches!(phase, Phase::ForcedOpen | Phase::ForcedClosed).then(|| outward(phase))
    }

    /// Returns how many calls are under way: admitted, and their answers not yet whole. Calls that a [last
    /// resort](crate::layers::fallback::Tier::last_resort) sends past an open circuit do not count.
    pub fn in_flight(&self) -> usize {
        self.view.look(|shared| match &shared.circuits {
            Circuits::One(sharded) => sharded.out(),
            // The map's reference, and this one.
            Circuits::Keyed(keyed) => {
                keyed.known(&self.key).map_or(0, |circuit| Arc::strong_count(&circuit).saturating_sub(2))
            }
        })
    }

    /// Opens the circuit until [`release`](Self::release), [`force_close`](Self::force_close) or
    /// [`reset`](Self::reset). Calls under way end as they would. Returns whether that is new.
    ///
    /// [`Event::Operated`] reports it, like every order by hand that changes something.
    pub fn force_open(&self) -> bool {
        let to = CircuitState::Open;
        self.operate(|circuit| circuit.machine.force_open(), |circuit| Operation::CircuitForced { circuit, to })
    }

    /// Closes the circuit until [`release`](Self::release), [`force_open`](Self::force_open) or
    /// [`reset`](Self::reset): all calls are admitted and their outcomes ignored, throttles included. Returns
    /// whether that is new.
    pub fn force_close(&self) -> bool {
        let to = CircuitState::Closed;
        self.operate(|circuit| circuit.machine.force_close(), |circuit| Operation::CircuitForced { circuit, to })
    }

    /// Lets a forced circuit judge by itself again. A forced open one becomes half-open, so that a probe shows
    /// whether the provider is well. A forced closed one stays closed, and starts to count from zero. Returns
    /// whether it was forced; nothing else changes.
    pub fn release(&self) -> bool {
        self.operate(|circuit| circuit.machine.release(), |circuit| Operation::CircuitReleased { circuit })
    }

    /// Closes the circuit as a new one: nothing counted, and judging by itself. Returns whether it was not plainly
    /// closed before.
    pub fn reset(&self) -> bool {
        let now = Instant::now();
        self.operate(|circuit| circuit.machine.reset(now), |circuit| Operation::CircuitReleased { circuit })
    }

    /// Returns whether the provider has taken this circuit's key: then a refusal of it is an outage.
    #[doc(hidden)]
    pub fn has_worked(&self) -> bool {
        self.with(|circuit| circuit.machine.load().worked())
    }

    /// Notes that the key has worked, by the word of another process. It changes nothing else.
    #[doc(hidden)]
    pub fn note_worked(&self) {
        self.with(|circuit| circuit.machine.note_worked());
    }

    /// Returns whether a call has succeeded here since this last returned true, or at all. The next success after that
    /// costs one write.
    #[doc(hidden)]
    pub fn take_success(&self) -> bool {
        self.with(|circuit| circuit.machine.take_success())
    }

    /// Subscribes to all further events of the channel that the layer was given, or of its own.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.view.look(|shared| shared.events.subscribe())
    }

    /// Runs an active probe: while the circuit is open, it sends `request` to `service` at each `interval` (at
    /// least 10 ms), and closes the circuit early when an answer comes whole.
    ///
    /// `service` is the service that the breaker wraps, or a clone of it; through the breaker itself the probe
    /// would be rejected. Each probe is given up after the interval or 30 s, whichever is longer. A circuit that
    /// was opened by hand stays open, and a throttle is waited out. A cheap question to the *same model* is a good
    /// request: cheaper endpoints have been healthy while the models were down.
    ///
    /// It spawns nothing: the caller spawns this future. It ends when the circuit has no holder any more (no layer,
    /// service or handle), or when it is dropped, at any await point.
    #[must_use = "a future does nothing until it is spawned or awaited"]
    pub fn probe_with<S>(
        &self,
        service: S,
        request: LlmRequest,
        interval: Duration,
    ) -> impl Future<Output = ()> + use<S>
    where
        S: LlmService + Clone,
    {
        probe(self.view.downgrade(), self.key.clone(), service, request, interval.max(SHORTEST_INTERVAL))
    }

    /// Carries out an order by hand, and reports it if it changes anything.
    fn operate(
        &self,
        order: impl FnOnce(&NamedCircuit) -> Option<Transition>,
        operation: impl FnOnce(Arc<str>) -> Operation,
    ) -> bool {
        let shared = self.view.state();
        let order = |circuit: &NamedCircuit| {
            let Some(transition) = order(circuit) else { return false };
            let by = self.by.clone();
            let told = || Event::Operated { operation: operation(circuit.name.clone()), by, at: Instant::now() };
            shared.events.send_with(told);
            circuit.tell(Some(transition));
            true
        };
        match &shared.circuits {
            Circuits::One(sharded) => order(sharded.value()),
            Circuits::Keyed(keyed) => order(&keyed.get_by_hand(&self.key)),
        }
    }

    /// Looks at the circuit; for a key without one, at a new one. It uses no reference of its own, which would look
    /// like a call under way.
    pub(super) fn with<R>(&self, look: impl FnOnce(&NamedCircuit) -> R) -> R {
        self.view.look(|shared| match &shared.circuits {
            Circuits::One(sharded) => look(sharded.value()),
            Circuits::Keyed(keyed) => match keyed.known(&self.key) {
                Some(circuit) => look(&circuit),
                None => look(&keyed.new_circuit(&self.key)),
            },
        })
    }
}

/// The fate of a call that came now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forecast {
    Admits,
    /// The circuit waits for a call, which would be its probe.
    AwaitsProbe,
    Refuses,
}

impl fmt::Debug for CircuitBreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Returns the circuit of a key, if it has one: a keyed one may have been forgotten since.
fn circuit(shared: &Shared, key: &str) -> Option<Arc<NamedCircuit>> {
    match &shared.circuits {
        Circuits::One(sharded) => Some(sharded.value().clone()),
        Circuits::Keyed(keyed) => keyed.known(key),
    }
}

async fn probe<S>(mut view: WeakView<Plan>, key: Arc<str>, service: S, request: LlmRequest, interval: Duration)
where
    S: LlmService + Clone,
{
    loop {
        sleep(interval).await;
        let Some(known) = view.upgrade().map(|shared| circuit(&shared, &key)) else { return };
        let Some(generation) = known.and_then(|circuit| circuit.machine.recoverable()) else { continue };
        // Hold no reference to the circuit while the probe is under way.
        let fresh = request.with_context(Context::default());
        let answer = ask(service.clone(), fresh, interval.max(LONGEST_PROBE)).await;
        if !matches!(answer, Some(Ok(()))) {
            continue;
        }
        let Some(shared) = view.upgrade() else { return };
        let Some(circuit) = circuit(&shared, &key) else { continue };
        circuit.tell(circuit.machine.recover(generation, Instant::now()));
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
