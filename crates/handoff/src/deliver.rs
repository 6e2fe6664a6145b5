//! Delivery of messages about tasks, with retries until they arrive.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use serde_json::json;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};
use tower::{BoxError, Service};

use super::{Delivery, DeliveryKind, DeliveryOutcome, Desk, DeskError, Task};
use steadfast::{events::HandoffStep, providers::http::RequestBody};
use steadfast_internal::wall_clock;
use steadfast_webhook::{self as webhook, Backoff, Failure};

/// Sends messages about tasks: notifications to people ([`Desk::notify`]), and callbacks with answers
/// ([`Desk::callbacks`]).
///
/// The store keeps a message beside its task. A failed attempt is repeated after a pause that doubles from a second to
/// an hour, half of it random, up to 20 attempts. Then the message is given up, as [`Task::deliveries`] and
/// [`TaskStats::deliveries_dead`](super::TaskStats::deliveries_dead) show. A receiver that answers 410 (gone) is given
/// up at once, and `Retry-After` is honoured up to an hour. If the process ends during an attempt, the next process
/// repeats it: a receiver may see a message twice, under the same `webhook-id`.
///
/// ```
/// use steadfast_handoff::{Callbacks, Deliveries, Desk, MemoryTasks, Notify, WebhookSecret};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let env = |name: &str| if name == "SLACK" { "https://hooks.slack.example/T0/B0/x" } else { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" };
/// let desk = Desk::new(MemoryTasks::new())
///     .notify(Notify::slack(&env("SLACK"))?.preview(false))
///     .callbacks(Callbacks::new(WebhookSecret::new(&env("CALLBACK_SECRET"))?).host("hooks.example.com")?);
/// let _sending = Deliveries::new(&desk).start();
/// # Ok(()) }
/// ```
#[must_use = "messages are sent only once it is started"]
pub struct Deliveries {
    desk: Desk,
    sender: webhook::Settings,
}

/// The number of concurrent attempts.
const AT_ONCE: usize = 16;
/// The interval between checks for messages that another process has written.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The same interval while the store is unavailable.
const OUTAGE_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between counts of waiting tasks, while there is a subscriber to events.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// The interval between removals of old tasks.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);

const ATTEMPTS: u32 = 20;
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(3600),
    longest_requested: Duration::from_secs(3600),
};

impl Deliveries {
    /// Creates deliveries for this desk's tasks, to the receivers in its settings.
    pub fn new(desk: &Desk) -> Self {
        Self { desk: desk.clone(), sender: webhook::Settings::new(ATTEMPTS) }
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

    /// Sets the number of attempts for each message; 0 counts as 1. Default: 20.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.sender.max_attempts = attempts.max(1);
        self
    }

    /// Sets the time limit of an attempt. Default: 10 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.sender.timeout = limit;
        self
    }

    /// Sets the seed of the pauses' random part, for tests. Default: a random one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.sender.seed(seed);
        self
    }

    /// Starts the task that sends messages and removes old tasks. It ends when the handle is dropped; the next process
    /// sends the rest.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(self) -> DeliveriesHandle {
        let timeout = self.sender.timeout;
        let sender = DeliverySender { desk: self.desk, timeout, sender: self.sender.sender(BACKOFF) };
        DeliveriesHandle(tokio::spawn(sender.run()).abort_handle())
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries")
            .field("desk", &self.desk)
            .field("max_attempts", &self.sender.max_attempts)
            .finish_non_exhaustive()
    }
}

/// Running deliveries. Dropping the handle stops them.
#[derive(Debug)]
#[must_use = "dropping it stops the task"]
pub struct DeliveriesHandle(AbortHandle);

impl Drop for DeliveriesHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone)]
struct DeliverySender {
    desk: Desk,
    timeout: Duration,
    sender: webhook::Sender,
}

