//! Alerts to a webhook. Feature `alerts`.
//!
//! [`Webhook`] is an [`AlertSink`]: it puts each alert into a short queue of its own, and a task sends them in their order.
//! A webhook that hangs or fails keeps nobody waiting: no request, no other webhook.
//!
//! - **Shape.** [`Webhook::slack`]: what Slack, Mattermost, Rocket.Chat and Discord's `/slack` take. [`Webhook::json`]:
//!   a plain object. [`Webhook::template`]: what another receiver wants, such as an issue tracker, a pager or a mail service.
//! - **Which.** [`Webhook::severities`]: only these. [`Webhook::resolved`]: not that they are over.
//! - **Time.** An attempt may take 10 s. A failure that another attempt may mend (no connection, no answer, 408, 429, 5xx)
//!   is tried again, five times in all, after a wait that doubles from 1 s to 60 s, half of it at random; `Retry-After` is
//!   obeyed, up to 5 min. Any other answer is final: the alert is given up, which a log line says.
//! - **Queue.** 100 alerts wait; when there are more, the oldest is dropped. [`WebhookHandle`] counts.
//! - **Secrets.** The URL is one (Slack's is), as is the header: neither is in `Debug`, in a log line or in an error.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{Events, subscribers::alerts::{Alerts, Rules, Webhook}};
//!
//! let events = Events::new(); // give clones of it to the layers
//! # let env = |_: &str| "https://hooks.slack.example/services/T0/B0/secret".to_owned();
//! let webhook = Webhook::slack(&env("SLACK_WEBHOOK"))?;
//! assert!(!format!("{webhook:?}").contains("secret"));
//! let _following = Alerts::new(Rules::new()).to(webhook.start()).follow(&events);
//! # Ok(()) }
//! ```

mod message;
mod queue;
mod render;
mod send;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use tokio::task::AbortHandle;
use tower::{BoxError, Service};

use self::{
    message::Format,
    queue::{Queue, Wanted},
};
use super::{Alert, AlertSink, Severity, Template};
use crate::{
    InvalidConfig,
    providers::{http::RequestBody, transport::HttpClient},
    webhook::{self, Transport, boxed},
};

/// Where alerts are sent. See the [module docs](self).
#[derive(Clone)]
#[must_use = "nothing is sent before it is started"]
pub struct Webhook {
    target: Target,
    /// Default: a client of its own, made when it is started.
    transport: Option<Transport>,
    wanted: Wanted,
    attempts: u32,
    timeout: Duration,
    capacity: usize,
    seed: Option<u64>,
}

/// Where a webhook is, and what it takes.
#[derive(Clone)]
struct Target {
    format: Format,
    url: Uri,
    authorization: Option<HeaderValue>,
}

impl Webhook {
    /// A webhook that takes Slack's messages.
    ///
    /// # Errors
    ///
    /// When it is no `http://` or `https://` URL with a host. The error does not repeat it.
    pub fn slack(url: &str) -> Result<Self, InvalidConfig> {
        Self::new(Format::Slack, url)
    }

    /// A webhook that takes a plain JSON object for each alert: `rule`, `key`, `severity`, `urgency`, `state`, `summary`,
    /// `fields`, `since` and `at` (RFC 3339), `repeated`.
    ///
    /// # Errors
    ///
    /// As for [`slack`](Self::slack).
    pub fn json(url: &str) -> Result<Self, InvalidConfig> {
        Self::new(Format::Json, url)
    }

    /// A webhook that takes JSON of its own shape.
    ///
    /// # Errors
    ///
    /// As for [`slack`](Self::slack).
    pub fn template(url: &str, template: Template) -> Result<Self, InvalidConfig> {
        Self::new(Format::Template(template), url)
    }

