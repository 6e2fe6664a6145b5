use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, ServiceExt as _, util::BoxCloneSyncService};

use super::{Route, Rule, plan::Plan};
use crate::{
    Classifier, InvalidConfig, LlmService,
    prices::{Price, PriceTable},
};

/// Applies [`Route`]. See the [module docs](super).
///
/// Clones share the rules and their services.
#[derive(Clone)]
pub struct RouteLayer {
    plan: Plan,
    prices: PriceTable,
    /// The provider and the model that would have served.
    instead_of: Option<(Option<Arc<str>>, Arc<str>)>,
}

/// The default of [`RouteLayer::reserve_for_default`]: a working model answers within that.
const RESERVE: Duration = Duration::from_secs(10);

impl RouteLayer {
    /// Creates a layer without rules: every request goes to the inner service, the default chain.
    pub fn new() -> Self {
        let (routes, classifier) = (Vec::new(), Classifier::default());
        let plan = Plan { routes, classifier, reserve_for_default: RESERVE, instead_of: None };
        Self { plan, prices: PriceTable::builtin(), instead_of: None }
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
        self.prices = prices;
        self
    }

    /// Sets the model that would have served, the default chain's first: savings are computed from its
    /// [price](Self::prices). Default: none, and no savings are reported.
    ///
    /// A model without a price is an error of [`checked`](Self::checked). Unchecked, no savings are reported.
    #[must_use]
    pub fn instead_of(mut self, provider: Option<&str>, model: &str) -> Self {
        self.instead_of = Some((provider.map(Arc::from), model.into()));
        self
    }

    /// Returns the layer if all that it was told is valid.
    ///
    /// # Errors
    ///
    /// Fails if the model that would have [served](Self::instead_of) has no price.
    pub fn checked(self) -> Result<Self, InvalidConfig> {
        self.saved()?;
        Ok(self)
    }

    /// Returns the price of the model that would have served.
    fn saved(&self) -> Result<Option<Price>, InvalidConfig> {
        let Some((provider, model)) = &self.instead_of else { return Ok(None) };
        let price = self.prices.price(provider.as_deref(), model).ok_or_else(|| {
            let problem = format!("`{model}` has no price, so that its savings are unknown; add it to the prices");
            InvalidConfig::new("prices", problem)
        })?;
        Ok(Some(*price))
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
        let instead_of = self.saved().unwrap_or_else(|invalid| {
            tracing::error!(%invalid, "a route reports no savings");
            None
        });
        Route::new(inner, Arc::new(Plan { instead_of, ..self.plan.clone() }))
    }
}

impl fmt::Debug for RouteLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<&Rule> = self.plan.rules().collect();
        f.debug_struct("RouteLayer").field("rules", &rules).finish_non_exhaustive()
    }
}
