//! The settings of a tier, the primary included.

use std::{sync::Arc, time::Duration};

use super::Capabilities;
use crate::request::{BEST_LEVEL, WORST_LEVEL};

/// The settings of a tier: its model, its capabilities, its level of service.
///
/// [`FallbackLayer::primary`](crate::FallbackLayer::primary) applies them to the primary, and
/// [`Tier::settings`](super::Tier::settings) to a further tier. Without any, a tier is a model of full service with
/// unknown capabilities.
///
/// # Example
///
/// ```
/// use steadfast::{
///     FallbackLayer, LlmRequest,
///     layers::fallback::{Tier, TierSettings},
///     providers::Canned,
/// };
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let sonnet = TierSettings::new().model("claude-sonnet-4-5").context_window(200_000);
/// let haiku = TierSettings::new().model("claude-haiku-4-5").level(2);
/// let llm = ServiceBuilder::new()
///     .layer(
///         FallbackLayer::new("sonnet")
///             .primary(sonnet)
///             .push(Tier::new("haiku", Canned::text("in short")).settings(haiku)),
///     )
///     .service(Canned::text("at length"));
///
/// // A budget or an operator steps a request down to a level: the better tiers are skipped.
/// let mut request = LlmRequest::prompt("Why?");
/// request.context_mut().min_level = 2;
/// let answer = llm.oneshot(request).await.unwrap();
/// assert_eq!(answer.served_by().tier, Some("haiku"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierSettings {
    pub(crate) model: Option<Arc<str>>,
    pub(crate) capabilities: Capabilities,
    pub(crate) last_resort: bool,
    pub(crate) level: u8,
    pub(crate) human: bool,
    pub(crate) min_useful: Option<Duration>,
    pub(crate) compaction: Option<Arc<str>>,
    pub(crate) pools: Vec<Arc<str>>,
    pub(crate) goes_on: bool,
    pub(crate) is_spread: bool,
}

impl TierSettings {
    /// Creates the settings of a model of full service, with unknown capabilities.
    pub fn new() -> Self {
        Self {
            model: None,
            capabilities: Capabilities::new(),
            last_resort: false,
            level: BEST_LEVEL,
            human: false,
            min_useful: None,
            compaction: None,
            pools: Vec::new(),
            goes_on: false,
            is_spread: false,
        }
    }

    /// Sets the model that answers here. A request that [names](crate::LlmRequest::model) it, or the tier, begins at
    /// this tier. It goes on to the models after it, then to those before it, and at last to tiers without a model.
    /// If several tiers have this model, the request begins at the first of them. Default: none, so that no name
    /// leads here.
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the tier's capabilities: a request that needs more skips it. Default: unknown, so that every request
    /// may come.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sets how many tokens fit into the model's context window, as [`Capabilities::context_window`] does. A
    /// request that was too long for one tier goes only to tiers that are known to have a larger one. Default:
    /// unknown.
    #[must_use]
    pub fn context_window(mut self, tokens: u64) -> Self {
        self.capabilities = self.capabilities.context_window(tokens);
        self
    }

    /// Makes the tier ignore its own circuit: a slim chance is better than none. Default: an open circuit refuses.
    #[must_use]
    pub fn last_resort(mut self) -> Self {
        self.last_resort = true;
        self
    }

    /// Marks a tier of people, as behind a `Handoff` leaf. Requests that [require a
    /// person](crate::LlmRequest::with_human_required) come to such tiers and to no other, whatever their feature's
    /// chain is. Each request brings its [earlier attempts](crate::ledger::PriorAttempts). No session stays with
    /// such a tier. Default: a model answers.
    #[must_use]
    pub fn human(mut self) -> Self {
        self.human = true;
        self
    }

    /// Sets the tier's level of service: 1 is full, 2 reduced, 3 basic, 4 cached answers only, 5 a fixed sentence.
    /// From 2 on its answers are [degraded](crate::LlmResponse::degraded). Requests that are [stepped
    /// down](crate::Context::min_level), and features that accept no
    /// [worse](super::FeaturePolicy::worst_level), are held to it. Default: 1. A number out of range counts
    /// as the nearest level.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(BEST_LEVEL, WORST_LEVEL);
        self
    }

    /// Sets the least time before the deadline that makes it worth beginning this tier. It applies to the primary
    /// if that is not asked first. Default: none for a tier that answers at once
    /// ([`Canned`](crate::providers::Canned), `CachedAnswers`, and levels 4 and 5), otherwise the
    /// [policy's](super::FeaturePolicy::min_useful).
    #[must_use]
    pub fn min_useful(mut self, time: Duration) -> Self {
        self.min_useful = Some(time);
        self
    }

    /// Lets the tier [compact](crate::Wire::compaction) conversations, with this account at its provider. The name of
    /// the account is free: tiers with the same name share it.
    ///
    /// The provider seals a compacted conversation, and only the same account can read it. So a compaction goes to the
    /// first tier that has this setting, and after a failure to tiers of the same account only. Default: none, and no
    /// compaction comes to the tier.
    #[must_use]
    pub fn compaction(mut self, account: impl Into<Arc<str>>) -> Self {
        self.compaction = Some(account.into());
        self
    }

    /// Lets the tier go on with an answer that broke elsewhere, or here: its model continues a last turn of the
    /// assistant's. See [`StreamBreak::Continue`](super::StreamBreak::Continue). Default: no.
    #[must_use]
    pub fn goes_on(mut self) -> Self {
        self.goes_on = true;
        self
    }

    /// Says that the tier spreads its requests over deployments, as with a `Balance`: then the tier itself goes on
    /// first with an answer of its own that broke. Default: no, and it does so last.
    #[must_use]
    pub fn spread(mut self) -> Self {
        self.is_spread = true;
        self
    }

    /// Adds the tier to a pool: [opaque calls](crate::OpaqueCall) of this [pool](crate::OpaqueCall::pool) may come to
    /// it. The tiers of a pool stand in for each other, such as those of one vector space. Default: none, and no opaque
    /// call comes to the tier.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<Arc<str>>) -> Self {
        self.pools.push(pool.into());
        self
    }
}

impl Default for TierSettings {
    fn default() -> Self {
        Self::new()
    }
}
