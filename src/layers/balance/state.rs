//! The state of a deployment: in flight, cost, headroom, and the reasons to pass it over.

use std::{
    mem,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    cost::{Cost, Quote},
    deployment::DeploymentFacts,
    headroom::Headroom,
    time::{Moment, Time},
};
use crate::{
    ErrorKind, LlmError, LlmResponse,
    body::admission::{Charge, Gate, Outcome, Permit, SoFar, Ticket},
    classify::Count,
    internal::{
        fnv::{OFFSET_BASIS, fnv1a},
        sharded::Shard,
        wall_clock,
    },
    layers::circuit_breaker::Forecast,
    response::Name,
};

/// The time for which a 429 without a wait closes a deployment off.
const THROTTLE: Duration = Duration::from_secs(1);
/// The longest time for which a refusal of a deployment's own layers is believed: an operator may close its circuit,
/// or another request's probe.
const REFUSED: Duration = Duration::from_secs(1);
/// The share of its weight with which a deployment begins its return.
const FIRST_SHARE: f32 = 0.1;

/// The state of a deployment, which outlives a change of the list.
// In the order in which a choice needs it: of a thousand deployments hardly one is in the processor's cache, and each
// line of it that a choice reads takes as long as the rest of the choice.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct DeploymentState {
    pub(super) cost: Cost,
    /// The time until which it is closed off, in microseconds since `begun`.
    closed_until: AtomicU64,
    /// The time since which it returns, likewise; 0 if it does not.
    returning_since: AtomicU64,
    pub(super) headroom: Headroom,
    /// The time of its first call, likewise; 0 before it.
    first_asked: AtomicU64,
    /// The time since which its circuit was found open, likewise; 0 from its next answer on.
    out_since: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) name: Name,
    pub(super) failed: AtomicU64,
    /// The hash of its name, which is the same in every process.
    pub(super) hash: u64,
    /// Distinguishes it from another of its name, which was there before.
    pub(super) id: u32,
    begun: Instant,
}

// A deployment that is drawn is compared by its first line, up to the first word of its headroom; the one that is
// chosen needs the second line too, and no other.
const _: () = {
    assert!(mem::offset_of!(DeploymentState, headroom) == 56);
    assert!(mem::offset_of!(DeploymentState, name) + size_of::<Name>() <= 128);
};

/// The suitability of a deployment for a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing {
    Serves,
    /// Its circuit waits for a request that shows that it is well.
    AwaitsProbe,
    Out(OutReason),
}

/// The reason why a deployment is passed over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum OutReason {
    Drained,
    CircuitOpen,
    /// The provider has asked to wait, or a layer of the deployment has refused.
    ClosedOff,
    Full,
    NoHeadroom,
}

impl OutReason {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Drained => "is drained by hand",
            Self::CircuitOpen => "has an open circuit",
            Self::ClosedOff => "is closed off for as long as its provider asked",
            Self::Full => "has all its places taken",
            Self::NoHeadroom => "has no headroom left",
        }
    }

    pub(super) fn kind(self) -> ErrorKind {
        match self {
            Self::Drained => ErrorKind::OutOfService,
            Self::CircuitOpen | Self::ClosedOff => ErrorKind::CircuitOpen,
            Self::Full | Self::NoHeadroom => ErrorKind::BulkheadFull,
        }
    }
}

