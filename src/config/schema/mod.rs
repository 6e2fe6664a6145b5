//! What may stand in the file: plain data, one struct for each block.
//!
//! Every field that is left out has its default *there where it is used*: `None` here means that nothing was said, so that
//! a tier's block can fall back on the file's own, and that on the layer's default.

mod alerts;
mod cache;
mod either;
mod features;
mod gateway;
mod handoff;
mod hedge;
mod idempotency;
mod limits;
mod mirror;
mod recovery;
mod scalars;
mod spend;
mod stores;
mod tier;
mod validate;

use std::{collections::BTreeMap, net::SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::models::Facts;

pub use self::{
    alerts::{AlertSeverity, Alerts, RuleThreshold, Rules, Webhook, WebhookFormat, WebhookTemplate},
    cache::{Cache, CacheAcross, FeatureCache, Likeness, Similar, SimilarAcross},
    features::{AllOpen, Fallback, Feature, ModelName, OnError, RampStep, Rate, Session, Stream, StreamBreak},
    gateway::{Gateway, GatewayLimits},
    handoff::{Handoff, HandoffCallbacks, HandoffLimits, HandoffNotify, HandoffRedrive},
    hedge::{Hedge, HedgeAfter, HedgeSettings},
    idempotency::Idempotency,
    limits::{
        CircuitBreaker, Confirm, Cooldown, GrowingCooldown, Growth, Jitter, RateOver, Retry, SlowCalls, TierTimeout,
        Timeout,
    },
    mirror::{Candidate, Mirror},
    recovery::{RecoveryCheck, RecoverySettings},
    scalars::{KeyRef, Secret, Share, Size, Span},
    spend::{AtCap, Budget, ModelPrice, Period, Route, RouteWhen},
    stores::Stores,
    tier::{CallTools, Provider, Simulated, Tier},
    validate::{Validate, ValidateSettings},
};

pub(crate) use self::stores::DurableUrl;

/// A steadfast configuration: the tiers in order of preference, and what surrounds them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gateway listens. Default: 127.0.0.1:8080.
    #[schemars(extend("default" = "127.0.0.1:8080"))]
    pub listen: Option<SocketAddr>,
    /// What else the gateway goes by.
    pub gateway: Gateway,
    /// The models, in order of preference: the first is the primary.
    pub tiers: Vec<Tier>,
    /// Which tiers serve callers that name a model; a name that ends in `*` stands for all that begin so. Default: a tier's name
    /// or its model begins at that tier, every other name at the first. Under a pattern, too, a tier's name or model begins there,
    /// if the pattern's tiers have it. Where there are names here, the gateway refuses all others; `'*'` allows them.
    pub models: BTreeMap<String, ModelName>,
    /// What each feature of the product may use.
    pub features: BTreeMap<String, Feature>,
    /// The limits of a feature that is not named. Default: 100 at once.
    pub default_feature: Option<Feature>,
    /// The longest time to an answer's first token, over all tiers. Default: 90 s.
    #[schemars(extend("default" = "90s"))]
    pub timeout: Option<Span>,
    /// How streams are handed on.
    pub stream: Stream,
    /// The retry settings of tiers that have none of their own.
    pub retry: Retry,
    /// The circuit breaker settings of tiers that have none of their own.
    pub circuit_breaker: CircuitBreaker,
    /// Second calls where a tier is late, of tiers that say nothing of their own. Default: `off`.
    #[schemars(extend("default" = "off"))]
    pub hedge: Option<Hedge>,
    /// Whether structured output is held to the schema of its request, at each tier but those of people. Default: `off`.
    #[schemars(extend("default" = "off"))]
    pub validate: Option<Validate>,
    /// How one tier follows another.
    pub fallback: Fallback,
    /// Answers that are kept and given again.
    pub cache: Option<Cache>,
    /// What becomes of a request that is sent twice.
    pub idempotency: Option<Idempotency>,
    /// Where state outlives the process, or is shared by several.
    pub stores: Stores,
    /// What holds for the tiers whose provider is `handoff`: requests are handed to people.
    pub handoff: Option<Handoff>,
    /// Simple requests to cheaper tiers: the first rule that fits counts.
    pub routes: Vec<Route>,
    /// Requests that are also sent to a candidate, to compare it.
    pub mirror: Option<Mirror>,
    /// Caps on what may be spent.
    pub budgets: Vec<Budget>,
    /// Prices by model, over those that the crate knows.
    pub prices: BTreeMap<String, ModelPrice>,
    /// What models take of a request, by the model's name, over what the crate knows of it.
    pub families: BTreeMap<String, Facts>,
    /// Who is told when something is wrong.
    pub alerts: Alerts,
}

impl Config {
    /// What a file is told that asks a program for `validate` that was built without it.
    #[cfg_attr(feature = "validate", allow(dead_code, reason = "it was built with it"))]
    pub(crate) const NO_VALIDATE: &str = "this program was built without it: build it with the feature `validate`";

    /// Whether any answer is held to its schema.
    pub(crate) fn validates(&self) -> bool {
        let features = self.features.values().chain(&self.default_feature);
        features
            .map(|feature| feature.validate)
            .chain([self.validate])
            .any(|said| matches!(said, Some(Validate::On(_))))
    }

    /// Returns whether something of it looks into every request, and not only into those that are translated: what a tier
    /// can do, a rate of tokens, a budget, a route, a copy, an answer that is kept for some requests, a schema that answers are held to.
    pub fn reads_requests(&self) -> bool {
        let is_limited = |tier: &Tier| {
            let numbers = tier.context_window.or(tier.max_output).is_some();
            let can = [tier.images, tier.documents, tier.tools, tier.output_schema, tier.prefill];
            numbers || can.iter().any(Option::is_some) || tier.similar.is_some()
        };
        let mut features = self.features.values().chain(&self.default_feature);
        let cache = self.cache.as_ref();
        self.tiers.iter().any(is_limited)
            || features.any(|feature| feature.tokens_per_minute.is_some())
            || cache.is_some_and(|cache| cache.max_temperature.is_some())
            || !self.routes.is_empty()
            || !self.budgets.is_empty()
            || self.mirror.is_some()
            || self.validates()
            // Last: the table is made for it.
            || {
                let families = self.family_table().unwrap_or_default();
                self.tiers.iter().any(|tier| tier.missing_capabilities(&families).any())
            }
    }
}