impl DeliverySender {
    async fn run(mut self) {
        let new_messages = self.desk.new_messages();
        let mut sending = JoinSet::new();
        let (mut swept_at, mut counted_at) = (None, None);
        let mut reported = 0;
        let mut is_store_down = false;
        loop {
            while sending.try_join_next().is_some() {}
            if swept_at.is_none_or(|at: Instant| at.elapsed() >= SWEEP_INTERVAL) {
                swept_at = Some(Instant::now());
                self.sweep().await;
            }
            if counted_at.is_none_or(|at: Instant| at.elapsed() >= COUNT_INTERVAL) {
                counted_at = Some(Instant::now());
                self.desk.report_waiting(&mut reported).await;
            }
            let room = AT_ONCE - sending.len();
            // The lease outlasts an attempt that is still under way.
            let lease = self.timeout.saturating_mul(2).saturating_add(Duration::from_secs(10));
            let due = match self.desk.due(room, lease).await {
                Ok(due) => {
                    is_store_down = false;
                    due
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_store_down, true) {
                        tracing::warn!(event = "handoff_deliveries_wait", problem = %error);
                    }
                    sleep(OUTAGE_POLL_INTERVAL).await;
                    continue;
                }
            };
            let is_full = due.len() == room;
            for delivery in due {
                let sender = Self { sender: self.sender.fork(), ..self.clone() };
                sending.spawn(sender.deliver(delivery));
            }
            tokio::select! {
                // More may be due than were requested.
                _ = sending.join_next(), if is_full => {}
                () = new_messages.notified(), if !is_full => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }

    async fn deliver(mut self, delivery: Delivery) {
        let outcome = match self.send(&delivery).await {
            Ok(outcome) => outcome,
            // A task that cannot be read now will not be readable next time either.
            Err(DeskError::Store(error)) if !error.heals() => self.retry(&delivery, error.to_string(), Duration::ZERO),
            Err(error) => {
                // The lease makes it due again.
                tracing::debug!(event = "handoff_delivery_waits", id = delivery.id, problem = %error);
                return;
            }
        };
        if let DeliveryOutcome::Dead { problem } = &outcome {
            tracing::warn!(
                event = "handoff_not_delivered",
                id = delivery.id,
                kind = delivery.kind.name(),
                attempts = delivery.attempts,
                problem
            );
            let kind = delivery.kind.name();
            self.desk.report(delivery.task, None, || HandoffStep::NotDelivered { kind });
        }
        if let Err(error) = self.desk.settle(delivery, outcome).await {
            tracing::debug!(event = "handoff_delivery_waits", problem = %error);
        }
    }

    async fn send(&mut self, delivery: &Delivery) -> Result<DeliveryOutcome, DeskError> {
        let task = self.desk.show(delivery.task).await?;
        let request = match delivery.kind {
            // A closed task needs no notification.
            DeliveryKind::Notification if !task.state.is_open() => return Ok(DeliveryOutcome::Done),
            DeliveryKind::Notification => self.notification(&task),
            DeliveryKind::Callback => self.callback(&task, delivery),
        };
        let request = match request {
            Ok(request) => request,
            Err(problem) => return Ok(self.retry(delivery, problem, Duration::ZERO)),
        };
        Ok(match self.sender.post(request).await {
            Ok(()) => DeliveryOutcome::Done,
            Err(Failure { status: Some(StatusCode::GONE), .. }) => {
                DeliveryOutcome::Dead { problem: "it is gone (410)".to_owned() }
            }
            Err(failure) => self.retry(delivery, failure.to_string(), failure.retry_after.unwrap_or_default()),
        })
    }

    /// Schedules the next attempt, or gives the delivery up after the last one.
    fn retry(&mut self, delivery: &Delivery, problem: String, requested: Duration) -> DeliveryOutcome {
        match self.sender.wait_after(delivery.attempts, requested) {
            Some(after) => DeliveryOutcome::Again { after, problem },
            None => DeliveryOutcome::Dead { problem },
        }
    }

    fn notification(&self, task: &Task) -> Result<Request<RequestBody>, String> {
        let notify = self.desk.settings.notify.as_ref().ok_or("the settings name no receiver of notifications")?;
        Ok(webhook::request(&notify.url, notify.body(task)))
    }

    fn callback(&self, task: &Task, delivery: &Delivery) -> Result<Request<RequestBody>, String> {
        let callbacks = self.desk.settings.callbacks.as_ref().ok_or("the settings have no secret to sign it with")?;
        let url = match &delivery.url {
            // The settings may have changed since it was written down.
            Some(url) => callbacks.allowed(url)?,
            None => callbacks.url.clone().ok_or("the settings name no address for callbacks")?,
        };
        let body = callback_body(task, &url);
        let mut request = webhook::request(&url, body.clone());
        for (name, value) in callbacks.secret_for(&url).headers(&delivery.id, &body) {
            let value = HeaderValue::from_str(&value).map_err(|_| "a header that cannot be sent")?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    async fn sweep(&self) {
        match self.desk.sweep().await {
            Ok(0) => {}
            Ok(tasks) => tracing::info!(event = "handoff_swept", tasks),
            Err(error) => tracing::debug!(event = "handoff_not_swept", problem = %error),
        }
    }
}

/// Returns a callback's body, which is the same for each attempt.
fn callback_body(task: &Task, url: &Uri) -> Bytes {
    let at = task.answer.as_ref().map_or(task.created_at, |answer| answer.at);
    let at = wall_clock::rfc3339(Duration::from_millis(at));
    // Signed with the rest, so that no receiver can pass the message to another as its own.
    let address = url.to_string();
    json!({ "type": "handoff.answered", "timestamp": at, "address": address, "data": task.result() }).to_string().into()
}
