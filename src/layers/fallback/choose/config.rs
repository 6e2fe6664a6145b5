//! The settings of a fallback, and the tiers that a request may go to by them.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use super::{
    SessionSettings, Tier, TierSettings,
    chain::{Chain, both},
    feature_policy::{Policies, Policy, PolicyTerms},
    models::{Models, NamedModel},
    tier::TierFacts,
};
use crate::{
    Classifier, ErrorKind, Events, LlmRequest, RetryBudget,
    layers::{
        call::Standby,
        fallback::serve::{Orders, RampStep},
    },
    models::snapshot::is_same,
};

/// The settings of a fallback, in which tiers have numbers; 0 is the primary.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) primary: TierFacts,
    /// The primary once more, for an answer that broke when its caller had its beginning.
    pub(crate) primary_again: Option<Arc<Standby>>,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) policies: Policies,
    /// The chains of callers that name a model.
    pub(crate) models: Models,
    pub(crate) routes: HashMap<ErrorKind, Arc<[usize]>>,
    pub(crate) classifier: Classifier,
    /// The budget of calls to further tiers.
    pub(crate) budget: RetryBudget,
    pub(crate) events: Option<Events>,
    pub(crate) reserve_for_fallbacks: Duration,
    pub(crate) sessions: SessionSettings,
    pub(crate) ramp: Vec<RampStep>,
    pub(crate) orders: Arc<Orders>,
    /// The id of the chain of all tiers, if it is not the first tier's name.
    pub(crate) named_chain: Option<Arc<str>>,
}

impl Config {
    /// Returns the facts about a tier; 0 is the primary.
    pub(crate) fn facts(&self, tier: usize) -> &TierFacts {
        match tier.checked_sub(1) {
            None => &self.primary,
            Some(place) => &self.tiers[place].facts,
        }
    }

    /// Returns the number of tiers, the primary included.
    pub(crate) fn tiers(&self) -> usize {
        self.tiers.len() + 1
    }

    /// Returns the index of the tier of this name; 0 is the primary.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        (0..self.tiers()).find(|tier| **self.facts(*tier).name() == *name)
    }

    /// Returns the tiers of people.
    pub(crate) fn human(&self) -> Arc<[usize]> {
        (0..self.tiers()).filter(|tier| self.settings(*tier).human).collect()
    }

    /// Returns the tiers that a request may go to, in order.
    pub(crate) fn chain(&self, request: &LlmRequest, policy: &Policy) -> Chain {
        let chain = self.listed(request, policy);
        match self.place_asked(&chain, request.model()) {
            None => chain,
            Some(place) => chain.beginning_at(place, self.tiers(), |tier| self.facts(tier).is_model()),
        }
    }

    /// Returns the chain of a request's policy, of the model that it names, or the tiers of both.
    fn listed(&self, request: &LlmRequest, policy: &Policy) -> Chain {
        let model = self.named(request.model()).map(|named| &named.tiers);
        both(policy.tiers.as_ref(), model).map_or(Chain::All, Chain::Listed)
    }

    /// Returns the position in a chain of the tier that a request names as its model, by the tier's name or its model,
    /// if other tiers come before it. A chain for exactly this name stays as it was set.
    pub(crate) fn place_asked(&self, chain: &Chain, model: Option<&str>) -> Option<usize> {
        let asked = model?;
        if self.named(model).is_some_and(|named| *named.pattern == *asked) {
            return None;
        }
        let named = |facts: &TierFacts| facts.settings.model.is_some() && **facts.name() == *asked;
        let has = |facts: &TierFacts| facts.settings.model.as_deref() == Some(asked);
        let place = chain.iter(self.tiers()).position(|tier| named(self.facts(tier)));
        let place = place.or_else(|| chain.iter(self.tiers()).position(|tier| has(self.facts(tier))));
        place.or_else(|| self.place_alike(chain, asked)).filter(|place| *place > 0)
    }

    /// Returns the position in a chain of the only model that a name stands for in another form, such as that of a
    /// snapshot. One model at two doors is one.
    #[inline(never)]
    fn place_alike(&self, chain: &Chain, asked: &str) -> Option<usize> {
        let model = |tier| self.facts(tier).settings.model.as_deref();
        let mut alike = chain
            .iter(self.tiers())
            .enumerate()
            .filter(|(_, tier)| model(*tier).is_some_and(|model| is_same(model, asked)));
        let (place, first) = alike.next()?;
        let first = model(first)?;
        alike.all(|(_, tier)| model(tier).is_some_and(|model| is_same(model, first))).then_some(place)
    }

    /// Returns the policy of a request.
    pub(crate) fn policy(&self, request: &LlmRequest) -> &Policy {
        self.policies.of(request)
    }

    /// Returns the chain for the model that a request names.
    fn named(&self, model: Option<&str>) -> Option<&NamedModel> {
        if self.models.is_empty() {
            return None;
        }
        self.models.of(model?)
    }

    /// Returns the key of the request's session, among those of its tenant: each model with a chain of its own, or a
    /// tier to begin at, has a session of its own.
    pub(crate) fn session_key<'a>(&self, request: &'a LlmRequest) -> Option<Cow<'a, str>> {
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

    /// Returns the settings of a tier; 0 is the primary.
    pub(crate) fn settings(&self, tier: usize) -> &TierSettings {
        &self.facts(tier).settings
    }

    /// Returns the least time before the deadline that makes it worth beginning a tier for a policy's requests.
    pub(crate) fn min_useful(&self, facts: &TierFacts, terms: &PolicyTerms) -> Duration {
        let usual = if facts.answers_at_once() { Duration::ZERO } else { terms.min_useful() };
        facts.settings.min_useful.unwrap_or(usual)
    }

    fn name(&self, tier: usize) -> Arc<str> {
        self.facts(tier).name().clone()
    }

    /// Returns whether requests may begin at a tier: the primary, the first of a feature's or a model's chain, or a
    /// tier that callers may name.
    pub(crate) fn begins(&self, tier: usize) -> bool {
        let is_first = |policy: &Policy| policy.tiers.as_ref().is_some_and(|tiers| tiers.first() == Some(&tier));
        tier == 0 || self.settings(tier).model.is_some() || self.models.begin_at(tier) || self.policies.any(is_first)
    }
}
