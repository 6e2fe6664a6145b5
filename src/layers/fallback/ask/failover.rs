//! The progress of a request along its tiers: the next tier, and the record of earlier attempts. It calls no
//! service.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    allotment::{allot, tier_deadline},
    plan::Plan,
    progress::{Doubt, Failures, Progress},
};
use crate::{
    DegradedReason, ErrorKind, LlmError, LlmRequest, LlmResponse,
    classify::{self, Class},
    internal::sharded::Shard,
    layers::{
        call::Standby,
        fallback::{
            choose::{AllOpen, Chain, ExcludedTier, ExclusionReason, Policy, SessionPolicy, StreamBreak, Tiers},
            serve::{KeptText, Passage, ShortWait},
            shared::Shared,
        },
        retry::Reservation,
    },
    ledger::{self, Attempt, Ledger, Next, PriorAttempts, Stop},
    wire::UNSUPPORTED_PATH,
};

/// One request's way along its tiers.
pub(crate) struct Failover {
    pub(super) plan: Plan,
    progress: Progress,
    /// The retry budget's token for the call to the current tier.
    token: Option<Reservation>,
    /// The current tier; 0 is the primary.
    at: usize,
    /// The start of its call, and of the first tier's.
    begun: Instant,
    started: Instant,
    /// The tiers asked before.
    tried: Tiers,
    /// The tiers that cannot serve the request; none of them is ever asked, unless a step-down is lifted.
    excluded: Vec<ExcludedTier>,
    ledger: Ledger,
    /// The window that was too small, once one was.
    window: Option<u64>,
    /// True if it has started over.
    again: bool,
    /// True once every circuit has refused the request: then each may let it through all the same.
    insists: bool,
    /// The tier that may be asked once more after its next failure.
    pub(super) revisits: Option<usize>,
    /// True once calls go on with an answer: no route leads to a tier that does not.
    pub(super) goes_on: bool,
}

/// The next step after a failure.
pub(crate) enum Step {
    /// Ask the current tier.
    Ask,
    /// No tier is left.
    GiveUp(LlmError),
}

impl Failover {
    /// # Errors
    ///
    /// Fails if no tier that the request may go to can carry it.
    pub(crate) fn begin(
        shared: &Arc<Shard<Shared>>,
        request: &LlmRequest,
        policy: &Policy,
        excluded: Vec<ExcludedTier>,
    ) -> Result<Self, LlmError> {
        let config = &shared.config;
        let mut chain = match request.is_human_required() {
            true => Chain::Listed(config.human()),
            false => config.chain(request, policy),
        };
        // A session's tier is not the chain's.
        let first = chain.iter(config.tiers()).next().filter(|_| !request.is_human_required());
        let known = match (request.is_human_required(), chain.iter(config.tiers()).next()) {
            (true, Some(person)) => shared.known.others(person),
            _ => shared.known.of(&chain, &policy.terms, config),
        };
        if !request.is_human_required()
            && let Some(tier) = shared.session_tier(request)
        {
            match config.sessions.policy {
                SessionPolicy::Pin => chain = Chain::Pinned(tier),
                // A feature's policy overrides a session's tier. A model's does not, since that tier is of its
                // chain.
                SessionPolicy::Sticky if policy.tiers.is_none() => chain = chain.from(tier),
                SessionPolicy::Sticky | SessionPolicy::Free => {}
            }
        }
        let (chain, passed) = chain.after_failures(config, request);
        let mut failover = Self::new(Plan::new(shared.clone(), request.clone(), policy.terms, chain));
        failover.excluded = excluded;
        failover.plan.known = known;
        passed.into_iter().for_each(|step| failover.ledger.push(step));
        let Some(mut at) = failover.first() else {
            let error = failover.no_eligible_tier();
            if error.kind() == ErrorKind::OutOfService && !matches!(failover.plan.chain, Chain::Pinned(_)) {
                shared.all_failed(request, error.kind());
            }
            return Err(error);
        };
        if request.is_first_tier_only() {
            failover.plan.chain = Chain::Listed([at].into());
        } else if request.is_compaction() && !matches!(failover.plan.chain, Chain::Pinned(_)) {
            let account = |tier| &config.settings(tier).compaction;
            failover.plan.chain =
                Chain::Listed(failover.plan.tiers().filter(|tier| account(*tier) == account(at)).collect());
        }
        if at == 0
            && let Some(next) = failover.plan.tiers().filter(|tier| failover.is_eligible(*tier)).nth(1)
            && !shared.state.ramp.admits()
        {
            at = next;
        }
        (failover.at, failover.plan.first) = (at, first.filter(|first| *first == at));
        if let Some(first) = first.filter(|first| *first != at)
            && failover.plan.tiers().next() == Some(first)
            && failover.excluded.iter().any(|excluded| excluded.is_out(first))
        {
            // All requests go elsewhere: a switch like any other.
            failover.plan.first = Some(first);
            failover.progress = Progress::First { passes_first: true };
        }
        if failover.plan.first.is_none() {
            failover.plan.known = shared.known.others(at);
        }
        failover.record_skipped(None, Some(at));
        Ok(failover)
    }

