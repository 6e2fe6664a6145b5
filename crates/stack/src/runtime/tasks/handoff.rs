//! The handoff's background work.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::{sync::Notify as Wake, task::AbortHandle, time::Instant};

use super::reloads;
use crate::{
    HandoffRedrive,
    runtime::{StackHandle, parts::handoff::HandoffState, service::ReloadingService, state::StackState},
};
use steadfast::{
    CircuitBreakerHandle,
    events::{self, CircuitState},
};
use steadfast_handoff::{Deliveries, DeliveriesHandle, Redrive, RedriveHandle};

impl StackHandle {
    /// Starts the handoff's background work until the [`HandoffTask`] is dropped: notifying people, calling callers
    /// back, redriving tasks and removing old ones, according to the configuration's `handoff`. It follows reloads,
    /// and does nothing if no tier's provider is `handoff`.
    ///
    /// Call this once per process: several processes share the work.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn hand_over(&self) -> HandoffTask {
        let (stack, reloaded) = (Arc::downgrade(&self.shared), Arc::new(Wake::new()));
        let wake = reloaded.clone();
        let subscription = reloads::on_reload(self.events(), move || wake.notify_one());
        let mut begins = Some(self.shared.clone());
        let task = tokio::spawn(async move {
            let mut at_work: Option<(HandoffState, (DeliveriesHandle, RedriveHandle))> = None;
            // While it waits, only a redrive's service keeps the stack.
            while let Some(shared) = begins.take().or_else(|| stack.upgrade()) {
                let handoff = shared.current.load().handoff.clone();
                if at_work.as_ref().map(|(before, _)| before) != handoff.as_ref() {
                    // The previous work ends first.
                    drop(at_work.take());
                    at_work = handoff.map(|handoff| {
                        let begun = begin(&handoff, &shared);
                        (handoff, begun)
                    });
                }
                drop(shared);
                reloaded.notified().await;
            }
        });
        HandoffTask { task: task.abort_handle(), _subscription: subscription }
    }
}

/// The handoff's background work: see [`StackHandle::hand_over`].
#[must_use = "it ends when this is dropped"]
pub struct HandoffTask {
    task: AbortHandle,
    _subscription: events::Subscription,
}

impl Drop for HandoffTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for HandoffTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandoffTask").finish_non_exhaustive()
    }
}

/// Starts the work of a handoff.
fn begin(handoff: &HandoffState, shared: &Arc<StackState>) -> (DeliveriesHandle, RedriveHandle) {
    let context = &shared.context;
    let deliveries = Deliveries::new(&handoff.desk).transport(context.transport());
    let deliveries = match context.seed("handoff") {
        Some(seed) => deliveries.seed(seed),
        None => deliveries,
    };
    let weak = Arc::downgrade(shared);
    // Uses the whole stack, so that limits and caps apply to redrives too; people and fixed texts do not count as
    // answers.
    let mut redrive = Redrive::new(&handoff.desk, ReloadingService::new(shared.clone()))
        .events(&context.events)
        .gate(move || any_model_admits(&weak));
    redrive = match handoff.redrive() {
        None => redrive.only_when_ordered(),
        Some(HandoffRedrive { per_second, at_once, every, timeout }) => {
            if let Some(tasks) = per_second {
                redrive = redrive.per_second(tasks);
            }
            if let Some(tasks) = at_once {
                redrive = redrive.at_once(tasks as usize);
            }
            if let Some(time) = every {
                redrive = redrive.every(time.0);
            }
            match timeout {
                Some(time) => redrive.timeout(time.0),
                None => redrive,
            }
        }
    };
    (deliveries.start(), redrive.start())
}

/// Returns whether any model's circuit admits calls, even as its due probe: without callers, a task is that call.
fn any_model_admits(shared: &Weak<StackState>) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let current = shared.current.load();
    let models: Vec<&str> =
        current.config.tiers.iter().filter(|tier| tier.provider.is_model()).map(|tier| tier.name.as_str()).collect();
    let admits = |circuit: &CircuitBreakerHandle| {
        // The clock is read after the circuit's state, which is therefore not newer than this reading.
        circuit.state() != CircuitState::Open || circuit.earliest_probe().is_some_and(|at| at <= Instant::now())
    };
    current.tiers.circuits().any(|(name, circuit)| models.contains(&&*name) && admits(&circuit))
}
