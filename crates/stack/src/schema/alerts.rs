use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::{Map, Value};

use super::{KeyRef, Secret, Share, Span};
use steadfast::settings::{Either, short_or_block};

/// The receivers of alerts, and the rules that raise them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// The name of this deployment in alerts, such as `production`: up to 64 characters, one name for all its
    /// replicas and another for each other deployment. An alert's id contains it, so that replicas report one alert
    /// and no deployment ends another one's. Default: the host's name, with the port of `listen`.
    #[schemars(length(min = 1, max = 64))]
    pub source: Option<String>,
    /// The webhooks that receive alerts.
    pub webhooks: Vec<Webhook>,
    /// Custom message bodies for webhooks, by name.
    pub templates: BTreeMap<String, WebhookTemplate>,
    /// The rules that raise alerts. Each has a default and can be changed or switched off.
    pub rules: Rules,
}

impl Alerts {
    /// Returns what is wrong with the name of the deployment.
    pub(crate) fn source_problem(&self) -> Option<&'static str> {
        let source = self.source.as_deref()?;
        let is_wrong = source.trim().is_empty() || source.chars().count() > 64 || source.contains(char::is_control);
        is_wrong.then_some("it must have 1 to 64 characters, all of them on one line")
    }
}

/// A receiver of alerts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An http or https URL. `${NAME}` stands for an environment variable.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub url: Secret,
    /// The message format. Default: `slack`.
    #[schemars(extend("default" = "slack"))]
    pub format: Option<WebhookFormat>,
    /// The name of one of the `templates`, in place of a `format`.
    pub template: Option<String>,
    /// The severities that it receives. Default: all.
    pub severities: Option<Vec<AlertSeverity>>,
    /// Sends a message when an alert is over. Default: yes.
    #[schemars(extend("default" = true))]
    pub resolved: Option<bool>,
    /// The secret value of the `Authorization` header.
    pub authorization: Option<KeyRef>,
}

/// The format of an alert's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// The format of Slack, Mattermost, Rocket.Chat and Discord's `/slack`.
    #[default]
    Slack,
    /// A plain JSON object.
    Json,
}

/// The severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// A warning: callers still get answers. Messages call it `warning`.
    #[serde(alias = "warning")]
    Warn,
    /// A page: someone must act at once. Messages call it `critical`.
    #[serde(alias = "critical")]
    Page,
}

/// The body of a webhook's message: JSON, whose texts may contain `{{name}}` placeholders for the alert's data. The
/// placeholders are those of [`Template`](steadfast_subscribers::alerts::Template).
#[derive(Clone, PartialEq)]
pub struct WebhookTemplate(Value);

impl WebhookTemplate {
    /// Creates a template with this body.
    pub fn new(body: Value) -> Self {
        Self(body)
    }

    /// Returns the body.
    pub fn body(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for WebhookTemplate {
    /// Hides the content, which may hold a receiver's key.
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

        // Reads environment variables as text, even those of digits only.
        deserializer.deserialize_str(Json).map(Self)
    }
}

impl JsonSchema for WebhookTemplate {
    fn schema_name() -> Cow<'static, str> {
        "WebhookTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The body of a webhook's message: JSON, whose texts may contain {{name}} placeholders for the alert's data.",
            "type": "object",
        })
    }
}

/// The alert rules. Each has a default; `off` switches a rule off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Another tier serves in place of the primary; sent at the start and at the end. Default: on.
    #[schemars(extend("default" = "on"))]
    pub failover: Option<RuleThreshold>,
    /// More than this many model switches in a time. Default: 3 in 10 min.
    #[schemars(extend("default" = "on"))]
    pub failovers: Option<RuleThreshold>,
    /// More than this share of failed requests in a time. Default: 5 % of more than 100 in 1 h.
    #[schemars(extend("default" = "on"))]
    pub failure_rate: Option<RuleThreshold>,
    /// More than this share of failed calls to a tier, even if another tier answered in the end. Default: off; once
    /// on, its numbers default to those of `failure_rate`.
    #[schemars(extend("default" = "off"))]
    pub tier_failure_rate: Option<RuleThreshold>,
    /// More than this share of answers comes from another tier than the first: a warning, and a page above
    /// `page_share`. Default: off; once on, its numbers default to 5 % and 20 % of more than 20 answers in 10 min.
    #[schemars(extend("default" = "off"))]
    pub fallback_share: Option<RuleThreshold>,
    /// More than this share of a tier's calls are slow: no `first_token` of a stream or no whole `answer` in time, or a
    /// limit of time ran out. Default: 20 s, 2 min, and 20 % of more than 5 calls in 5 min.
    #[schemars(extend("default" = "on"))]
    pub slow: Option<RuleThreshold>,
    /// All tiers failed for more than this many requests, and more than this share of them, in a time of at least 5 s;
    /// where no request is answered between them, they count however far apart they are. Default: 1, 10 %, 1 min.
    #[schemars(extend("default" = "on"))]
    pub all_tiers_failed: Option<RuleThreshold>,
    /// A provider refused a key. Default: on.
    #[schemars(extend("default" = "on"))]
    pub key_refused: Option<RuleThreshold>,
    /// A source of credentials gives no new token: a warning, and a page once the last one has ended. Default: on.
    #[schemars(extend("default" = "on"))]
    pub credentials: Option<RuleThreshold>,
    /// A budget reached one of its shares: every share in the budget's `warn_at`, or those from `share` on. Default:
    /// on.
    #[schemars(extend("default" = "on"))]
    pub budget: Option<RuleThreshold>,
    /// A request waits for a person, and no person has claimed it. Default: on.
    #[schemars(extend("default" = "on"))]
    pub handoff_waiting: Option<RuleThreshold>,
    /// A new configuration was refused. Default: on.
    #[schemars(extend("default" = "on"))]
    pub reload_refused: Option<RuleThreshold>,
    /// A store does not answer. Default: on.
    #[schemars(extend("default" = "on"))]
    pub store_away: Option<RuleThreshold>,
    /// The interval at which a continuing alert is repeated. Default: never.
    pub repeat: Option<Span>,
}

/// A rule's numbers, or `off`/`on`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleThreshold {
    /// On with its defaults, or off.
    On(bool),
    /// Custom numbers.
    Numbers(RuleNumbers),
}

/// A rule's numbers; those that are left out have the rule's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleNumbers {
    /// The count that must be exceeded.
    pub more_than: Option<u64>,
    /// The share that must be exceeded.
    pub share: Option<Share>,
    /// The number of requests that must be exceeded.
    pub min_requests: Option<u64>,
    /// The time window.
    pub within: Option<Span>,
    /// The share above which the alert is a page, for `fallback_share`.
    pub page_share: Option<Share>,
    /// The longest time to a stream's first token that is in order, for `slow`.
    pub first_token: Option<Span>,
    /// The longest time to a whole answer that is in order, for `slow`.
    pub answer: Option<Span>,
    /// The severity, in place of the rule's own.
    pub severity: Option<AlertSeverity>,
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
            Either::Block(numbers) => Self::Numbers(numbers),
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
