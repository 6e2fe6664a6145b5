//! The state machine, on synthetic instants.

mod arrows;
mod history;
mod signals;

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use crate::layers::circuit_breaker::{
    evidence::Cause,
    settings::Settings,
    state::{Admission, Circuit, Decision, Outcome, Phase, Rejection, Settlement, Transition, Way},
};

pub(super) const OK: Outcome = Outcome::Success { slow: false };
pub(super) const SLOW: Outcome = Outcome::Success { slow: true };
pub(super) const FAILURE: Outcome = Outcome::Failure { slow: false, throttle: None, cause: CAUSE };
pub(super) const CAUSE: Cause = Cause { connection: None, waited: Duration::ZERO, is_connection: false };
pub(super) const HINTLESS_429: Outcome = Outcome::RateLimited { until: None };
pub(super) const QUOTA: Outcome = Outcome::Quota { until: None };

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

/// A circuit with a clock that the test turns.
pub(super) struct Bench {
    pub(super) circuit: Circuit,
    pub(super) origin: Instant,
    pub(super) now: Cell<Instant>,
}

impl Bench {
    pub(super) fn new(settings: Settings) -> Self {
        let origin = Instant::now();
        Self { circuit: Circuit::new(settings, origin, 1), origin, now: Cell::new(origin) }
    }

    pub(super) fn opened(settings: Settings) -> Self {
        let bench = Self::new(settings);
        for _ in 0..5 {
            bench.call(FAILURE);
        }
        assert_eq!(bench.phase(), Phase::Open);
        bench
    }

    pub(super) fn wait(&self, duration: Duration) {
        self.now.set(self.now.get() + duration);
    }

    pub(super) fn at(&self, duration: Duration) -> Instant {
        self.origin + duration
    }

    pub(super) fn decide(&self) -> Decision {
        self.circuit.admit(Way::Any, || self.now.get())
    }

    pub(super) fn admit(&self) -> Option<Admission> {
        match self.decide() {
            Decision::Admitted(admission) | Decision::AdmittedAfter(admission, _) => Some(admission),
            Decision::Rejected(_) => None,
        }
    }

    #[track_caller]
    pub(super) fn admitted(&self) -> Admission {
        self.admit().expect("admitted")
    }

    #[track_caller]
    pub(super) fn rejected(&self) -> Rejection {
        match self.decide() {
            Decision::Rejected(rejection) => rejection,
            admitted => panic!("{admitted:?}"),
        }
    }

    pub(super) fn settle(&self, admission: Admission, outcome: Outcome) -> Settlement {
        self.circuit.settle(admission, outcome, || self.now.get())
    }

    #[track_caller]
    pub(super) fn call(&self, outcome: Outcome) -> Option<Transition> {
        let settled = self.settle(self.admitted(), outcome);
        assert!(!settled.late);
        settled.transition
    }

    pub(super) fn phase(&self) -> Phase {
        self.circuit.peek(self.now.get())
    }

    pub(super) fn until(&self) -> Option<Duration> {
        let until = self.circuit.phase_ends(self.phase());
        until.map(|until| until - self.origin)
    }
}

/// Settings with a cooldown of a minute.
pub(super) fn minute() -> Settings {
    Settings { cooldown: Some(seconds(60)), ..Settings::default() }
}
