use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use tower::Layer;

use super::{
    AllOpen, Capabilities, Fallback, FallbackHandle, RampStep, SessionPolicy, StreamBreak, Tier, handle::Orders,
    models::Models, shared::Shared, state::State, tier::TierFacts,
};
use crate::{
    Classifier, ErrorKind, Events, InvalidConfig, LlmService, RetryBudget,
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// Applies [`Fallback`]. See the [module docs](super).
///
/// All services of one layer are one fallback: they share the serving tier, the sessions and the steps of a gradual
/// return.
#[derive(Clone)]
pub struct FallbackLayer {
    config: Config,
    /// The state of another layer, and the tiers that are the same in both.
    state: Option<(Arc<State>, HashSet<Arc<str>>)>,
    /// Created on first use, so that settings can still be changed before.
    shared: Arc<std::sync::OnceLock<Arc<Shared>>>,
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) primary: TierFacts,
    pub(super) tiers: Vec<Tier>,
    /// For each feature with a policy, the tiers in order; 0 is the primary.
    pub(super) features: HashMap<Arc<str>, Arc<[usize]>>,
    /// The tiers for all other requests; `None`: all tiers.
    pub(super) others: Option<Arc<[usize]>>,
    /// The chains of callers that name a model.
    pub(super) models: Models,
    /// The level policies of features.
    pub(super) levels: HashMap<Arc<str>, LevelPolicy>,
    pub(super) routes: HashMap<ErrorKind, Arc<[usize]>>,
    pub(super) classifier: Classifier,
    /// The budget of calls to further tiers.
    pub(super) budget: RetryBudget,
    pub(super) events: Option<Events>,
    pub(super) min_useful: Duration,
    pub(super) keep_back: Duration,
    pub(super) session: SessionPolicy,
    pub(super) session_capacity: usize,
    pub(super) stream_break: StreamBreak,
    /// For each feature with a setting of its own.
    pub(super) stream_breaks: HashMap<Arc<str>, StreamBreak>,
    pub(super) all_open: AllOpen,
    /// For each feature with a setting of its own.
    pub(super) all_opens: HashMap<Arc<str>, AllOpen>,
    pub(super) ramp: Vec<RampStep>,
    pub(super) orders: Arc<Orders>,
    /// True if tiers above a pinned level never serve, even if no other tier can.
    pub(super) pins_are_final: bool,
}

/// A feature's policy on the tiers' levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelPolicy {
    pub(super) worst: u8,
    /// True if a step-down stands even if no tier is left below.
    pub(super) stays_down: bool,
}

impl Default for LevelPolicy {
    fn default() -> Self {
        Self { worst: WORST_LEVEL, stays_down: false }
    }
}

/// The default of [`FallbackLayer::min_useful`].
const MIN_USEFUL: Duration = Duration::from_millis(100);
/// The default of [`FallbackLayer::keep_back`]: a working model answers within that.
const KEEP_BACK: Duration = Duration::from_secs(10);
/// The default of [`FallbackLayer::session_capacity`].
const SESSIONS: usize = 10_000;

impl FallbackLayer {
    /// Creates a fallback around a primary tier of this name, with no further tier yet.
    pub fn new(primary: impl Into<Arc<str>>) -> Self {
        let config = Config {
            primary: TierFacts::new(primary.into()),
            tiers: Vec::new(),
            features: HashMap::new(),
            others: None,
            models: Models::default(),
            levels: HashMap::new(),
            routes: HashMap::new(),
            classifier: Classifier::default(),
            budget: RetryBudget::unlimited(),
            events: None,
            min_useful: MIN_USEFUL,
            keep_back: KEEP_BACK,
            session: SessionPolicy::default(),
            session_capacity: SESSIONS,
            stream_break: StreamBreak::default(),
            stream_breaks: HashMap::new(),
            all_open: AllOpen::default(),
            all_opens: HashMap::new(),
            ramp: Vec::new(),
            orders: Arc::default(),
            pins_are_final: false,
        };
        Self { config, state: None, shared: Arc::default() }
    }

    /// Creates a fallback of tiers whose names come from data.
    ///
    /// # Errors
    ///
    /// Fails for an empty chain, an empty name, or a name that two tiers have.
    pub fn from_tiers(
        primary: impl Into<Arc<str>>,
        tiers: impl IntoIterator<Item = Tier>,
    ) -> Result<Self, InvalidConfig> {
        let mut layer = Self::new(primary);
        let mut names = HashSet::from([layer.config.primary.name.clone()]);
        for tier in tiers {
            if !names.insert(tier.facts.name.clone()) {
                let problem = format!("two tiers are named `{}`; give each a name of its own", tier.facts.name);
                return Err(InvalidConfig::new("tiers", problem));
            }
            layer = layer.push(tier);
        }
        if names.iter().any(|name| name.is_empty()) {
            return Err(InvalidConfig::new("tiers", "a tier has an empty name; name it after its model"));
        }
        if layer.config.tiers.is_empty() {
            return Err(InvalidConfig::new("tiers", "the chain is empty; name at least one tier after the primary"));
        }
        Ok(layer)
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

    /// Sets the primary's capabilities: a request that needs more skips it. Default: unknown, so that every request
    /// may come.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.config.primary.capabilities = capabilities;
        self.changed()
    }

