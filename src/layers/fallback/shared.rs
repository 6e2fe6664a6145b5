use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    AllOpen, SessionPolicy, StreamBreak, TierSettings,
    chain::Chain,
    feature_policy::{Policy, PolicyTerms},
    handle::OrderSnapshot,
    known_chains::{KnownChain, KnownChains, both},
    layer::Config,
    models::NamedModel,
    state::{Passage, Settled, State},
    tier::TierFacts,
};
use crate::{
    DegradedReason, ErrorKind, Event, LlmRequest, LlmResponse,
    ledger::{self, Attempt, Next},
    models::snapshot::is_same,
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// The settings and the state that all services of one fallback share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) known: KnownChains,
    simple: bool,
    /// True if any tier has known capabilities.
    pub(super) limited: bool,
    /// True if any tier has a known model.
    has_models: bool,
    /// True if any tier after the primary asks a model.
    pub(super) has_models_after: bool,
    /// True if any policy limits the levels of service.
    limits_levels: bool,
    /// True if nothing but its model can divert an ordinary request.
    only_models_divert: bool,
    /// True if nothing can.
    plain: bool,
    /// True if answers of the primary go on unmarked, and their streams unwatched.
    as_is: bool,
    /// True if one model's refusal can go to another tier.
    pub(super) acts_on_refusals: bool,
    pub(super) state: Arc<State>,
    /// For each tier, true if its answers change nothing.
    settled: Box<[Settled]>,
}

impl Shared {
    /// Creates a fallback of this state.
    pub(super) fn new(mut config: Config, state: Arc<State>) -> Self {
        config.policies.complete();
        let policies = &config.policies;
        let limits_levels = policies.any(|policy| policy.terms.accepts().is_some());
        let mends_streams = policies.any(|policy| policy.terms.stream_break() != StreamBreak::Fail);
        let simple = !policies.any(|policy| policy.tiers.is_some())
            && config.models.is_empty()
            && config.sessions.policy == SessionPolicy::Free;
        let facts = || std::iter::once(&config.primary).chain(config.tiers.iter().map(|tier| &tier.facts));
        let limited = facts().any(|facts| facts.settings.capabilities.is_limited());
        let has_models = facts().any(|facts| facts.settings.model.is_some());
        let only_models_divert =
            simple && !limited && !limits_levels && !policies.any(|policy| policy.terms.all_open() != AllOpen::Fail);
        let known = KnownChains::new(&config);
        Self {
            simple,
            has_models_after: config.tiers.iter().any(|tier| tier.facts.asks_a_model()),
            limited,
            has_models,
            limits_levels,
            as_is: !mends_streams
                && !limits_levels
                && config.named_chain.is_none()
                && config.primary.settings.level == BEST_LEVEL,
            only_models_divert,
            plain: only_models_divert && !has_models,
            acts_on_refusals: config.routes.contains_key(&ErrorKind::Refusal) || config.classifier.acts_on_refusals(),
            settled: state.apply(&config, known.iter(), |tier| begins(&config, tier)),
            state,
            known,
            config,
        }
    }

