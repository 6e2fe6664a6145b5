//! All that a layer is told, and what its services and handles share.

use std::sync::Arc;

use super::{
    settings::{Delay, EXTRA, QUANTILE, Settings, share, share_of},
    state::State,
};
use crate::{InvalidConfig, layers::draft};

#[derive(Clone)]
pub(super) struct Plan {
    /// The settings in force.
    pub(super) settings: Arc<Settings>,
    pub(super) state: Arc<State>,
    /// The numbers as they were told, valid or not.
    quantile: f64,
    extra: f64,
    /// True if the share of extra calls is that of another layer, with its state.
    has_shared_extra: bool,
}

impl Plan {
    pub(super) fn new(tier: Arc<str>) -> Self {
        let settings = Arc::new(Settings::new(tier));
        Self { settings, state: Arc::default(), quantile: QUANTILE, extra: EXTRA, has_shared_extra: false }
    }

    pub(super) fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    pub(super) fn set_quantile(&mut self, share: f64) {
        self.quantile = share;
        self.settings().after = Delay::Quantile(if is_quantile(share) { share } else { QUANTILE });
    }

    /// Sets the share of extra calls, of which none are saved up yet.
    pub(super) fn set_extra(&mut self, extra: f64) {
        self.extra = extra;
        if !self.has_shared_extra {
            self.settings().extra = share_of(extra).unwrap_or_else(|_| share(EXTRA));
        }
    }

    /// Shares the state of another layer, and its share of extra calls.
    pub(super) fn share_state(&mut self, other: &Self) {
        self.state = other.state.clone();
        self.settings().extra = other.settings.extra.clone();
        self.has_shared_extra = true;
    }

    /// Checks all numbers.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        share_of(self.extra)?;
        if !is_quantile(self.quantile) {
            let problem = format!("{} is not a quantile; use 0.5 or more and less than 1, such as 0.95", self.quantile);
            return Err(InvalidConfig::new("hedge quantile", problem));
        }
        Ok(())
    }
}

fn is_quantile(share: f64) -> bool {
    (0.5..1.0).contains(&share)
}

impl draft::Plan for Plan {
    type State = Self;

    fn make(self: &Arc<Self>, _: Option<&Self>) -> Arc<Self> {
        self.clone()
    }
}
