//! The providers' keys that have worked, known over restarts and at all replicas of a durable store.
//!
//! A circuit takes a refused key for an outage only where the key has worked before. The store has that fact of each
//! circuit with its account. The task asks it about circuits whose key has not worked here yet, and tells it of those
//! that have: once a day for each, since the next success that a circuit is asked for costs a write. No request waits
//! for any of it, and while every key has worked and is stored, the store is not asked either.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::reloads;
use crate::runtime::{StackHandle, parts::durable_store::DurableStore, state::StackState};
use steadfast::{
    CircuitBreakerHandle,
    events::Subscription,
    store::{StoreError, StoreErrorKind, StoreWatch},
};
use steadfast_stores::worked_keys::{REFRESH, WorkedKey, WorkedKeyStore};

/// The interval at which the circuits, and the store where there is a question, are asked.
const TURN: Duration = Duration::from_secs(3);
/// The time for the store's answers of a turn.
const SILENCE: Duration = Duration::from_secs(2);

/// The last success of a key here, to the day.
struct Success {
    at: Instant,
    is_stored: bool,
    /// True once the circuit was asked for the next success, after a day: what it had seen by then may be old.
    is_asked: bool,
}

impl Success {
    fn now() -> Self {
        Self { at: Instant::now(), is_stored: false, is_asked: false }
    }
}

struct KeyMemory {
    stack: Weak<StackState>,
    watch: StoreWatch,
    /// The configured store of the last turn.
    store: Option<DurableStore>,
    successes: HashMap<Arc<str>, Success>,
}

/// The circuits of a turn, by the names of their facts.
type Circuits = Vec<(Arc<str>, CircuitBreakerHandle)>;

impl KeyMemory {
    async fn run(mut self, reloaded: Arc<Notify>) {
        while self.turn().await {
            tokio::select! {
                () = sleep(TURN) => {}
                () = reloaded.notified() => {}
            }
        }
    }

    /// Looks at the circuits, and exchanges what is new with the store. Returns false once the stack is gone.
    async fn turn(&mut self) -> bool {
        let Some(stack) = self.stack.upgrade() else { return false };
        let generation = stack.current.load_full();
        let durable = generation.stores.durable.clone();
        let own = stack.context.worked_keys.clone();
        let Some(store) = own.or_else(|| durable.as_ref().map(DurableStore::worked_keys)) else { return true };
        let circuits: Circuits = generation.tiers.iter().flat_map(|tier| tier.keys()).collect();
        // The stack must not wait for the store to end.
        drop((generation, stack));
        if !same(self.store.as_ref(), durable.as_ref()) {
            self.successes.values_mut().for_each(|success| success.is_stored = false);
            self.store = durable;
        }
        self.look(&circuits);
        let names = self.questions(&circuits);
        if names.is_empty() {
            return true;
        }
        let silent = || StoreError::new(StoreErrorKind::Unavailable, "keys that have worked: no answer in time");
        let exchanged = timeout(SILENCE, self.exchange(&*store, &circuits, names)).await;
        match exchanged.unwrap_or_else(|_| Err(silent())) {
            Ok(()) => self.watch.record_success(Instant::now()),
            Err(error) => self.watch.record_failure(error.kind(), &error, Instant::now()),
        }
        true
    }

    /// Notes which keys have worked, and tells circuits that a reload has made anew.
    fn look(&mut self, circuits: &Circuits) {
        self.successes.retain(|name, success| !success.is_stored || circuits.iter().any(|(known, _)| known == name));
        for (name, circuit) in circuits {
            let Some(success) = self.successes.get_mut(name) else {
                if circuit.take_success() {
                    self.successes.insert(name.clone(), Success::now());
                }
                continue;
            };
            circuit.note_worked();
            if success.at.elapsed() < REFRESH {
                continue;
            }
            let has_succeeded = circuit.take_success();
            if has_succeeded && success.is_asked {
                *success = Success::now();
            } else {
                success.is_asked = true;
            }
        }
    }

    /// Returns the names that the store is to be asked about. One that was in trouble is asked about all.
    fn questions(&self, circuits: &Circuits) -> Vec<Arc<str>> {
        let is_troubled = self.watch.trouble().is_some();
        let asked = circuits.iter().filter(|(_, circuit)| is_troubled || !circuit.has_worked());
        let unstored = self.successes.iter().filter(|(_, success)| !success.is_stored);
        let mut names: Vec<_> = asked.map(|(name, _)| name).chain(unstored.map(|(name, _)| name)).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn exchange(
        &mut self,
        store: &dyn WorkedKeyStore,
        circuits: &Circuits,
        names: Vec<Arc<str>>,
    ) -> Result<(), StoreError> {
        for WorkedKey { name, ago } in store.find(names).await? {
            let of_name = circuits.iter().filter(|(known, _)| *known == name);
            of_name.for_each(|(_, circuit)| circuit.note_worked());
            if let Some(success) = self.successes.get_mut(&name) {
                success.is_stored |= ago < success.at.elapsed() + REFRESH;
            }
        }
        let news = self.successes.iter().filter(|(_, success)| !success.is_stored);
        let news: Vec<_> =
            news.map(|(name, success)| WorkedKey { name: name.clone(), ago: success.at.elapsed() }).collect();
        if !news.is_empty() {
            store.note(news).await?;
            self.successes.values_mut().for_each(|success| success.is_stored = true);
        }
        Ok(())
    }
}

/// Returns whether both are one store, or none.
fn same(one: Option<&DurableStore>, other: Option<&DurableStore>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl StackHandle {
    /// Starts a task by which the keys of providers that have worked stay known over restarts and at all replicas of
    /// the configuration's durable store, until the [`WorkedKeyTask`] is dropped or the stack is gone. So a key that a
    /// provider refuses after a restart is the outage that it was before. It follows reloads; without a durable store
    /// it does nothing.
    ///
    /// The store has a hash of each key with its address and model, and the day of its last success. It forgets a key
    /// that has not worked for 90 days. What has worked at one replica is known to the others within some seconds. A
    /// store that is away delays nobody.
    ///
    /// Call this once per process.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn remember_keys(&self) -> WorkedKeyTask {
        let reloaded = Arc::new(Notify::new());
        let noticed = reloaded.clone();
        let subscription = reloads::on_reload(self.events(), move || noticed.notify_one());
        let watch = StoreWatch::new("worked keys");
        watch.set_events(self.events());
        let stack = Arc::downgrade(&self.shared);
        let memory = KeyMemory { stack, watch, store: None, successes: HashMap::new() };
        let task = tokio::spawn(memory.run(reloaded)).abort_handle();
        WorkedKeyTask { task, _reloads: subscription }
    }
}

/// The task that remembers which keys have worked: see [`StackHandle::remember_keys`].
#[must_use = "it ends when this is dropped"]
pub struct WorkedKeyTask {
    task: AbortHandle,
    _reloads: Subscription,
}

impl Drop for WorkedKeyTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for WorkedKeyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkedKeyTask").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