    /// Returns the index of the tier of this name; 0 is the primary.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        (0..self.tiers()).find(|tier| **self.facts(*tier).name() == *name)
    }

    /// Returns the tiers of people.
    pub(super) fn human(&self) -> Arc<[usize]> {
        (0..self.tiers()).filter(|tier| self.settings(*tier).human).collect()
    }

    /// Returns the tiers that a request may go to, in order.
    pub(super) fn chain(&self, request: &LlmRequest, policy: &Policy) -> Chain {
        let chain = self.listed(request, policy);
        match self.place_asked(&chain, request.model()) {
            None => chain,
            Some(place) => chain.beginning_at(place, self),
        }
    }

    /// Returns the chain of a request's policy, of the model that it names, or the tiers of both.
    fn listed(&self, request: &LlmRequest, policy: &Policy) -> Chain {
        let model = self.named(request.model()).map(|named| &named.tiers);
        both(policy.tiers.as_ref(), model).map_or(Chain::All, Chain::Listed)
    }

    /// Returns the position in a chain of the tier that a request names as its model, by the tier's name or its model,
    /// if other tiers come before it. A chain for exactly this name stays as it was set.
    fn place_asked(&self, chain: &Chain, model: Option<&str>) -> Option<usize> {
        if !self.has_models {
            return None;
        }
        let asked = model?;
        if self.named(model).is_some_and(|named| *named.pattern == *asked) {
            return None;
        }
        let named = |facts: &TierFacts| facts.settings.model.is_some() && **facts.name() == *asked;
        let has = |facts: &TierFacts| facts.settings.model.as_deref() == Some(asked);
        let place = chain.iter(self).position(|tier| named(self.facts(tier)));
        let place = place.or_else(|| chain.iter(self).position(|tier| has(self.facts(tier))));
        place.or_else(|| self.place_alike(chain, asked)).filter(|place| *place > 0)
    }

    /// Returns the position in a chain of the only model that a name stands for in another form, such as that of a
    /// snapshot. One model at two doors is one.
    #[inline(never)]
    fn place_alike(&self, chain: &Chain, asked: &str) -> Option<usize> {
        let model = |tier| self.facts(tier).settings.model.as_deref();
        let mut alike =
            chain.iter(self).enumerate().filter(|(_, tier)| model(*tier).is_some_and(|model| is_same(model, asked)));
        let (place, first) = alike.next()?;
        let first = model(first)?;
        alike.all(|(_, tier)| model(tier).is_some_and(|model| is_same(model, first))).then_some(place)
    }

    /// Returns the policy of a request.
    pub(super) fn policy(&self, request: &LlmRequest) -> &Policy {
        self.config.policies.of(request)
    }

    /// Returns the chain for the model that a request names.
    fn named(&self, model: Option<&str>) -> Option<&NamedModel> {
        if self.config.models.is_empty() {
            return None;
        }
        self.config.models.of(model?)
    }

    /// Returns the key of the request's session, among those of its tenant: each model with a chain of its own, or a
    /// tier to begin at, has a session of its own.
    fn session_key<'a>(&self, request: &'a LlmRequest) -> Option<Cow<'a, str>> {
        let session = request.session()?;
        let chain = self.listed(request, self.policy(request));
        let asked = self.place_asked(&chain, request.model()).map(|place| self.name(chain.tier(place)));
        Some(match (self.named(request.model()), asked) {
            (None, None) => session.into(),
            (Some(named), None) => format!("{session}\0{}", named.pattern).into(),
            (None, Some(asked)) => format!("{session}\0\0{asked}").into(),
            (Some(named), Some(asked)) => format!("{session}\0{}\0{asked}", named.pattern).into(),
        })
    }

    /// Returns whether the request goes to the primary first and then to all tiers in their order, and never waits:
    /// then it needs no further state while the primary answers.
    #[inline]
    pub(super) fn is_simple(&self, request: &LlmRequest, policy: &Policy) -> bool {
        self.simple
            && !self.state.ramp.is_running()
            && policy.terms.all_open() == AllOpen::Fail
            && request.known_failures().is_none()
            && self.begins_at_primary(request.model())
    }

    /// Returns whether an answer is returned as it is, whatever happens to its stream.
    #[inline]
    pub(super) fn takes(&self, request: &LlmRequest, response: &LlmResponse) -> bool {
        self.as_is || !response.body().arrives_in_frames() || self.stream_break(request) == StreamBreak::Fail
    }

    /// Returns the policy for a break of the request's stream.
    pub(super) fn stream_break(&self, request: &LlmRequest) -> StreamBreak {
        self.policy(request).terms.stream_break()
    }

    /// Records that the primary has answered a request that went to it first.
    #[inline(always)]
    pub(super) fn primary_answered(&self, request: &LlmRequest, response: &mut LlmResponse) {
        let primary = &self.config.primary;
        // Asked beside the look at earlier steps: both read the same word, which few answers have.
        let hedged = self.hedged(0, response);
        response.name_tier(&primary.name);
        if !self.as_is {
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
        if !self.as_is && primary.settings.level > BEST_LEVEL {
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
        let tier = self.facts(self.hedged(asked, response).unwrap_or(asked)).name();
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
        self.place(&response.tier()?).filter(|tier| *tier != asked)
    }

    /// Records that a tier has answered as the hedge of another one. That is no switch: the other one is still
    /// asked first. Nor is it a recovery, and no session stays with it.
    #[cold]
    pub(super) fn hedge_answered(&self, tier: usize, response: &mut LlmResponse) {
        let failed = response.attempts().iter().find_map(|step| step.failure);
        response.degrade(self.settings(tier).level, || {
            failed.map_or_else(DegradedReason::default, DegradedReason::Failure)
        });
    }

    /// Returns whether a request simply goes to the primary, with all tiers after it.
    #[inline]
    pub(super) fn is_plain(&self, request: &LlmRequest) -> bool {
        let context = request.context();
        (self.plain || self.only_models_divert && self.begins_at_primary(request.model()))
            && [context.min_level, context.worst_level] == [BEST_LEVEL, WORST_LEVEL]
            && !self.state.ramp.is_running()
            && !self.config.orders.any()
            && request.known_failures().is_none()
            && request.goes_anywhere()
    }

    /// Returns true if a request for this model does not name another tier than the primary.
    #[inline(never)]
    fn begins_at_primary(&self, model: Option<&str>) -> bool {
        self.place_asked(&Chain::All, model).is_none()
    }

    /// Returns the orders by hand, if there are any.
    pub(super) fn orders(&self) -> Option<Arc<OrderSnapshot>> {
        self.config.orders.given()
    }

    /// Returns whether an answer of a tier changes nothing.
    #[inline]
    fn is_settled(&self, tier: usize) -> bool {
        self.settled[tier].load(Relaxed)
    }

    /// Returns whether a tier is out of service for all requests: then an answer of it is no return.
    fn is_out(&self, tier: usize) -> bool {
        let facts = self.facts(tier);
        self.orders().is_some_and(|orders| {
            orders.is_drained(facts.name()) || orders.level(None).is_some_and(|(level, _)| facts.settings.level < level)
        })
    }

    /// Returns the worst level that the request's feature accepts, if there is a limit.
    #[inline]
    pub(super) fn accepts(&self, request: &LlmRequest) -> Option<u8> {
        if !self.limits_levels {
            return None;
        }
        self.policy(request).terms.accepts()
    }

    /// Returns the number of tiers, the primary included.
    pub(super) fn tiers(&self) -> usize {
        self.config.tiers.len() + 1
    }

    /// Returns the facts about a tier; 0 is the primary.
    pub(super) fn facts(&self, tier: usize) -> &TierFacts {
        self.config.facts(tier)
    }

    /// Returns the id of a chain that its first tier does not tell.
    pub(super) fn id_of_further(&self, chain: usize) -> Option<&Arc<str>> {
        let KnownChain { id, is_further, .. } = self.known.get(chain);
        (*is_further || chain == 0 && self.config.named_chain.is_some()).then_some(id)
    }

    /// Returns the settings of a tier; 0 is the primary.
    pub(super) fn settings(&self, tier: usize) -> &TierSettings {
        &self.facts(tier).settings
    }

    /// Returns the least time before the deadline that makes it worth beginning a tier for a policy's requests.
    pub(super) fn min_useful(&self, facts: &TierFacts, terms: &PolicyTerms) -> Duration {
        let usual = if facts.answers_at_once() { Duration::ZERO } else { terms.min_useful() };
        facts.settings.min_useful.unwrap_or(usual)
    }

    /// Returns the tier of the request's session.
    pub(super) fn session_tier(&self, request: &LlmRequest) -> Option<usize> {
        if self.config.sessions.policy == SessionPolicy::Free {
            return None;
        }
        self.place(&self.state.session(request.tenant(), &self.session_key(request)?)?)
    }

    /// Records that a tier has answered a request that began at `begun`. The passage leads from the chain's first tier,
    /// if that is another one and was to answer.
    pub(super) fn answered(&self, tier: usize, request: &LlmRequest, begun: Instant, passage: Option<&Passage<'_>>) {
        // A session stays with a model; it goes to people for one answer.
        if self.config.sessions.policy != SessionPolicy::Free
            && !self.settings(tier).human
            && let Some(session) = self.session_key(request)
        {
            // The first answer pins; a request that was under way beside it does not move the session.
            let moves = |known: &str| self.config.sessions.policy != SessionPolicy::Pin || self.place(known).is_none();
            self.state.remember(request.tenant(), &session, self.facts(tier).name(), moves);
        }
        let name = self.facts(tier).name();
        if !self.is_settled(tier) {
            self.state.answered(name, begun, self.is_out(tier));
        }
        if let Some(passage) = passage {
            self.state.answered_for(name, begun, passage);
        }
    }

    /// Returns when the last request that begins at a tier found that it does not serve, if it is not out of service by
    /// hand.
    pub(super) fn away_since(&self, tier: usize) -> Option<Instant> {
        self.state.away_since(self.facts(tier).name()).filter(|_| !self.is_out(tier))
    }

    /// Records that a tier has answered a check that was sent at this time and was no caller's request.
    pub(super) fn works(&self, tier: usize, asked: Instant) {
        if !self.is_out(tier) {
            self.state.works(self.facts(tier).name(), asked);
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

    fn name(&self, tier: usize) -> Arc<str> {
        self.facts(tier).name().clone()
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.config.events {
            events.send_with(event);
        }
    }
}

/// Returns whether requests may begin at a tier: the primary, the first of a feature's or a model's chain, or a tier
/// that callers may name.
fn begins(config: &Config, tier: usize) -> bool {
    let is_named = || tier.checked_sub(1).is_none_or(|place| config.tiers[place].facts.settings.model.is_some());
    let is_first = |policy: &Policy| policy.tiers.as_ref().is_some_and(|tiers| tiers.first() == Some(&tier));
    is_named() || config.models.begin_at(tier) || config.policies.any(is_first)
}
