use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{KeyRef, Size, Span};

/// A cache of answers to repeated requests. Without this block, no answer is kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// The time for which an answer serves repeated requests. `0s` keeps answers only for outages. Default: 5 min.
    #[schemars(extend("default" = "5m"))]
    pub ttl: Option<Span>,
    /// The further time for which an answer may serve if every tier fails. Default: 1 h.
    #[schemars(extend("default" = "1h"))]
    pub stale_for: Option<Span>,
    /// The memory for answers; over it, rarely requested ones are removed first. Default: 64 MiB.
    #[schemars(extend("default" = "64MiB"))]
    pub max_bytes: Option<Size>,
    /// The largest answer that is kept. Default: 1 MiB.
    #[schemars(extend("default" = "1MiB"))]
    pub max_answer: Option<Size>,
    /// Shares one call among concurrent identical requests. Default: yes.
    #[schemars(extend("default" = true))]
    pub single_flight: Option<bool>,
    /// The highest temperature of cached requests; a higher one, or none, bypasses the cache. Default: no limit.
    #[schemars(range(min = 0))]
    pub max_temperature: Option<f64>,
    /// Properties that may differ between requests with the same answer. Use `tenants` (callers' keys) only if no
    /// caller's content is confidential. Default: none may differ.
    pub across: Vec<CacheAcross>,
    /// Shares the answers among all replicas, in their shared store. Default: no, each replica has its own in memory.
    #[schemars(extend("default" = false))]
    pub shared: bool,
}

/// A property that may differ between requests with the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheAcross {
    /// The requested model.
    Models,
    /// The requesting feature.
    Features,
    /// The owner of the request.
    Tenants,
}

/// A feature's cache setting: `on`, `off`, or a lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeatureCache {
    /// On with the file's `cache` settings, or off.
    On(bool),
    /// On with this lifetime, and the file's other `cache` settings.
    Ttl(Span),
}

/// The similarity of questions for a cached tier, which serves if no model answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Similar {
    /// The method of comparison. Default: `words`.
    #[schemars(extend("default" = "words"))]
    pub method: Likeness,
    /// The least similarity of two questions, up to 1. By words, "How can I reset my password?" and "How do I reset my
    /// password?" have a similarity of 0.73. Default: 0.8 by words, 0.85 by embeddings, whose scale depends on the
    /// model.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// The server of the embeddings, any with OpenAI's `/v1/embeddings`. Default: OpenAI's own.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub base_url: Option<String>,
    /// The model of the embeddings.
    pub model: Option<String>,
    /// A reference to the embeddings' key: `${NAME}`. Default: `${OPENAI_API_KEY}`; no key if `base_url` is not
    /// OpenAI's own host.
    pub api_key: Option<KeyRef>,
    /// Properties that may differ between similar questions. Default: none may differ.
    pub across: Vec<SimilarAcross>,
    /// Quotes in the answer the question that it was given to, which may be another person's. Default: no.
    #[schemars(extend("default" = false))]
    pub quote: bool,
    /// The number of remembered questions, newest first. Default: 4,096.
    #[schemars(extend("default" = 4096), range(min = 1))]
    pub remember: Option<u32>,
}

/// The method of comparing questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// By the words that they share.
    #[default]
    Words,
    /// By an embedding model.
    Embeddings,
}

/// A property that may differ between similar questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimilarAcross {
    /// The requesting feature.
    Features,
    /// The system prompt.
    SystemPrompts,
    /// The owner of the request.
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
            "description": "A feature's cache setting: `on`, `off`, or a lifetime.",
            "anyOf": [
                { "type": "boolean" },
                { "enum": ["on", "off"] },
                generator.subschema_for::<Span>(),
            ],
        })
    }
}
