use schemars::JsonSchema;
use serde::Deserialize;

use super::Share;

/// A cap on what may be spent in a period.
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
    /// Counts only this feature. Of `feature`, `key` and `tier`, all that stand here must fit; with none, all requests
    /// count.
    pub feature: Option<String>,
    /// Counts only this caller's key, by its name.
    pub key: Option<String>,
    /// Gives each caller's key the whole amount for itself. Requests without a key are not counted. Default: `false`.
    #[serde(default)]
    pub each_key: bool,
    /// Counts only what this tier costs.
    pub tier: Option<String>,
    /// What happens at the cap. Default: `refuse`.
    #[serde(default)]
    #[schemars(extend("default" = "refuse"))]
    pub at_cap: AtCap,
    /// The shares at which an event is sent. Default: 80 % and 100 %.
    #[schemars(extend("default" = ["80%", "100%"]))]
    pub warn_at: Option<Vec<Share>>,
}

/// How long a cap counts before it begins anew.
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

/// What happens at a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtCap {
    /// An event, and nothing else.
    Warn,
    /// Requests go to tiers of at least this level.
    StepDown(#[schemars(range(min = 2, max = 5))] u8),
    /// Requests are refused, with the moment at which the period ends. Of a tier's cap: the next tier serves.
    #[default]
    Refuse,
}

/// What a model's tokens cost, in US dollars for a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Input tokens.
    #[schemars(range(min = 0))]
    pub input: f64,
    /// Output tokens, reasoning included.
    #[schemars(range(min = 0))]
    pub output: f64,
    /// Input tokens that came from the provider's cache. Default: as `input`.
    #[schemars(range(min = 0))]
    pub cache_read: Option<f64>,
    /// Input tokens that were written to it. Default: as `input`.
    #[schemars(range(min = 0))]
    pub cache_write: Option<f64>,
}

/// Sends simple requests to cheaper tiers.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The rule's name in logs and metrics.
    pub name: String,
    /// What a request must be like. All that stands here must fit.
    pub when: RouteWhen,
    /// The tiers that serve it, in order; when they fail, the others follow.
    pub tiers: Vec<String>,
}

/// What a request must be like to be simple.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteWhen {
    /// One of these features.
    pub features: Option<Vec<String>>,
    /// At most so many input tokens, as estimated (a token for four bytes).
    pub max_input_tokens: Option<u64>,
    /// At most so many output tokens asked for.
    pub max_output_tokens: Option<u64>,
    /// Whether it has tools.
    pub tools: Option<bool>,
}

impl RouteWhen {
    /// What a request must be like, in a line.
    pub(in crate::config) fn in_words(&self) -> String {
        let features = self.features.as_ref().map(|features| features.join(" or "));
        let input = self.max_input_tokens.map(|tokens| format!("at most {tokens} input tokens"));
        let output = self.max_output_tokens.map(|tokens| format!("at most {tokens} output tokens"));
        let tools = self.tools.map(|tools| if tools { "with tools" } else { "no tools" }.to_owned());
        let all: Vec<String> = [features, input, output, tools].into_iter().flatten().collect();
        if all.is_empty() { "every request".to_owned() } else { all.join(", ") }
    }
}
