use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Balance, CallKind, CircuitBreaker, Cloud, Credential, Deployment, Hedge, KeyRef, Retry, Secret, Similar, Span,
    TierTimeout,
};

/// A model behind a provider, with its own settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The tier's name in logs, metrics and features.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The provider.
    pub provider: Provider,
    /// The cloud that serves the provider's models. Default: the provider itself.
    pub at: Option<Cloud>,
    /// The model's name in the provider's spelling. With `at`, the cloud's own id is right too.
    pub model: Option<String>,
    /// AWS: the region, such as `us-east-1`. Default: `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// Vertex: the project's id. Default: `GOOGLE_CLOUD_PROJECT`.
    pub project: Option<String>,
    /// Vertex: the location, such as `us-east5`. Default: `global`.
    #[schemars(extend("default" = "global"))]
    pub location: Option<String>,
    /// Azure: the resource's name, the first part of its host.
    pub resource: Option<String>,
    /// Azure: the deployment's name. Default: the model's.
    pub deployment: Option<String>,
    /// Azure: the version of the API of deployment addresses, such as `2024-10-21`. Default: the newer addresses, which
    /// have none.
    pub api_version: Option<String>,
    /// The source of the credentials for `at`. Default: `default`, unless there is an `api_key`.
    pub credential: Option<Credential>,
    /// A reference to the provider's key: `${NAME}`, an environment variable. Default: the provider's usual variable;
    /// no key if `base_url` is not the provider's own host. With `at`, the cloud's key in place of a `credential`.
    pub api_key: Option<KeyRef>,
    /// Another server with the provider's protocol. Default: the environment's `ANTHROPIC_BASE_URL`,
    /// `OPENAI_BASE_URL`, `GEMINI_BASE_URL` or `GOOGLE_GEMINI_BASE_URL`, or else the provider's own. With `at`, it
    /// replaces the cloud's host alone.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub base_url: Option<String>,
    /// The API of a tier with the provider `openai`, or with `at: aws`. Default: `auto` at OpenAI's own servers and at
    /// clouds, `chat` at any other; for Claude at AWS `mantle` where the model has an id there, else `runtime`.
    pub api: Option<TierApi>,
    /// True if the server has OpenAI's `/responses/compact`. Default: true at OpenAI's own servers, unless `api` is
    /// `chat`; false at any other.
    pub compaction: Option<bool>,
    /// The deployments of the model, over which the tier's requests are spread. What they have in common stands at the
    /// tier. Default: the tier is the only one.
    #[schemars(length(min = 1))]
    pub deployments: Option<Vec<Deployment>>,
    /// The balancer over the deployments. Default: the file's `balance`.
    pub balance: Option<Balance>,
    /// Further headers of each request. `${NAME}` stands for an environment variable.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The context window in tokens.
    #[schemars(range(min = 1))]
    pub context_window: Option<u64>,
    /// The longest answer, in tokens.
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
    /// True if the model sees pictures.
    pub images: Option<bool>,
    /// True if the model reads documents.
    pub documents: Option<bool>,
    /// True if the model calls tools.
    pub tools: Option<bool>,
    /// True if the provider can enforce a JSON Schema.
    pub output_schema: Option<bool>,
    /// True if the model continues an answer that the request has begun.
    pub prefill: Option<bool>,
    /// The time limits of one attempt. Default: 30 s, or the request's own `timeout` where no other tier is left.
    #[schemars(extend("default" = "30s"))]
    pub timeout: Option<TierTimeout>,
    /// Retries. Default: the file's `retry`.
    pub retry: Option<Retry>,
    /// The circuit breaker. Default: the file's `circuit_breaker`.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Second calls if this tier is late. Default: the file's `hedge`.
    pub hedge: Option<Hedge>,
    /// The level of service, from 1 (full) to 5 (static). Default: 1; for a cached tier 4, for a canned one 5.
    #[schemars(range(min = 1, max = 5))]
    pub level: Option<u8>,
    /// Calls this tier even while its circuit is open, if no other tier is left.
    #[serde(default)]
    pub last_resort: bool,
    /// The least time before the deadline for which this tier is started.
    pub min_useful: Option<Span>,
    /// The text of a canned tier. For a tier of people, the text until a person has answered; `{task_id}` stands for
    /// the task's id.
    pub text: Option<String>,
    /// The behaviour of a simulated tier.
    pub simulated: Option<Simulated>,
    /// In the lane, the vector space of the model's embeddings: a name and the dimensions, such as
    /// `text-embedding-3-small/1536`. Default: that of the known model.
    pub space: Option<String>,
    /// In the lane, the kinds of calls that the tier serves. Default: the kind that the model's name stands for, or
    /// else every call that names the model.
    pub serves: Option<Vec<CallKind>>,
    /// In the lane, true if other models that are interchangeable too may stand in for this one, and it for them.
    /// Embeddings stay within their `space`. Default: false.
    #[schemars(extend("default" = false))]
    pub interchangeable: Option<bool>,
    /// Lets a cached tier answer similar questions too. Default: only identical ones.
    pub similar: Option<Similar>,
}

