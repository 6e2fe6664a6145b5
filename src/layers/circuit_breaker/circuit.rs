//! A circuit with its name: the state machine, the table that judges its calls, and the events that it sends.

use std::{
    num::NonZeroU64,
    sync::{Arc, Weak},
    time::Duration,
};

use http::StatusCode;
use tokio::{runtime::Handle, time::Instant};

use super::{
    fingerprint::fingerprint,
    probe::{LONGEST_PROBE, ask},
    settings::Settings,
    state::{self, Admission, Circuit, Decision, Phase, Rejection, Transition},
    word::Reason,
};
use crate::{
    BoxLlmService, Classifier, Context, ErrorKind, Event, Events, LlmError, LlmRequest,
    classify::Count,
    error::{Evidence, TimeoutLimit},
    events::{CircuitReason, CircuitState},
    layers::{
        admission::{Gate, Outcome, Permit, Ticket},
        caller::caller,
        clock,
    },
};

/// What all circuits of a layer have in common.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) settings: Settings,
    /// From when on a call is slow.
    pub(super) slow_after: Option<Duration>,
    /// From when on a call counts as a failure that its caller leaves before anything came.
    pub(super) abandoned_after: Option<Duration>,
    pub(super) classifier: Classifier,
    pub(super) events: Events,
    pub(super) confirm: Confirm,
}

/// How it is told whether a latch is one, where a call says so that may have brought it about itself.
#[derive(Clone, Debug, Default)]
pub(super) enum Confirm {
    /// It is not: such a failure is its call's own.
    #[default]
    Never,
    /// It is one.
    Believed,
    /// By sending this to there.
    Asked(BoxLlmService, LlmRequest),
}

#[derive(Debug)]
pub(super) struct NamedCircuit {
    pub(super) name: Arc<str>,
    pub(super) machine: Circuit,
    /// Whether it matters when a call began.
    is_timed: bool,
    policy: Arc<Policy>,
    me: Weak<Self>,
}

impl NamedCircuit {
    pub(super) fn new(name: Arc<str>, policy: Arc<Policy>, seed: u64) -> Arc<Self> {
        let machine = Circuit::new(policy.settings.clone(), Instant::now(), seed);
        let is_timed = policy.slow_after.is_some() || policy.abandoned_after.is_some();
        Arc::new_cyclic(|me| Self { name, machine, is_timed, policy, me: me.clone() })
    }

    /// Leave to make a call, if it needs nothing else. While all is well that is one load: neither is the clock read, nor
    /// anything allocated.
    #[inline]
    pub(super) fn free_ticket(&self) -> Option<Ticket> {
        if self.is_timed {
            return None;
        }
        let generation = self.machine.admits_freely()?;
        Some(Ticket { generation, ..Ticket::default() })
    }

    /// Asks for leave to make this call, whatever the state.
    #[cold]
    pub(super) fn admit_with_care(self: &Arc<Self>, request: &LlmRequest) -> Result<Permit, Rejection> {
        let admission = match self.machine.admit(clock::now) {
            Decision::Admitted(admission) => admission,
            Decision::AdmittedAfter(admission, transition) => {
                self.tell(Some(transition));
                admission
            }
            Decision::Rejected(rejection) => {
                if rejection.reason == Reason::InvalidRequests {
                    self.machine.meet(caller(request));
                }
                return Err(rejection);
            }
        };
        let ticket = Ticket {
            generation: admission.generation,
            begun: self.is_timed.then(|| self.clock()),
            ..Ticket::default()
        };
        if admission.probe.is_none() && !admission.suspect {
            return Ok(Permit::new(self.clone(), ticket));
        }
        Ok(self.marked(admission, ticket, request))
    }

    /// A permit that tells more of its call when that is settled: it is a probe, or may be part of a storm.
    #[inline(never)]
    fn marked(self: &Arc<Self>, admission: Admission, ticket: Ticket, request: &LlmRequest) -> Permit {
        let caller = caller(request);
        self.machine.meet(caller);
        let marked =
            Marked { circuit: self.clone(), probe: admission.probe, fingerprint: fingerprint(request), caller };
        Permit::new(Arc::new(marked), ticket)
    }

