use schemars::JsonSchema;
use serde::Deserialize;

use super::Share;
use steadfast::{InvalidConfig, chat::ServiceTier, layers::budget::KeyGroup, prices::Price};

/// A spending cap for a period.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The cap's name in logs, metrics and alerts.
    pub name: String,
    /// US dollars in each period.
    #[schemars(range(min = 0))]
    pub usd: f64,
    /// The period. All begin in UTC.
    pub period: Period,
    /// Counts only this feature. A request must match all of `feature`, `key`, `team` and `tier` that are set; without
    /// any, all requests count.
    pub feature: Option<String>,
    /// Counts only this caller's key, by its name.
    pub key: Option<String>,
    /// Counts only the keys of this team.
    pub team: Option<String>,
    /// Gives each caller's key its own cap of the full amount. Requests without a key do not count. Default: `false`.
    #[serde(default)]
    pub each_key: bool,
    /// Counts only the keys of a group, which the program around the stack has. No file can say it.
    #[doc(hidden)]
    #[serde(skip)]
    pub among: Option<KeyGroup>,
    /// Counts only this tier's cost.
    pub tier: Option<String>,
    /// The reaction at the cap. Default: `refuse`.
    #[serde(default)]
    #[schemars(extend("default" = "refuse"))]
    pub at_cap: AtCap,
    /// The shares at which an event is sent. Default: 80 % and 100 %.
    #[schemars(extend("default" = ["80%", "100%"]))]
    pub warn_at: Option<Vec<Share>>,
}

/// The period after which a cap starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A clock hour.
    Hour,
    /// A day, from midnight UTC.
    Day,
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

/// The reaction at a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtCap {
    /// Only sends an event.
    Warn,
    /// Sends requests to tiers of at least this level.
    StepDown(#[schemars(range(min = 2, max = 5))] u8),
    /// Refuses requests, and reports the end of the period. At a tier's cap, the next tier serves.
    #[default]
    Refuse,
}

/// The caps of several replicas, which share one ledger. Each takes a part of what is left, and asks for it anew every
/// second.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// The reaction of a replica that has not reached the ledger's store for four seconds. Default: `go_on: 5%`.
    pub when_away: WhenAway,
}

/// The reaction of a cap that knows nothing of other replicas.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAway {
    /// Lets this replica spend so much of each cap's limit more, and refuses then. A replica that was the only one
    /// goes on by its own count, up to the limit.
    GoOn(Share),
    /// Refuses requests until the store is there again.
    Refuse,
}

impl Default for WhenAway {
    fn default() -> Self {
        Self::GoOn(Share(0.05))
    }
}

/// A model's prices, in US dollars per million tokens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Input tokens.
    #[schemars(range(min = 0))]
    pub input: f64,
    /// Output tokens, reasoning included.
    #[schemars(range(min = 0))]
    pub output: f64,
    /// Input tokens read from the provider's cache. Default: as `input`.
    #[schemars(range(min = 0))]
    pub cache_read: Option<f64>,
    /// Input tokens written to it. Default: as `input`.
    #[schemars(range(min = 0))]
    pub cache_write: Option<f64>,
    /// The prices of whole requests whose input is longer than a number of tokens. Default: the same for all.
    pub long_context: Option<LongContextPrice>,
    /// The share of the price in a batch, as the answer tells it: 0.5 for half. Default: 1.
    #[schemars(range(min = 0, max = 1000))]
    pub batch: Option<f64>,
    /// The share of the price in the service tier `flex`. Default: 1.
    #[schemars(range(min = 0, max = 1000))]
    pub flex: Option<f64>,
    /// The share of the price in OpenAI's and Google's service tier `priority`, and at Anthropic's speed `fast`.
    /// Default: 1.
    #[schemars(range(min = 0, max = 1000))]
    pub fast: Option<f64>,
    /// Keeps the price of cached input where a service tier is cheaper, as Google does. Default: no.
    #[serde(default)]
    pub whole_cache_price: bool,
    /// The hours of a lower price. Default: none.
    pub off_peak: Option<OffPeakPrice>,
}

impl ModelPrice {
    /// Returns the service tiers that have a price of their own: the field, the tier and its share of the price.
    pub(crate) fn service_tiers(&self) -> impl Iterator<Item = (&'static str, ServiceTier, f64)> {
        let shares = [
            ("batch", ServiceTier::Batch, self.batch),
            ("flex", ServiceTier::Flex, self.flex),
            ("fast", ServiceTier::Fast, self.fast),
        ];
        shares.into_iter().filter_map(|(field, tier, share)| Some((field, tier, share?)))
    }
}

/// The hours of a lower price. What an answer costs is told by the hour in which it ends; a cap reserves the whole
/// price.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OffPeakPrice {
    /// The share of the price, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
    /// The spans of a day, in UTC, in which the whole price holds, such as `01:00-04:00`; at most four.
    #[schemars(length(min = 1, max = 4))]
    pub peak: Vec<String>,
    /// Holds the lower price on Saturday and Sunday all day. Default: no.
    #[serde(default)]
    pub weekend: bool,
}

impl OffPeakPrice {
    /// Gives a price these hours.
    ///
    /// # Errors
    ///
    /// The share or a span is wrong.
    pub(crate) fn of(&self, price: Price) -> Result<Price, InvalidConfig> {
        price.off_peak(self.share, self.peak.iter().map(String::as_str), self.weekend)
    }
}

/// The prices of requests with a long input.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongContextPrice {
    /// The number of input tokens above which they hold.
    pub above: u64,
    /// Input tokens.
    #[schemars(range(min = 0))]
    pub input: f64,
    /// Output tokens, reasoning included.
    #[schemars(range(min = 0))]
    pub output: f64,
    /// Input tokens read from the provider's cache. Default: as `input`.
    #[schemars(range(min = 0))]
    pub cache_read: Option<f64>,
    /// Input tokens written to it. Default: as `input`.
    #[schemars(range(min = 0))]
    pub cache_write: Option<f64>,
}

/// Sends simple requests to cheaper tiers.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The rule's name in logs and metrics.
    pub name: String,
    /// The conditions for a request. All of them must hold.
    pub when: RouteWhen,
    /// The tiers that serve it, in order; if they fail, the others follow.
    pub tiers: Vec<String>,
}

/// The conditions under which a request is simple.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteWhen {
    /// One of these features.
    pub features: Option<Vec<String>>,
    /// The maximum number of input tokens, as estimated (one token for four bytes).
    pub max_input_tokens: Option<u64>,
    /// The maximum number of requested output tokens.
    pub max_output_tokens: Option<u64>,
    /// Requires tools (`true`) or their absence (`false`).
    pub tools: Option<bool>,
}

impl RouteWhen {
    /// Describes the conditions in one line.
    pub(crate) fn in_words(&self) -> String {
        let features = self.features.as_ref().map(|features| features.join(" or "));
        let input = self.max_input_tokens.map(|tokens| format!("at most {tokens} input tokens"));
        let output = self.max_output_tokens.map(|tokens| format!("at most {tokens} output tokens"));
        let tools = self.tools.map(|tools| if tools { "with tools" } else { "no tools" }.to_owned());
        let all: Vec<String> = [features, input, output, tools].into_iter().flatten().collect();
        if all.is_empty() { "every request".to_owned() } else { all.join(", ") }
    }
}
