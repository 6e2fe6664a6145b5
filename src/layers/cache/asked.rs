use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::FutureExt as _;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Answer, CacheHandle, CacheKey, Claiming, Found, SharedCall,
    answer::{Asker, CACHED_LEVEL, Facts},
    flights::{Ended, Follow, Joined, Lead, Same},
    layer::Settings,
    lifetime::Lifetime,
    questions::Question,
    recording::Recording,
};
use crate::{
    DegradedReason, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse,
    error::{Phase, TimeoutLimit},
    layers::totals::count,
    response::CacheReason,
    sync::{Mutex, lock},
};

/// What is still needed of a request that was not answered at once.
pub(super) struct Asked {
    same: Same,
    life: Lifetime,
    stream: bool,
    /// What is kept was looked at.
    looked: bool,
    worst_level: u8,
    in_session: bool,
    begun: Instant,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    asker: Asker,
    /// Too old, for when there is no better one.
    stale: Option<Arc<Answer>>,
    question: Option<Question>,
    /// Where it calls for all processes.
    call: Option<Box<dyn SharedCall>>,
    settings: Arc<Settings>,
    handle: CacheHandle,
}

/// How a request goes on that was not answered at once.
pub(super) enum Begun {
    Hits(Arc<Answer>),
    Leads(Lead),
    Follows(Follow),
}

impl Asked {
    pub(super) fn new(
        (key, life): (CacheKey, Lifetime),
        request: &LlmRequest,
        settings: &Arc<Settings>,
        handle: &CacheHandle,
    ) -> Self {
        let context = request.context();
        Self {
            same: Same::new(key, request),
            life,
            stream: request.is_stream(),
            looked: true,
            worst_level: context.worst_level.min(handle.shared.accepted.worst(request.feature_name())),
            in_session: request.session_id().is_some(),
            begun: Instant::now(),
            deadline: context.deadline,
            timer: None,
            asker: Asker::of(request),
            stale: None,
            question: handle.questions().read(key, request),
            call: None,
            settings: settings.clone(),
            handle: handle.clone(),
        }
    }

    /// Who calls of all processes that share the answers; `None` where there are no others, or none that could wait: a stream is
    /// read as quickly as its caller reads it.
    pub(super) fn claims(&self, lead: &Lead) -> Option<Claiming> {
        let waits = !self.stream && lead.is_shared() && !self.life.fresh_for.is_zero();
        waits.then(|| self.handle.claim(&self.same.key, self.life)).flatten()
    }

    /// It calls, for all processes where there is a claim to that.
    pub(super) fn calls(&mut self, call: Option<Box<dyn SharedCall>>) {
        self.call = call;
    }

    /// This was found, and is not fresh.
    pub(super) fn found(&mut self, found: Option<Arc<Answer>>) {
        let usable = |answer: &Arc<Answer>| self.worst_level >= CACHED_LEVEL && self.life.is_usable(answer, self.begun);
        self.stale = found.filter(usable);
    }

    /// Whether this one is given at once.
    pub(super) fn is_fresh(&self, answer: &Answer) -> bool {
        self.life.is_fresh(answer, Instant::now())
    }

    /// The caller wants a new answer: what is kept was not looked at.
    pub(super) fn anew(mut self) -> Self {
        self.looked = false;
        self
    }

    /// It calls for itself alone.
    pub(super) fn leads_none(&self) -> Lead {
        Lead::of_none(&self.handle.shared.flights, self.same)
    }

    /// Leads a call, or follows one that is under way.
    pub(super) fn begin(&self) -> Begun {
        let flights = &self.handle.shared.flights;
        if !self.settings.single_flight {
            return Begun::Leads(self.leads_none());
        }
        match flights.join(self.same) {
            Joined::Follows(follow) => Begun::Follows(follow),
            // A flight may have ended between the look at what is kept and here.
            Joined::Leads(mut lead) => match self.handle.get(&self.same.key) {
                Found::Now(Some(answer)) if self.is_fresh(&answer) => {
                    lead.ends(Ended::Answered(answer.clone()));
                    Begun::Hits(answer)
                }
                _ => Begun::Leads(lead),
            },
        }
    }

