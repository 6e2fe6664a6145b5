//! A circuit with its name: the state machine, the table that judges its calls, and the events that it sends.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{runtime::Handle, time::Instant};

use super::{
    callers::View,
    evidence::Cause,
    fingerprint::fingerprint,
    probe::{LONGEST_PROBE, ask},
    settings::Settings,
    state::{self, Admission, Circuit, Decision, Phase, Rejection, Transition, Way},
    word::Reason,
};
use crate::{
    BoxLlmService, Classifier, Context, ErrorKind, Event, Events, LlmError, LlmRequest,
    body::admission::{Gate, Outcome, Permit, Ticket},
    classify::Count,
    error::{Rest, TimeoutLimit},
    events::{CircuitReason, CircuitState, Failure, report, report_setup},
    internal::sync::{Mutex, lock},
    layers::{
        caller::caller,
        clock,
        patience::{SHORT_WAIT, begins_soon},
    },
};

/// The settings that all circuits of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) settings: Settings,
    /// The time from which a call is slow.
    pub(super) slow_after: Option<Duration>,
    /// The time from which a call counts as a failure if its caller leaves before anything came.
    pub(super) abandoned_after: Option<Duration>,
    pub(super) classifier: Classifier,
    pub(super) events: Events,
    pub(super) confirm: Confirm,
}

/// The way to confirm a latch, if the call that reports it may have caused it itself.
#[derive(Clone, Debug, Default)]
pub(super) enum Confirm {
    /// None: such a failure counts only for its call.
    #[default]
    Never,
    /// The report is believed.
    Believed,
    /// By sending this request to this service.
    Asked(BoxLlmService, LlmRequest),
}

#[derive(Debug)]
pub(super) struct NamedCircuit {
    pub(super) name: Arc<str>,
    /// The beginning of a refusal's message.
    title: Arc<str>,
    pub(super) machine: Circuit,
    /// Returns whether the start of a call matters.
    is_timed: bool,
    /// True if the last wait that the provider asked for came with a rate limit.
    is_rate_limit: AtomicBool,
    /// The failure that last changed the state, with the generation that it began.
    opened_by: Mutex<Option<(u32, Failure)>>,
    /// True once it was reported that the provider refuses the key or the model, and has never answered.
    is_setup_reported: AtomicBool,
    policy: Arc<Policy>,
    me: Weak<Self>,
}

impl NamedCircuit {
    pub(super) fn new(name: Arc<str>, policy: Arc<Policy>, seed: u64) -> Arc<Self> {
        let machine = Circuit::new(policy.settings.clone(), Instant::now(), seed);
        let is_timed = policy.slow_after.is_some() || policy.abandoned_after.is_some();
        let title = format!("circuit {name} ").into();
        Arc::new_cyclic(|me| Self {
            name,
            title,
            machine,
            is_timed,
            is_rate_limit: AtomicBool::new(false),
            opened_by: Mutex::new(None),
            is_setup_reported: AtomicBool::new(false),
            policy,
            me: me.clone(),
        })
    }

    /// Returns a ticket if the call needs only admission. In good health that is one load: it neither reads the
    /// clock nor allocates.
    #[inline]
    pub(super) fn free_ticket(&self, caller: u64) -> Option<Ticket> {
        if self.is_timed {
            return None;
        }
        let generation = self.machine.admits_freely()?;
        Some(Ticket::of_caller(generation, caller))
    }

