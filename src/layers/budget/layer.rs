use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tower::Layer;

use super::{Budget, BudgetHandle, Cap, cap::CapSet, plan::Plan};
use crate::{Events, InvalidConfig, layers::draft::Draft, prices::PriceTable};

/// Applies [`Budget`]. See the [module docs](super).
///
/// All services of one layer value share the amounts, and so do those of its clones. A [`handle`](Self::handle) follows
/// the settings that come after it. A layer that is changed once it has wrapped a service, or beside a clone, starts
/// new counts.
#[derive(Clone)]
pub struct BudgetLayer {
    draft: Draft<Plan>,
}

/// The default of [`BudgetLayer::default_output`]: common answers are shorter.
const DEFAULT_OUTPUT: u64 = 1024;
/// The default of [`BudgetLayer::keys`].
const KEYS: usize = 10_000;

impl BudgetLayer {
    /// Creates a layer with these prices and no cap yet. Prices other than the built-in ones also go with its
    /// answers, for [`LlmResponse::cost`](crate::LlmResponse::cost); that is an allocation.
    pub fn new(prices: PriceTable) -> Self {
        let plan = Plan {
            prices,
            caps: CapSet::default(),
            model: None,
            default_output: DEFAULT_OUTPUT,
            keys: KEYS,
            events: None,
            since_1970: None,
            state: None,
        };
        Self { draft: Draft::new(plan) }
    }

    /// Adds a cap, or replaces the one of the same name.
    #[must_use]
    pub fn cap(mut self, cap: Cap) -> Self {
        self.draft.change(|plan| plan.caps.set(cap));
        self
    }

    /// Sets the model at whose price requests are reserved, for a leaf that has a model of its own. For a tier, set
    /// the tier's model; for a whole fallback, the dearest. Default: the model that the request names. If that has
    /// no price, nothing is reserved, and requests in flight may exceed the cap by their whole cost.
    ///
    /// A model without a price is an error of [`checked`](Self::checked). Unchecked, the layer refuses each request
    /// that a cap counts.
    #[must_use]
    pub fn model(mut self, provider: Option<&str>, model: &str) -> Self {
        let model = (provider.map(Arc::from), Arc::from(model));
        self.draft.change(|plan| plan.model = Some(model));
        self
    }

    /// Returns the layer if all that it was told is valid.
    ///
    /// # Errors
    ///
    /// Fails if the [model](Self::model) has no price.
    pub fn checked(self) -> Result<Self, InvalidConfig> {
        self.draft.plan().reserved_at()?;
        Ok(self)
    }

    /// Checks that a cap on these models can be kept: each has a price. Give each model's provider if it is known.
    ///
    /// # Errors
    ///
    /// Fails if there is a cap and one of the models has no price.
    pub fn check<'a>(&self, models: impl IntoIterator<Item = (Option<&'a str>, &'a str)>) -> Result<(), InvalidConfig> {
        let plan = self.draft.plan();
        if plan.caps.list.is_empty() {
            return Ok(());
        }
        models.into_iter().try_for_each(|(provider, model)| plan.place(provider, model).map(drop))
    }

    /// Sets how many tokens are reserved for an answer if the request does not bound it. Default: 1,024.
    #[must_use]
    pub fn default_output(mut self, tokens: u64) -> Self {
        self.draft.change(|plan| plan.default_output = tokens);
        self
    }

    /// Sets how many keys a cap for [each key](Cap::each_key) remembers. Beyond that it forgets the least recently
    /// used keys, with their amounts. Default: 10,000.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        self.draft.change(|plan| plan.keys = keys);
        self
    }

    /// Sets where [`BudgetReached`](crate::Event::BudgetReached) and [`BudgetReset`](crate::Event::BudgetReset) are
    /// sent. Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.draft.change(|plan| plan.events = Some(events));
        self
    }

    /// Sets the date at which the layer begins, for a simulation; from there on tokio's clock counts. Default: the
    /// wall clock's, read when the layer is first used.
    #[must_use]
    pub fn starting_at(mut self, date: SystemTime) -> Self {
        let since_1970 = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.draft.change(|plan| plan.since_1970 = Some(since_1970));
        self
    }

    /// Shares the state of this handle's layer: the amounts of each cap that has the same name, period, feature, key
    /// and team in both, under this layer's limits and prices. Default: all amounts start at zero.
    #[must_use]
    pub fn state(mut self, handle: &BudgetHandle) -> Self {
        let state = handle.shared();
        self.draft.change(|plan| plan.state = Some(state));
        self
    }

    /// Returns a handle to read the amounts, and to change limits.
    pub fn handle(&self) -> BudgetHandle {
        BudgetHandle::new(self.draft.view())
    }
}

impl Default for BudgetLayer {
    /// Creates a layer with the built-in prices.
    fn default() -> Self {
        Self::new(PriceTable::builtin())
    }
}

impl<S> Layer<S> for BudgetLayer {
    type Service = Budget<S>;

    fn layer(&self, inner: S) -> Budget<S> {
        if let Err(invalid) = self.draft.plan().reserved_at() {
            tracing::error!(%invalid, "a budget refuses each request that a cap counts");
        }
        Budget::new(inner, self.draft.settle())
    }
}

impl fmt::Debug for BudgetLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { prices, caps, .. } = &*self.draft.plan();
        f.debug_struct("BudgetLayer").field("prices", prices).field("caps", &caps.list).finish_non_exhaustive()
    }
}