    /// The error of a call that was not admitted.
    pub(super) fn refusal(&self, rejection: Rejection) -> LlmError {
        let state = match (rejection.phase, rejection.reason) {
            (Phase::HalfOpen, _) => "is half-open and its probes are under way",
            (Phase::ForcedOpen, _) => "was opened by hand",
            (_, Reason::Throttled) => "is closed off for as long as the provider asked",
            (_, Reason::ConsecutiveFailures) => "is open after too many failures in a row",
            (_, Reason::FailureRate) => "is open after too large a share of failures",
            (_, Reason::SlowCalls) => "is open after too large a share of slow calls",
            (_, Reason::InvalidRequests) => "is open, for the provider suddenly calls most requests invalid",
            (_, Reason::Quota) => "is open since the quota is used up",
            (_, Reason::Auth) => "is open since a key that has worked is refused",
            (_, Reason::ProbeFailed) => "is open again after a failed probe",
            _ => "is open",
        };
        // Not by `format!`, which takes a third of all that a refusal does.
        let mut message = String::with_capacity("circuit  ".len() + self.name.len() + state.len());
        message.push_str("circuit ");
        message.push_str(&self.name);
        message.push(' ');
        message.push_str(state);
        LlmError::new(ErrorKind::CircuitOpen, message).with_retry_at(rejection.until)
    }

    /// In a storm of invalid requests, what this failure really is: the provider's, so that other tiers are asked.
    ///
    /// Such a request was let through as a probe, or is the one by which the storm was seen; without this its caller would be
    /// told of a mistake that is not theirs.
    fn unmask_storm(&self, error: &mut LlmError) {
        if error.kind() != ErrorKind::InvalidRequest || !self.machine.is_in_storm() {
            return;
        }
        let message = format!("the provider suddenly calls most requests invalid (circuit {})", self.name);
        // Not again here: the circuit has just opened.
        let mut unmasked = LlmError::new(ErrorKind::Server, message).with_should_retry(false);
        if let Some(status) = error.status() {
            unmasked = unmasked.with_status(status);
        }
        if let (Some(provider), Some(model)) = error.names() {
            unmasked = unmasked.with_model(provider, model);
        }
        // What was tried inside was tried, whatever it is called.
        *unmasked.attempts_mut() = error.attempts().to_vec();
        let masked = error.clone();
        *error = unmasked.with_source(masked);
    }

    /// What a failure that was settled really is, or may be.
    fn unmask_or_doubt(&self, error: &mut LlmError, is_probe: bool) {
        self.unmask_storm(error);
        // From a provider that has just been down, a mistake is doubtful already.
        if error.kind() == ErrorKind::InvalidRequest && (is_probe || self.machine.doubts_the_invalid()) {
            error.doubt();
        }
    }

    /// After a change of state, tells those who listen of all that nobody has been told of yet, in their order: not under the
    /// lock under which they were made, so that another may be telling of this one already.
    pub(super) fn tell(&self, transition: Option<Transition>) {
        if transition.is_none() {
            return;
        }
        let mut telling = None;
        while let Some(transition) = self.machine.next_to_tell(telling.is_some()) {
            telling.get_or_insert_with(|| Telling(&self.machine));
            let (from, to) = (outward(transition.from), outward(transition.to));
            // Closed by hand from closed, say: the same thing for those outside.
            if from == to {
                continue;
            }
            self.policy.events.send(Event::CircuitChanged {
                circuit: self.name.clone(),
                from,
                to,
                reason: why(transition.reason),
                at: Instant::now(),
            });
        }
        // There is none left, and another may be telling of the next.
        std::mem::forget(telling);
    }

    /// Sends the probe that is wanted, if one is: in a task of its own, for it is nobody's call. Where there is no runtime nothing is
    /// confirmed.
    #[cold]
    fn send_probe(&self) {
        let Confirm::Asked(service, request) = &self.policy.confirm else { return };
        if let (Some(generation), Ok(runtime)) = (self.machine.take_accusation(), Handle::try_current()) {
            let request = request.with_context(Context::default());
            runtime.spawn(probe(service.clone(), request, self.me.clone(), generation));
        }
    }

    /// Takes what the provider said to the probe.
    fn confirm(&self, generation: u32, said: &Result<(), LlmError>) {
        let outcome = match said {
            Ok(()) => state::Outcome::Success { slow: false },
            Err(error) => match self.policy.classifier.classify(error).circuit {
                Count::Latch => state::Outcome::Quota { until: error.retry_at() },
                Count::LatchIfWorked => state::Outcome::Auth,
                _ => state::Outcome::Neutral,
            },
        };
        self.tell(self.machine.confirm(generation, outcome, Instant::now()));
    }

