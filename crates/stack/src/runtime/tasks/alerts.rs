//! A configuration's alerts, sent while its stack runs.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::reloads;
use crate::runtime::{
    StackHandle,
    parts::alert_plan::{AlertPlan, WebhookPlan},
    state::StackState,
};
use steadfast::events::Subscription;
use steadfast_internal::sync::{Mutex, lock};
use steadfast_subscribers::alerts::{Alert, AlertEngine, AlertSink, Alerts, WebhookHandle};

impl StackHandle {
    /// Starts a task that sends alerts for events in the stack until the [`AlertTask`] is dropped. The rules and
    /// webhooks are those of the configuration's `alerts`. Feature `alerts`.
    ///
    /// A reload's rules and webhooks apply from that reload on. A webhook that the reload leaves unchanged keeps its
    /// queue. The end of an alert is reported to the webhooks of that moment. A slow webhook never delays a request.
    /// While there is no webhook, no event is checked: a first one that a reload adds hears of what begins after it.
    ///
    /// Call this once: each `AlertTask` sends its own alerts. Sinks of your own, such as a function or a pager, follow
    /// the [events](Self::events) with an [`Alerts`](steadfast_subscribers::alerts::Alerts) of their own.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use steadfast::LlmRequest;
    /// use steadfast_stack::{Stack, Config, Format};
    /// use tokio::sync::mpsc;
    /// use tower::{BoxError, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = "
    /// tiers:
    ///   - { name: sonnet, provider: simulated }
    ///   - { name: sorry, provider: canned, text: Please try again in a minute. }
    /// alerts:
    ///   webhooks: [{ url: 'https://hooks.slack.example/services/T0/B0/secret' }]
    ///   rules: { failure_rate: { share: 10% }, repeat: 4h }
    /// ";
    /// # let (send, mut sent) = mpsc::unbounded_channel();
    /// # let webhook = service_fn(move |request: Request<Full<bytes::Bytes>>| {
    /// #     let send = send.clone();
    /// #     async move {
    /// #         let body = request.into_body().collect().await?.to_bytes();
    /// #         send.send(String::from_utf8(body.to_vec())?)?;
    /// #         Ok::<_, BoxError>(Response::new(Full::<bytes::Bytes>::default()))
    /// #     }
    /// # });
    /// // The transport, here a function, defaults to an HTTP client.
    /// let stack = Stack::builder().transport(webhook).build(Config::from_str(file, Format::Yaml)?)?;
    /// let handle = stack.handle();
    /// let _alerting = handle.alert();
    ///
    /// handle.circuits()["sonnet"].force_open();
    /// stack.service().oneshot(LlmRequest::prompt("How is the weather?")).await?;
    /// assert!(sent.recv().await.unwrap().contains("sorry serves in place of sonnet"));
    /// # Ok(()) }
    /// ```
    pub fn alert(&self) -> AlertTask {
        let active = ActiveWebhooks::new(self.shared.current.load().alerts.clone());
        let alerting = Arc::new(Alerting {
            shared: Arc::downgrade(&self.shared),
            active: Arc::new(Mutex::new(active)),
            subscription: Mutex::default(),
        });
        let followed = alerting.clone();
        let reloads = reloads::on_reload(self.events(), move || followed.follow_plan());
        alerting.follow_plan();
        AlertTask { alerting, _reloads: reloads }
    }
}

/// A task that sends a stack's alerts until it is dropped; alerts still in a webhook's queue are then discarded.
#[must_use = "alerts are sent until this is dropped"]
pub struct AlertTask {
    alerting: Arc<Alerting>,
    _reloads: Subscription,
}

impl AlertTask {
    /// Returns the active webhooks in the configuration's order, with their counts of sent, refused and dropped
    /// alerts. A reload may replace them: look them up again afterwards.
    pub fn webhooks(&self) -> Vec<WebhookHandle> {
        lock(&self.alerting.active).webhooks.clone()
    }
}

