use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Answer, CacheHandle, CacheKey, ClaimFuture, SharedCall, StoreLookup,
    answer::{CACHED_LEVEL, Facts, Requester},
    flights::{FlightKey, FlightResult, Follower, Leader, Role},
    lifetime::Lifetime,
    questions::Question,
    recording::Recording,
    settings::Settings,
};
use crate::{
    DegradedReason, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse,
    error::{Phase, TimeoutLimit},
    internal::sync::{Mutex, lock},
    response::CacheReason,
    timer,
    totals::count,
};

/// A lookup that did not find a fresh answer, with all that the request still needs.
pub(super) struct PendingLookup {
    flight: FlightKey,
    life: Lifetime,
    stream: bool,
    /// True if the kept answers were looked at.
    looked: bool,
    worst_level: u8,
    in_session: bool,
    begun: Instant,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    requester: Requester,
    /// A stale answer, for use when no better one comes.
    stale: Option<Arc<Answer>>,
    question: Option<Question>,
    /// The shared call, if this process calls for all.
    call: Option<Box<dyn SharedCall>>,
    /// True once a call that it followed had nothing to share.
    disappointed: bool,
    settings: Arc<Settings>,
    handle: CacheHandle,
}

/// The way in which an unanswered request goes on.
pub(super) enum Lookup {
    Hit(Arc<Answer>),
    Leader(Leader),
    Follower(Follower),
}

impl PendingLookup {
    pub(super) fn new(
        (key, life): (CacheKey, Lifetime),
        request: &LlmRequest,
        settings: &Arc<Settings>,
        handle: &CacheHandle,
    ) -> Self {
        let context = request.context();
        Self {
            flight: FlightKey::new(key, request),
            life,
            stream: request.is_stream(),
            looked: true,
            worst_level: context.worst_level.min(handle.shared.accepted.worst(request.feature())),
            in_session: request.session().is_some(),
            begun: Instant::now(),
            deadline: context.deadline,
            timer: None,
            requester: Requester::of(request),
            stale: None,
            question: handle.questions().read(key, request),
            call: None,
            disappointed: false,
            settings: settings.clone(),
            handle: handle.clone(),
        }
    }

    /// Returns a claim to the call among all processes that share the answers. Returns `None` if there are no
    /// others, or if none could wait: a stream is read at its own caller's pace.
    pub(super) fn claim(&self, lead: &Leader) -> Option<ClaimFuture> {
        let waits = !self.stream && lead.is_shared() && !self.life.fresh_for.is_zero();
        waits.then(|| self.handle.claim(&self.flight.key, self.life)).flatten()
    }

    /// Takes the shared call, if this process calls for all.
    pub(super) fn set_call(&mut self, call: Option<Box<dyn SharedCall>>) {
        self.call = call;
    }

    /// Keeps a stale answer that was found.
    pub(super) fn set_stale(&mut self, found: Option<Arc<Answer>>) {
        let usable = |answer: &Arc<Answer>| self.worst_level >= CACHED_LEVEL && self.life.is_usable(answer, self.begun);
        self.stale = found.filter(usable);
    }

    /// Returns whether this answer is given at once.
    pub(super) fn is_fresh(&self, answer: &Answer) -> bool {
        self.life.is_fresh(answer, Instant::now())
    }

    /// Marks the request as one that wants a new answer: the kept ones were not looked at.
    pub(super) fn skipping_kept(mut self) -> Self {
        self.looked = false;
        self
    }

    /// Returns a lead that no request can follow.
    pub(super) fn solo_leader(&self) -> Leader {
        Leader::solo(&self.handle.shared.flights, self.flight)
    }

    /// Notes that the call it followed had nothing to share. Returns whether that is the first: a request follows one
    /// more, so that one calls for all others, and then none, so that nobody waits in turn.
    pub(super) fn follows_another(&mut self) -> bool {
        !std::mem::replace(&mut self.disappointed, true)
    }

    /// Leads a call, or follows one that is under way.
    pub(super) fn begin(&self) -> Lookup {
        let flights = &self.handle.shared.flights;
        if !self.settings.single_flight {
            return Lookup::Leader(self.solo_leader());
        }
        match flights.join(self.flight) {
            Role::Follower(follow) => Lookup::Follower(follow),
            // A flight may have ended since this request looked at the kept answers.
            Role::Leader(mut lead) => match self.handle.get(&self.flight.key) {
                StoreLookup::Ready(Some(answer)) if self.is_fresh(&answer) => {
                    lead.end(FlightResult::Answered(answer.clone()));
                    Lookup::Hit(answer)
                }
                _ => Lookup::Leader(lead),
            },
        }
    }

    pub(super) fn hit_response(&self, answer: &Answer) -> LlmResponse {
        count(&self.handle.counters().hits);
        answer.response(self.stream, CacheReason::Fresh, Instant::now())
    }