impl Tier {
    /// Returns the level of service, from 1 (full) to 5 (static): the file's, or else 4 for a cached tier, 5 for a
    /// canned one and 1 for any other.
    pub fn service_level(&self) -> u8 {
        self.level.unwrap_or(match self.provider {
            Provider::Cached => 4,
            Provider::Canned => 5,
            _ => 1,
        })
    }

    /// Returns whether the tier compacts conversations: the file's setting, or else whether OpenAI's own servers do it.
    pub fn compacts(&self) -> bool {
        // No account can read another's compaction.
        let is_own = || {
            self.deployments.is_none()
                && self.at.is_none()
                && self.base_url.as_deref().is_none_or(|url| self.provider.owns(url))
        };
        let is_known = || self.provider == Provider::OpenAi && self.api != Some(TierApi::Chat) && is_own();
        self.compaction.unwrap_or_else(is_known)
    }
}

/// The protocol of a tier.
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
    /// A simulated provider inside the process: no key, no network.
    #[default]
    Simulated,
    /// Answers from the `cache`, for outages of all models.
    Cached,
    /// A fixed text.
    Canned,
    /// People, who receive the request as a task.
    Handoff,
}

impl Provider {
    /// Returns whether answers come without an external model: from a simulated, cached or canned tier, or from
    /// people.
    pub fn is_local(self) -> bool {
        matches!(self, Self::Simulated | Self::Cached | Self::Canned | Self::Handoff)
    }

    /// Returns whether a model answers, real or simulated: not the cache, a fixed text or people.
    pub fn is_model(self) -> bool {
        !matches!(self, Self::Cached | Self::Canned | Self::Handoff)
    }

    /// Returns the provider's name in the file.
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

/// The API of a tier, where its server has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierApi {
    /// OpenAI: Chat Completions (`/chat/completions`), for requests of every dialect.
    Chat,
    /// OpenAI: Responses (`/responses`), for requests of every dialect.
    Responses,
    /// OpenAI: Responses for requests in its dialect, Chat Completions for all others.
    Auto,
    /// Claude at AWS: Messages at the endpoint bedrock-mantle.
    Mantle,
    /// Claude at AWS: Messages at the endpoint bedrock-runtime.
    Runtime,
    /// Claude at AWS: InvokeModel and InvokeModelWithResponseStream.
    Invoke,
    /// Any maker's model at AWS: Converse and ConverseStream.
    Converse,
}

impl TierApi {
    /// Returns whether it is one of OpenAI's APIs.
    pub(crate) fn is_openais(self) -> bool {
        matches!(self, Self::Chat | Self::Responses | Self::Auto)
    }
}

/// The behaviour of a simulated tier.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Simulated {
    /// The answer's text. Default: a sentence that names the model.
    pub reply: Option<String>,
    /// The time to the first token. Default: 50 ms.
    #[schemars(extend("default" = "50ms"))]
    pub latency: Option<Span>,
    /// The seed of its random behaviour.
    pub seed: Option<u64>,
    /// Calls the first tool that a request offers: with these arguments, or (`true`) with generated ones that satisfy
    /// its schema. Default: `false`, which calls a tool only if the request requires it.
    #[schemars(extend("default" = false))]
    pub call_tools: Option<CallTools>,
}

/// The tool calls of a simulated tier.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the arguments of a tool call, as a block of keys, or `true` or `false`")]
pub enum CallTools {
    /// `true`: with arguments that satisfy the tool's schema. `false`: only calls that the request requires.
    Switch(bool),
    /// With these arguments.
    Arguments(serde_json::Map<String, serde_json::Value>),
}