    /// Whether a failure that would latch may be what its caller has brought about. Statuses that no request can lead to tell of a
    /// whole account, where the API has named the error.
    fn may_be_the_callers(&self, error: &LlmError) -> bool {
        let is_accounts = |status: StatusCode| matches!(status.as_u16(), 401 | 402 | 429) && error.code().is_some();
        !matches!(self.policy.confirm, Confirm::Believed)
            && error.status().is_some_and(|status| status.is_client_error() && !is_accounts(status))
    }

    fn finish(&self, admission: Admission, fingerprint: Option<u64>, begun: Option<NonZeroU64>, outcome: Outcome<'_>) {
        let ended = outcome;
        let outcome = match ended {
            Outcome::Answered => state::Outcome::Success { slow: self.is_slow(begun) },
            Outcome::Dropped if self.is_past(begun, self.policy.abandoned_after) => {
                state::Outcome::Failure { slow: self.is_slow(begun), throttle: None }
            }
            Outcome::Dropped => state::Outcome::Abandoned,
            Outcome::Failed(error) => {
                // The classifier is foreign code. If it panics, the call must still give its place back.
                let unjudged = Unjudged { circuit: self, admission: Some(admission) };
                let outcome = self.judge(error, fingerprint, begun);
                unjudged.judged();
                outcome
            }
        };
        let settled = self.machine.settle(admission, outcome, Instant::now);
        self.tell(settled.transition);
        if settled.late {
            self.tell_late(ended);
        }
        if matches!(outcome, state::Outcome::Accused { .. }) {
            self.send_probe();
        }
    }

    /// Tells those who listen of a result that came too late to count.
    #[cold]
    fn tell_late(&self, ended: Outcome<'_>) {
        let failure = if let Outcome::Failed(error) = ended { Some(error.kind()) } else { None };
        self.policy.events.send_with(|| Event::LateResult { circuit: self.name.clone(), failure, at: Instant::now() });
    }

    fn judge(&self, error: &LlmError, fingerprint: Option<u64>, begun: Option<NonZeroU64>) -> state::Outcome {
        let class = self.policy.classifier.classify(error);
        // Nobody else names a time at which the provider itself may be called again.
        let provider_says = !error.kind().is_local() && error.kind() != ErrorKind::Timeout;
        let asked = error.retry_at().filter(|_| provider_says);
        match class.circuit {
            Count::Failure => match callers_time(error) {
                Some(had) if had < PATIENCE => state::Outcome::Neutral,
                Some(had) if had < LEISURE => state::Outcome::Hurried { slow: self.is_slow(begun) },
                _ => state::Outcome::Failure { slow: self.is_slow(begun), throttle: asked },
            },
            Count::Success => state::Outcome::Alive,
            Count::Neutral if error.kind() == ErrorKind::RateLimited => state::Outcome::RateLimited { until: asked },
            Count::Neutral => state::Outcome::Neutral,
            Count::Latch if self.may_be_the_callers(error) => state::Outcome::Accused { reason: Reason::Quota },
            Count::LatchIfWorked if self.may_be_the_callers(error) => state::Outcome::Accused { reason: Reason::Auth },
            Count::Latch => state::Outcome::Quota { until: asked },
            Count::LatchIfWorked => state::Outcome::Auth,
            Count::FailureInStorm => state::Outcome::InvalidRequest { fingerprint },
        }
    }

    fn is_slow(&self, begun: Option<NonZeroU64>) -> bool {
        self.is_past(begun, self.policy.slow_after)
    }

    fn is_past(&self, begun: Option<NonZeroU64>, after: Option<Duration>) -> bool {
        match (begun, after) {
            (Some(begun), Some(after)) => Duration::from_nanos(self.clock().get().saturating_sub(begun.get())) >= after,
            _ => false,
        }
    }

    /// The time in nanoseconds since the circuit was made, and a bit.
    fn clock(&self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(self.machine.at(Instant::now()))
    }
}