    /// Returns the answer of another request's call, or `None` if this request accepts no answer of that level.
    pub(super) fn shared_response(&self, answer: &Answer) -> Option<LlmResponse> {
        if !answer.is_within(self.worst_level) {
            return None;
        }
        count(&self.handle.counters().shared);
        Some(answer.response(self.stream, CacheReason::Shared, Instant::now()))
    }

    /// Reads along with another request's stream. Returns `None` if this request accepts no answer of that level.
    pub(super) fn read_along(&self, recording: &Recording, body: LlmBody) -> Option<LlmResponse> {
        let facts = recording.facts();
        if !facts.is_within(self.worst_level) {
            return None;
        }
        count(&self.handle.counters().shared);
        Some(facts.put(LlmResponse::new(body), CacheReason::Shared, Instant::now()))
    }

    pub(super) fn wants_stream(&self) -> bool {
        self.stream
    }

    pub(super) fn count_miss(&self) {
        count(&self.handle.counters().misses);
    }

    /// Takes the answer of the leader's call: keeps it, and gives it to all followers.
    pub(super) fn answered(&mut self, mut lead: Leader, response: LlmResponse) -> LlmResponse {
        self.handle.shared.accepted.note(self.requester.feature.as_ref(), response.accepts());
        let mut response = if self.looked { response.with_cache_miss() } else { response };
        let facts = Facts::of(&response, std::mem::take(&mut self.requester), self.life);
        if response.body().arrives_in_frames() {
            self.call = None;
        }
        // A person's answer is for its recipient alone.
        let keep = self.keep(response.task_id().is_none());
        if response.body().arrives_in_frames() {
            let limit = self.settings.max_answer;
            let body = std::mem::replace(response.body_mut(), LlmBody::from_text(""));
            let reader = Recording::begin(body, facts, lead, limit, Box::new(keep));
            return response.map_body(|_| LlmBody::from_frames(reader));
        }
        let body = response.body();
        if let Some(message) = body.message() {
            let answer = Arc::new(Answer::whole(message.into_owned(), body.wire(), facts));
            keep(answer.clone());
            if lead.is_shared() {
                lead.end(FlightResult::Answered(answer));
            }
        }
        response
    }

    /// Returns the callback that keeps a whole answer.
    fn keep(&mut self, is_a_models: bool) -> impl Fn(Arc<Answer>) + Send + Sync + use<> {
        let (handle, key, limit) = (self.handle.clone(), self.flight.key, self.settings.max_answer);
        let (question, call) = (self.question.take().map(Arc::new), Mutex::new(self.call.take()));
        move |answer: Arc<Answer>| {
            if !is_a_models || !answer.is_worth_keeping() || answer.size() > limit as u64 {
                return;
            }
            match lock(&call).take() {
                Some(call) => handle.put_by(call, answer),
                None => handle.put(key, answer),
            }
            if let Some(question) = &question {
                handle.questions().add(question.clone());
            }
        }
    }

    /// Takes the failure of the leader's call.
    pub(super) fn failed(&self, mut lead: Leader, error: LlmError) -> Result<LlmResponse, LlmError> {
        if let Some(worst) = error.accepts() {
            self.handle.shared.accepted.note(self.requester.feature.as_ref(), Some(worst));
        }
        if ran_out(&error) {
            // The leader's own time is over, and the next request has another.
            drop(lead);
        } else if self.in_session || error.is_by_callers_limits() {
            // The failure may be the leader's alone, as that of a provider to which its session is pinned.
            lead.end(FlightResult::Unshared);
        } else if lead.is_shared() {
            lead.end(FlightResult::Failed(error.clone()));
        }
        self.instead_of(error)
    }

    /// Returns the stale answer in place of this failure, or the failure.
    pub(super) fn instead_of(&self, error: LlmError) -> Result<LlmResponse, LlmError> {
        match &self.stale {
            Some(answer)
                if self.settings.is_outage(&error) && error.accepts().is_none_or(|worst| worst >= CACHED_LEVEL) =>
            {
                count(&self.handle.counters().stale);
                let mut response = answer.last_resort(self.stream, CacheReason::Stale, Instant::now());
                response.degrade(CACHED_LEVEL, || DegradedReason::Failure(error.kind()));
                response.follow(&error);
                Ok(response)
            }
            _ => Err(error),
        }
    }

    /// Returns whether there is a stale answer for when the deadline passes.
    pub(super) fn has_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// Polls the request's own deadline, for a request that waits for another or has a stale answer to give.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<LlmError> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // Read the clock too: an outer timer for the same moment may have woken first.
        if Instant::now() < deadline && timer::poll(timer.as_mut(), cx).is_pending() {
            return Poll::Pending;
        }
        let after = deadline.saturating_duration_since(self.begun);
        Poll::Ready(LlmError::deadline_passed(Phase::Answer, after))
    }
}

/// Returns whether a call failed by its own caller's bounds, so that the next caller's may reach further.
pub(crate) fn ran_out(error: &LlmError) -> bool {
    matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Exhausted)
        || error.own_timeout().is_some_and(|timed_out| timed_out.limit == TimeoutLimit::Deadline)
}
