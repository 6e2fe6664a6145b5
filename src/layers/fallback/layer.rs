use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tower::Layer;

use super::{
    ChainInfo, Fallback, FallbackHandle, FeaturePolicy, RampStep, SessionSettings, Tier, TierSettings,
    choose::{Config, Models, Policies, Policy, TierFacts},
    serve::State,
    shared::Shared,
};
use crate::{Classifier, ErrorKind, Events, InvalidConfig, LlmService, RetryBudget};

/// Applies [`Fallback`]. See the [module docs](super).
///
/// All services of one layer are one fallback: they share the serving tier, the sessions and the steps of a gradual
/// return.
#[derive(Clone)]
pub struct FallbackLayer {
    config: Config,
    /// The state of another layer, and the tiers that are the same in both.
    state: Option<Arc<State>>,
    /// Created on first use, so that settings can still be changed before.
    shared: Arc<std::sync::OnceLock<Arc<Shared>>>,
}

/// The default of [`FallbackLayer::reserve_for_fallbacks`]: a working model answers within that.
const RESERVE: Duration = Duration::from_secs(10);

impl FallbackLayer {
    /// Creates a fallback around a primary tier of this name, with no further tier yet.
    pub fn new(primary: impl Into<Arc<str>>) -> Self {
        let config = Config {
            primary: TierFacts::new(primary.into()),
            tiers: Vec::new(),
            policies: Policies::default(),
            models: Models::default(),
            routes: HashMap::new(),
            classifier: Classifier::default(),
            budget: RetryBudget::unlimited(),
            events: None,
            reserve_for_fallbacks: RESERVE,
            sessions: SessionSettings::default(),
            ramp: Vec::new(),
            orders: Arc::default(),
            named_chain: None,
        };
        Self { config, state: None, shared: Arc::default() }
    }

    /// Adds a tier after those so far.
    #[must_use]
    pub fn tier<S>(self, name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        self.push(Tier::new(name, service))
    }

    /// Adds a tier with settings of its own after those so far.
    #[must_use]
    pub fn push(mut self, tier: Tier) -> Self {
        self.config.tiers.push(tier);
        self.changed()
    }

    /// Sets the primary's settings; a further tier's are part of its [`Tier`]. Default: a model of full service with
    /// unknown capabilities.
    #[must_use]
    pub fn primary(mut self, settings: TierSettings) -> Self {
        self.config.primary.settings = settings;
        self.changed()
    }

    /// Sets the policy for a feature's requests, in place of an earlier one. It takes each setting that it leaves out
    /// from the [default policy](Self::default_policy). Default: no feature has a policy of its own.
    ///
    /// # Errors
    ///
    /// Fails if the policy's chain is empty, or contains a name that no tier or more than one has so far, or a name
    /// twice.
    pub fn feature(
        mut self,
        feature: impl Into<Arc<str>>,
        policy: impl Into<FeaturePolicy>,
    ) -> Result<Self, InvalidConfig> {
        let feature = feature.into();
        let policy = self.policy(&format!("features.{feature}.tiers"), policy.into())?;
        self.config.policies.features.insert(feature, policy);
        Ok(self.changed())
    }

    /// Sets the policy for requests without a feature, for those whose feature has no policy of its own, and for what
    /// a feature's policy leaves out. It takes the place of an earlier default policy. Default: all tiers serve them,
    /// whatever their level.
    ///
    /// # Errors
    ///
    /// Fails if the policy's chain is empty, or contains a name that no tier or more than one has so far, or a name
    /// twice.
    pub fn default_policy(mut self, policy: impl Into<FeaturePolicy>) -> Result<Self, InvalidConfig> {
        self.config.policies.default = self.policy("default_feature.tiers", policy.into())?;
        Ok(self.changed())
    }

    /// Sets which tiers serve callers that name this model, in order; the primary is one of them, by its name.
    /// Three names of one client (a large model, a usual one, a small one for background work) are three chains. A
    /// name that ends in `*` stands for all that begin so; the longest match counts. If the request's feature has a
    /// chain too, only tiers of both are asked, in the model's order; if there are none, the feature's chain
    /// stands. If the name matches a pattern and is one of its tiers' [own](Tier::model), the chain begins at that
    /// tier. Default: only the tiers' own names choose a chain.
    ///
    /// # Errors
    ///
    /// Fails for an empty chain, a name that no tier or more than one has so far, or one that appears twice.
    pub fn model<'a>(
        mut self,
        name: impl Into<Arc<str>>,
        tiers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidConfig> {
        let name = name.into();
        let chain = self.indexes(&format!("models.{name}.tiers"), tiers)?;
        self.config.models.set(name, chain);
        Ok(self.changed())
    }

    /// Sets which tiers are asked, in order, after a failure of this kind, whatever the classifier decides. For
    /// instance, route [`ErrorKind::Refusal`] to a model of another vendor, and [`ErrorKind::ContextLength`] to the
    /// large one.
    ///
    /// # Errors
    ///
    /// Fails for an empty chain, a name that no tier or more than one has so far, or one that appears twice.
    pub fn route<'a>(
        mut self,
        kind: ErrorKind,
        tiers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidConfig> {
        let chain = self.indexes(&format!("routes.{kind}"), tiers)?;
        self.config.routes.insert(kind, chain);
        Ok(self.changed())
    }

