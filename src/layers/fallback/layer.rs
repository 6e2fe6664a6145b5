use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tower::Layer;

use super::{
    ChainInfo, Eligibility, Fallback, FallbackHandle, FeaturePolicy, RampStep, SessionSettings, Tier, TierSettings,
    choose::{Config, KnownChains, Models, Names, Policies, TierFacts},
    serve::{State, Steering},
    shared::Shared,
};
use crate::{Classifier, ErrorKind, Events, InvalidConfig, LlmService, RetryBudget, layers::draft::Draft};

/// Applies [`Fallback`]. See the [module docs](super).
///
/// All services of one layer are one fallback: they share the serving tier, the sessions and the steps of a gradual
/// return.
#[derive(Clone)]
pub struct FallbackLayer {
    /// The settings without the chains that are told by names.
    config: Config,
    names: Names,
    /// The state of another layer, and the tiers that are the same in both.
    state: Option<Arc<State>>,
    /// What handles steer and report to.
    steering: Draft<Steering>,
    made: Arc<Made>,
}

/// The fallback of all services of a layer and its clones.
#[derive(Default)]
struct Made {
    /// Created on first use, so that settings can still be changed before.
    shared: OnceLock<Arc<Shared>>,
    /// The same for those who keep no part of it alive.
    view: Arc<OnceLock<Weak<Shared>>>,
}

/// The default of [`FallbackLayer::reserve_for_fallbacks`]: a working model answers within that.
const RESERVE: Duration = Duration::from_secs(10);

impl FallbackLayer {
    /// Creates a fallback around a primary tier of this name, with no further tier yet.
    pub fn new(primary: impl Into<Arc<str>>) -> Self {
        let config = Config {
            primary: TierFacts::new(primary.into()),
            primary_again: None,
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
        let steering = Draft::new(Steering { orders: config.orders.clone(), events: None });
        Self { config, names: Names::default(), state: None, steering, made: Arc::default() }
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

    /// Sets the primary's service once more, for an answer of it that broke: see
    /// [`StreamBreak::Continue`](super::StreamBreak::Continue). Default: none, and such an answer goes on at
    /// further tiers alone.
    #[must_use]
    pub fn primary_again<S>(mut self, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        self.config.primary_again = Some(Tier::new("", service).service);
        self.changed()
    }

    /// Sets the policy for a feature's requests, in place of an earlier one. It takes each setting that it leaves out
    /// from the [default policy](Self::default_policy). Default: no feature has a policy of its own.
    ///
    /// [`checked`](Self::checked) fails if the policy's chain is empty, or contains a name that no tier or more than
    /// one has, or a name twice.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<Arc<str>>, policy: impl Into<FeaturePolicy>) -> Self {
        self.names.features.insert(feature.into(), policy.into());
        self.changed()
    }

    /// Sets the policy for requests without a feature, for those whose feature has no policy of its own, and for what
    /// a feature's policy leaves out. It takes the place of an earlier default policy. Default: all tiers serve them,
    /// whatever their level.
    ///
    /// [`checked`](Self::checked) fails if the policy's chain is empty, or contains a name that no tier or more than
    /// one has, or a name twice.
    #[must_use]
    pub fn default_policy(mut self, policy: impl Into<FeaturePolicy>) -> Self {
        self.names.default = policy.into();
        self.changed()
    }

    /// Sets which tiers serve callers that name this model, in order; the primary is one of them, by its name.
    /// Three names of one client (a large model, a usual one, a small one for background work) are three chains. A
    /// name that ends in `*` stands for all that begin so; the longest match counts. If the request's feature has a
    /// chain too, only tiers of both are asked, in the model's order; if there are none, the feature's chain
    /// stands. If the name matches a pattern and is one of its tiers' [own](Tier::model), the chain begins at that
    /// tier. Default: only the tiers' own names choose a chain.
    ///
    /// [`checked`](Self::checked) fails for an empty chain, a name that no tier or more than one has, or one that
    /// appears twice.
    #[must_use]
    pub fn model<'a>(mut self, name: impl Into<Arc<str>>, tiers: impl IntoIterator<Item = &'a str>) -> Self {
        self.names.models.insert(name.into(), tiers.into_iter().map(Arc::from).collect());
        self.changed()
    }