    /// Sets how many tokens fit into the primary's context window, as [`Capabilities::context_window`] does.
    /// Default: unknown.
    #[must_use]
    pub fn context_window(mut self, tokens: u64) -> Self {
        self.config.primary.capabilities = self.config.primary.capabilities.context_window(tokens);
        self.changed()
    }

    /// Sets which tiers serve a feature, in order; the primary is one of them, by its name. A chain of one never
    /// falls back. Default: all, in their order.
    ///
    /// # Errors
    ///
    /// Fails for an empty chain, a name that no tier has so far, or one that appears twice.
    pub fn feature<'a>(
        mut self,
        feature: impl Into<Arc<str>>,
        tiers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidConfig> {
        let feature = feature.into();
        let chain = self.indexes(&format!("features.{feature}.tiers"), tiers)?;
        self.config.features.insert(feature, chain);
        Ok(self.changed())
    }

    /// Sets which tiers serve all requests whose feature has no chain of its own, and those without a feature.
    /// Default: all, in their order.
    ///
    /// # Errors
    ///
    /// Fails for an empty chain, a name that no tier has so far, or one that appears twice.
    pub fn other_features<'a>(mut self, tiers: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidConfig> {
        self.config.others = Some(self.indexes("default_feature.tiers", tiers)?);
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
    /// Fails for an empty chain, a name that no tier has so far, or one that appears twice.
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