    /// Requests admission for this call, in any state.
    #[cold]
    pub(super) fn admit_with_care(self: &Arc<Self>, request: &mut LlmRequest) -> Result<Permit, LlmError> {
        let caller = caller(request);
        if let Some(generation) = self.machine.admits_beside_watched(caller).filter(|_| !self.is_timed) {
            return Ok(Permit::new(self.clone(), Ticket::of_caller(generation, caller)));
        }
        let mut now = None;
        let way = way(request);
        let is_watched = self.machine.watches(caller);
        let mut own_probe = None;
        if is_watched {
            match self.machine.view(caller, || fingerprint(request), way, *now.insert(clock::now())) {
                View::Free => {}
                View::Probe(probe) => own_probe = Some(probe),
                View::Refused { until } => return self.refuse_held(request, until, now),
            }
        }
        let mut decision = self.machine.admit(way, || *now.get_or_insert_with(clock::now));
        if let (Decision::Rejected(rejection), Some(now)) = (&decision, now)
            && let Some(admitted) = self.admit_stranger(*rejection, request, way, now)
        {
            decision = admitted;
        }
        if let (Decision::Rejected(_), Some(probe)) = (&decision, own_probe) {
            self.machine.give_back(caller, probe);
        }
        let admission = match decision {
            Decision::Admitted(admission) => admission,
            Decision::AdmittedAfter(admission, transition) => {
                self.tell(Some(transition));
                admission
            }
            Decision::Rejected(rejection) => {
                if rejection.reason == Reason::InvalidRequests {
                    self.meet(request);
                }
                // If no other tier is left, the circuit admits the call in any state, and does not count it.
                if request.context().last_resort {
                    return Ok(Permit::default());
                }
                return Err(noted(self.refusal(rejection), request, now));
            }
        };
        let admission = Admission { caller, own_probe, is_watched, ..admission };
        let begun = (self.is_timed && !request.is_upload()).then(|| self.clock());
        let ticket = Ticket { begun, ..Ticket::of_caller(admission.generation, caller) };
        if !admission.is_marked() {
            return Ok(Permit::new(self.clone(), ticket));
        }
        if admission.probe.is_some() && way == Way::Short && self.machine.was_silent() {
            let until = now.unwrap_or_else(Instant::now).checked_add(SHORT_WAIT);
            request.context_mut().limit_deadline(until);
        }
        Ok(self.marked(admission, ticket, request))
    }

    #[cold]
    #[inline(never)]
    fn meet(&self, request: &LlmRequest) {
        self.machine.meet(caller(request));
    }

    /// Refuses a call of a caller that is held apart.
    #[cold]
    fn refuse_held(&self, request: &LlmRequest, until: u64, now: Option<Instant>) -> Result<Permit, LlmError> {
        self.tell_held(caller(request), request.tenant().cloned(), None);
        if request.context().last_resort {
            return Ok(Permit::default());
        }
        let state = "holds this caller's requests back: they fail there, and those of others do not";
        let refusal = LlmError::with_parts(ErrorKind::CircuitOpen, self.title.clone(), Rest::Text(state))
            .with_retry_at(self.machine.instant(until));
        Err(noted(refusal, request, now))
    }

    /// Tells once of each caller that is held apart. `tenant` is its name, if it is a tenant.
    #[cold]
    fn tell_held(&self, caller: u64, tenant: Option<Arc<str>>, failure: Option<ErrorKind>) {
        if self.machine.is_to_tell(caller) {
            let circuit = self.name.clone();
            let event = Event::CallerHeldApart { circuit, caller: tenant, failure, at: Instant::now() };
            report(&event, Some(&self.policy.events));
            self.policy.events.send(event);
        }
    }

    /// Admits a call that has nothing to do with what opened the circuit, if that is known: another caller's call goes
    /// on, and one with another prompt is the next probe. An upload is none, since it cannot go on to another tier.
    fn admit_stranger(&self, rejection: Rejection, request: &LlmRequest, way: Way, now: Instant) -> Option<Decision> {
        if !request.is_upload()
            && let Some(admitted) = self.machine.acquit(caller(request), way, now)
        {
            return Some(admitted);
        }
        let is_counted = matches!(rejection.reason, Reason::ConsecutiveFailures | Reason::ProbeFailed);
        if !is_counted || !self.machine.load().suspect() || request.is_upload() {
            return None;
        }
        self.machine.admit_stranger(fingerprint(request), now)
    }

    /// A permit that tells more of its call when that is settled: it is a probe, or may be part of a storm, or one more
    /// failure in a row.
    #[inline(never)]
    fn marked(self: &Arc<Self>, admission: Admission, ticket: Ticket, request: &LlmRequest) -> Permit {
        if admission.probe.is_some() || admission.suspect {
            self.machine.meet(admission.caller);
        }
        let admission = Admission { prompt: Some(fingerprint(request)), ..admission };
        let (request_id, tenant) = (request.shared_id(), request.tenant().cloned());
        Permit::new(Arc::new(MarkedCall { circuit: self.clone(), admission, request_id, tenant }), ticket)
    }

