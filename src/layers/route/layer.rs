use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, ServiceExt as _, util::BoxCloneSyncService};

use super::{Route, Rule};
use crate::{
    BoxLlmService, Classifier, InvalidConfig, LlmService,
    prices::{Price, PriceTable},
};

/// Applies [`Route`]. See the [module docs](super).
///
/// Clones share the rules and their services.
#[derive(Clone)]
pub struct RouteLayer {
    plan: Plan,
}

#[derive(Clone)]
pub(super) struct Plan {
    pub(super) routes: Vec<(Rule, BoxLlmService)>,
    pub(super) classifier: Classifier,
    pub(super) reserve_for_default: Duration,
    prices: PriceTable,
    /// The price of the model that would have served.
    pub(super) instead_of: Option<Price>,
}

/// The default of [`RouteLayer::reserve_for_default`]: a working model answers within that.
const RESERVE: Duration = Duration::from_secs(10);

impl RouteLayer {
    /// Creates a layer without rules: every request goes to the inner service, the default chain.
    pub fn new() -> Self {
        let (routes, classifier, prices) = (Vec::new(), Classifier::default(), PriceTable::builtin());
        Self { plan: Plan { routes, classifier, reserve_for_default: RESERVE, prices, instead_of: None } }
    }

    /// Sends requests that match the rule to this service. The first matching rule wins.
    #[must_use]
    pub fn rule<S>(mut self, rule: Rule, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        self.plan.routes.push((rule, BoxCloneSyncService::new(service.map_err(Into::into))));
        self
    }

    /// Sets the table that decides after which failures of a rule's chain the default chain serves. Default: the
    /// crate's.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.plan.classifier = classifier;
        self
    }

    /// Sets how much of the time before the request's deadline is reserved for the default chain, at most half of
    /// the time left. Default: 10 s.
    #[must_use]
    pub fn reserve_for_default(mut self, time: Duration) -> Self {
        self.plan.reserve_for_default = time;
        self
    }

    /// Sets the prices for [`instead_of`](Self::instead_of). Default: the built-in ones.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.plan.prices = prices;
        self
    }

    /// Sets the model that would have served, the default chain's first: savings are computed from its price. Set
    /// the [`prices`](Self::prices) before. Default: none, and no savings are reported.
    ///
    /// # Errors
    ///
    /// Fails if the model has no price.
    pub fn instead_of(mut self, provider: Option<&str>, model: &str) -> Result<Self, InvalidConfig> {
        let price = self.plan.prices.price(provider, model).ok_or_else(|| {
            let problem = format!("`{model}` has no price, so that its savings are unknown; add it to the prices");
            InvalidConfig::new("prices", problem)
        })?;
        self.plan.instead_of = Some(*price);
        Ok(self)
    }
}

impl Default for RouteLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Route<S> {
        Route::new(inner, Arc::new(self.plan.clone()))
    }
}

impl Plan {
    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.routes.iter().map(|(rule, _)| rule)
    }
}

impl fmt::Debug for RouteLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<&Rule> = self.plan.rules().collect();
        f.debug_struct("RouteLayer").field("rules", &rules).finish_non_exhaustive()
    }
}
