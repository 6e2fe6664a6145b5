//! Single flight: of all requests that ask the same at the same time, one calls.
//!
//! A *flight* is a call under way. Its *leader* is the request that makes the call, and its *followers* are the
//! requests that wait for the answer. A leader may leave early because its caller has gone or its time is over. The
//! next follower to be polled then leads. Each lock is held only to look at a map or to change a state, never while
//! a call, a waker or a body runs. A flight's lock is taken inside the table's, never the other way round.

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

/// The properties that requests must have in common to share a call: the question, and the bounds on answering it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlightKey {
    pub(super) key: CacheKey,
    commit: Option<CommitPoint>,
    first_tier_only: bool,
    attempts: u16,
    levels: (u8, u8),
}

impl FlightKey {
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
pub(super) struct Flights(Mutex<HashMap<FlightKey, Arc<Flight>>>);

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
    /// The leader has left, and the next follower to be polled leads.
    Vacant,
    /// The response is there and streams.
    Streaming(Arc<Recording>),
    Ended(FlightResult),
}

/// The end of a flight, as its followers see it.
#[derive(Clone)]
pub(super) enum FlightResult {
    /// An answer for all followers.
    Answered(Arc<Answer>),
    /// A failure for all followers.
    Failed(LlmError),
    /// Nothing that could be shared: each follower calls for itself.
    Unshared,
}

/// A follower's next step.
pub(super) enum Step {
    Wait,
    Leader(Leader),
    Read(Arc<Recording>),
    End(FlightResult),
}

pub(super) enum Role {
    Leader(Leader),
    Follower(Follower),
}

impl Flights {
    /// Joins the flight of this key, or begins one.
    pub(super) fn join(self: &Arc<Self>, key: FlightKey) -> Role {
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
                        return Role::Follower(Follower { flights: self.clone(), key, flight: Some(flight), number });
                    }
                    // The table drops it in a moment.
                    Stage::Ended(_) => {
                        drop(state);
                        let flight = fresh();
                        place.insert(flight.clone());
                        return Role::Leader(Leader::of(self, key, flight));
                    }
                }
                drop(state);
                flight
            }
        };
        Role::Leader(Leader::of(self, key, flight))
    }

    /// Returns the number of calls under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table().len()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<FlightKey, Arc<Flight>>> {
        lock(&self.0)
    }

    fn remove(&self, key: &FlightKey, flight: &Arc<Flight>) {
        let mut table = self.table();
        if table.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            table.remove(key);
        }
    }

    /// Removes a flight that no request is in any more.
    fn remove_if_left(&self, key: &FlightKey, flight: &Arc<Flight>) {
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
        // A recording with no other holder drops its body too.
        drop(old);
        self.waiting.wake_all();
    }
}

/// The leader's place. Dropping it before the flight has ended hands the flight on.
pub(super) struct Leader {
    flights: Arc<Flights>,
    key: FlightKey,
    /// `None` if there are no followers or the flight has ended.
    flight: Option<Arc<Flight>>,
}

impl Leader {
    fn of(flights: &Arc<Flights>, key: FlightKey, flight: Arc<Flight>) -> Self {
        Self { flights: flights.clone(), key, flight: Some(flight) }
    }

    /// Creates a lead that no request can follow.
    pub(super) fn solo(flights: &Arc<Flights>, key: FlightKey) -> Self {
        Self { flights: flights.clone(), key, flight: None }
    }

    /// Returns whether other requests can follow.
    pub(super) fn is_shared(&self) -> bool {
        self.flight.is_some()
    }

    /// Returns the followers.
    pub(super) fn followed(&self) -> Followers {
        Followers(self.flight.clone())
    }

    /// Ends the flight for its followers. A later request begins another.
    pub(super) fn end(&mut self, ended: FlightResult) {
        if let Some(flight) = self.flight.take() {
            self.flights.remove(&self.key, &flight);
            flight.set(Stage::Ended(ended));
        }
    }
}

/// The followers of a leader that has given its place to a recording.
pub(super) struct Followers(Option<Arc<Flight>>);

impl Followers {
    /// Lets the followers read this recording.
    pub(super) fn read(self, recording: &Arc<Recording>) {
        if let Some(flight) = self.0 {
            flight.set(Stage::Streaming(recording.clone()));
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.set(Stage::Vacant);
            self.flights.remove_if_left(&self.key, &flight);
        }
    }
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A follower's place.
pub(super) struct Follower {
    flights: Arc<Flights>,
    key: FlightKey,
    /// `None` once it no longer follows.
    flight: Option<Arc<Flight>>,
    number: u64,
}

impl Follower {
    /// Returns the next step. After any step but [`Step::Wait`], it no longer follows.
    pub(super) fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(flight) = &self.flight else { return Step::End(FlightResult::Unshared) };
        // Register before the look, so that a later change wakes this follower.
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
        step.unwrap_or_else(|| Step::Leader(Leader::of(&self.flights, self.key, flight)))
    }
}

impl Drop for Follower {
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
