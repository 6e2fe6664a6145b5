use std::{fmt, mem, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Alert, AlertEngine, Rules};
use crate::events::{Event, Events, Following, follow::others_turn, inbox::Batch};

/// Somebody who is told of alerts. It must not block: a sender has a queue of its own.
pub trait AlertSink: Send + 'static {
    /// An alert has begun, goes on, or is over.
    fn alert(&mut self, alert: &Alert);
}

impl<F: FnMut(&Alert) + Send + 'static> AlertSink for F {
    fn alert(&mut self, alert: &Alert) {
        self(alert);
    }
}

/// Holds events against the rules, and tells of what comes out. See the [module docs](super).
#[must_use = "nobody is told before it follows"]
pub struct Alerts {
    rules: Rules,
    sinks: Vec<Box<dyn AlertSink>>,
}

impl Alerts {
    /// These rules, and nobody who is told.
    pub fn new(rules: Rules) -> Self {
        Self { rules, sinks: Vec::new() }
    }

    /// Tells this one too. Without any, alerts are told to nobody.
    pub fn to(mut self, sink: impl AlertSink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Follows events from now on, in a task of its own, until the result is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn follow(self, events: &Events) -> Following {
        self.follow_anew(events, |_| {})
    }

    /// The same; what goes by a configuration is looked at anew now, after each reload, and when one may have been missed.
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
                // While nothing is wrong only events count, and the task sleeps.
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
                    others_turn(turn).await;
                }
                batch.clear();
                // By the clock and not only when no event comes: they may never pause.
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

/// How late an alert may be said to be over.
const TICK: Duration = Duration::from_secs(10);
