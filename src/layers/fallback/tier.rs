use std::{fmt, sync::Arc, time::Duration};

use tower::{ServiceExt as _, util::BoxCloneSyncService};

use super::Capabilities;
use crate::{
    BoxLlmService, LlmService,
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// A place in the order of a fallback: a service with its capabilities. Clones share the service.
#[derive(Clone)]
pub struct Tier {
    pub(super) service: BoxLlmService,
    pub(super) facts: TierFacts,
}

/// The facts about a tier, the primary included.
#[derive(Clone, Debug)]
pub(super) struct TierFacts {
    pub(super) name: Arc<str>,
    /// The model that answers here; a request that names it begins here.
    pub(super) model: Option<Arc<str>>,
    pub(super) capabilities: Capabilities,
    pub(super) last_resort: bool,
    pub(super) level: u8,
    pub(super) human: bool,
    pub(super) min_useful: Option<Duration>,
    /// True if the service itself calls no provider.
    answers_itself: bool,
}

impl TierFacts {
    pub(super) fn new(name: Arc<str>) -> Self {
        let capabilities = Capabilities::new();
        Self {
            name,
            model: None,
            capabilities,
            last_resort: false,
            level: BEST_LEVEL,
            human: false,
            min_useful: None,
            answers_itself: false,
        }
    }

    /// Returns whether a model answers here, as far as is known: no cached answer, fixed sentence, or person.
    pub(super) fn is_model(&self) -> bool {
        !self.human && self.level <= WORST_MODEL
    }

    /// Returns whether it answers without a call to a provider: any time before the deadline is enough, and it
    /// costs no token.
    pub(super) fn answers_at_once(&self) -> bool {
        !self.human && (self.answers_itself || self.level > WORST_MODEL)
    }

    /// Returns whether a provider is asked here, and not people.
    pub(super) fn asks_a_model(&self) -> bool {
        !self.human && !self.answers_at_once()
    }

    pub(super) fn set_level(&mut self, level: u8) {
        self.level = level.clamp(BEST_LEVEL, WORST_LEVEL);
    }
}

/// Returns true if a leaf of this type answers by itself, without a call to a provider.
fn answers_itself<S: 'static>() -> bool {
    use std::any::TypeId;

    #[cfg(feature = "cache")]
    if TypeId::of::<S>() == TypeId::of::<crate::layers::cached::CachedAnswers>() {
        return true;
    }
    TypeId::of::<S>() == TypeId::of::<super::Canned>()
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
        Self { service: BoxCloneSyncService::new(service.map_err(Into::into)), facts }
    }

    /// Sets the model that answers here. A request that [names](LlmRequest::model) it, or the tier, begins at this
    /// tier. It goes on to the models after it, then to those before it, and at last to tiers without a model.
    /// Default: none, so that no name leads here.
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.facts.model = Some(model.into());
        self
    }

    /// Sets the tier's capabilities: a request that needs more skips it. Default: unknown, so that every request
    /// may come.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.facts.capabilities = capabilities;
        self
    }

    /// Sets how many tokens fit into the model's context window, as [`Capabilities::context_window`] does. A
    /// request that was too long for one tier goes only to tiers that are known to have a larger one. Default:
    /// unknown.
    #[must_use]
    pub fn context_window(mut self, tokens: u64) -> Self {
        self.facts.capabilities = self.facts.capabilities.context_window(tokens);
        self
    }

    /// Makes the tier ignore its own circuit: a slim chance is better than none.
    #[must_use]
    pub fn last_resort(mut self) -> Self {
        self.facts.last_resort = true;
        self
    }

    /// Marks a tier of people, as behind a `Handoff` leaf. Requests that [require a
    /// person](LlmRequest::with_human_required) come to such tiers and to no other, whatever their feature's chain is.
    /// Each request brings its [earlier attempts](crate::ledger::PriorAttempts). No session stays with such a tier.
    #[must_use]
    pub fn human(mut self) -> Self {
        self.facts.human = true;
        self
    }

    /// Sets the tier's level of service: 1 is full, 2 reduced, 3 basic, 4 cached answers only, 5 a fixed sentence.
    /// From 2 on its answers are [degraded](LlmResponse::degraded). Requests that are [stepped
    /// down](crate::Context::min_level), and features that accept no
    /// [worse](super::FallbackLayer::feature_worst_level), are held to it. Default: 1.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.facts.set_level(level);
        self
    }

    /// Sets the least time before the deadline that makes it worth beginning this tier. Default: none for a tier
    /// that answers at once ([`Canned`](crate::providers::Canned), `CachedAnswers`, and levels 4 and 5), otherwise
    /// the [layer's](super::FallbackLayer::min_useful).
    #[must_use]
    pub fn min_useful(mut self, time: Duration) -> Self {
        self.facts.min_useful = Some(time);
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
