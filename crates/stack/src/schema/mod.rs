//! The schema of the file: plain data, one struct for each block. A layer's own block is in the layer's folder.
//!
//! Defaults apply *at the point of use*: `None` means that the file sets no value. So a tier's block can fall back on
//! the file's, and that on the layer's default.

mod alerts;
mod cache;
mod call_kind;
mod deployments;
mod door;
mod features;
mod gateway;
mod handoff;
mod idempotency;
mod lane;
mod ledger;
mod mirror;
mod oidc;
mod recovery;
mod responses;
mod scalars;
mod spend;
mod stores;
mod tier;
mod validate;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use steadfast::models::Facts;

#[doc(inline)]
pub use steadfast::{
    layers::{
        balance::block::Balance,
        circuit_breaker::block::{CircuitBreaker, Confirm, Cooldown, GrowingCooldown, RateOver, SlowCalls},
        hedge::block::{Hedge, HedgeAfter, HedgeSettings},
        retry::block::{Growth, Jitter, Retry},
        timeout::block::{TierTimeout, Timeout},
    },
    settings::{Share, Span},
};

pub use self::{
    alerts::{AlertSeverity, Alerts, RuleNumbers, RuleThreshold, Rules, Webhook, WebhookFormat, WebhookTemplate},
    cache::{Cache, CacheAcross, FeatureCache, Likeness, Similar, SimilarAcross},
    call_kind::CallKind,
    deployments::Deployment,
    door::{Cloud, Credential, CredentialName, CredentialSource, ManagedIdentity, WebIdentity},
    features::{
        AllOpen, Fallback, Feature, GoesOnBy, GoingOn, ModelName, OnError, RampStep, Rate, Session, Stream,
        StreamBreak, TierOrder,
    },
    gateway::{Gateway, GatewayLimits, KeyRegistry, KeySource, KeyStoreName, Protocol, TeamLimits},
    handoff::{Handoff, HandoffCallbacks, HandoffLimits, HandoffNotify, HandoffRedrive},
    idempotency::Idempotency,
    lane::{Lane, ListedPath, OtherPaths},
    ledger::Ledger,
    mirror::{Candidate, Mirror},
    oidc::{Oidc, OidcClaims},
    recovery::{RecoveryCheck, RecoverySettings},
    responses::Responses,
    scalars::{KeyRef, Secret, Size},
    spend::{AtCap, Budget, Caps, LongContextPrice, ModelPrice, OffPeakPrice, Period, Route, RouteWhen, WhenAway},
    stores::Stores,
    tier::{CallTools, Provider, Simulated, Tier, TierApi},
    validate::{Validate, ValidateSettings},
};

pub(crate) use self::stores::DurableUrl;

/// A steadfast configuration: the tiers in order of preference, and the settings around them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The gateway's listening address. Default: 127.0.0.1:8080.
    #[schemars(extend("default" = "127.0.0.1:8080"))]
    pub listen: Option<SocketAddr>,
    /// Further settings of the gateway.
    pub gateway: Gateway,
    /// The models, in order of preference: the first is the primary.
    pub tiers: Vec<Tier>,
    /// The paths that are no conversation: embeddings, rankings, speech, pictures. Default: none of them is served.
    pub lane: Option<Lane>,
    /// The model names that callers may use, each with its tiers; a name that ends in `*` matches all names with that
    /// beginning. Default: the name of a tier or of its model starts at that tier, every other name at the first. The
    /// same holds within a pattern's tiers. If any names are listed here, the gateway refuses all others; `'*'` allows
    /// them.
    pub models: BTreeMap<String, ModelName>,
    /// The resources of each product feature.
    pub features: BTreeMap<String, Feature>,
    /// The limits of unnamed features. Default: those of a feature that sets none.
    pub default_feature: Option<Feature>,
    /// The longest time to an answer, over all tiers; for a stream, to its first token. Default: 10 min, as
    /// long as the vendors' SDKs wait.
    #[schemars(extend("default" = "10m"))]
    pub timeout: Option<Span>,
    /// The delivery of streams.
    pub stream: Stream,
    /// The retry settings of tiers that have none of their own.
    pub retry: Retry,
    /// The circuit breaker settings of tiers that have none of their own.
    pub circuit_breaker: CircuitBreaker,
    /// The balancer's settings for tiers with `deployments` that have none of their own.
    pub balance: Balance,
    /// Second calls if a tier is late, for tiers without their own setting. Default: `off`.
    #[schemars(extend("default" = "off"))]
    pub hedge: Option<Hedge>,
    /// Validates structured output against its request's schema, at each tier except people. Default: `off`.
    #[schemars(extend("default" = "off"))]
    pub validate: Option<Validate>,
    /// The rules by which one tier follows another; `same_model` stands for `{ order: same_model }`.
    #[serde(deserialize_with = "features::fallback")]
    #[schemars(schema_with = "features::fallback_schema")]
    pub fallback: Fallback,
    /// The cache of answers.
    pub cache: Option<Cache>,
    /// The handling of repeated requests.
    pub idempotency: Option<Idempotency>,
    /// The stores of state that outlives the process or is shared by several.
    pub stores: Stores,
    /// The responses that the gateway keeps for callers of `/v1/responses`.
    pub responses: Option<Responses>,
    /// The ledger of what answers cost.
    pub ledger: Option<Ledger>,
    /// The caps of several replicas, which share one ledger.
    pub caps: Option<Caps>,
    /// The settings of tiers whose provider is `handoff`, which hand requests to people.
    pub handoff: Option<Handoff>,
    /// The rules that send simple requests to cheaper tiers; the first match applies.
    pub routes: Vec<Route>,
    /// The candidate that also receives requests, for comparison.
    pub mirror: Option<Mirror>,
    /// The spending caps.
    pub budgets: Vec<Budget>,
    /// Prices by model; they override those that the crate knows.
    pub prices: BTreeMap<String, ModelPrice>,
    /// The capabilities of models by name; they override those that the crate knows.
    pub families: BTreeMap<String, Facts>,
    /// The ids of models at the clouds that serve them, by the model's name; they override those that the crate knows.
    pub same_model: door::SameModel,
    /// The alerts on problems.
    pub alerts: Alerts,
}

impl Config {
    /// The default of [`timeout`](Self::timeout): OpenAI's and Anthropic's SDKs wait as long. A shorter one would fail
    /// callers who are served alone.
    pub const TIMEOUT: Duration = Duration::from_secs(600);

    /// The error for a file that needs `validate` in a build without it.
    #[cfg_attr(feature = "validate", allow(dead_code, reason = "it was built with it"))]
    pub(crate) const NO_VALIDATE: &str = "this build lacks it; build with the feature `validate`";

    /// Returns whether any answers are validated against their schema.
    pub(crate) fn validates(&self) -> bool {
        let features = self.features.values().chain(&self.default_feature);
        features
            .map(|feature| feature.validate)
            .chain([self.validate])
            .any(|said| matches!(said, Some(Validate::On(_))))
    }

    /// Returns whether any setting inspects every request, and not only translated ones: a tier's capabilities, a rate
    /// of tokens, a budget, a route, a mirror, a cache limited to some requests, or validation.
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
            // Checked last, because it builds the table.
            || {
                let families = self.family_table().unwrap_or_default();
                self.tiers.iter().any(|tier| tier.missing_capabilities(&families).any())
            }
    }
}
