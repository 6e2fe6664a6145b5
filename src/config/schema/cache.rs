use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{KeyRef, Size, Span};

/// Answers that are kept and given again to whoever asks the same. Where the block is left out, none is kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long an answer is given to whoever asks the same; `0s` keeps answers only for when there is no other. Default:
    /// 5 min.
    #[schemars(extend("default" = "5m"))]
    pub ttl: Option<Span>,
    /// How long after that it is still given where every tier fails. Default: 1 h.
    #[schemars(extend("default" = "1h"))]
    pub stale_for: Option<Span>,
    /// The memory for answers; over it, those that are asked for seldom go first. Default: 64 MiB.
    #[schemars(extend("default" = "64MiB"))]
    pub max_bytes: Option<Size>,
    /// The largest answer that is kept. Default: 1 MiB.
    #[schemars(extend("default" = "1MiB"))]
    pub max_answer: Option<Size>,
    /// Whether those who ask the same at the same time share one call. Default: yes.
    #[schemars(extend("default" = true))]
    pub single_flight: Option<bool>,
    /// Requests of a higher temperature pass by, and so do those that name none. Default: every temperature is kept.
    #[schemars(range(min = 0))]
    pub max_temperature: Option<f64>,
    /// What need not be the same for an answer to be given: of `tenants` (callers' keys) only where nothing that any of
    /// them says is for their eyes alone. Default: all must be.
    pub across: Vec<CacheAcross>,
    /// Whether all replicas share the answers, in a store that they share. Default: no, each has its own in memory.
    #[schemars(extend("default" = false))]
    pub shared: bool,
}

/// What need not be the same for an answer to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheAcross {
    /// The model that is asked for.
    Models,
    /// The feature that asks.
    Features,
    /// Whose request it is.
    Tenants,
}

/// What is kept of a feature's answers: `on`, `off`, or for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeatureCache {
    /// As the file's `cache` says, or nothing.
    On(bool),
    /// As the file's `cache` says, and for so long.
    Ttl(Span),
}

/// Which questions are like one that is asked while no model answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Similar {
    /// How it is told. Default: `words`.
    #[schemars(extend("default" = "words"))]
    pub method: Likeness,
    /// How much alike two questions must be, up to 1. By words, "How can I reset my password?" is 0.73 alike to "How do I reset my
    /// password?". Default: 0.8 by words, 0.85 by embeddings, whose scale is the model's.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// The server of the embeddings, any with OpenAI's `/v1/embeddings`. Default: OpenAI's own.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub base_url: Option<String>,
    /// The model of the embeddings.
    pub model: Option<String>,
    /// Where its key is: `${NAME}`. Default: `${OPENAI_API_KEY}`; where `base_url` is not OpenAI's own host: no key.
    pub api_key: Option<KeyRef>,
    /// What need not be the same for a question to be like another. Default: all must be.
    pub across: Vec<SimilarAcross>,
    /// Whether the answer quotes the question that it was given to, which may be another person's. Default: no.
    #[schemars(extend("default" = false))]
    pub quote: bool,
    /// How many questions are remembered, the newest ones. Default: 4,096.
    #[schemars(extend("default" = 4096), range(min = 1))]
    pub remember: Option<u32>,
}

/// How it is told that questions are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// By the words that they have in common.
    #[default]
    Words,
    /// By a model of embeddings.
    Embeddings,
}

/// What need not be the same for a question to be like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimilarAcross {
    /// The feature that asks.
    Features,
    /// The system prompt.
    SystemPrompts,
    /// Whose request it is.
    Tenants,
}

impl<'de> Deserialize<'de> for FeatureCache {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = FeatureCache;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on`, `off`, or for how long, such as 30s or 10m")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<FeatureCache, E> {
                Ok(FeatureCache::On(on))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<FeatureCache, E> {
                match word {
                    "on" => Ok(FeatureCache::On(true)),
                    "off" => Ok(FeatureCache::On(false)),
                    _ => {
                        word.parse().map(FeatureCache::Ttl).map_err(|_| E::invalid_value(Unexpected::Str(word), &self))
                    }
                }
            }
        }

        deserializer.deserialize_any(Words)
    }
}

impl JsonSchema for FeatureCache {
    fn schema_name() -> Cow<'static, str> {
        "FeatureCache".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What is kept of a feature's answers: `on`, `off`, or for how long.",
            "anyOf": [
                { "type": "boolean" },
                { "enum": ["on", "off"] },
                generator.subschema_for::<Span>(),
            ],
        })
    }
}
