//! One circuit for each key, of which there are only so many.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    circuit::{NamedCircuit, Policy, outward},
    state::Phase,
};
use crate::{LlmRequest, events::CircuitState};

pub(super) type KeyOf = dyn for<'a> Fn(&'a LlmRequest) -> Cow<'a, str> + Send + Sync;

pub(super) struct Keyed {
    name: Arc<str>,
    policy: Arc<Policy>,
    seed: u64,
    key_of: Arc<KeyOf>,
    capacity: usize,
    circuits: RwLock<HashMap<Arc<str>, Entry, RandomState>>,
    /// Moves on when a circuit is added: ages are counted in newcomers, so that a hit is a read.
    age: AtomicU64,
}

struct Entry {
    circuit: Arc<NamedCircuit>,
    used: AtomicU64,
}

impl Keyed {
    pub(super) fn new(name: Arc<str>, policy: Arc<Policy>, seed: u64, key_of: Arc<KeyOf>, capacity: usize) -> Self {
        let circuits = RwLock::new(HashMap::default());
        Self { name, policy, seed, key_of, capacity: capacity.max(1), circuits, age: AtomicU64::new(0) }
    }

    /// The circuit of this request.
    pub(super) fn of(&self, request: &LlmRequest) -> Arc<NamedCircuit> {
        // Foreign code, and so before any lock.
        self.get(&(self.key_of)(request))
    }

    /// The circuit of this key, made if need be.
    pub(super) fn get(&self, key: &str) -> Arc<NamedCircuit> {
        let known = self.circuits.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(key) {
            let age = self.age.load(Ordering::Relaxed);
            if entry.used.load(Ordering::Relaxed) != age {
                entry.used.store(age, Ordering::Relaxed);
            }
            return entry.circuit.clone();
        }
        drop(known);
        self.add(key)
    }

    /// The keys that have a circuit, and its state.
    pub(super) fn states(&self) -> Vec<(Arc<str>, CircuitState)> {
        let now = tokio::time::Instant::now();
        let known = self.circuits.read().unwrap_or_else(PoisonError::into_inner);
        let state = |entry: &Entry| outward(entry.circuit.machine.peek(now).0);
        known.iter().map(|(key, entry)| (key.clone(), state(entry))).collect()
    }

    fn add(&self, key: &str) -> Arc<NamedCircuit> {
        let mut known = self.circuits.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(key) {
            return entry.circuit.clone();
        }
        if known.len() >= self.capacity {
            // What is closed and has no failure forgets nothing when it goes; among the rest, the longest unused.
            let now = tokio::time::Instant::now();
            let oldest = known.iter().min_by_key(|(_, entry)| {
                let machine = &entry.circuit.machine;
                let blank = machine.peek(now).0 == Phase::Closed && machine.failures() == 0;
                (!blank, entry.used.load(Ordering::Relaxed))
            });
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                known.remove(&oldest);
            }
        }
        let name = format!("{}/{key}", self.name).into();
        // Not one sequence of chance for all: their probes would be in step.
        let seed = self.seed ^ known.hasher().hash_one(key);
        let circuit = Arc::new(NamedCircuit::new(name, self.policy.clone(), seed));
        let used = AtomicU64::new(self.age.fetch_add(1, Ordering::Relaxed) + 1);
        known.insert(key.into(), Entry { circuit: circuit.clone(), used });
        circuit
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.circuits.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Keyed")
            .field("name", &self.name)
            .field("circuits", &known)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
