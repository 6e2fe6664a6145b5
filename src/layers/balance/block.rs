//! The block `balance` of a configuration file.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    BalanceLayer,
    settings::{MAX_EJECTED, Settings},
};
use crate::{
    InvalidConfig,
    settings::{Share, Span},
};

/// The balancer over a tier's deployments.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// The zone whose deployments come first, until they cost twice as much as others. Default: none.
    pub zone: Option<String>,
    /// Sends requests that share a prefix to one deployment, whose provider has the prefix in its cache. Default:
    /// `true`.
    #[schemars(extend("default" = Settings::default().affinity))]
    pub affinity: Option<bool>,
    /// The largest share of the deployments that open circuits may close off at once. Default: 100 %.
    #[schemars(extend("default" = Share(MAX_EJECTED).to_string()))]
    pub max_ejected: Option<Share>,
    /// The time in which a deployment that comes back, or is new, gets its share by and by. Default: 30 s.
    #[schemars(extend("default" = Span(Settings::default().slow_start).to_string()))]
    pub slow_start: Option<Span>,
}

impl Balance {
    /// Returns these settings, with the file's for those that are missing.
    #[doc(hidden)]
    pub fn or(self, file: Self) -> Self {
        Self {
            zone: self.zone.or(file.zone),
            affinity: self.affinity.or(file.affinity),
            max_ejected: self.max_ejected.or(file.max_ejected),
            slow_start: self.slow_start.or(file.slow_start),
        }
    }

    /// Gives these settings to a balancer.
    ///
    /// # Errors
    ///
    /// The largest share that may be closed off is out of its range.
    #[doc(hidden)]
    pub fn apply(&self, mut layer: BalanceLayer) -> Result<BalanceLayer, InvalidConfig> {
        let Self { zone, affinity, max_ejected, slow_start } = self;
        if let Some(zone) = zone {
            layer = layer.zone(zone.as_str());
        }
        if let Some(affinity) = affinity {
            layer = layer.affinity(*affinity);
        }
        if let Some(share) = max_ejected {
            layer = layer.max_ejected(share.0);
        }
        if let Some(time) = slow_start {
            layer = layer.slow_start(time.0);
        }
        layer.checked().map_err(|error| InvalidConfig::new("max_ejected", error.problem().to_owned()))
    }
}
