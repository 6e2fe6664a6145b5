//! Single flight: of all who ask the same at the same time, one calls.
//!
//! A *flight* is a call under way, its *leader* the request that makes it, its *followers* those that wait for its answer.
//! A leader that leaves (its caller has gone, its time is over) hands the flight on: the next follower to be polled leads.
//! The locks are held for a look at a map or a change of a state, never while a call, a waker or a body runs; a
//! flight's is taken inside the table's and never the other way round.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt, mem,
    sync::Arc,
    task::Context,
};

use super::{Answer, CacheKey, recording::Recording, wakers::Wakers};
use crate::{
    CommitPoint, LlmError, LlmRequest,
    internal::sync::{Mutex, MutexGuard, lock},
};

/// What requests have in common that share a call: what they ask, and the bounds that they set to the answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Same {
    pub(super) key: CacheKey,
    commit: Option<CommitPoint>,
    first_tier_only: bool,
    attempts: u16,
    levels: (u8, u8),
}

impl Same {
    pub(super) fn new(key: CacheKey, request: &LlmRequest) -> Self {
        let context = request.context();
        Self {
            key,
            commit: context.commit,
            first_tier_only: request.is_first_tier_only(),
            attempts: context.attempts_left,
            levels: (context.min_level, context.worst_level),
        }
    }
}

/// The calls under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Same, Arc<Flight>>>);

struct Flight {
    state: Mutex<State>,
    waiting: Arc<Wakers>,
}

struct State {
    stage: Stage,
    followers: usize,
}

enum Stage {
    /// The leader waits for its response.
    Calling,
    /// The leader has left. Whoever comes next leads.
    Vacant,
    /// The response is there and streams.
    Streaming(Arc<Recording>),
    Ended(Ended),
}

/// How a flight ends for its followers.
#[derive(Clone)]
pub(super) enum Ended {
    /// With an answer for all.
    Answered(Arc<Answer>),
    /// With a failure for all.
    Failed(LlmError),
    /// Without anything that could be shared: each calls for itself.
    Alone,
}

/// What a follower does next.
pub(super) enum Step {
    Wait,
    Lead(Lead),
    Read(Arc<Recording>),
    End(Ended),
}

pub(super) enum Joined {
    Leads(Lead),
    Follows(Follow),
}

impl Flights {
    /// Joins the flight of this key, or begins it.
    pub(super) fn join(self: &Arc<Self>, key: Same) -> Joined {
        let mut table = self.table();
        let fresh = || {
            let state = State { stage: Stage::Calling, followers: 0 };
            Arc::new(Flight { state: Mutex::new(state), waiting: Arc::default() })
        };
        let flight = match table.entry(key) {
            Entry::Vacant(place) => place.insert(fresh()).clone(),
            Entry::Occupied(mut place) => {
                let flight = place.get().clone();
                let mut state = flight.state();
                match state.stage {
                    Stage::Vacant => state.stage = Stage::Calling,
                    Stage::Calling | Stage::Streaming(_) => {
                        state.followers += 1;
                        drop(state);
                        let number = flight.waiting.number();
                        return Joined::Follows(Follow { flights: self.clone(), key, flight: Some(flight), number });
                    }
                    // It is taken out of the table in a moment.
                    Stage::Ended(_) => {
                        drop(state);
                        let flight = fresh();
                        place.insert(flight.clone());
                        return Joined::Leads(Lead::of(self, key, flight));
                    }
                }
                drop(state);
                flight
            }
        };
        Joined::Leads(Lead::of(self, key, flight))
    }

    /// How many calls are under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table().len()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Same, Arc<Flight>>> {
        lock(&self.0)
    }

    fn remove(&self, key: &Same, flight: &Arc<Flight>) {
        let mut table = self.table();
        if table.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            table.remove(key);
        }
    }

    /// Takes a flight out that nobody is in any more.
    fn remove_if_left(&self, key: &Same, flight: &Arc<Flight>) {
        let mut table = self.table();
        let left = {
            let state = flight.state();
            matches!(state.stage, Stage::Vacant) && state.followers == 0
        };
        if left && table.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            table.remove(key);
        }
    }
}

impl Flight {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn set(&self, stage: Stage) {
        let old = mem::replace(&mut self.state().stage, stage);
        // A recording that nobody else holds drops its body with it.
        drop(old);
        self.waiting.wake_all();
    }
}

/// The leader's place. Dropped before the flight has ended, it is handed on.
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: Same,
    /// `None`: it leads nobody, or the flight has ended.
    flight: Option<Arc<Flight>>,
}

impl Lead {
    fn of(flights: &Arc<Flights>, key: Same, flight: Arc<Flight>) -> Self {
        Self { flights: flights.clone(), key, flight: Some(flight) }
    }

    /// One that nobody follows.
    pub(super) fn of_none(flights: &Arc<Flights>, key: Same) -> Self {
        Self { flights: flights.clone(), key, flight: None }
    }

    /// Whether anybody can follow.
    pub(super) fn is_shared(&self) -> bool {
        self.flight.is_some()
    }

    /// Those who follow.
    pub(super) fn followed(&self) -> Followed {
        Followed(self.flight.clone())
    }

    /// The flight has ended so for its followers. Whoever comes later begins another.
    pub(super) fn ends(&mut self, ended: Ended) {
        if let Some(flight) = self.flight.take() {
            self.flights.remove(&self.key, &flight);
            flight.set(Stage::Ended(ended));
        }
    }
}

/// Those who follow a leader, once it has given its place to a recording.
pub(super) struct Followed(Option<Arc<Flight>>);

impl Followed {
    /// They read along.
    pub(super) fn read(self, recording: &Arc<Recording>) {
        if let Some(flight) = self.0 {
            flight.set(Stage::Streaming(recording.clone()));
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.set(Stage::Vacant);
            self.flights.remove_if_left(&self.key, &flight);
        }
    }
}

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A follower's place.
pub(super) struct Follow {
    flights: Arc<Flights>,
    key: Same,
    /// `None` once it follows no longer.
    flight: Option<Arc<Flight>>,
    number: u64,
}

impl Follow {
    /// What to do now. After anything but [`Step::Wait`] it follows no longer.
    pub(super) fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(flight) = &self.flight else { return Step::End(Ended::Alone) };
        // Before the look: what changes after it wakes.
        flight.waiting.add(self.number, cx.waker());
        let mut state = flight.state();
        let step = match &state.stage {
            Stage::Calling => return Step::Wait,
            Stage::Vacant => None,
            Stage::Streaming(recording) => Some(Step::Read(recording.clone())),
            Stage::Ended(ended) => Some(Step::End(ended.clone())),
        };
        state.followers -= 1;
        if step.is_none() {
            state.stage = Stage::Calling;
        }
        drop(state);
        flight.waiting.remove(self.number);
        let flight = self.flight.take().expect("it was looked at above");
        step.unwrap_or_else(|| Step::Lead(Lead::of(&self.flights, self.key, flight)))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        flight.waiting.remove(self.number);
        let left = {
            let mut state = flight.state();
            state.followers -= 1;
            state.followers == 0 && matches!(state.stage, Stage::Vacant)
        };
        if left {
            self.flights.remove_if_left(&self.key, &flight);
        }
    }
}
