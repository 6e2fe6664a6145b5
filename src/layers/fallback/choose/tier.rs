use std::{fmt, sync::Arc, time::Duration};

use tower::ServiceExt as _;

use super::{Capabilities, TierSettings};
use crate::{
    BoxLlmService, LlmService,
    layers::{call::Standby, fallback::Canned},
    response::ShardedName,
};

/// A place in the order of a fallback: a service with its name and its [settings](TierSettings). Clones share the
/// service.
#[derive(Clone)]
pub struct Tier {
    pub(crate) service: Arc<Standby>,
    pub(crate) facts: TierFacts,
}

/// The facts about a tier, the primary included.
#[derive(Clone, Debug)]
pub(crate) struct TierFacts {
    pub(crate) name: ShardedName,
    pub(crate) settings: TierSettings,
    /// True if the service itself calls no provider.
    answers_itself: bool,
}

impl TierFacts {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self { name: ShardedName::new(name), settings: TierSettings::new(), answers_itself: false }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        self.name.value()
    }

    /// Returns whether a model answers here, as far as is known: no cached answer, fixed sentence, or person.
    pub(crate) fn is_model(&self) -> bool {
        !self.settings.human && self.settings.level <= WORST_MODEL
    }

    /// Returns whether it answers without a call to a provider: any time before the deadline is enough, and it
    /// costs no token.
    pub(crate) fn answers_at_once(&self) -> bool {
        !self.settings.human && (self.answers_itself || self.settings.level > WORST_MODEL)
    }

    /// Returns whether a provider is asked here, and not people.
    pub(crate) fn asks_a_model(&self) -> bool {
        !self.settings.human && !self.answers_at_once()
    }
}

/// Returns true if a leaf of this type answers by itself, without a call to a provider.
fn answers_itself<S: 'static>() -> bool {
    use std::any::TypeId;

    #[cfg(feature = "cache")]
    if TypeId::of::<S>() == TypeId::of::<crate::layers::cached::CachedAnswers>() {
        return true;
    }
    TypeId::of::<S>() == TypeId::of::<Canned>()
}

impl Tier {
    /// Creates a tier of this name.
    pub fn new<S>(name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let mut facts = TierFacts::new(name.into());
        facts.answers_itself = answers_itself::<S>();
        Self { service: Arc::new(Standby::new(BoxLlmService::new(service.map_err(Into::into)))), facts }
    }

    /// Replaces all settings. The methods below set one each.
    #[must_use]
    pub fn settings(mut self, settings: TierSettings) -> Self {
        self.facts.settings = settings;
        self
    }

    /// Sets the model that answers here, as [`TierSettings::model`] does.
    #[must_use]
    pub fn model(self, model: impl Into<Arc<str>>) -> Self {
        self.set(|settings| settings.model(model))
    }

    /// Sets the tier's capabilities, as [`TierSettings::capabilities`] does.
    #[must_use]
    pub fn capabilities(self, capabilities: Capabilities) -> Self {
        self.set(|settings| settings.capabilities(capabilities))
    }

    /// Sets how many tokens fit into the model's context window, as [`TierSettings::context_window`] does.
    #[must_use]
    pub fn context_window(self, tokens: u64) -> Self {
        self.set(|settings| settings.context_window(tokens))
    }

    /// Makes the tier ignore its own circuit, as [`TierSettings::last_resort`] does.
    #[must_use]
    pub fn last_resort(self) -> Self {
        self.set(TierSettings::last_resort)
    }

    /// Marks a tier of people, as [`TierSettings::human`] does.
    #[must_use]
    pub fn human(self) -> Self {
        self.set(TierSettings::human)
    }

    /// Sets the tier's level of service from 1 (full) to 5 (a fixed sentence), as [`TierSettings::level`] does.
    #[must_use]
    pub fn level(self, level: u8) -> Self {
        self.set(|settings| settings.level(level))
    }

    /// Sets the least time before the deadline that makes it worth beginning this tier, as
    /// [`TierSettings::min_useful`] does.
    #[must_use]
    pub fn min_useful(self, time: Duration) -> Self {
        self.set(|settings| settings.min_useful(time))
    }

    fn set(mut self, change: impl FnOnce(TierSettings) -> TierSettings) -> Self {
        self.facts.settings = change(self.facts.settings);
        self
    }
}

/// The level of basic service: a tier below it answers without a model.
const WORST_MODEL: u8 = 3;

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("facts", &self.facts).finish_non_exhaustive()
    }
}
