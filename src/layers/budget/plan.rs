//! All that a layer is told.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    account::Common,
    calendar::Anchor,
    cap::CapSet,
    shared::{ReservedAt, Shared},
};
use crate::{Events, InvalidConfig, internal::wall_clock, layers::draft, prices::PriceTable, request::longest_answer};

#[derive(Clone)]
pub(super) struct Plan {
    pub(super) prices: PriceTable,
    pub(super) caps: CapSet,
    /// The provider and the model at whose price requests are reserved.
    pub(super) model: Option<(Option<Arc<str>>, Arc<str>)>,
    pub(super) default_output: u64,
    pub(super) keys: usize,
    pub(super) events: Option<Events>,
    pub(super) since_1970: Option<Duration>,
    /// The state of the layer whose amounts this one shares.
    pub(super) state: Option<Arc<Shared>>,
}

impl Plan {
    /// Returns the index of a model's price.
    pub(super) fn place(&self, provider: Option<&str>, model: &str) -> Result<u32, InvalidConfig> {
        self.prices.place(provider, model).ok_or_else(|| {
            let whose = provider.map(|provider| format!(" of {provider}")).unwrap_or_default();
            let problem = format!("`{model}`{whose} has no price, so that no cap can be kept; add one to the prices");
            InvalidConfig::new("prices", problem)
        })
    }

    /// Returns the price at which requests are reserved.
    pub(super) fn reserved_at(&self) -> Result<ReservedAt, InvalidConfig> {
        let Some((provider, model)) = &self.model else { return Ok(ReservedAt::Asked) };
        let price = self.place(provider.as_deref(), model)?;
        Ok(ReservedAt::Fixed { price, longest: longest_answer(Some(model)) })
    }
}

impl draft::Plan for Plan {
    type State = Shared;

    fn make(self: &Arc<Self>, before: Option<&Shared>) -> Arc<Shared> {
        let state = self.state.as_deref();
        let anchor = match (self.since_1970, state.or(before)) {
            (Some(since_1970), _) => Anchor::new(Instant::now(), since_1970),
            // Shared amounts have one calendar.
            (None, Some(state)) => state.common.anchor,
            (None, None) => Anchor::new(Instant::now(), wall_clock::since_1970()),
        };
        let common = Common::new(self.prices.clone(), self.events.clone(), anchor);
        let reserved_at = self.reserved_at().unwrap_or_else(|invalid| ReservedAt::Unknown(invalid.into()));
        let shared =
            Shared::new(common, self.caps.clone(), reserved_at, self.default_output, self.keys, state.or(before));
        if state.is_none() {
            before.into_iter().for_each(|before| shared.keep_limits(before));
        }
        Arc::new(shared)
    }
}