impl Gate for NamedCircuit {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        if matches!(outcome, Outcome::Answered) && ticket.begun.is_none() && self.machine.is_idle(ticket.generation) {
            return;
        }
        let admission = Admission { generation: ticket.generation, probe: None, suspect: false, caller: None };
        self.finish(admission, None, ticket.begun, outcome);
    }

    /// If its first token came in time, how long the rest takes is the answer's own business.
    fn begins(&self, ticket: &mut Ticket) {
        ticket.begun = ticket.begun.filter(|begun| self.is_slow(Some(*begun)));
    }

    fn unmask(&self, error: &mut LlmError) {
        self.unmask_or_doubt(error, false);
    }
}

/// The gate of a call that has more to remember than a ticket holds: a probe, or a call while a storm is suspected.
struct Marked {
    circuit: Arc<NamedCircuit>,
    probe: Option<u64>,
    fingerprint: u64,
    caller: u64,
}

impl Gate for Marked {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        let (generation, caller) = (ticket.generation, Some(self.caller));
        let admission = Admission { generation, probe: self.probe, suspect: false, caller };
        self.circuit.finish(admission, Some(self.fingerprint), ticket.begun, outcome);
    }

    fn begins(&self, ticket: &mut Ticket) {
        self.circuit.begins(ticket);
    }

    fn unmask(&self, error: &mut LlmError) {
        self.circuit.unmask_or_doubt(error, self.probe.is_some());
        if error.kind() == ErrorKind::InvalidRequest {
            let circuit = Arc::downgrade(&self.circuit);
            error.hold(Arc::new(Mistake { circuit, fingerprint: self.fingerprint }));
        }
    }
}

/// Asks the provider, and tells the circuit what it said. Nothing of the circuit is held meanwhile.
async fn probe(service: BoxLlmService, request: LlmRequest, circuit: Weak<NamedCircuit>, generation: u32) {
    let Some(said) = ask(service, request, LONGEST_PROBE).await else { return };
    if let Some(circuit) = circuit.upgrade() {
        circuit.confirm(generation, &said);
    }
}

/// A request that was called invalid.
struct Mistake {
    // A call under way would be told by a reference of its own.
    circuit: Weak<NamedCircuit>,
    fingerprint: u64,
}

impl Evidence for Mistake {
    fn withdraw(&self) {
        if let Some(circuit) = self.circuit.upgrade() {
            circuit.machine.withdraw(self.fingerprint);
        }
    }
}

/// Whoever tells of changes. Who listens is foreign code, and may panic.
struct Telling<'a>(&'a Circuit);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.stop_telling();
    }
}

/// Settles a call as abandoned if judging it panics.
struct Unjudged<'a> {
    circuit: &'a NamedCircuit,
    admission: Option<Admission>,
}

impl Unjudged<'_> {
    fn judged(mut self) {
        self.admission = None;
    }
}

impl Drop for Unjudged<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.circuit.machine.settle(admission, state::Outcome::Abandoned, Instant::now);
        }
    }
}

/// How long a call had that ended because its caller's own time was over.
fn callers_time(error: &LlmError) -> Option<Duration> {
    error.own_timeout().filter(|out| out.limit == TimeoutLimit::Deadline).map(|out| out.after)
}

/// A healthy model may take this long to its first token: that a caller had less says nothing about the provider.
const PATIENCE: Duration = Duration::from_secs(1);

/// A healthy model has nearly always begun to answer by then.
const LEISURE: Duration = Duration::from_secs(10);

pub(super) fn outward(phase: Phase) -> CircuitState {
    match phase {
        Phase::Closed | Phase::ForcedClosed => CircuitState::Closed,
        Phase::Open | Phase::Throttled | Phase::ForcedOpen => CircuitState::Open,
        Phase::HalfOpen => CircuitState::HalfOpen,
    }
}

fn why(reason: Reason) -> CircuitReason {
    match reason {
        Reason::ConsecutiveFailures | Reason::FailureRate => CircuitReason::Failures,
        Reason::SlowCalls => CircuitReason::SlowCalls,
        Reason::InvalidRequests => CircuitReason::InvalidRequestStorm,
        Reason::Throttled => CircuitReason::Throttled,
        Reason::Quota => CircuitReason::Quota,
        Reason::Auth => CircuitReason::Auth,
        Reason::ProbeFailed => CircuitReason::ProbeFailed,
        Reason::CooldownOver | Reason::ThrottleOver => CircuitReason::Cooldown,
        Reason::Recovered => CircuitReason::Recovered,
        Reason::Forced => CircuitReason::Forced,
    }
}