impl DeploymentState {
    /// Creates the state of a deployment that joins a balancer, which began at `begun`.
    pub(super) fn new(facts: &DeploymentFacts, begun: Instant) -> Self {
        Self {
            name: Arc::new(Shard::new(facts.name.clone())),
            id: NEXT.fetch_add(1, Relaxed),
            hash: fnv1a(OFFSET_BASIS, &facts.name),
            begun,
            cost: Cost::default(),
            headroom: Headroom::default(),
            first_asked: AtomicU64::new(0),
            closed_until: AtomicU64::new(0),
            returning_since: AtomicU64::new(0),
            out_since: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Returns the time by the balancer's clock.
    #[inline]
    pub(super) fn time(&self, now: Instant) -> Time {
        Time::new(now, self.begun)
    }

    #[inline]
    fn now(&self) -> Time {
        self.time(Instant::now())
    }

    /// Returns since when its circuit is open, as far as the balancer knows.
    pub(super) fn out_since(&self) -> Option<u64> {
        Some(self.out_since.load(Relaxed)).filter(|since| *since != 0)
    }

    #[cold]
    fn note_out(&self, now: Time) {
        // The first moment stays.
        let _ = self.out_since.compare_exchange(0, now.micros.max(1), Relaxed, Relaxed);
    }

    /// Returns until when it is closed off.
    pub(super) fn closed_until(&self, now: Time) -> Option<Instant> {
        let until = Some(self.closed_until.load(Relaxed)).filter(|until| *until > now.micros)?;
        self.begun.checked_add(Duration::from_micros(until))
    }

    /// Returns the suitability for a request of so many tokens.
    #[inline]
    pub(super) fn standing(&self, facts: &DeploymentFacts, tokens: impl FnOnce() -> u32, now: Time) -> Standing {
        if self.headroom.is_drained() {
            return Standing::Out(OutReason::Drained);
        }
        if self.closed_until(now).is_some() {
            return Standing::Out(OutReason::ClosedOff);
        }
        let forecast = facts.circuit.as_ref().map_or(Forecast::Admits, |circuit| circuit.forecast(now.instant));
        if forecast == Forecast::Refuses {
            self.note_out(now);
            return Standing::Out(OutReason::CircuitOpen);
        }
        if self.headroom.in_flight() >= facts.max_in_flight {
            return Standing::Out(OutReason::Full);
        }
        if self.headroom.is_known() && !self.headroom.has_room(tokens(), now.moment) {
            return Standing::Out(OutReason::NoHeadroom);
        }
        match forecast {
            Forecast::AwaitsProbe => {
                self.note_out(now);
                Standing::AwaitsProbe
            }
            _ => Standing::Serves,
        }
    }

    /// Returns the cost of one more request. `share` is the deployment's weight in units of the mean one.
    #[inline]
    pub(super) fn quote(&self, share: f32, stream: bool, slow_start: Duration, now: Time) -> Quote {
        let load = 1.0 + self.headroom.in_flight() as f32 / (share * self.returned_share(slow_start, now));
        let (time, mean) = self.cost.times(stream, now.moment).unzip();
        let time = time.or_else(|| self.first_wait(now.moment));
        Quote { time, mean, penalty: self.cost.penalty(now.moment), load }
    }

    /// Returns how long the first call has waited for its answer, if none has come yet: a new deployment that is slow
    /// must not gather requests until it answers.
    #[cold]
    fn first_wait(&self, moment: Moment) -> Option<f32> {
        if self.headroom.in_flight() == 0 || self.cost.is_measured() {
            return None;
        }
        let asked = Some(self.first_asked.load(Relaxed)).filter(|asked| *asked != 0)?;
        Some((moment - asked as f64 / 1e6) as f32).filter(|waited| *waited > 0.0)
    }

    /// Returns the share of its weight that a deployment gets which has come back: 1 after the time of a slow start.
    #[inline]
    pub(super) fn returned_share(&self, slow_start: Duration, now: Time) -> f32 {
        match self.returning_since.load(Relaxed) {
            0 => 1.0,
            since => {
                let passed = now.micros.saturating_sub(since) as f32;
                let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * passed / slow_start.as_micros().max(1) as f32;
                if share >= 1.0 {
                    self.returning_since.store(0, Relaxed);
                }
                share.min(1.0)
            }
        }
    }

    /// Begins the return of a deployment that was out, or is new.
    pub(super) fn begin_return(&self, now: Instant) {
        self.returning_since.store(self.time(now).micros.max(1), Relaxed);
    }

    /// Takes a place for a request of so many tokens. Returns `None` if its headroom went to another request.
    #[inline]
    pub(super) fn admit(self: &Arc<Self>, stream: bool, tokens: u32, without_room: bool, now: Time) -> Option<Permit> {
        let counted = self.headroom.reserve(tokens, now.moment, without_room)?;
        self.headroom.sent(now.moment);
        self.headroom.enter();
        if self.first_asked.load(Relaxed) == 0 {
            self.first_asked.store(now.micros.max(1), Relaxed);
        }
        let ticket = Ticket {
            // The form of the answer, by which it is timed.
            generation: stream.into(),
            reserved: tokens,
            begun: NonZeroU64::new(now.micros.max(1)),
            charge: if counted { Charge::Returns } else { Charge::Stays },
            prompt: tokens,
        };
        Some(Permit::new(self.clone(), ticket))
    }

    /// Takes the beginning of an answer: its headers, and the time of its first token.
    pub(super) fn begins(&self, permit: &mut Permit, response: &LlmResponse, now: Time) {
        let ticket = permit.ticket_mut();
        let counted = (ticket.charge == Charge::Returns).then_some(ticket.reserved);
        if counted.is_some() || response.headers().is_some() {
            self.headroom.answered(response.headers(), wall_clock::now(), counted, now.moment);
            ticket.charge = Charge::Stays;
        }
        let begun = ticket.begun.take();
        // An answer from a cache of the deployment's own says nothing about its provider.
        if let Some(begun) = begun.filter(|_| response.cached().is_none()) {
            let took = Duration::from_micros(now.micros.saturating_sub(begun.get()));
            self.cost.answered(ticket.generation != 0, took, now.moment);
        }
    }

    fn fail(&self, error: &LlmError, now: Time) {
        let until = |wait: Duration| now.instant.checked_add(wait);
        if error.is_unsent() {
            if error.kind() == ErrorKind::CircuitOpen {
                self.note_out(now);
                let known = error.retry_at().into_iter().chain(until(REFUSED)).min();
                self.close_off(known);
            }
            return;
        }
        self.failed.fetch_add(1, Relaxed);
        if error.kind() == ErrorKind::RateLimited {
            self.headroom.limited(now.moment);
            self.close_off(error.retry_at().or_else(|| until(THROTTLE)));
        } else if error.kind() == ErrorKind::Overloaded && error.retry_at().is_some() {
            self.close_off(error.retry_at());
        }
        if matches!(error.kind().circuit_counts(), Count::Failure | Count::Latch | Count::LatchIfWorked) {
            self.cost.failed(now.moment);
        }
    }

    fn close_off(&self, until: Option<Instant>) {
        if let Some(until) = until {
            self.closed_until.fetch_max(self.time(until).micros, Relaxed);
        }
    }

    #[inline]
    fn succeed(&self) {
        self.answered.fetch_add(1, Relaxed);
        self.cost.succeeded(|| self.now().moment);
        if self.out_since().is_some() && self.out_since.swap(0, Relaxed) != 0 {
            self.begin_return(Instant::now());
        }
    }
}

/// The number of the next deployment.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl Gate for DeploymentState {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.headroom.leave();
        let was_sent = !matches!(outcome, Outcome::Failed(error) if error.is_unsent());
        if ticket.charge == Charge::Returns {
            match was_sent {
                true => self.headroom.spend(ticket.reserved, self.now().moment),
                false => self.headroom.release(ticket.reserved),
            }
        }
        match outcome {
            Outcome::Answered => self.succeed(),
            Outcome::Failed(error) => self.fail(error, self.now()),
            Outcome::Dropped => {
                if let Some(begun) = ticket.begun {
                    let now = self.now();
                    let waited = Duration::from_micros(now.micros.saturating_sub(begun.get()));
                    self.cost.abandoned(ticket.generation != 0, waited, now.moment);
                }
            }
        }
    }

    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        // A reservation of declared or learned limits is corrected once the answer's tokens are known.
        if ticket.begun.is_none() && self.headroom.is_corrected() {
            let used = so_far().used(ticket.prompt).total();
            self.headroom.correct(ticket.reserved, used, self.now().moment);
        }
        self.settle(ticket, outcome);
    }
}