    /// Creates the state of a request that went to the primary first, with all tiers after it, each of which can
    /// carry it.
    #[inline]
    pub(crate) fn from_primary(shared: Arc<Shard<Shared>>, request: LlmRequest) -> Self {
        let terms = shared.config.policy(&request).terms;
        Self::new(Plan::new(shared, request, terms, Chain::All))
    }

    #[inline]
    fn new(plan: Plan) -> Self {
        let begun = plan.request.context().begun.unwrap_or_else(Instant::now);
        Self {
            plan,
            progress: Progress::default(),
            token: None,
            at: 0,
            begun,
            started: begun,
            tried: Tiers::default(),
            excluded: Vec::new(),
            ledger: Ledger::default(),
            window: None,
            again: false,
            insists: false,
            revisits: None,
            goes_on: false,
        }
    }

    /// Returns the current tier; 0 is the primary.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Returns the request as it came.
    pub(crate) fn whole_request(&self) -> &LlmRequest {
        &self.plan.request
    }

    /// Returns whether an answer is returned as it is, whatever happens to its stream.
    pub(crate) fn takes(&self, response: &LlmResponse) -> bool {
        self.plan.shared.takes(&self.plan.request, response)
    }

    /// Returns the policy for a break of the answer's stream.
    pub(crate) fn stream_break(&self) -> StreamBreak {
        self.plan.shared.stream_break(&self.plan.request)
    }