    /// Returns the error of a call that was not admitted.
    #[inline]
    fn refusal(&self, rejection: Rejection) -> LlmError {
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
        let mut refusal = LlmError::with_parts(ErrorKind::CircuitOpen, self.title.clone(), Rest::Text(state))
            .with_retry_at(rejection.until);
        if rejection.reason == Reason::Throttled && self.is_rate_limit.load(Relaxed) {
            refusal.note_rate_limit();
        }
        refusal
    }

    /// Sends all unreported changes of state to the subscribers, in their order. It runs outside of the lock under
    /// which they were made, so that another thread may be reporting this one already.
    #[inline]
    pub(super) fn tell(&self, transition: Option<Transition>) {
        if transition.is_some() {
            self.tell_all();
        }
    }

    #[cold]
    fn tell_all(&self) {
        let mut telling = None;
        while let Some(transition) = self.machine.next_to_tell(telling.is_some()) {
            telling.get_or_insert_with(|| ReportingThread(&self.machine));
            let (from, to) = (outward(transition.from), outward(transition.to));
            // The state is the same from outside, for example if an operator closes a closed circuit.
            if from == to {
                continue;
            }
            let (circuit, reason, failure) =
                (self.name.clone(), why(transition.reason), self.failure_behind(transition));
            let change = Event::CircuitChanged { circuit, from, to, reason, failure, at: Instant::now() };
            report(&change, Some(&self.policy.events));
            self.policy.events.send(change);
        }
        // No change is left, and another thread may be reporting the next one.
        std::mem::forget(telling);
    }

    /// Remembers the failure that has opened the circuit, for the report of it.
    #[cold]
    fn note(&self, opening: Transition, error: &LlmError, request_id: Option<Arc<str>>) {
        if outward(opening.to) == CircuitState::Open {
            let failure = Failure::of_error(error, request_id, Instant::now());
            *lock(&self.opened_by) = Some((opening.generation, failure));
        }
    }

    /// Returns the failure that has opened the circuit, if this change is that. A thread that was reporting already may
    /// come before it is known.
    fn failure_behind(&self, opening: Transition) -> Option<Failure> {
        let known = lock(&self.opened_by);
        let is_its = |(generation, _): &&(u32, Failure)| *generation == opening.generation;
        known
            .as_ref()
            .filter(is_its)
            .filter(|_| outward(opening.to) == CircuitState::Open)
            .map(|(_, failure)| failure.clone())
    }

    /// Sends the probe that is wanted, if any, in a task of its own, since no caller waits for it. Without a
    /// runtime nothing is confirmed.
    #[cold]
    fn send_probe(&self) {
        let Confirm::Asked(service, request) = &self.policy.confirm else { return };
        if let (Some(generation), Ok(runtime)) = (self.machine.take_suspected_latch(), Handle::try_current()) {
            let request = request.with_context(Context::default());
            runtime.spawn(probe(service.clone(), request, self.me.clone(), generation));
        }
    }

    /// Takes the provider's answer to the probe.
    fn confirm(&self, generation: u32, said: &Result<(), LlmError>) {
        let outcome = match said {
            Ok(()) => state::Outcome::Success { slow: false },
            Err(error) => match self.policy.classifier.classify(error).circuit {
                Count::Latch => state::Outcome::Quota { until: error.retry_at() },
                Count::LatchIfWorked => state::Outcome::Auth,
                _ => state::Outcome::Neutral,
            },
        };
        let transition = self.machine.confirm(generation, outcome, Instant::now());
        if let (Some(transition), Err(error)) = (transition, said) {
            self.note(transition, error, None);
        }
        self.tell(transition);
    }

    /// Returns whether the caller may have caused a failure that would latch. A status that no request can cause
    /// concerns a whole account, if the API has named the error.
    fn may_be_the_callers(&self, error: &LlmError) -> bool {
        let is_accounts = |status: StatusCode| matches!(status.as_u16(), 401 | 402 | 429) && error.code().is_some();
        !matches!(self.policy.confirm, Confirm::Believed)
            && error.status().is_some_and(|status| status.is_client_error() && !is_accounts(status))
    }

