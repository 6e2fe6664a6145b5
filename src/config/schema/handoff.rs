use schemars::JsonSchema;
use serde::Deserialize;

use super::{KeyRef, Secret, Size, Span};

/// What holds for the tiers whose provider is `handoff`: requests are handed to people. They need `stores: { durable
/// }`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Handoff {
    /// How long a caller waits for a person, and no longer than the request's own time. Default: not at all: it is told
    /// that the request is pending, and under which id.
    pub wait: Option<Span>,
    /// How long a task may be answered. Default: 7 days.
    #[schemars(extend("default" = "7d"))]
    pub ttl: Option<Span>,
    /// How long a task is kept that is answered or expired. Default: 30 days.
    #[schemars(extend("default" = "30d"))]
    pub keep: Option<Span>,
    /// How much may be handed to people, of all callers and of each. A request over it is refused.
    pub limits: Option<HandoffLimits>,
    /// How long a person's claim stands before another may take the task. Default: 15 min.
    #[schemars(extend("default" = "15m"))]
    pub visibility: Option<Span>,
    /// How people are told that a task is there. Default: nobody is.
    pub notify: Option<HandoffNotify>,
    /// Who is called back when a task is answered. Default: nobody.
    pub callbacks: Option<HandoffCallbacks>,
    /// Gives tasks to the models again by itself when they work. Default: only those for which somebody asks.
    pub redrive: Option<HandoffRedrive>,
}

/// How much may be handed to people. Tasks are counted while they may be answered, bytes as long as a task is kept. A
/// caller is a gateway's key, or a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HandoffLimits {
    /// How many tasks may wait or be worked at. Default: 10,000.
    #[schemars(range(min = 1), extend("default" = 10_000))]
    pub tasks: Option<u64>,
    /// How much room all tasks may take that are kept. Default: 1 GiB.
    #[schemars(extend("default" = "1GiB"))]
    pub bytes: Option<Size>,
    /// How many tasks of one caller may wait or be worked at. Default: 1,000, and no more than of all.
    #[schemars(range(min = 1), extend("default" = 1000))]
    pub tasks_per_caller: Option<u64>,
    /// How much room the tasks of one caller may take. Default: 100 MiB, and no more than of all.
    #[schemars(extend("default" = "100MiB"))]
    pub bytes_per_caller: Option<Size>,
}

/// How people are told that a task is there.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffNotify {
    /// A webhook that takes Slack's messages: an http or https URL. `${NAME}` stands for a variable of the environment.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub url: Secret,
    /// Whether the message shows the beginning of what was asked: up to 200 characters. Default: yes.
    #[serde(default)]
    #[schemars(extend("default" = true))]
    pub preview: Option<bool>,
    /// A link to where the task is answered; `{task_id}` stands for its id.
    pub link: Option<String>,
}

/// Who is called back when a task is answered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffCallbacks {
    /// What callbacks are signed with: a reference to a variable that holds 24 bytes or more, as text or `whsec_` and
    /// base64.
    pub secret: KeyRef,
    /// Who is called back for requests that bring no address: an http or https URL.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub url: Option<Secret>,
    /// The hosts of which requests may bring an address: `example.com`, `example.com:8443`, `*.example.com`. Default:
    /// none.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// Gives tasks to the models again by itself when they work: the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HandoffRedrive {
    /// How many are begun in a second, at the most. Default: 1.
    #[schemars(range(min = 0.001), extend("default" = 1.0))]
    pub per_second: Option<f64>,
    /// How many are under way at once, at the most. Default: 2.
    #[schemars(range(min = 1), extend("default" = 2))]
    pub at_once: Option<u32>,
    /// How often it is looked for tasks, besides when a model recovers. Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub every: Option<Span>,
    /// How long each may take. Default: 1 min.
    #[schemars(extend("default" = "1m"))]
    pub timeout: Option<Span>,
}