    /// Sets the table that decides which failures another tier can help with. Default: the crate's.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.config.classifier = classifier;
        self.changed()
    }

    /// Sets the retry budget for calls to further tiers: if every tier of a chain fails, it bounds the calls to all
    /// of them together. It does not charge a call after a refusal on this side, nor one to a tier that answers at
    /// once or to people. With an empty budget only such tiers are asked. Default: unlimited, since a circuit in
    /// each tier has the same effect sooner.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.config.budget = budget;
        self.changed()
    }

    /// Sets where `ModelSwitched`, `ModelRecovered` and `AllTiersFailed` are sent. Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.config.events = Some(events);
        self.changed()
    }

    /// Sets how much of the time before the request's deadline is reserved for the tiers after the current one, at
    /// most half of the time left. Default: 10 s.
    #[must_use]
    pub fn reserve_for_fallbacks(mut self, time: Duration) -> Self {
        self.config.reserve_for_fallbacks = time;
        self.changed()
    }

    /// Sets the policy for sessions in a switch, alone or with the number of sessions that are kept. Default:
    /// [`SessionPolicy::Free`](super::SessionPolicy::Free).
    #[must_use]
    pub fn session(mut self, settings: impl Into<SessionSettings>) -> Self {
        self.config.sessions = settings.into();
        self.changed()
    }

    /// Returns the traffic to a primary that has recovered in these steps, rather than at once. A failure of the
    /// primary in between starts them again. Default: at once.
    #[must_use]
    pub fn gradually(mut self, steps: impl IntoIterator<Item = RampStep>) -> Self {
        self.config.ramp = steps.into_iter().collect();
        self.changed()
    }

    /// Makes it follow the orders of this handle, which other fallbacks with common tiers may share. Default: a
    /// handle of its own.
    #[must_use]
    pub fn steered_by(mut self, handle: &FallbackHandle) -> Self {
        self.config.orders = handle.orders().clone();
        self.changed()
    }

    /// Sets the id of the chain of all tiers, on answers and in errors: for a chain beside another fallback's that
    /// begins at the same tier. Default: the first tier's name.
    #[must_use]
    pub fn chain_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.config.named_chain = Some(id.into());
        self.changed()
    }

    /// Returns the chains that the settings name, that of the [default policy](Self::default_policy) first. Requests
    /// with the same list of tiers share one. Take them when all is set.
    pub fn chains(&self) -> Vec<ChainInfo> {
        self.shared().known.infos(&self.shared().config)
    }

    /// Returns a view of the tiers that requests may go to. Take it when all is set.
    pub fn eligibility(&self) -> super::Eligibility {
        super::Eligibility::new(Arc::downgrade(self.shared()))
    }

    /// Returns a handle that drains its tiers and pins levels by hand, and reports that where the layer's
    /// [events](Self::events) go: so take it when that is set. Clones of the layer follow the same orders, whatever
    /// is set in them afterwards.
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle::of(self.config.orders.clone(), self.config.events.clone())
    }

    /// Shares the state of another layer: each learns what the other's requests detect. This layer's settings are in
    /// force from its first use. Default: a state of its own, in which nothing is known.
    ///
    /// The state is, for each chain, the serving tier and the start of the outage, so that one outage
    /// is reported as one switch and one recovery; the tier of each session; and the steps of a gradual return, if they
    /// are the same. Tiers are matched by their names. Orders by hand are shared only if both are [steered
    /// by](Self::steered_by) one handle. An outage of a primary that is not the primary here is reported as over, and
    /// so is that of another tier at which no request begins here.
    #[must_use]
    pub fn state(mut self, of: &Self) -> Self {
        self.state = Some(of.shared().state.clone());
        self.changed()
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let state = self.state.clone().unwrap_or_else(|| Arc::new(State::new()));
            Arc::new(Shared::new(self.config.clone(), state))
        })
    }

    /// Marks the layer as changed: one whose settings differ is a fallback of its own.
    fn changed(mut self) -> Self {
        self.shared = Arc::default();
        self
    }

    fn policy(&self, field: &str, policy: FeaturePolicy) -> Result<Policy, InvalidConfig> {
        let tiers = policy.tiers.map(|names| self.indexes(field, names.iter().map(|name| &**name))).transpose()?;
        Ok(Policy { tiers, terms: policy.terms })
    }

    /// Returns the tiers of these names, in order; 0 is the primary.
    fn indexes<'a>(
        &self,
        field: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Arc<[usize]>, InvalidConfig> {
        let invalid = |problem: String| Err(InvalidConfig::new(field.to_owned(), problem));
        let tiers = self.config.tiers.iter().map(|tier| &**tier.facts.name());
        let known: Vec<&str> = std::iter::once(&**self.config.primary.name()).chain(tiers).collect();
        let mut chain = Vec::new();
        for name in names {
            let mut places = (0..known.len()).filter(|tier| known[*tier] == name);
            match (places.next(), places.next()) {
                (None, _) => return invalid(format!("no tier is named `{name}`; there are {}", known.join(", "))),
                (_, Some(_)) => return invalid(format!("two tiers are named `{name}`; give each a name of its own")),
                (Some(tier), None) if chain.contains(&tier) => {
                    return invalid(format!("the chain names `{name}` twice; a tier is asked once"));
                }
                (Some(tier), None) => chain.push(tier),
            }
        }
        match chain.is_empty() {
            true => invalid("the chain is empty; name at least one tier".to_owned()),
            false => Ok(chain.into()),
        }
    }
}

impl<S: Clone> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        Fallback::new(inner, self.shared().clone())
    }
}

impl fmt::Debug for FallbackLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("primary", &self.config.primary)
            .field("tiers", &self.config.tiers)
            .finish_non_exhaustive()
    }
}