    fn finish(
        &self,
        admission: Admission,
        begun: Option<NonZeroU64>,
        outcome: Outcome<'_>,
        names: (Option<&Arc<str>>, Option<&Arc<str>>),
    ) {
        let (ended, (request_id, tenant)) = (outcome, names);
        let fingerprint = admission.prompt;
        let outcome = match ended {
            Outcome::Answered => state::Outcome::Success { slow: self.is_slow(begun) },
            Outcome::Dropped if self.is_past(begun, self.policy.abandoned_after) => {
                state::Outcome::Failure { slow: self.is_slow(begun), throttle: None, cause: Cause::default() }
            }
            Outcome::Dropped => state::Outcome::Abandoned,
            Outcome::Failed(error) => {
                self.check_setup(error);
                // The classifier is foreign code. If it panics, the call must still give its place back.
                let unjudged = VerdictGuard { circuit: self, admission: Some(admission) };
                let outcome = self.judge(error, fingerprint, begun);
                unjudged.judged();
                outcome
            }
        };
        let settled = self.machine.settle(admission, outcome, Instant::now);
        if let (Some(transition), Outcome::Failed(error)) = (settled.transition, ended) {
            self.note(transition, error, request_id.cloned());
        }
        self.tell(settled.transition);
        if settled.late {
            self.tell_late(ended);
        }
        if matches!(outcome, state::Outcome::SuspectedLatch { .. } | state::Outcome::AccountRefused { .. }) {
            self.send_probe();
        }
        if let Outcome::Failed(error) = ended
            && let Some(tenant) = tenant
        {
            self.tell_held(admission.caller, Some(tenant.clone()), Some(error.kind()));
        }
    }

    /// Reports once that a provider which has never answered refuses its key or its model: it would be covered by
    /// another for ever.
    fn check_setup(&self, error: &LlmError) {
        let is_refusal = matches!(error.kind(), ErrorKind::Auth | ErrorKind::NotFound) && error.status().is_some();
        if is_refusal
            && !error.is_callers_own()
            && !self.machine.load().worked()
            && !self.is_setup_reported.swap(true, Relaxed)
        {
            report_setup(&self.name, error, &self.policy.events);
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
        // Only such an error names a time at which the provider itself may be called again.
        let provider_says = !error.kind().is_local() && error.kind() != ErrorKind::Timeout;
        let asked = error.retry_at().filter(|_| provider_says);
        if asked.is_some() {
            self.is_rate_limit.store(error.kind() == ErrorKind::RateLimited, Relaxed);
        }
        match class.circuit {
            // This machine's network says nothing about the provider.
            Count::Failure if error.is_local_network() => state::Outcome::Neutral,
            Count::Failure => match callers_time(error) {
                Some(had) if had < MIN_JUDGED => state::Outcome::Neutral,
                Some(had) if had < SHORT_WAIT => state::Outcome::CallerImpatient { slow: self.is_slow(begun) },
                _ => state::Outcome::Failure { slow: self.is_slow(begun), throttle: asked, cause: cause(error) },
            },
            Count::Success => state::Outcome::Alive,
            Count::Neutral if error.kind() == ErrorKind::RateLimited => state::Outcome::RateLimited { until: asked },
            Count::Neutral => state::Outcome::Neutral,
            Count::Latch => self.accusation(error, Reason::Quota, asked),
            Count::LatchIfWorked => self.accusation(error, Reason::Auth, None),
            Count::FailureInStorm => state::Outcome::InvalidRequest { fingerprint },
        }
    }

    /// Returns the weight of one call's word that the account is refused.
    fn accusation(&self, error: &LlmError, reason: Reason, until: Option<Instant>) -> state::Outcome {
        match &self.policy.confirm {
            _ if self.may_be_the_callers(error) => state::Outcome::SuspectedLatch { reason },
            // A leaf's own word, or that of a circuit whose callers are trusted.
            confirm if error.status().is_none() || matches!(confirm, Confirm::Believed) => match reason {
                Reason::Auth => state::Outcome::Auth,
                _ => state::Outcome::Quota { until },
            },
            confirm => {
                let is_asked = matches!(confirm, Confirm::Asked(..));
                state::Outcome::AccountRefused { reason, until, is_asked }
            }
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

    /// Returns the time in nanoseconds since the circuit was made, plus one.
    fn clock(&self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(self.machine.at(Instant::now()))
    }
}

impl Gate for NamedCircuit {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        if matches!(outcome, Outcome::Answered)
            && ticket.begun.is_none()
            && (self.machine.is_idle(ticket.generation)
                || self.machine.is_idle_beside_watched(ticket.generation, ticket.caller(), clock::now))
        {
            return;
        }
        let admission = Admission { caller: ticket.caller(), ..Admission::free(ticket.generation) };
        self.finish(admission, ticket.begun, outcome, (None, None));
    }

    /// Clears the start of a call whose first token came in time: the rest takes as long as the answer.
    fn begins(&self, ticket: &mut Ticket) {
        ticket.begun = ticket.begun.filter(|begun| self.is_slow(Some(*begun)));
    }

    fn unmask(&self, error: &mut LlmError) {
        self.unmask_or_doubt(error, false);
    }
}

/// The gate of a call with more state than a ticket holds: a probe, or a call after a failure or an invalid request.
struct MarkedCall {
    circuit: Arc<NamedCircuit>,
    admission: Admission,
    request_id: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
}

impl Gate for MarkedCall {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.circuit.finish(self.admission, ticket.begun, outcome, (self.request_id.as_ref(), self.tenant.as_ref()));
    }

    fn begins(&self, ticket: &mut Ticket) {
        self.circuit.begins(ticket);
    }

    fn unmask(&self, error: &mut LlmError) {
        self.circuit.unmask_or_doubt(error, self.admission.probe.is_some());
        self.circuit.hold_evidence(error, self.admission);
    }
}

/// Asks the provider, and reports its answer to the circuit. It holds no reference to the circuit meanwhile.
async fn probe(service: BoxLlmService, request: LlmRequest, circuit: Weak<NamedCircuit>, generation: u32) {
    let Some(said) = ask(service, request, LONGEST_PROBE).await else { return };
    if let Some(circuit) = circuit.upgrade() {
        circuit.confirm(generation, &said);
    }
}

/// A thread that reports changes. Subscribers are foreign code, and may panic.
struct ReportingThread<'a>(&'a Circuit);