impl fmt::Debug for AlertTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertTask").field("webhooks", &self.webhooks()).finish_non_exhaustive()
    }
}

/// The active webhooks, one for each in the plan.
#[derive(Clone)]
struct ActiveWebhooks {
    plan: Arc<AlertPlan>,
    webhooks: Vec<WebhookHandle>,
}

impl ActiveWebhooks {
    fn new(plan: Arc<AlertPlan>) -> Self {
        let webhooks = plan.webhooks.iter().map(|plan| plan.webhook.clone().start()).collect();
        Self { plan, webhooks }
    }

    /// Switches to another plan; unchanged webhooks continue.
    fn with_plan(self, plan: Arc<AlertPlan>) -> Self {
        let mut before: Vec<_> = self.plan.webhooks.iter().zip(self.webhooks).collect();
        let webhook = |plan: &WebhookPlan| match before.iter().position(|(old, _)| plan.is_same(old)) {
            Some(place) => before.swap_remove(place).1,
            None => plan.webhook.clone().start(),
        };
        let webhooks = plan.webhooks.iter().map(webhook).collect();
        Self { plan, webhooks }
    }
}

/// Activates the current configuration's webhooks if it has changed, and returns the active plan.
fn activate(shared: &Weak<StackState>, active: &Mutex<ActiveWebhooks>) -> Arc<AlertPlan> {
    loop {
        // Read before the configuration, which is then no older.
        let before = lock(active).clone();
        let known = before.plan.clone();
        let Some(plan) = shared.upgrade().map(|shared| shared.current.load().alerts.clone()) else { return known };
        if Arc::ptr_eq(&plan, &known) {
            return plan;
        }
        let mut replaced = before.with_plan(plan.clone());
        let mut active = lock(active);
        // Of two tasks that are here at once, the first one's webhooks stay: alerts may be in their queues.
        let is_first = Arc::ptr_eq(&active.plan, &known);
        if is_first {
            std::mem::swap(&mut *active, &mut replaced);
        }
        // Webhooks that are not active are dropped without the lock.
        drop(active);
        drop(replaced);
        if is_first {
            return plan;
        }
    }
}

/// The check of events against the rules. It runs while the configuration has a webhook: each call costs it events.
struct Alerting {
    shared: Weak<StackState>,
    active: Arc<Mutex<ActiveWebhooks>>,
    subscription: Mutex<Option<Subscription>>,
}

impl Alerting {
    /// Starts or stops as the current configuration demands.
    fn follow_plan(&self) {
        activate(&self.shared, &self.active);
        let mut subscription = lock(&self.subscription);
        let plan = lock(&self.active).plan.clone();
        if plan.webhooks.is_empty() {
            *subscription = None;
        } else if subscription.is_none() {
            *subscription = self.begin(plan);
        }
    }

    fn begin(&self, mut known: Arc<AlertPlan>) -> Option<Subscription> {
        let (shared, active, first) = (self.shared.clone(), self.active.clone(), known.clone());
        let refresh = move |engine: &mut AlertEngine| {
            let plan = activate(&shared, &active);
            if !Arc::ptr_eq(&plan, &known) {
                engine.set_rules(plan.rules.clone());
                engine.set_origin(plan.origin.clone());
                known = plan;
            }
        };
        let stack = self.shared.upgrade()?;
        let alerts = Alerts::new(first.rules.clone()).origin(first.origin.clone()).to(WebhookSink(self.active.clone()));
        Some(alerts.follow_with(&stack.context.events, refresh))
    }
}

/// Queues each alert for the webhooks.
struct WebhookSink(Arc<Mutex<ActiveWebhooks>>);

impl AlertSink for WebhookSink {
    fn alert(&mut self, alert: &Alert) {
        let mut webhooks = lock(&self.0).webhooks.clone();
        webhooks.iter_mut().for_each(|webhook| webhook.alert(alert));
    }
}