    /// Sets the primary's model, as [`Tier::model`] does: a request that names the primary begins there, even if
    /// another tier has the same model.
    #[must_use]
    pub fn primary_model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.config.primary.model = Some(model.into());
        self.changed()
    }

    /// Makes the primary ignore its own circuit, as [`Tier::last_resort`] does.
    #[must_use]
    pub fn last_resort(mut self) -> Self {
        self.config.primary.last_resort = true;
        self.changed()
    }

    /// Marks the primary as a tier of people, as [`Tier::human`] does.
    #[must_use]
    pub fn human(mut self) -> Self {
        self.config.primary.human = true;
        self.changed()
    }

    /// Sets the least time before the deadline that makes it worth beginning the primary if it is not asked first,
    /// as [`Tier::min_useful`] does.
    #[must_use]
    pub fn primary_min_useful(mut self, time: Duration) -> Self {
        self.config.primary.min_useful = Some(time);
        self.changed()
    }

    /// Sets the primary's level of service, as [`Tier::level`] does. Default: 1.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.config.primary.set_level(level);
        self.changed()
    }

    /// Sets the worst [level](Tier::level) of service that a feature accepts: with 1, code generation fails rather
    /// than fall to a small model. Default: 5, any.
    #[must_use]
    pub fn feature_worst_level(mut self, feature: impl Into<Arc<str>>, level: u8) -> Self {
        self.config.levels.entry(feature.into()).or_default().worst = level.clamp(BEST_LEVEL, WORST_LEVEL);
        self.changed()
    }

    /// Makes a [step-down](crate::Context::min_level) final for a feature: if no tier further down can answer, its
    /// requests fail. Default: the better tiers then serve, since an expensive answer is better than none.
    #[must_use]
    pub fn feature_stays_down(mut self, feature: impl Into<Arc<str>>) -> Self {
        self.config.levels.entry(feature.into()).or_default().stays_down = true;
        self.changed()
    }

    /// Sets which tiers are asked, in order, after a failure of this kind, whatever the classifier decides. For
    /// instance, route [`ErrorKind::Refusal`] to a model of another vendor, and [`ErrorKind::ContextLength`] to the
    /// large one.
    ///
    /// # Errors
    ///
    /// Fails for an empty chain, a name that no tier has so far, or one that appears twice.
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

    /// Sets the least time before the deadline that makes it worth beginning a further tier. Default: 100 ms.
    #[must_use]
    pub fn min_useful(mut self, time: Duration) -> Self {
        self.config.min_useful = time;
        self.changed()
    }

    /// Sets how much of the time before the request's deadline is reserved for the tiers after the current one, at
    /// most half of the time left. Default: 10 s.
    #[must_use]
    pub fn keep_back(mut self, time: Duration) -> Self {
        self.config.keep_back = time;
        self.changed()
    }

    /// Sets the policy for sessions in a switch. Default: [`SessionPolicy::Free`].
    #[must_use]
    pub fn session(mut self, policy: SessionPolicy) -> Self {
        self.config.session = policy;
        self.changed()
    }

    /// Sets how many sessions are kept; the least recently used go first. Default: 10,000.
    #[must_use]
    pub fn session_capacity(mut self, sessions: usize) -> Self {
        self.config.session_capacity = sessions;
        self.changed()
    }

    /// Sets the policy for a stream that breaks in the middle. Default: [`StreamBreak::Fail`].
    #[must_use]
    pub fn stream_break(mut self, policy: StreamBreak) -> Self {
        self.config.stream_break = policy;
        self.changed()
    }

    /// Sets the policy for a stream of this feature that breaks in the middle. Default: that of
    /// [`stream_break`](Self::stream_break).
    #[must_use]
    pub fn feature_stream_break(mut self, feature: impl Into<Arc<str>>, policy: StreamBreak) -> Self {
        self.config.stream_breaks.insert(feature.into(), policy);
        self.changed()
    }

    /// Sets the policy for the case that every circuit is open. Default: [`AllOpen::Fail`].
    #[must_use]
    pub fn all_open(mut self, policy: AllOpen) -> Self {
        self.config.all_open = policy;
        self.changed()
    }

    /// Sets the policy for the case that every circuit is open for a request of this feature. Default: that of
    /// [`all_open`](Self::all_open).
    #[must_use]
    pub fn feature_all_open(mut self, feature: impl Into<Arc<str>>, policy: AllOpen) -> Self {
        self.config.all_opens.insert(feature.into(), policy);
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

    /// Makes pinned levels final: tiers above one fail rather than serve, since another chain is asked after this
    /// one.
    #[cfg(feature = "config")]
    pub(crate) fn pins_are_final(mut self) -> Self {
        self.config.pins_are_final = true;
        self.changed()
    }

    /// Returns a view of the tiers that requests may go to. Take it when all is set.
    #[cfg(feature = "config")]
    pub(crate) fn eligibility(&self) -> super::Eligibility {
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
    /// The state is the serving tier and the start of the primary's outage, so that one outage is reported as one
    /// switch and one recovery; the tier of each session; the steps of a gradual return, if they are the same; and
    /// for the tiers in `unchanged`, whether they have ever answered. Tiers are matched by their names. Orders by
    /// hand are shared only if both are [steered by](Self::steered_by) one handle. An outage of a primary that is
    /// not the primary here is reported as over.
    #[must_use]
    pub fn state<'a>(mut self, of: &Self, unchanged: impl IntoIterator<Item = &'a str>) -> Self {
        self.state = Some((of.shared().state.clone(), unchanged.into_iter().map(Arc::from).collect()));
        self.changed()
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let (state, unchanged) = match &self.state {
                Some((state, unchanged)) => (state.clone(), Some(unchanged)),
                None => (Arc::new(State::new()), None),
            };
            let is_unchanged = |tier: &str| unchanged.is_some_and(|unchanged| unchanged.contains(tier));
            Arc::new(Shared::new(self.config.clone(), state, is_unchanged))
        })
    }

    /// Marks the layer as changed: one whose settings differ is a fallback of its own.
    fn changed(mut self) -> Self {
        self.shared = Arc::default();
        self
    }

    fn indexes<'a>(
        &self,
        field: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Arc<[usize]>, InvalidConfig> {
        let known =
            || std::iter::once(&self.config.primary.name).chain(self.config.tiers.iter().map(|tier| &tier.facts.name));
        let chain: Result<Vec<usize>, _> = names
            .into_iter()
            .map(|name| {
                known().position(|known| &**known == name).ok_or_else(|| {
                    let names: Vec<&str> = known().map(|name| &**name).collect();
                    let problem = format!("no tier is named `{name}`; there are {}", names.join(", "));
                    InvalidConfig::new(field.to_owned(), problem)
                })
            })
            .collect();
        let chain = chain?;
        let twice = chain.iter().enumerate().find(|(place, tier)| chain[..*place].contains(tier));
        if let Some(name) = twice.and_then(|(_, tier)| known().nth(*tier)) {
            let problem = format!("the chain names `{name}` twice; a tier is asked once");
            return Err(InvalidConfig::new(field.to_owned(), problem));
        }
        match chain {
            chain if chain.is_empty() => {
                Err(InvalidConfig::new(field.to_owned(), "the chain is empty; name at least one tier"))
            }
            chain => Ok(chain.into()),
        }
    }
}

impl<S> Layer<S> for FallbackLayer {
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