    /// Sets which tiers are asked, in order, after a failure of this kind, whatever the classifier decides. For
    /// instance, route [`ErrorKind::Refusal`] to a model of another vendor, and [`ErrorKind::ContextLength`] to the
    /// large one.
    ///
    /// [`checked`](Self::checked) fails for an empty chain, a name that no tier or more than one has, or one that
    /// appears twice.
    #[must_use]
    pub fn route<'a>(mut self, kind: ErrorKind, tiers: impl IntoIterator<Item = &'a str>) -> Self {
        self.names.routes.insert(kind, tiers.into_iter().map(Arc::from).collect());
        self.changed()
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
        self.config.events = Some(events.clone());
        self.steering.change(|steering| steering.events = Some(events));
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
        let orders = handle.orders();
        self.config.orders = orders.clone();
        self.steering.change(|steering| steering.orders = orders);
        self.changed()
    }

    /// Sets the id of the chain of all tiers, on answers and in errors: for a chain beside another fallback's that
    /// begins at the same tier. Default: the first tier's name.
    #[must_use]
    pub fn chain_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.config.named_chain = Some(id.into());
        self.changed()
    }

    /// Returns the layer if all that it was told is valid: each name of a tier is looked up, whichever was told first.
    /// The service of a layer that is not valid refuses each request, and says why.
    ///
    /// # Errors
    ///
    /// Fails if a chain is empty, or contains a name that no tier or more than one has, or a name twice. The error is
    /// at the first such chain, and lists the others.
    pub fn checked(self) -> Result<Self, InvalidConfig> {
        self.names.resolve(&mut self.config.clone())?;
        Ok(self)
    }

    /// Returns the chains that the settings name, that of the [default policy](Self::default_policy) first. Requests
    /// with the same list of tiers share one.
    #[doc(hidden)]
    pub fn chains(&self) -> Vec<ChainInfo> {
        let (config, _) = self.resolved();
        KnownChains::new(&config).infos(&config)
    }

    /// Returns a view of the tiers that requests may go to. Before the layer has wrapped a service there are none.
    pub fn eligibility(&self) -> Eligibility {
        Eligibility::new(self.made.view.clone())
    }

    /// Returns a handle that drains its tiers and pins levels by hand, and reports that where the layer's
    /// [events](Self::events) go. Clones of the layer follow the same orders, whatever is set in them afterwards.
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle::of(self.steering.view())
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
        self.made.shared.get_or_init(|| {
            let (config, invalid) = self.resolved();
            let state = match (&invalid, &self.state) {
                (None, Some(state)) => state.clone(),
                // One that serves nobody knows nothing that others could learn.
                _ => Arc::new(State::new()),
            };
            let shared = Arc::new(Shared::new(config, state, invalid));
            self.steering.settle();
            let _ = self.made.view.set(Arc::downgrade(&shared));
            shared
        })
    }

    /// Returns the settings with all chains; without those that are told by names if these are not valid.
    fn resolved(&self) -> (Config, Option<InvalidConfig>) {
        let mut config = self.config.clone();
        let invalid = self.names.resolve(&mut config).err();
        (config, invalid)
    }

    /// Marks the layer as changed. If a service has the former settings, or a clone, it is a fallback of its own.
    fn changed(mut self) -> Self {
        if self.made.shared.get().is_some() || Arc::strong_count(&self.made) > 1 {
            self.made = Arc::default();
        }
        self
    }
}

impl<S: Clone> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        let shared = self.shared();
        if let Some(invalid) = &shared.invalid {
            tracing::error!(%invalid, "a fallback refuses each request");
        }
        Fallback::new(inner, shared.clone())
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
