use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tower::Layer;

use super::{Budget, BudgetHandle, Cap, account::Common, calendar::Anchor, shared::Shared};
use crate::{Events, InvalidConfig, internal::wall_clock, prices::PriceTable, request::longest_answer};

/// Applies [`Budget`]. See the [module docs](super).
///
/// All services of one layer value share the amounts, and so do those of its clones. A layer that is changed after
/// that starts new counts: set everything first, then take the [`handle`](Self::handle) and wrap.
#[derive(Clone)]
pub struct BudgetLayer {
    prices: PriceTable,
    caps: Vec<Cap>,
    /// The index of the price at which requests are reserved.
    model: Option<u32>,
    /// The longest answer of that model; 0 if it is not set.
    longest: u64,
    default_output: u64,
    keys: usize,
    events: Option<Events>,
    since_1970: Option<Duration>,
    /// The layer whose amounts this one shares.
    state: Option<BudgetHandle>,
    /// Created on first use, and shared by clones.
    shared: Arc<OnceLock<Arc<Shared>>>,
}

/// The default of [`BudgetLayer::default_output`]: common answers are shorter.
const DEFAULT_OUTPUT: u64 = 1024;
/// The default of [`BudgetLayer::keys`].
const KEYS: usize = 10_000;

impl BudgetLayer {
    /// Creates a layer with these prices and no cap yet. Prices other than the built-in ones also go with its
    /// answers, for [`LlmResponse::cost`](crate::LlmResponse::cost); that is an allocation.
    pub fn new(prices: PriceTable) -> Self {
        Self {
            prices,
            caps: Vec::new(),
            model: None,
            longest: 0,
            default_output: DEFAULT_OUTPUT,
            keys: KEYS,
            events: None,
            since_1970: None,
            state: None,
            shared: Arc::default(),
        }
    }

    /// Adds a cap, or replaces the one of the same name.
    #[must_use]
    pub fn cap(mut self, cap: Cap) -> Self {
        match self.caps.iter_mut().find(|known| known.name == cap.name) {
            Some(known) => *known = cap,
            None => self.caps.push(cap),
        }
        self.changed()
    }

    /// Sets the model at whose price requests are reserved, for a leaf that has a model of its own. For a tier, set
    /// the tier's model; for a whole fallback, the dearest. Default: the model that the request names. If that has
    /// no price, nothing is reserved, and requests in flight may exceed the cap by their whole cost.
    ///
    /// # Errors
    ///
    /// Fails if the model has no price.
    pub fn model(mut self, provider: Option<&str>, model: &str) -> Result<Self, InvalidConfig> {
        self.model = Some(self.place(provider, model)?);
        self.longest = longest_answer(Some(model));
        Ok(self.changed())
    }

    /// Checks that a cap on these models can be kept: each has a price. Give each model's provider if it is known.
    ///
    /// # Errors
    ///
    /// Fails if there is a cap and one of the models has no price.
    pub fn check<'a>(&self, models: impl IntoIterator<Item = (Option<&'a str>, &'a str)>) -> Result<(), InvalidConfig> {
        if self.caps.is_empty() {
            return Ok(());
        }
        models.into_iter().try_for_each(|(provider, model)| self.place(provider, model).map(drop))
    }

    fn place(&self, provider: Option<&str>, model: &str) -> Result<u32, InvalidConfig> {
        self.prices.place(provider, model).ok_or_else(|| {
            let whose = provider.map(|provider| format!(" of {provider}")).unwrap_or_default();
            let problem = format!("`{model}`{whose} has no price, so that no cap can be kept; add one to the prices");
            InvalidConfig::new("prices", problem)
        })
    }

    /// Sets how many tokens are reserved for an answer if the request does not bound it. Default: 1,024.
    #[must_use]
    pub fn default_output(mut self, tokens: u64) -> Self {
        self.default_output = tokens;
        self.changed()
    }

    /// Sets how many keys a cap for [each key](Cap::each_key) remembers. Beyond that it forgets the least recently
    /// used keys, with their amounts. Default: 10,000.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self.changed()
    }

    /// Sets where [`BudgetReached`](crate::Event::BudgetReached) and [`BudgetReset`](crate::Event::BudgetReset) are
    /// sent. Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.events = Some(events);
        self.changed()
    }

    /// Sets the date at which the layer begins, for a simulation; from there on tokio's clock counts. Default: the
    /// wall clock's, read when the layer is first used.
    #[must_use]
    pub fn starting_at(mut self, date: SystemTime) -> Self {
        self.since_1970 = Some(date.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.changed()
    }

    /// Shares the state of this handle's layer: the amounts of each cap that has the same name, period, feature and key
    /// in both, under this layer's limits and prices. Default: all amounts start at zero.
    #[must_use]
    pub fn state(mut self, handle: &BudgetHandle) -> Self {
        self.state = Some(handle.clone());
        self.changed()
    }

    /// Returns a handle to read the amounts, and to change limits.
    pub fn handle(&self) -> BudgetHandle {
        BudgetHandle::new(self.shared())
    }

    fn shared(&self) -> Arc<Shared> {
        let make = || {
            let state = self.state.as_ref().map(BudgetHandle::shared);
            let anchor = match (self.since_1970, state) {
                (Some(since_1970), _) => Anchor::new(Instant::now(), since_1970),
                // Shared amounts have one calendar.
                (None, Some(state)) => state.common.anchor,
                (None, None) => Anchor::new(Instant::now(), wall_clock::since_1970()),
            };
            let common = Common::new(self.prices.clone(), self.events.clone(), anchor);
            Arc::new(Shared::new(
                common,
                self.caps.clone(),
                (self.model, self.longest),
                self.default_output,
                self.keys,
                state,
            ))
        };
        self.shared.get_or_init(make).clone()
    }

    fn changed(mut self) -> Self {
        self.shared = Arc::default();
        self
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
        Budget::new(inner, self.shared())
    }
}

impl fmt::Debug for BudgetLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayer").field("prices", &self.prices).field("caps", &self.caps).finish_non_exhaustive()
    }
}
