use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::time::Instant;

use super::{
    choose::{AllOpen, Chain, Config, Detour, Finish, KnownChain, KnownChains, Policy, SessionPolicy, StreamBreak},
    serve::{KnownTier, Passage, ServedChain, Settled, State, StateSettings},
};
use crate::{
    Context, DegradedReason, ErrorKind, Event, InvalidConfig, LlmRequest, LlmResponse,
    ledger::{self, Attempt, Next},
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// The settings and the state that all services of one fallback share.
pub(crate) struct Shared {
    pub(super) config: Config,
    pub(super) known: KnownChains,
    /// The reason why no request is served: the settings are not valid.
    pub(super) invalid: Option<InvalidConfig>,
    detour: Detour,
    finish: Finish,
    /// True if any tier after the primary asks a model.
    pub(super) has_models_after: bool,
    /// True if one model's refusal can go to another tier.
    pub(super) acts_on_refusals: bool,
    pub(super) state: Arc<State>,
    /// For each tier, true if its answers change nothing.
    settled: Box<[Settled]>,
    /// For each tier, true once its model has refused to go on with an answer. One process knows it, until a reload.
    pub(super) refuses_to_go_on: Box<[AtomicBool]>,
}

impl Shared {
    /// Creates a fallback of this state.
    pub(super) fn new(config: Config, state: Arc<State>, invalid: Option<InvalidConfig>) -> Self {
        let known = KnownChains::new(&config);
        let facts = (0..config.tiers()).map(|tier| config.facts(tier));
        let served = |chain: &KnownChain| {
            ServedChain::new(chain.id.clone(), chain.names.first().cloned().unwrap_or_default(), chain.first)
        };
        let settings = StateSettings {
            tiers: facts.map(|facts| KnownTier::new(facts.name().clone(), facts.asks_a_model())).collect(),
            chains: known.iter().map(served).collect(),
            events: config.events.as_ref(),
            ramp: &config.ramp,
            sessions: config.sessions.capacity,
        };
        Self {
            detour: if invalid.is_some() { Detour::ByChain } else { Detour::of(&config) },
            finish: Finish::of(&config),
            has_models_after: config.tiers.iter().any(|tier| tier.facts.asks_a_model()),
            acts_on_refusals: config.routes.contains_key(&ErrorKind::Refusal) || config.classifier.acts_on_refusals(),
            refuses_to_go_on: (0..config.tiers()).map(|_| AtomicBool::default()).collect(),
            settled: state.apply(settings, |tier| config.begins(tier)),
            state,
            known,
            invalid,
            config,
        }
    }

    /// Returns whether the request goes to the primary first and then to all tiers in their order, and never waits:
    /// then it needs no further state while the primary answers.
    #[inline]
    pub(super) fn is_simple(&self, request: &LlmRequest, policy: &Policy) -> bool {
        self.detour < Detour::ByChain
            && !self.state.ramp.is_running()
            && policy.terms.all_open() == AllOpen::Fail
            && request.known_failures().is_none()
            && self.begins_at_primary(request.model())
    }

    /// Returns whether an answer is returned as it is, whatever happens to its stream.
    #[inline]
    pub(super) fn takes(&self, request: &LlmRequest, response: &LlmResponse) -> bool {
        !self.may_act_on_breaks(request.context())
            || !response.body().arrives_in_frames()
            || !self.acts_on_breaks(request)
    }

    /// Returns false if no break of the request's stream is acted on.
    #[inline]
    pub(super) fn may_act_on_breaks(&self, context: &Context) -> bool {
        self.finish != Finish::Nothing || context.prospects.has_stream_break()
    }

    /// Returns whether a break of the request's stream is acted on.
    pub(super) fn acts_on_breaks(&self, request: &LlmRequest) -> bool {
        self.stream_break(request) != StreamBreak::Fail
    }

    /// Returns the policy for a break of the request's stream.
    pub(super) fn stream_break(&self, request: &LlmRequest) -> StreamBreak {
        let own = request.context().prospects.has_stream_break().then(|| request.extensions().get().copied());
        own.flatten().unwrap_or_else(|| self.config.policy(request).terms.stream_break())
    }

    /// Records that the primary has answered a request that went to it first.
    #[inline(always)]
    pub(super) fn primary_answered(&self, request: &LlmRequest, response: &mut LlmResponse) {
        let primary = &self.config.primary;
        // Asked beside the look at earlier steps: both read the same word, which few answers have.
        let hedged = self.hedged(0, response);
        response.name_tier(&primary.name);
        if self.finish != Finish::Nothing {
            if let Some(worst) = self.accepts(request) {
                response.set_accepts(worst);
            }
            if let Some(chain) = &self.config.named_chain {
                response.set_chain(chain);
            }
        }
        if let Some(tier) = hedged {
            return self.hedge_answered(tier, response);
        }
        if self.finish != Finish::Nothing && primary.settings.level > BEST_LEVEL {
            response.degrade(primary.settings.level, DegradedReason::default);
        }
        if !self.is_settled(0) {
            self.answered(0, request, request.context().begun.unwrap_or_else(Instant::now), None);
        }
    }

    /// Puts the primary's answer on record.
    // Not inlined: few requests but the gateway's want it.
    #[inline(never)]
    pub(super) fn explain_primary(&self, request: &LlmRequest, response: &mut LlmResponse) {
        let begun = request.context().begun.unwrap_or_else(Instant::now);
        let served = self.served(0, begun, response);
        response.append_attempt(served);
    }

    /// Returns the step that answered, for the record. `begun` is the start of the asked tier's call.
    pub(super) fn served(&self, asked: usize, begun: Instant, response: &LlmResponse) -> Attempt {
        let (provider, model) = response.names();
        let tier = self.config.facts(self.hedged(asked, response).unwrap_or(asked)).name();
        // Repeated calls are on record with times of their own.
        let repeated = response.attempts().iter().filter(|step| step.tier.as_ref() == Some(tier));
        let begun = ledger::last_end(repeated).map_or(begun, |over| begun.max(over));
        Attempt {
            deployment: response.served_by().deployment.map(Arc::from),
            provider,
            model,
            usage: response.usage(),
            ..ledger::unfailed(tier, begun, Next::Answered)
        }
    }

    /// Returns the tier whose answer it is, if a hedge of the asked tier went to another one and answered.
    #[inline]
    pub(super) fn hedged(&self, asked: usize, response: &LlmResponse) -> Option<usize> {
        if !response.is_hedged() {
            return None;
        }
        self.config.place(&response.tier()?).filter(|tier| *tier != asked)
    }

    /// Records that a tier has answered as the hedge of another one. That is no switch: the other one is still
    /// asked first. Nor is it a recovery, and no session stays with it.
    #[cold]
    pub(super) fn hedge_answered(&self, tier: usize, response: &mut LlmResponse) {
        let failed = response.attempts().iter().find_map(|step| step.failure);
        response.degrade(self.config.settings(tier).level, || {
            failed.map_or_else(DegradedReason::default, DegradedReason::Failure)
        });
    }

    /// Returns whether a request simply goes to the primary, with all tiers after it.
    #[inline]
    pub(super) fn is_plain(&self, request: &LlmRequest) -> bool {
        let context = request.context();
        (self.detour == Detour::None || self.detour == Detour::ByModel && self.begins_at_primary(request.model()))
            && [context.min_level, context.worst_level] == [BEST_LEVEL, WORST_LEVEL]
            && !self.state.ramp.is_running()
            && !self.config.orders.any()
            && request.known_failures().is_none()
            && request.goes_anywhere()
    }

    /// Returns true if a request for this model does not name another tier than the primary.
    #[inline(never)]
    fn begins_at_primary(&self, model: Option<&str>) -> bool {
        self.config.place_asked(&Chain::All, model).is_none()
    }

    /// Returns whether an answer of a tier changes nothing.
    #[inline]
    fn is_settled(&self, tier: usize) -> bool {
        self.settled[tier].load(Relaxed)
    }

    /// Returns whether a tier is out of service for all requests: then an answer of it is no return.
    fn is_out(&self, tier: usize) -> bool {
        let facts = self.config.facts(tier);
        self.config.orders.given().is_some_and(|orders| {
            orders.is_drained(facts.name()) || orders.level(None).is_some_and(|(level, _)| facts.settings.level < level)
        })
    }

    /// Returns the worst level that the request's feature accepts, if there is a limit.
    #[inline]
    pub(super) fn accepts(&self, request: &LlmRequest) -> Option<u8> {
        if self.finish < Finish::Levels {
            return None;
        }
        self.config.policy(request).terms.accepts()
    }

    /// Returns the id of a chain that its first tier does not tell.
    pub(super) fn id_of_further(&self, chain: usize) -> Option<&Arc<str>> {
        let KnownChain { id, is_further, .. } = self.known.get(chain);
        (*is_further || chain == 0 && self.config.named_chain.is_some()).then_some(id)
    }

    /// Returns the tier of the request's session.
    pub(super) fn session_tier(&self, request: &LlmRequest) -> Option<usize> {
        if self.config.sessions.policy == SessionPolicy::Free {
            return None;
        }
        self.config.place(&self.state.session(request.tenant(), &self.config.session_key(request)?)?)
    }

    /// Records that a tier has answered a request that began at `begun`. The passage leads from the chain's first tier,
    /// if that is another one and was to answer. Returns when that one stopped serving.
    pub(super) fn answered(
        &self,
        tier: usize,
        request: &LlmRequest,
        begun: Instant,
        passage: Option<&Passage<'_>>,
    ) -> Option<Instant> {
        // A session stays with a model; it goes to people for one answer.
        if self.config.sessions.policy != SessionPolicy::Free
            && !self.config.settings(tier).human
            && let Some(session) = self.config.session_key(request)
        {
            // The first answer pins; a request that was under way beside it does not move the session.
            let moves =
                |known: &str| self.config.sessions.policy != SessionPolicy::Pin || self.config.place(known).is_none();
            self.state.remember(request.tenant(), &session, self.config.facts(tier).name(), moves);
        }
        let name = self.config.facts(tier).name();
        if !self.is_settled(tier) {
            self.state.answered(name, begun, self.is_out(tier));
        }
        self.state.answered_for(name, begun, passage?)
    }

    /// Returns when the last request that begins at a tier found that it does not serve, if it is not out of service by
    /// hand.
    pub(super) fn away_since(&self, tier: usize) -> Option<Instant> {
        self.state.away_since(self.config.facts(tier).name()).filter(|_| !self.is_out(tier))
    }

    /// Records that a tier has answered a check that was sent at this time and was no caller's request.
    pub(super) fn works(&self, tier: usize, asked: Instant) {
        if !self.is_out(tier) {
            self.state.works(self.config.facts(tier).name(), asked);
        }
    }

    /// Records that the primary has failed, not merely refused.
    pub(super) fn primary_failed(&self) {
        if self.state.ramp.is_running() {
            self.state.ramp.begin(Instant::now());
        }
    }

    /// Reports that every tier that may serve a request has failed or refused it.
    pub(super) fn all_failed(&self, request: &LlmRequest, reason: ErrorKind) {
        self.send(|| Event::AllTiersFailed { feature: request.shared_feature(), reason, at: Instant::now() });
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.config.events {
            events.send_with(event);
        }
    }
}
