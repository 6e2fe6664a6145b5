use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::{Map, Value};

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
    /// Bodies for webhooks that want a shape of their own, by name.
    pub templates: BTreeMap<String, WebhookTemplate>,
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
    #[schemars(extend("default" = "slack"))]
    pub format: Option<WebhookFormat>,
    /// The shape of the message in place of a `format`: one of the `templates`, by its name.
    pub template: Option<String>,
    /// Which alerts it is sent. Default: all.
    pub severities: Option<Vec<AlertSeverity>>,
    /// Whether it is told that an alert is over. Default: yes.
    #[schemars(extend("default" = true))]
    pub resolved: Option<bool>,
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

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// To be looked at: callers have their answers. In messages it is `warning`.
    #[serde(alias = "warning")]
    Warn,
    /// To wake somebody. In messages it is `critical`.
    #[serde(alias = "critical")]
    Page,
}

/// The body of a webhook's message: JSON, in whose texts `{{name}}` stands for what the alert says. The placeholders are those of
/// [`Template`](crate::subscribers::alerts::Template).
#[derive(Clone, PartialEq)]
pub struct WebhookTemplate(Value);

impl WebhookTemplate {
    /// This body.
    pub fn new(body: Value) -> Self {
        Self(body)
    }

    /// The body.
    pub fn body(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for WebhookTemplate {
    /// Shows nothing of it: a receiver's key may be in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for WebhookTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Json;

        impl<'de> Visitor<'de> for Json {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the body of a message")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(WebhookTemplate(value)) = values.next_element()? {
                    list.push(value);
                }
                Ok(list.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
                let mut block = Map::new();
                while let Some((name, WebhookTemplate(value))) = fields.next_entry()? {
                    block.insert(name, value);
                }
                Ok(block.into())
            }
        }

        // Not as whatever it may be: a variable of the environment is a text here, a key of digits too.
        deserializer.deserialize_str(Json).map(Self)
    }
}

impl JsonSchema for WebhookTemplate {
    fn schema_name() -> Cow<'static, str> {
        "WebhookTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The body of a webhook's message: JSON, in whose texts {{name}} stands for what the alert says.",
            "type": "object",
        })
    }
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
    /// More than this share of answers comes from another tier than the one that was asked first: a warning, and a page above
    /// `page_share`. Default: off; its numbers, where it is on, 5 % and 20 % of more than 20 answers in 10 min.
    #[schemars(extend("default" = "off"))]
    pub fallback_share: Option<RuleThreshold>,
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
        /// Above this share it is a page.
        page_share: Option<Share>,
        /// How bad it is, in place of the rule's own.
        severity: Option<AlertSeverity>,
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
    /// Above this share it is a page: of `fallback_share`.
    page_share: Option<Share>,
    /// How bad it is, in place of the rule's own.
    severity: Option<AlertSeverity>,
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
            Either::Block(RuleNumbers { more_than, share, min_requests, within, page_share, severity }) => {
                Self::Numbers { more_than, share, min_requests, within, page_share, severity }
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
