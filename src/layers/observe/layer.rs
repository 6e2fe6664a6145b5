use std::sync::Arc;

use tower::Layer;

use super::{Observe, reporter::Reporter};
use crate::{Events, events::Accountant, internal::sharded::ShardedArc, prices::PriceTable};

/// Applies [`Observe`]. See the [module docs](super).
///
/// Its services send to the same channel and share nothing else.
#[derive(Clone, Debug)]
pub struct ObserveLayer {
    events: Events,
    prices: PriceTable,
    accountant: Option<Arc<dyn Accountant>>,
}

impl ObserveLayer {
    /// Creates a layer that sends to these events.
    pub fn new(events: Events) -> Self {
        Self { events, prices: PriceTable::builtin(), accountant: None }
    }

    /// Sets the prices for the [cost](crate::events::RequestEnded::cost). Default: the built-in ones.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.prices = prices;
        self
    }

    /// Sets the receiver that hears of every request and misses none. Default: none.
    #[doc(hidden)]
    #[must_use]
    pub fn accountant(mut self, accountant: Arc<dyn Accountant>) -> Self {
        self.accountant = Some(accountant);
        self
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        let reporter = Reporter::new(self.events.clone(), self.prices.clone(), self.accountant.clone());
        Observe::new(inner, Arc::new(ShardedArc::new(Arc::new(reporter))))
    }
}
