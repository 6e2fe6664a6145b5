use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{
    KeyRef, Secret, Share, Span,
    either::{Either, short_or_block},
};

/// Who is told when something is wrong, and what is wrong enough.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Where alerts are sent.
    pub webhooks: Vec<Webhook>,
    /// When. Each rule has a default and can be changed or switched off.
    pub rules: Rules,
}

/// Where alerts are sent.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An http or https URL. `${NAME}` stands for a variable of the environment.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub url: Secret,
    /// The shape of the message. Default: `slack`.
    #[serde(default)]
    #[schemars(extend("default" = "slack"))]
    pub format: WebhookFormat,
    /// A header of each request that carries a secret: `Authorization`.
    pub authorization: Option<KeyRef>,
}

/// The shape of an alert's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// What Slack, Mattermost, Rocket.Chat and Discord's `/slack` take.
    #[default]
    Slack,
    /// A plain object.
    Json,
}

/// The rules, each with its default; `off` switches one off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Another tier serves in place of the primary: said when it begins and when it is over. Default: on.
    #[schemars(extend("default" = "on"))]
    pub failover: Option<RuleThreshold>,
    /// More than so many switches of the model in a time. Default: 3 in 10 min.
    #[schemars(extend("default" = "on"))]
    pub failovers: Option<RuleThreshold>,
    /// More than this share of failed requests in a time. Default: 5 % of more than 100 in 1 h.
    #[schemars(extend("default" = "on"))]
    pub failure_rate: Option<RuleThreshold>,
    /// The same of the calls sent to each tier, whether or not another tier answered in the end. Default: off; its numbers,
    /// where it is on, as those of `failure_rate`.
    #[schemars(extend("default" = "off"))]
    pub tier_failure_rate: Option<RuleThreshold>,
    /// Every tier has failed a request. Default: on.
    #[schemars(extend("default" = "on"))]
    pub all_tiers_failed: Option<RuleThreshold>,
    /// A provider has refused a key. Default: on.
    #[schemars(extend("default" = "on"))]
    pub key_refused: Option<RuleThreshold>,
    /// A share of a budget is used up: of those that the budget warns at (`warn_at`) all, or those from `share` on.
    /// Default: on.
    #[schemars(extend("default" = "on"))]
    pub budget: Option<RuleThreshold>,
    /// A request waits for a person, and nobody is at it. Default: on.
    #[schemars(extend("default" = "on"))]
    pub handoff_waiting: Option<RuleThreshold>,
    /// Says again what is still so after so long. Default: never.
    pub repeat: Option<Span>,
}

/// A rule's numbers, or `off`/`on`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleThreshold {
    /// On with its defaults, or off.
    On(bool),
    /// With numbers.
    Numbers {
        /// More than so many.
        more_than: Option<u64>,
        /// More than this share.
        share: Option<Share>,
        /// With more than so many requests.
        min_requests: Option<u64>,
        /// In a time.
        within: Option<Span>,
    },
}

/// The numbers of a rule, as they stand in the file.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RuleNumbers {
    /// More than so many.
    more_than: Option<u64>,
    /// More than this share.
    share: Option<Share>,
    /// With more than so many requests.
    min_requests: Option<u64>,
    /// In a time.
    within: Option<Span>,
}

/// A rule switched on or off.
struct Switch(bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(RULE)
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Switch, E> {
                match word {
                    "on" => Ok(Switch(true)),
                    "off" => Ok(Switch(false)),
                    _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_any(Words)
    }
}

const RULE: &str = "`on`, `off`, or the rule's numbers";

impl<'de> Deserialize<'de> for RuleThreshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match short_or_block(deserializer, RULE)? {
            Either::Short(Switch(on)) => Self::On(on),
            Either::Block(RuleNumbers { more_than, share, min_requests, within }) => {
                Self::Numbers { more_than, share, min_requests, within }
            }
        })
    }
}

impl JsonSchema for RuleThreshold {
    fn schema_name() -> Cow<'static, str> {
        "RuleThreshold".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A rule's numbers, or `on` or `off`.",
            "anyOf": [
                { "type": "boolean" },
                { "enum": ["on", "off"] },
                generator.subschema_for::<RuleNumbers>(),
            ],
        })
    }
}