impl Drop for ReportingThread<'_> {
    fn drop(&mut self) {
        self.0.stop_telling();
    }
}

/// Settles a call as abandoned if judging it panics.
struct VerdictGuard<'a> {
    circuit: &'a NamedCircuit,
    admission: Option<Admission>,
}

impl VerdictGuard<'_> {
    fn judged(mut self) {
        self.admission = None;
    }
}

impl Drop for VerdictGuard<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.circuit.machine.settle(admission, state::Outcome::Abandoned, Instant::now);
        }
    }
}

/// Returns what a request may do if it is not admitted. A probe of a silent provider waits no longer than a healthy
/// one needs, if there is another model to go on to.
fn way(request: &LlmRequest) -> Way {
    let prospects = request.context().prospects;
    match prospects.is_nothing_left() {
        true => Way::Only,
        false if prospects.can_go_on() && begins_soon(request) => Way::Short,
        false => Way::Any,
    }
}

/// Notes a refusal's time, which a layer further out that keeps a record would have to read once more.
fn noted(mut refusal: LlmError, request: &LlmRequest, now: Option<Instant>) -> LlmError {
    if let (Some(begun), Some(now)) = (request.context().begun, now) {
        refusal.note(begun, || now);
    }
    refusal
}

/// Returns what is known of a failure that counts.
fn cause(error: &LlmError) -> Cause {
    let waited = error.own_timeout().map(|out| out.after).unwrap_or_default();
    let connection = error.connection().and_then(NonZeroU64::new);
    Cause { connection, waited, is_connection: error.kind() == ErrorKind::Connect }
}

/// Returns how long a call had that ended because its caller's own time was over.
fn callers_time(error: &LlmError) -> Option<Duration> {
    error.own_timeout().filter(|out| out.limit == TimeoutLimit::Deadline).map(|out| out.after)
}

/// The usual time of a healthy model to its first token: a shorter wait shows nothing about the provider.
const MIN_JUDGED: Duration = Duration::from_secs(1);

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
