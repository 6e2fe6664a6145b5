//! One circuit for each key, up to a limit.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    circuit::{NamedCircuit, Policy, outward},
    state::Phase,
};
use crate::{
    LlmRequest,
    events::CircuitState,
    internal::sync::{Mutex, MutexGuard, lock},
};

pub(super) type KeyOf = dyn for<'a> Fn(&'a LlmRequest) -> Cow<'a, str> + Send + Sync;

pub(super) struct Keyed {
    name: Arc<str>,
    policy: Arc<Policy>,
    seed: u64,
    key_of: Arc<KeyOf>,
    capacity: usize,
    circuits: Mutex<Circuits>,
}

#[derive(Default)]
struct Circuits {
    by_key: HashMap<Arc<str>, Entry>,
    /// The lookups so far, in which the age of an entry is counted.
    lookups: u64,
}

struct Entry {
    circuit: Arc<NamedCircuit>,
    used: u64,
}

impl Keyed {
    pub(super) fn new(name: Arc<str>, policy: Arc<Policy>, seed: u64, key_of: Arc<KeyOf>, capacity: usize) -> Self {
        Self { name, policy, seed, key_of, capacity: capacity.max(1), circuits: Mutex::default() }
    }

    /// Returns the circuit of this request.
    pub(super) fn of(&self, request: &LlmRequest) -> Arc<NamedCircuit> {
        // The key function is foreign code, so it runs before any lock.
        self.get(&(self.key_of)(request))
    }

    /// Returns the circuit of this key, creating it if needed. Without room, the new circuit is for this call
    /// alone.
    fn get(&self, key: &str) -> Arc<NamedCircuit> {
        let mut circuits = self.lock();
        if let Some(known) = circuits.find(key) {
            return known;
        }
        let has_room = circuits.by_key.len() < self.capacity || circuits.forget_one();
        let circuit = self.new_circuit(key);
        if has_room {
            circuits.insert(key, circuit.clone());
        }
        circuit
    }

    /// Returns the circuit of this key for an order by hand, which is stored even without room.
    pub(super) fn get_by_hand(&self, key: &str) -> Arc<NamedCircuit> {
        let mut circuits = self.lock();
        if let Some(known) = circuits.find(key) {
            return known;
        }
        if circuits.by_key.len() >= self.capacity {
            circuits.forget_one();
        }
        let circuit = self.new_circuit(key);
        circuits.insert(key, circuit.clone());
        circuit
    }

    /// Returns the circuit of this key, if it has one. The look does not count as a use.
    pub(super) fn known(&self, key: &str) -> Option<Arc<NamedCircuit>> {
        self.lock().by_key.get(key).map(|entry| entry.circuit.clone())
    }

    /// Takes over the orders by hand for the circuits of others.
    pub(super) fn keep_orders(&self, before: &Self) {
        let known: Vec<_> =
            before.lock().by_key.iter().map(|(key, entry)| (key.clone(), entry.circuit.clone())).collect();
        for (key, circuit) in known {
            if matches!(circuit.machine.peek(Instant::now()), Phase::ForcedOpen | Phase::ForcedClosed) {
                self.get_by_hand(&key).machine.keep_order(&circuit.machine);
            }
        }
    }

    /// Creates a circuit of this key.
    pub(super) fn new_circuit(&self, key: &str) -> Arc<NamedCircuit> {
        let name = format!("{}/{key}", self.name).into();
        // Each circuit has a random sequence of its own, so that their probes are not in step.
        let mut hasher = DefaultHasher::new();
        hasher.write(key.as_bytes());
        NamedCircuit::new(name, self.policy.clone(), self.seed ^ hasher.finish())
    }

    /// Returns the keys that have a circuit, with its state.
    pub(super) fn states(&self) -> Vec<(Arc<str>, CircuitState)> {
        let now = Instant::now();
        let state = |entry: &Entry| outward(entry.circuit.machine.peek(now));
        self.lock().by_key.iter().map(|(key, entry)| (key.clone(), state(entry))).collect()
    }

    /// Locks the map for a lookup, never over the caller's function or a call.
    fn lock(&self) -> MutexGuard<'_, Circuits> {
        lock(&self.circuits)
    }
}

impl Circuits {
    fn find(&mut self, key: &str) -> Option<Arc<NamedCircuit>> {
        self.lookups += 1;
        let entry = self.by_key.get_mut(key)?;
        entry.used = self.lookups;
        Some(entry.circuit.clone())
    }

    fn insert(&mut self, key: &str, circuit: Arc<NamedCircuit>) {
        let used = self.lookups;
        self.by_key.insert(key.into(), Entry { circuit, used });
    }

    /// Forgets one circuit. A closed one without failures loses nothing; otherwise the least recently used closed
    /// one goes. Returns whether there was one.
    fn forget_one(&mut self) -> bool {
        let now = Instant::now();
        let closed = self.by_key.iter().filter(|(_, entry)| entry.circuit.machine.peek(now) == Phase::Closed);
        let oldest = closed.min_by_key(|(_, entry)| (entry.circuit.machine.failures() > 0, entry.used));
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.by_key.remove(&key).is_some())
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.lock().by_key.len();
        f.debug_struct("Keyed")
            .field("name", &self.name)
            .field("circuits", &known)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