    /// Returns the request's deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.plan.request.context().deadline
    }

    /// Returns when the current tier was begun.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Returns the service of the current tier; `None` for the primary.
    pub(crate) fn tier(&self) -> Option<&Standby> {
        Some(&self.plan.config().tiers[self.at.checked_sub(1)?].service)
    }

    /// Returns the request for the current tier, with its share of attempts and time, and its time limit, if time
    /// is limited and others come before or after it.
    // Inlined: the context is written where it stays. A load across two stores waits for both.
    #[inline(always)]
    pub(crate) fn request(&self) -> (LlmRequest, Option<Instant>) {
        let after = self.tiers_after();
        let mut request = self.plan.request.clone();
        let context = request.context_mut();
        context.begun = Some(self.begun);
        self.ledger.deduct(context);
        let tier_deadline = match after {
            // The last tier has all the time that is left. This layer ends it, because a limit further out does not
            // know the earlier tiers' failures.
            0 if !self.ledger.is_empty() => context.deadline,
            after => tier_deadline(self.plan.config(), context, after),
        };
        let can_go_on = self.can_go_on() && !self.insists;
        let tier_deadline = match can_go_on {
            true => self.plan.patience(self.at, self.begun, tier_deadline),
            false => tier_deadline,
        };
        allot(self.plan.config(), self.at, after, can_go_on, context, tier_deadline);
        context.attempts_left = self.plan.most_attempts(self.at, context.attempts_left);
        if self.progress.asks_one() {
            context.attempts_left = context.attempts_left.min(1);
        }
        context.prospects.note_nothing_left(self.insists);
        if !self.plan.config().settings(self.at).human {
            return (request, tier_deadline);
        }
        let reason = self.reason_for(u8::MAX);
        (request.with_extension(PriorAttempts::new(reason, self.ledger.record())), tier_deadline)
    }

    /// Takes the failure of the current tier, and goes on to the next if there is any.
    pub(crate) fn failed(&mut self, mut error: LlmError) -> Step {
        let kind = error.kind();
        let mut class = self.plan.config().classifier.classify(&error);
        let (root, earliest, mut doubt) = match self.progress.take() {
            Some(Failures { root, was_sent, earliest, doubt, .. }) => (Some((root, was_sent)), earliest, doubt),
            None => (None, None, None),
        };
        // Behind a failure, a request may be called invalid for what its translation has made of it.
        let mut asks_once_more = false;
        let had_opinion = Doubt::asks_one(doubt.as_ref());
        if kind == ErrorKind::InvalidRequest {
            use classify::Failover::{No, SecondOpinion, Yes};
            let behind = root.is_some();
            // A further chain's opinion is the second already.
            if class.failover == SecondOpinion && (behind || self.plan.request.context().has_left_primary()) {
                class.failover = No;
            }
            if Doubt::is_settled_by(&error, class, behind, &mut doubt) {
                class.failover = No;
            } else if behind && class.failover == No {
                (class.failover, asks_once_more) = (Yes, true);
            }
        }
        let now = Instant::now();
        let (spent, was_sent) = self.record_failure(&mut error, now);
        // A second opinion is the last one.
        let is_over = had_opinion && was_sent;
        asks_once_more |= Doubt::asks_one(doubt.as_ref());
        let earliest = match (earliest, error.retry_at()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.refresh_drained();
        let may_be_routed = self.plan.request.goes_anywhere() && !self.goes_on;
        let route = self.plan.config().routes.get(&kind).filter(|_| may_be_routed);
        let route = route.map(|route| Chain::Listed(route.clone()));
        let next = match is_over {
            true => Err(Stop::Kind),
            false => self.next_tier(route.as_ref(), class, doubt.as_ref(), spent, now),
        };
        let next = match next {
            Err(Stop::LastTier | Stop::Policy) if asks_once_more => Err(Stop::Kind),
            Err(Stop::LastTier | Stop::Policy) if self.relax_step_down() => {
                self.next_tier(route.as_ref(), class, doubt.as_ref(), spent, now)
            }
            next => next,
        };
        let mut earliest = earliest;
        let next = match next {
            Err(Stop::LastTier | Stop::Policy) if self.insist() => {
                earliest = error.retry_at();
                self.next_tier(route.as_ref(), class, doubt.as_ref(), spent, now)
            }
            next => next,
        };
        match next {
            Ok(next) => {
                self.ledger.next(Next::FailedOver);
                self.record_skipped(route.as_ref(), Some(next));
                let (root, was_sent) = root.unwrap_or((error, was_sent));
                self.progress = Progress::Further(Failures { root, was_sent, reason: kind, earliest, doubt });
                self.at = next;
                self.begun = now;
                Step::Ask
            }
            Err(stop) => {
                if asks_once_more {
                    class.failover = classify::Failover::No;
                }
                self.ledger.next(Next::Stopped(stop));
                let is_last = matches!(stop, Stop::LastTier | Stop::Policy);
                let has_attempts = spent < self.plan.request.context().attempts_left;
                let none_works = (is_last || stop == Stop::Pinned) && has_attempts;
                let is_valid = !kind.is_about_the_request();
                self.progress = Progress::Over { earliest, all_failed: is_last && is_valid, none_works, is_valid };
                if is_last {
                    self.record_skipped(route.as_ref(), None);
                }
                Step::GiveUp(self.give_up(root, error, class).with_retry_at(earliest))
            }
        }
    }

    /// Forgets that circuits have refused the request: with nothing else left, each may let it through. Returns false
    /// if none has, or if that was done before.
    fn insist(&mut self) -> bool {
        if self.insists {
            return false;
        }
        // A circuit that names no time was opened by hand.
        let refused = self
            .ledger
            .record()
            .iter()
            .filter(|step| step.failure == Some(ErrorKind::CircuitOpen) && step.retry_after.is_some());
        let refused = refused.filter_map(|step| self.plan.config().place(step.tier.as_deref()?));
        let refused: Vec<usize> = refused.filter(|tier| *tier != self.at && self.tried.contains(*tier)).collect();
        self.insists = !refused.is_empty();
        for tier in refused {
            self.tried.remove(tier);
        }
        self.insists
    }

    /// Records the current tier's failure. Returns the attempts that the request has spent, and whether this call was
    /// sent.
    fn record_failure(&mut self, error: &mut LlmError, now: Instant) -> (u16, bool) {
        let (before, spent_before) = (self.ledger.len(), self.ledger.spent());
        if self.plan.request.context().prospects.is_callers_deadline() {
            error.note_callers_deadline();
        }
        self.ledger.failed(error, self.begun, now);
        if self.plan.request.context().prospects.is_callers_deadline() {
            self.ledger.note_callers_deadline(before);
        }
        self.ledger.name_tier(before, self.plan.config().facts(self.at).name());
        let spent = self.ledger.spent();
        let was_sent = spent > spent_before;
        // A call that was refused on this side was never made.
        if let Some(token) = self.token.take().filter(|_| !was_sent) {
            token.refund();
        }
        if self.at == 0 && !error.is_unsent() && !error.kind().is_about_the_request() {
            self.plan.shared.primary_failed();
        }
        if error.kind() == ErrorKind::ContextLength {
            self.window = self.plan.config().settings(self.at).capabilities.context_window.max(self.window);
        }
        if self.revisits.take() != Some(self.at) {
            self.tried.insert(self.at);
        }
        self.note_hedges(before);
        (spent, was_sent)
    }

    /// Marks a tier as asked that has failed as the hedge of this one.
    fn note_hedges(&mut self, before: usize) {
        let steps = &self.ledger.record()[before..];
        if steps.iter().all(|step| step.next != Next::Hedged) {
            return;
        }
        let sent = steps.iter().filter(|step| step.is_wasted()).filter_map(|step| step.tier.as_deref());
        let tiers: Vec<usize> = sent.filter_map(|name| self.plan.config().place(name)).collect();
        for tier in tiers {
            let is_next = self.plan.tiers().any(|other| other == tier) && self.is_eligible(tier);
            if is_next {
                self.tried.insert(tier);
            }
        }
    }

    /// Takes the answer of the current tier: names it, and adds the record.
    pub(crate) fn answered(&mut self, response: &mut LlmResponse) {
        let facts = self.plan.config().facts(self.at);
        response.name_tier(&facts.name);
        if let Some(worst) = self.plan.terms.accepts() {
            response.set_accepts(worst);
        }
        if let Some(tier) = self.plan.shared.hedged(self.at, response) {
            self.plan.shared.hedge_answered(tier, response);
        } else {
            response.degrade(facts.settings.level, || self.reason_for(facts.settings.level));
            let shared = &self.plan.shared;
            let first = self.plan.first.filter(|first| *first != self.at);
            // A failure of the request's own shows nothing of the tier for others.
            let is_own = self.ledger.record().iter().any(Attempt::is_by_callers_deadline);
            let reason = self.progress.reason().filter(|reason| !is_own && !reason.is_about_the_request());
            let position = |name: &str| self.plan.tiers().position(|tier| **shared.config.facts(tier).name() == *name);
            let passage = first.zip(reason).map(|(first, reason)| Passage {
                chain: &shared.known.get(self.plan.known).id,
                first: shared.config.facts(first).name(),
                reason,
                steps: self.ledger.record(),
                request: &self.plan.request,
                position: &position,
            });
            if let Some(since) = shared.answered(self.at, &self.plan.request, self.started, passage.as_ref()) {
                response.set_away_since(since);
            }
        }
        if let Some(chain) = self.plan.shared.id_of_further(self.plan.known) {
            response.set_chain(chain);
        }
        let ledger = std::mem::take(&mut self.ledger);
        if self.plan.request.is_explained() {
            let served = self.plan.shared.served(self.at, self.begun, response);
            ledger.answered(response);
            // After the attempts further in.
            response.append_attempt(served);
        } else {
            ledger.answered(response);
        }
    }

    /// Returns the reason why an answer is of this level and no better one: the first tier's failure or, if none
    /// was asked before, the reason that excluded the better tiers.
    fn reason_for(&self, level: u8) -> DegradedReason {
        if self.plan.request.is_human_required() {
            return DegradedReason::RequiresHuman;
        }
        if let Some(root) = self.progress.root() {
            return DegradedReason::Failure(root);
        }
        let better = self.plan.tiers().filter(|tier| self.plan.config().settings(*tier).level < level);
        let mut left_out = better.filter_map(|tier| self.excluded.iter().find(|excluded| excluded.tier == tier));
        match left_out.next() {
            Some(excluded) => excluded.reason.degraded_reason(),
            None => self.plan.known_failure(level).map_or(DegradedReason::Order, DegradedReason::Failure),
        }
    }

    /// Reports the failure if no tier is left.
    pub(crate) fn report_all_failed(&self, error: &LlmError) {
        if let Progress::Over { all_failed: true, .. } = self.progress
            && !error.is_by_callers_deadline()
        {
            self.plan.shared.all_failed(&self.plan.request, error.kind());
        }
    }

    /// Prepares to go on if the stream of its answer breaks: a body has neither the request's deadline, which was
    /// for the first token, nor the primary.
    pub(crate) fn keep_for_body(&mut self, answer: &LlmResponse) {
        self.plan.request.context_mut().deadline = None;
        if self.plan.config().sessions.policy == SessionPolicy::Pin && self.plan.request.session().is_some() {
            // The session has seen the beginning of this tier's answer.
            self.plan.chain = Chain::Pinned(self.at);
        }
        self.plan.primary_at_hand = self.plan.config().primary_again.is_some();
        self.ledger = Ledger::of(answer.attempts());
        // Repeated calls are on record with times of their own: only the last call may break.
        self.begun = ledger::last_end(answer.attempts()).map_or(self.begun, |over| self.begun.max(over));
    }

    /// Returns the policy for the case that every circuit is open for the request.
    pub(crate) fn all_open(&self) -> AllOpen {
        self.plan.terms.all_open()
    }

    /// Returns when a request tries again that is queued until a tier works; `None` if that would not help it. It
    /// does so at the earliest probe, but no later than in a moment: another request's probe may end sooner, and an
    /// operator may mend a tier. Asking a circuit that refuses costs next to nothing.
    pub(crate) fn next_try(&self, error: &LlmError, now: Instant) -> Option<Instant> {
        let Progress::Over { none_works: true, is_valid: true, .. } = self.progress else { return None };
        let pause = now.checked_add(QUEUE_PAUSE)?;
        Some(self.earliest_probe(error).filter(|probe| now < *probe && *probe < pause).unwrap_or(pause))
    }

    /// Returns when a request tries again that waits for rate limits; `None` if it does not, or failed otherwise. The
    /// first tier's failure decides: a later tier may have refused what only the first can do. Without a time of the
    /// provider's it is in a moment. Requests that wait for the same moment are spread over a second behind it.
    pub(crate) fn after_rate_limit(&self, error: &LlmError, now: Instant) -> Option<Instant> {
        let Progress::Over { none_works: true, earliest, .. } = self.progress else { return None };
        if !self.plan.request.waits_for_rate_limits() || error.kind() != ErrorKind::RateLimited {
            return None;
        }
        let over = earliest.or_else(|| now.checked_add(QUEUE_PAUSE))?.max(now);
        over.checked_add(self.plan.shared.state.spread())
    }

    /// Returns the moment of the earliest probe, if every tier has refused because of its circuit. Returns `None`
    /// if some tier was called, or the moment is unknown.
    pub(crate) fn earliest_probe(&self, error: &LlmError) -> Option<Instant> {
        let mut asked = error.attempts().iter().filter(|attempt| attempt.next != Next::Skipped);
        let all_open = asked.all(|attempt| attempt.failure == Some(ErrorKind::CircuitOpen));
        match self.progress {
            // A request that was let through all the same waits on with the others.
            Progress::Over { earliest, .. } if all_open || self.insists => earliest,
            _ => None,
        }
    }

    /// Returns when a request asks again that waits for the earliest probe; `None` if it does not. One that was the
    /// probe itself, in vain, waits on with the others.
    pub(crate) fn next_probe(&self, error: &LlmError, now: Instant) -> Option<Instant> {
        // One that was let through all the same may have spent its attempts.
        let Progress::Over { none_works: true, .. } = self.progress else { return None };
        let mut asked = error.attempts().iter();
        let was_refused = self.again || asked.any(|attempt| attempt.failure == Some(ErrorKind::CircuitOpen));
        self.earliest_probe(error).or_else(|| if was_refused { self.next_try(error, now) } else { None })
    }

    /// Takes a place among those that wait for a probe that is due, if there is one.
    pub(crate) fn wait_shortly(&self) -> Option<ShortWait> {
        self.plan.shared.state.wait_shortly()
    }

    /// Returns an empty text, which grows within the room for all.
    pub(crate) fn kept_text(&self) -> KeptText {
        KeptText::new(self.plan.shared.state.clone())
    }

    /// Starts over at the first tier, after a wait; earlier attempts stay on record. Returns whether there is a
    /// tier that may still be asked.
    pub(crate) fn start_over(&mut self, before: &[Attempt]) -> bool {
        self.refresh_drained();
        let Some(first) = self.first() else { return false };
        // A long wait must not fill the record with refusals: the first round's are kept.
        let is_kept =
            |step: &Attempt| !self.again || step.begun < self.started || step.next == Next::Skipped || !step.is_local();
        let before: Vec<Attempt> = before.iter().filter(|step| is_kept(step)).cloned().collect();
        self.ledger = Ledger::of(&before);
        (self.at, self.again) = (first, true);
        self.begun = Instant::now();
        self.started = self.begun;
        self.tried = Tiers::default();
        (self.progress, self.token) = (Progress::default(), None);
        true
    }

    /// Excludes the tiers that were drained since the request began.
    fn refresh_drained(&mut self) {
        let Some(orders) = self.plan.config().orders.given() else { return };
        for tier in
            (0..self.plan.config().tiers()).filter(|tier| orders.is_drained(self.plan.config().facts(*tier).name()))
        {
            match self.excluded.iter_mut().find(|excluded| excluded.tier == tier) {
                Some(known) if known.reason.may_be_lifted() => known.reason = ExclusionReason::Drained,
                Some(_) => {}
                None => self.excluded.push(ExcludedTier { tier, reason: ExclusionReason::Drained, recorded: false }),
            }
        }
    }

    /// Returns the next tier to ask. Takes a token of the budget if its call is one more for this request.
    fn next_tier(
        &mut self,
        route: Option<&Chain>,
        class: Class,
        doubt: Option<&Doubt>,
        spent: u16,
        now: Instant,
    ) -> Result<usize, Stop> {
        if matches!(self.plan.chain, Chain::Pinned(_)) {
            return Err(Stop::Pinned);
        }
        if route.is_none() && !self.may_fail_over(class) {
            return Err(Stop::Kind);
        }
        let mut stop = match self.plan.chain {
            Chain::Listed(_) if self.plan.chain.len(self.plan.config().tiers()) < self.plan.config().tiers() => {
                Stop::Policy
            }
            _ => Stop::LastTier,
        };
        let unknown_window =
            route.is_none() && class.failover == classify::Failover::LargerWindow && self.window.is_none();
        if unknown_window {
            return Err(stop);
        }
        for tier in route.unwrap_or(&self.plan.chain).iter(self.plan.config().tiers()) {
            if self.tried.contains(tier) || !self.is_eligible(tier) || (tier == 0 && !self.plan.primary_at_hand) {
                continue;
            }
            let facts = self.plan.config().facts(tier);
            if !self.fits_window(facts.settings.capabilities.context_window, route.is_some()) {
                continue;
            }
            // A canned or human tier accepts anything, so it cannot confirm that the request is valid.
            if doubt.is_some() && route.is_none() && !facts.asks_a_model() {
                stop = Stop::Kind;
                continue;
            }
            if spent >= self.plan.request.context().attempts_left {
                return Err(Stop::Attempts);
            }
            let left = self.plan.request.context().time_left(now);
            if left.is_some_and(|left| left.is_zero() || left < self.plan.config().min_useful(facts, &self.plan.terms))
            {
                stop = Stop::Deadline;
                continue;
            }
            // Bad requests of one caller must not leave the others without a token.
            if spent == 0 || facts.settings.human || facts.answers_at_once() || Doubt::asks_one(doubt) {
                return Ok(tier);
            }
            let Some(mut token) = self.plan.config().budget.reserve(now) else {
                stop = Stop::Budget;
                continue;
            };
            token.sent();
            self.token = Some(token);
            return Ok(tier);
        }
        Err(stop)
    }

    /// Returns whether a failure of this class goes to another tier without a route for its kind.
    fn may_fail_over(&self, class: Class) -> bool {
        match class.failover {
            classify::Failover::Yes | classify::Failover::LargerWindow | classify::Failover::SecondOpinion => true,
            classify::Failover::AfterAnother => !self.is_at_first(),
            classify::Failover::No | classify::Failover::IfRouted => false,
        }
    }

    /// Returns whether a tier with this window may be asked after the windows that were too small. A tier of unknown
    /// window may only if a route names it.
    fn fits_window(&self, window: Option<u64>, is_routed: bool) -> bool {
        match (self.window, window) {
            (None, _) => true,
            (Some(_), None) => is_routed,
            (Some(too_small), Some(window)) => window > too_small,
        }
    }

    /// Returns one error for all attempts. `root` is the first tier's failure, with whether a call was sent to it.
    fn give_up(&mut self, root: Option<(LlmError, bool)>, last: LlmError, class: Class) -> LlmError {
        let mut lead = match root {
            // The first tier never saw the request, and a later one calls it invalid: the caller can fix that. A tier
            // that saw it did not call it invalid, even if its circuit opened in between.
            Some((error, false)) if error.is_unsent() && class.failover == classify::Failover::No => last,
            Some((error, _)) => error,
            None => last,
        };
        std::mem::take(&mut self.ledger).give_up(&mut lead);
        self.mark(&mut lead);
        // A filtered answer is a refusal, and no answer, if another model could be asked.
        let is_left = |tier: usize| {
            !self.tried.contains(tier) && self.plan.config().facts(tier).asks_a_model() && self.is_eligible(tier)
        };
        if lead.kind() == ErrorKind::ContentPolicy && self.plan.tiers().any(is_left) {
            lead.forget_answer();
        }
        lead
    }

    /// Returns how many tiers the request could still go to after this one.
    fn tiers_after(&self) -> usize {
        let primary = !self.plan.primary_at_hand && !self.tried.contains(0) && self.is_eligible(0);
        let excluded = match self.excluded.is_empty() {
            true => 0,
            false => self.plan.tiers().filter(|tier| !self.is_eligible(*tier)).count(),
        };
        self.plan
            .chain
            .len(self.plan.config().tiers())
            .saturating_sub(self.tried.len() + excluded + 1 + usize::from(primary))
    }

    /// Returns whether one of those is a model's.
    fn can_go_on(&self) -> bool {
        // This tier is the last untried one: the usual case with two tiers.
        if self.tried.len() + 1 >= self.plan.config().tiers() {
            return false;
        }
        self.plan.tiers().any(|tier| {
            let is_left = tier != self.at && !self.tried.contains(tier) && (tier != 0 || self.plan.primary_at_hand);
            is_left && self.plan.config().facts(tier).asks_a_model() && self.is_eligible(tier)
        })
    }

    /// Returns the first tier that can carry the request. If the first of all cannot, the route for the kind that
    /// it would have failed with applies, as if it had been asked.
    fn first(&mut self) -> Option<usize> {
        self.first_eligible().or_else(|| if self.relax_step_down() { self.first_eligible() } else { None })
    }

    fn first_eligible(&self) -> Option<usize> {
        let eligible = |tier: &usize| self.is_eligible(*tier);
        let first = self.plan.tiers().next()?;
        if !matches!(self.plan.chain, Chain::Pinned(_))
            && !self.plan.request.is_human_required()
            && let Some(excluded) = self.excluded.iter().find(|excluded| excluded.tier == first)
            && let Some(route) = self.plan.config().routes.get(&excluded.reason.kind())
            && let Some(routed) = route.iter().copied().find(eligible)
        {
            return Some(routed);
        }
        self.plan.tiers().find(eligible)
    }

    fn is_eligible(&self, tier: usize) -> bool {
        self.excluded.iter().all(|excluded| excluded.tier != tier)
    }

    /// Returns whether the current tier is the first of the request's chain.
    fn is_at_first(&self) -> bool {
        self.plan.tiers().next() == Some(self.at)
    }

    /// Includes the tiers that a step-down has excluded, unless the feature stays down: an expensive answer is
    /// better than none. Returns whether there were any.
    fn relax_step_down(&mut self) -> bool {
        let before = self.excluded.len();
        if before > 0 && !self.plan.terms.stays_down() {
            self.excluded.retain(|excluded| !excluded.reason.may_be_lifted());
        }
        self.excluded.len() < before
    }

    /// Records the tiers before `until` that were skipped because they cannot serve the request.
    fn record_skipped(&mut self, route: Option<&Chain>, until: Option<usize>) {
        if self.excluded.is_empty() {
            return;
        }
        for tier in route.unwrap_or(&self.plan.chain).iter(self.plan.config().tiers()) {
            if Some(tier) == until {
                return;
            }
            let Some(excluded) = self.excluded.iter_mut().find(|excluded| excluded.tier == tier && !excluded.recorded)
            else {
                continue;
            };
            excluded.recorded = true;
            self.ledger.push(Attempt {
                tier: Some(self.plan.config().facts(tier).name().clone()),
                deployment: None,
                provider: None,
                model: None,
                begun: self.begun,
                took: Duration::ZERO,
                failure: Some(excluded.reason.kind()),
                status: None,
                message: excluded.reason.to_string().into(),
                retry_after: None,
                timeout: None,
                usage: None,
                next: Next::Skipped,
            });
        }
    }

    /// Returns the error for a request that no tier can serve.
    fn no_eligible_tier(&mut self) -> LlmError {
        if self.plan.request.is_human_required() && self.plan.chain.len(self.plan.config().tiers()) == 0 {
            return LlmError::new(
                ErrorKind::Exhausted,
                "the request requires a person, and there is no tier of people",
            );
        }
        self.record_skipped(None, None);
        let mut message = String::from(match self.plan.chain {
            Chain::Pinned(_) => "the tier that the session is pinned to cannot carry it",
            _ => "no tier can carry it",
        });
        let mut kind = ErrorKind::Exhausted;
        for (place, ExcludedTier { tier, reason, .. }) in
            self.excluded.iter().filter(|excluded| excluded.recorded).enumerate()
        {
            let before = if place == 0 { ": " } else { "; " };
            message.push_str(&format!("{before}{} {reason}", self.plan.config().facts(*tier).name()));
            // A cause that the caller can fix leads: a tier with too small a context could carry a shorter request.
            kind = match (kind, reason.kind()) {
                // The tier could have served the request, and will serve such requests again.
                (_, ErrorKind::OutOfService) | (ErrorKind::OutOfService, _) => ErrorKind::OutOfService,
                (_, ErrorKind::ContextLength) | (ErrorKind::ContextLength, _) => ErrorKind::ContextLength,
                (_, ErrorKind::UnsupportedFeature) => ErrorKind::UnsupportedFeature,
                (before, _) => before,
            };
        }
        let mut error = LlmError::new(kind, message);
        if self.plan.request.is_compaction() && kind == ErrorKind::UnsupportedFeature {
            error = error.with_code(UNSUPPORTED_PATH);
        }
        std::mem::take(&mut self.ledger).give_up(&mut error);
        self.mark(&mut error);
        error
    }

    /// Marks the error with the level that the request's feature accepts: a cache further out must not answer with
    /// a worse one. Marks it with its chain.
    fn mark(&self, error: &mut LlmError) {
        if let Some(chain) = self.plan.shared.id_of_further(self.plan.known) {
            error.set_chain(chain);
        }
        if let Some(worst) = self.plan.terms.accepts() {
            error.set_accepts(worst);
        }
    }
}

/// The longest wait of a queued request before it asks again.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);