    fn new(format: Format, url: &str) -> Result<Self, InvalidConfig> {
        let url = webhook::address(url, "webhook")?;
        let target = Target { format, url, authorization: None };
        let wanted = Wanted { severities: None, resolved: true };
        let (attempts, timeout, capacity) = (ATTEMPTS, TIMEOUT, CAPACITY);
        Ok(Self { target, transport: None, wanted, attempts, timeout, capacity, seed: None })
    }

    /// Sends alerts of these severities only. One that was sent is told to be over, whatever it has become. Default: all.
    pub fn severities(mut self, severities: impl IntoIterator<Item = Severity>) -> Self {
        self.wanted.severities = Some(severities.into_iter().collect());
        self
    }

    /// Whether it is told that an alert is over: not where each message opens something. Default: yes.
    pub fn resolved(mut self, told: bool) -> Self {
        self.wanted.resolved = told;
        self
    }

    /// Sets the `Authorization` header: `Bearer ..`, with its scheme. Default: none.
    ///
    /// # Errors
    ///
    /// When it has a character that no header may have.
    pub fn authorization(mut self, value: &str) -> Result<Self, InvalidConfig> {
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| InvalidConfig::new("authorization", "it has a character that no HTTP header may have"))?;
        value.set_sensitive(true);
        self.target.authorization = Some(value);
        Ok(self)
    }

    /// Sets the transport: any service that answers HTTP requests, as a
    /// [leaf's](crate::providers::http::HttpLeaf::transport). Default: an [`HttpClient`] of its own.
    pub fn transport<S, R, B>(mut self, transport: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: 'static,
    {
        self.transport = Some(boxed(transport));
        self
    }

    /// How often an alert is tried before it is given up; 0 counts as 1. Default: 5.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long an attempt may take. Default: 10 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How many alerts may wait; 0 counts as 1. Default: 100.
    pub fn capacity(mut self, alerts: usize) -> Self {
        self.capacity = alerts.max(1);
        self
    }

    /// The seed of the waits' random part, for tests. Default: a random one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the task that sends. It ends when the last of the sink's handles is dropped: what still waits then is not
    /// sent.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> WebhookHandle {
        let queue = Arc::new(Queue::new(self.capacity, self.wanted));
        let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let transport = self.transport.unwrap_or_else(|| boxed(HttpClient::new()));
        let sender = send::Sender::new(self.target, transport, self.attempts, self.timeout, random, queue.clone());
        let task = tokio::spawn(sender.run()).abort_handle();
        WebhookHandle { queue, _task: Arc::new(Stop(task)) }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("format", &self.target.format)
            .field("host", &self.target.host())
            .field("attempts", &self.attempts)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// The part of the URL that is no secret.
    fn host(&self) -> &str {
        self.url.host().unwrap_or_default()
    }

    fn request(&self, body: Bytes) -> Request<RequestBody> {
        let mut request = webhook::request(&self.url, body);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// A webhook at work: takes alerts for it, and says what became of them. Clones are the same; when the last is dropped,
/// nothing more is sent.
#[derive(Clone)]
pub struct WebhookHandle {
    queue: Arc<Queue>,
    _task: Arc<Stop>,
}

/// Ends the task when nobody can give it work any more.
struct Stop(AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl WebhookHandle {
    /// How many alerts were taken by the webhook.
    pub fn sent(&self) -> u64 {
        self.queue.counts().sent
    }

    /// How many were given up after their last attempt, or a final refusal.
    pub fn failed(&self) -> u64 {
        self.queue.counts().failed
    }

    /// How many were dropped since too many waited.
    pub fn dropped(&self) -> u64 {
        self.queue.counts().dropped
    }
}

impl AlertSink for WebhookHandle {
    fn alert(&mut self, alert: &Alert) {
        self.queue.push(alert);
    }
}

impl fmt::Debug for WebhookHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookHandle").field("counts", &self.queue.counts()).finish_non_exhaustive()
    }
}

const ATTEMPTS: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(10);
const CAPACITY: usize = 100;
