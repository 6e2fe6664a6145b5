//! Alerts to a webhook. Feature `alerts`.
//!
//! [`Webhook`] is an [`AlertSink`]: it puts each alert into a short queue of its own, and a task sends them in order. A
//! webhook that hangs or fails delays no request and no other webhook.
//!
//! - **Shape.** [`Webhook::slack`]: the format of Slack, Mattermost, Rocket.Chat and Discord's `/slack`.
//!   [`Webhook::json`]: a plain object. [`Webhook::template`]: another receiver's format, such as an issue tracker, a
//!   pager or a mail service.
//! - **Selection.** [`Webhook::severities`] selects severities. [`Webhook::resolved`] switches off messages about an
//!   alert's end.
//! - **Time.** An attempt may take 10 s. The webhook retries a failure that another attempt may fix (no connection, no
//!   answer, 408, 429, 5xx), five attempts in all. The wait doubles from 1 s to 60 s, half of it random; `Retry-After`
//!   is honoured up to 5 min. Any other answer is final: the webhook gives the alert up and logs it.
//! - **Queue.** 100 alerts wait; beyond that the oldest is dropped. [`WebhookHandle`] counts.
//! - **Secrets.** The URL is secret (Slack's is), and so is the header: neither appears in `Debug`, log lines or
//!   errors.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::Events;
//! use steadfast_subscribers::alerts::{Alerts, Rules, Webhook};
//!
//! let events = Events::new(); // give clones of it to the layers
//! # let env = |_: &str| "https://hooks.slack.example/services/T0/B0/secret".to_owned();
//! let webhook = Webhook::slack(&env("SLACK_WEBHOOK"))?;
//! assert!(!format!("{webhook:?}").contains("secret"));
//! let _subscription = Alerts::new(Rules::new()).to(webhook.start()).follow(&events);
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
    queue::{Queue, Selection},
    send::{AlertSender, BACKOFF},
};
use super::{Alert, AlertSink, Severity, Template};
use steadfast::{InvalidConfig, providers::http::RequestBody};
use steadfast_webhook as webhook;

/// An alert sink that posts to a URL. See the [module docs](self).
#[derive(Clone)]
#[must_use = "messages are sent only once it is started"]
pub struct Webhook {
    target: Target,
    selection: Selection,
    capacity: usize,
    sender: webhook::Settings,
}

/// A webhook's address and format.
#[derive(Clone)]
struct Target {
    format: Format,
    url: Uri,
    authorization: Option<HeaderValue>,
}

impl Webhook {
    /// Creates a webhook that takes Slack's messages.
    ///
    /// # Errors
    ///
    /// Returns an error if this is no `http://` or `https://` URL with a host. The error does not repeat the URL.
    pub fn slack(url: &str) -> Result<Self, InvalidConfig> {
        Self::new(Format::Slack, url)
    }

    /// Creates a webhook that takes a plain JSON object for each alert: `id`, `source`, `instance`, `rule`, `key`,
    /// `severity`, `urgency`, `state`, `summary`, `fields`, `since` and `at` (RFC 3339), `repeated`.
    ///
    /// # Errors
    ///
    /// Returns an error as [`slack`](Self::slack) does.
    pub fn json(url: &str) -> Result<Self, InvalidConfig> {
        Self::new(Format::Json, url)
    }

    /// Creates a webhook that takes JSON of its own shape.
    ///
    /// # Errors
    ///
    /// Returns an error as [`slack`](Self::slack) does.
    pub fn template(url: &str, template: Template) -> Result<Self, InvalidConfig> {
        Self::new(Format::Template(template), url)
    }

    fn new(format: Format, url: &str) -> Result<Self, InvalidConfig> {
        let url = webhook::address(url, "webhook")?;
        let target = Target { format, url, authorization: None };
        let selection = Selection { severities: None, resolved: true };
        Ok(Self { target, selection, capacity: CAPACITY, sender: webhook::Settings::new(ATTEMPTS) })
    }

    /// Sends only alerts of these severities. The end of an alert that was sent is always sent, whatever its severity
    /// by then. Default: all.
    pub fn severities(mut self, severities: impl IntoIterator<Item = Severity>) -> Self {
        self.selection.severities = Some(severities.into_iter().collect());
        self
    }

    /// Sets whether the webhook receives the end of an alert. Switch it off where each message opens a ticket. Default:
    /// yes.
    pub fn resolved(mut self, sent: bool) -> Self {
        self.selection.resolved = sent;
        self
    }

    /// Sets the `Authorization` header: `Bearer ..`, with its scheme. Default: none.
    ///
    /// # Errors
    ///
    /// Returns an error if the value has a character that no header may have.
    pub fn authorization(mut self, value: &str) -> Result<Self, InvalidConfig> {
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| InvalidConfig::new("authorization", "it has a character that no HTTP header may have"))?;
        value.set_sensitive(true);
        self.target.authorization = Some(value);
        Ok(self)
    }

    /// Sets the transport: any service that answers HTTP requests, as a
    /// [leaf's](steadfast::providers::http::HttpLeaf::transport). Default: an
    /// [`HttpClient`](steadfast::providers::transport::HttpClient) of its own.
    pub fn transport<S, R, B>(mut self, transport: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: 'static,
    {
        self.sender.transport(transport);
        self
    }

    /// Sets the number of attempts for an alert; 0 counts as 1. Default: 5.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.sender.max_attempts = attempts.max(1);
        self
    }

    /// Sets the time limit of an attempt. Default: 10 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.sender.timeout = limit;
        self
    }

    /// Sets the number of alerts that may wait; 0 counts as 1. Default: 100.
    pub fn capacity(mut self, alerts: usize) -> Self {
        self.capacity = alerts.max(1);
        self
    }

    /// Sets the seed of the waits' random part, for tests. Default: a random one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.sender.seed(seed);
        self
    }

    /// Starts the task that sends. It ends when the last clone of the handle is dropped; alerts that still wait are
    /// lost.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(self) -> WebhookHandle {
        let queue = Arc::new(Queue::new(self.capacity, self.selection));
        let sender = AlertSender { target: self.target, sender: self.sender.sender(BACKOFF), queue: queue.clone() };
        let task = tokio::spawn(sender.run()).abort_handle();
        WebhookHandle { queue, _task: Arc::new(Stop(task)) }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("format", &self.target.format)
            .field("host", &self.target.host())
            .field("attempts", &self.sender.max_attempts)
            .field("timeout", &self.sender.timeout)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Returns the part of the URL that is not secret.
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

/// A running webhook: an alert sink that also counts deliveries. Clones share the webhook; dropping the last one stops
/// it.
#[derive(Clone)]
pub struct WebhookHandle {
    queue: Arc<Queue>,
    _task: Arc<Stop>,
}

/// Aborts the task once no handle can give it work.
struct Stop(AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl WebhookHandle {
    /// Returns the number of alerts that the webhook accepted.
    pub fn sent(&self) -> u64 {
        self.queue.counts().sent
    }

    /// Returns the number of alerts given up after their last attempt or a final refusal.
    pub fn failed(&self) -> u64 {
        self.queue.counts().failed
    }

    /// Returns the number of alerts dropped because too many waited.
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
const CAPACITY: usize = 100;