    pub(super) fn hits(&self, answer: &Answer) -> LlmResponse {
        count(&self.handle.counters().hits);
        answer.response(self.stream, CacheReason::Fresh, Instant::now())
    }

    /// The answer of another's call; `None` where this request accepts none so bad.
    pub(super) fn shares(&self, answer: &Answer) -> Option<LlmResponse> {
        if !answer.is_within(self.worst_level) {
            return None;
        }
        count(&self.handle.counters().shared);
        Some(answer.response(self.stream, CacheReason::Shared, Instant::now()))
    }

    /// Another's stream, read along; `None` as above.
    pub(super) fn reads(&self, recording: &Recording, body: LlmBody) -> Option<LlmResponse> {
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

    pub(super) fn misses(&self) {
        count(&self.handle.counters().misses);
    }

    /// The leader's call has answered: the answer is kept, and given to all who follow.
    pub(super) fn answered(&mut self, mut lead: Lead, response: LlmResponse) -> LlmResponse {
        self.handle.shared.accepted.note(self.asker.feature.as_ref(), response.accepts());
        let mut response = if self.looked { response.with_cache_miss() } else { response };
        let facts = Facts::of(&response, std::mem::take(&mut self.asker), self.life);
        if response.body().arrives_in_frames() {
            self.call = None;
        }
        // What a person has written is for whoever it was written to.
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
                lead.ends(Ended::Answered(answer));
            }
        }
        response
    }

    /// What becomes of an answer that is whole.
    fn keep(&mut self, is_a_models: bool) -> impl Fn(Arc<Answer>) + Send + Sync + use<> {
        let (handle, key, limit) = (self.handle.clone(), self.same.key, self.settings.max_answer);
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

    /// The leader's call has failed.
    pub(super) fn failed(&self, mut lead: Lead, error: LlmError) -> Result<LlmResponse, LlmError> {
        if let Some(worst) = error.accepts() {
            self.handle.shared.accepted.note(self.asker.feature.as_ref(), Some(worst));
        }
        match (ran_out(&error), self.in_session) {
            // Its own bounds: the next one has others.
            (true, _) => drop(lead),
            // Its session may be pinned to what failed.
            (false, true) => lead.ends(Ended::Alone),
            (false, false) if lead.is_shared() => lead.ends(Ended::Failed(error.clone())),
            (false, false) => {}
        }
        self.instead_of(error)
    }

    /// What there is in place of this failure.
    pub(super) fn instead_of(&self, error: LlmError) -> Result<LlmResponse, LlmError> {
        match &self.stale {
            Some(answer)
                if self.settings.is_outage(&error) && error.accepts().is_none_or(|worst| worst >= CACHED_LEVEL) =>
            {
                count(&self.handle.counters().stale);
                let mut response = answer.last_resort(self.stream, CacheReason::Stale, Instant::now());
                response.degrade(CACHED_LEVEL, || DegradedReason::Failure(error.kind()));
                response.prepend_attempts(error.attempts().to_vec());
                Ok(response)
            }
            _ => Err(error),
        }
    }

    /// Whether there is an answer for when the time is over.
    pub(super) fn has_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// The request's own deadline, for one who waits for another, or has something to give when it passes.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<LlmError> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // By the clock too: a timer further out for the same moment may have been the first to wake.
        if Instant::now() < deadline && timer.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        let after = deadline.saturating_duration_since(self.begun);
        Poll::Ready(LlmError::deadline_passed(Phase::Answer, after))
    }
}

/// Whether a call has failed by its own caller's bounds, so that the next one's may reach further.
pub(in crate::layers) fn ran_out(error: &LlmError) -> bool {
    matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Exhausted)
        || error.own_timeout().is_some_and(|timed_out| timed_out.limit == TimeoutLimit::Deadline)
}
