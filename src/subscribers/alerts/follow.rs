use std::{fmt, mem, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Alert, AlertEngine, Rules};
use crate::events::{Event, Events, Following, follow::yield_after, inbox::Batch};

/// A receiver of alerts. It must not block: a sender has its own queue.
pub trait AlertSink: Send + 'static {
    /// Receives an alert that begins, repeats or ends.
    fn alert(&mut self, alert: &Alert);
}

impl<F: FnMut(&Alert) + Send + 'static> AlertSink for F {
    fn alert(&mut self, alert: &Alert) {
        self(alert);
    }
}

/// Checks events against the rules and reports to the sinks. See the [module docs](super).
#[must_use = "alerts are sent only once it follows events"]
pub struct Alerts {
    rules: Rules,
    sinks: Vec<Box<dyn AlertSink>>,
}

impl Alerts {
    /// Creates alerts with these rules and no sink.
    pub fn new(rules: Rules) -> Self {
        Self { rules, sinks: Vec::new() }
    }

    /// Adds a sink. Without one, alerts go nowhere.
    pub fn to(mut self, sink: impl AlertSink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Follows events in its own task until the result is dropped.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn follow(self, events: &Events) -> Following {
        self.follow_anew(events, |_| {})
    }

    /// Like `follow`, and calls `anew` now, after each reload and whenever a reload may have been missed.
    pub(crate) fn follow_anew(
        self,
        events: &Events,
        mut anew: impl FnMut(&mut AlertEngine) + Send + 'static,
    ) -> Following {
        let inbox = events.inbox(None);
        let (mut engine, mut sinks) = (AlertEngine::new(self.rules), self.sinks);
        let task = tokio::spawn(async move {
            let mut tell = move |alerts: Vec<Alert>| {
                for alert in &alerts {
                    sinks.iter_mut().for_each(|sink| sink.alert(alert));
                }
            };
            let mut batch = Batch::new();
            let mut tick = Instant::now();
            anew(&mut engine);
            loop {
                // The task sleeps until the next event while no alert fires.
                let heard = match engine.is_firing() {
                    false => Some(inbox.take(&mut batch).await),
                    true => timeout_at(tick, inbox.take(&mut batch)).await.ok(),
                };
                if heard == Some(false) {
                    return;
                }
                if mem::take(&mut batch.lost) > 0 {
                    engine.lost();
                    anew(&mut engine);
                }
                for turn in batch.turns() {
                    let now = Instant::now();
                    for event in turn {
                        if matches!(event, Event::Reloaded { .. }) {
                            anew(&mut engine);
                        }
                        tell(engine.on(event, now));
                    }
                    yield_after(turn).await;
                }
                batch.clear();
                // The clock decides, not a pause between events: there may be none.
                let now = Instant::now();
                if now >= tick {
                    tell(engine.tick(now));
                    tick = now + TICK;
                }
            }
        });
        Following(task.abort_handle())
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("rules", &self.rules).field("sinks", &self.sinks.len()).finish()
    }
}

/// The longest delay before an alert is reported as resolved.
const TICK: Duration = Duration::from_secs(10);
