//! One circuit for each key, of which there are only so many.

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
    sync::{Mutex, MutexGuard, lock},
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
    /// Lookups so far: the age of an entry is counted in them.
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

    /// The circuit of this request.
    pub(super) fn of(&self, request: &LlmRequest) -> Arc<NamedCircuit> {
        // Foreign code, and so before any lock.
        self.get(&(self.key_of)(request))
    }

    /// The circuit of this key, made if need be.
    pub(super) fn get(&self, key: &str) -> Arc<NamedCircuit> {
        let mut circuits = self.lock();
        circuits.lookups += 1;
        let used = circuits.lookups;
        if let Some(entry) = circuits.by_key.get_mut(key) {
            entry.used = used;
            return entry.circuit.clone();
        }
        if circuits.by_key.len() >= self.capacity {
            circuits.forget_one();
        }
        let name = format!("{}/{key}", self.name).into();
        // Not one sequence of chance for all: their probes would be in step.
        let mut hasher = DefaultHasher::new();
        hasher.write(key.as_bytes());
        let circuit = Arc::new(NamedCircuit::new(name, self.policy.clone(), self.seed ^ hasher.finish()));
        circuits.by_key.insert(key.into(), Entry { circuit: circuit.clone(), used });
        circuit
    }

    /// The keys that have a circuit, and its state.
    pub(super) fn states(&self) -> Vec<(Arc<str>, CircuitState)> {
        let now = Instant::now();
        let state = |entry: &Entry| outward(entry.circuit.machine.peek(now));
        self.lock().by_key.iter().map(|(key, entry)| (key.clone(), state(entry))).collect()
    }

    /// Held for a lookup, never over the caller's function or a call.
    fn lock(&self) -> MutexGuard<'_, Circuits> {
        lock(&self.circuits)
    }
}

impl Circuits {
    /// What is closed and has no failure forgets nothing when it goes; among the rest, the longest unused.
    fn forget_one(&mut self) {
        let now = Instant::now();
        let dearest = |entry: &Entry| {
            let machine = &entry.circuit.machine;
            machine.peek(now) != Phase::Closed || machine.failures() > 0
        };
        let oldest = self.by_key.iter().min_by_key(|(_, entry)| (dearest(entry), entry.used));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.by_key.remove(&key);
        }
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
