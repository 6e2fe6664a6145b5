use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{KeyRef, Secret, Size, Span};

/// The settings of tiers whose provider is `handoff`, which hand requests to people. They need `stores: { durable }`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Handoff {
    /// The longest wait of a caller for a person, within the request's own time. Default: no wait; the caller learns
    /// that the request is pending, and its id.
    pub wait: Option<Span>,
    /// The time in which a task may be answered. Default: 7 days.
    #[schemars(extend("default" = "7d"))]
    pub ttl: Option<Span>,
    /// The time for which an answered or expired task is kept. Default: 30 days.
    #[schemars(extend("default" = "30d"))]
    pub keep: Option<Span>,
    /// The limits on handed-off requests, in total and per caller. A request over a limit is refused.
    pub limits: Option<HandoffLimits>,
    /// The duration of a person's claim, after which another may take the task. Default: 15 min.
    #[schemars(extend("default" = "15m"))]
    pub visibility: Option<Span>,
    /// The notification of people about new tasks. Default: none.
    pub notify: Option<HandoffNotify>,
    /// The callbacks for answered tasks. Default: none.
    pub callbacks: Option<HandoffCallbacks>,
    /// Gives tasks to models again once they work. Default: only tasks for which a redrive was requested.
    pub redrive: Option<HandoffRedrive>,
}

/// The limits on handed-off requests. Tasks count while they may be answered, bytes as long as a task is kept. A
/// caller is a gateway key or a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HandoffLimits {
    /// The most tasks that wait or are claimed. Default: 10,000.
    #[schemars(range(min = 1), extend("default" = 10_000))]
    pub tasks: Option<u64>,
    /// The most room for all kept tasks. Default: 1 GiB.
    #[schemars(extend("default" = "1GiB"))]
    pub bytes: Option<Size>,
    /// The most tasks of one caller that wait or are claimed. Default: 1,000, and no more than in total.
    #[schemars(range(min = 1), extend("default" = 1000))]
    pub tasks_per_caller: Option<u64>,
    /// The most room for the tasks of one caller. Default: 100 MiB, and no more than in total.
    #[schemars(extend("default" = "100MiB"))]
    pub bytes_per_caller: Option<Size>,
}

/// The notification of people about new tasks.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffNotify {
    /// A webhook that accepts Slack's messages: an http or https URL. `${NAME}` stands for an environment variable.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub url: Secret,
    /// Shows the beginning of the request in the message, up to 200 characters. Default: yes.
    #[serde(default)]
    #[schemars(extend("default" = true))]
    pub preview: Option<bool>,
    /// A link to the page on which people answer the task; `{task_id}` stands for its id.
    pub link: Option<String>,
}

/// The callbacks for answered tasks.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffCallbacks {
    /// The signing secret of callbacks: a reference to a variable with at least 24 bytes, as text or as `whsec_` and
    /// base64.
    pub secret: KeyRef,
    /// The callback address of requests that bring none: an http or https URL.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub url: Option<Secret>,
    /// The hosts of callback addresses that requests may bring: `example.com`, `example.com:8443`, `*.example.com`.
    /// Default: none.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The signing secrets of single hosts, by their names in `hosts`; they replace `secret` there. A receiver that
    /// shares its secret with another could sign what that one receives. Default: none.
    #[serde(default)]
    pub secrets: BTreeMap<String, KeyRef>,
}

/// The redrive: tasks go to models again once they work, oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HandoffRedrive {
    /// The most redrives started per second. Default: 1.
    #[schemars(range(min = 0.001), extend("default" = 1.0))]
    pub per_second: Option<f64>,
    /// The most concurrent redrives. Default: 2.
    #[schemars(range(min = 1), extend("default" = 2))]
    pub at_once: Option<u32>,
    /// The interval of the search for tasks, besides each recovery of a model. Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub every: Option<Span>,
    /// The time limit of each redrive. Default: 1 min.
    #[schemars(extend("default" = "1m"))]
    pub timeout: Option<Span>,
}
