use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{CircuitBreaker, Hedge, KeyRef, Retry, Secret, Similar, Span, TierTimeout};

/// A model behind a provider, with its own settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The name that logs, metrics and features use.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Whose model it is.
    pub provider: Provider,
    /// The model's name, as the provider spells it.
    pub model: Option<String>,
    /// Where the provider's key is: `${NAME}`, a reference to a variable of the environment. Default: the provider's
    /// usual variable; where `base_url` is not the provider's own host: no key.
    pub api_key: Option<KeyRef>,
    /// Another server that speaks the provider's protocol. Default: the one that the environment names in `ANTHROPIC_BASE_URL`,
    /// `OPENAI_BASE_URL`, `GEMINI_BASE_URL` or `GOOGLE_GEMINI_BASE_URL`, else the provider's own.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub base_url: Option<String>,
    /// Further headers of each request. `${NAME}` stands for a variable of the environment.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How many tokens fit into the context window.
    #[schemars(range(min = 1))]
    pub context_window: Option<u64>,
    /// The longest answer, in tokens.
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
    /// Whether the model sees pictures.
    pub images: Option<bool>,
    /// Whether the model reads documents.
    pub documents: Option<bool>,
    /// Whether the model calls tools.
    pub tools: Option<bool>,
    /// Whether the model can be held to a JSON Schema.
    pub output_schema: Option<bool>,
    /// Whether the model goes on from an answer that the request has begun.
    pub prefill: Option<bool>,
    /// The limits of time of one attempt. Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub timeout: Option<TierTimeout>,
    /// Retries. Default: the file's `retry`.
    pub retry: Option<Retry>,
    /// The circuit breaker. Default: the file's `circuit_breaker`.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Second calls where this tier is late. Default: the file's `hedge`.
    pub hedge: Option<Hedge>,
    /// The level of service, from 1 (full) to 5 (static). Default: 1; of a cached tier 4, of a canned one 5.
    #[schemars(range(min = 1, max = 5))]
    pub level: Option<u8>,
    /// Asks this tier even while its circuit is open, when there is no other.
    #[serde(default)]
    pub last_resort: bool,
    /// The least time before the deadline that makes it worth beginning this tier.
    pub min_useful: Option<Span>,
    /// What a canned tier says; or one that hands requests to people, while nobody has answered: `{task_id}` stands for the
    /// task's id.
    pub text: Option<String>,
    /// How a simulated tier behaves.
    pub simulated: Option<Simulated>,
    /// Lets a cached tier answer similar questions too. Default: only the same.
    pub similar: Option<Similar>,
}

impl Tier {
    /// The level of service, from 1 (full) to 5 (static): the file's, else 4 of a cached tier, 5 of a canned one and 1 of any
    /// other.
    pub fn service_level(&self) -> u8 {
        self.level.unwrap_or(match self.provider {
            Provider::Cached => 4,
            Provider::Canned => 5,
            _ => 1,
        })
    }
}

/// Whose protocol a tier speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions, or any server that speaks it (`base_url`).
    #[serde(rename = "openai", alias = "open_ai")]
    OpenAi,
    /// Google's Gemini.
    #[serde(alias = "google")]
    Gemini,
    /// A simulated provider, in the process: no key, no network.
    #[default]
    Simulated,
    /// What the `cache` has kept: for when no model answers.
    Cached,
    /// A fixed text.
    Canned,
    /// People, who find the request among their tasks.
    Handoff,
}

impl Provider {
    /// Whether its answers are made without a model of somebody else's: a simulated, cached or canned tier, and people.
    pub fn is_local(self) -> bool {
        matches!(self, Self::Simulated | Self::Cached | Self::Canned | Self::Handoff)
    }

    /// Whether a model answers, a simulated one too: not what was kept, a fixed text, or people.
    pub(crate) fn is_model(self) -> bool {
        !matches!(self, Self::Cached | Self::Canned | Self::Handoff)
    }

    /// The provider's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
            Self::Simulated => "simulated",
            Self::Cached => "cached",
            Self::Canned => "canned",
            Self::Handoff => "handoff",
        }
    }
}

/// How a simulated tier behaves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Simulated {
    /// What it answers. Default: a sentence that names the model.
    pub reply: Option<String>,
    /// The time to the first token. Default: 50 ms.
    #[schemars(extend("default" = "50ms"))]
    pub latency: Option<Span>,
    /// The seed of its chances.
    pub seed: Option<u64>,
    /// Calls the first tool that a request offers: with these arguments, or (`true`) with some that satisfy its schema.
    /// Default: `false`, a tool is called where the request requires it.
    #[schemars(extend("default" = false))]
    pub call_tools: Option<CallTools>,
}

/// The tool calls of a simulated tier.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the arguments of a tool call, as a block of keys, or `true` or `false`")]
pub enum CallTools {
    /// `true`: with arguments that satisfy the tool's schema. `false`: none that is not required.
    Switch(bool),
    /// With these arguments.
    Arguments(serde_json::Map<String, serde_json::Value>),
}
