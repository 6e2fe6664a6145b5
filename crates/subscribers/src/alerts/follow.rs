use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{Alert, AlertEngine, Origin, Rules};
use steadfast::events::{Event, Events, Subscriber, Subscription};

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
    origin: Origin,
    sinks: Vec<Box<dyn AlertSink>>,
}

impl Alerts {
    /// Creates alerts with these rules and no sink.
    pub fn new(rules: Rules) -> Self {
        Self { rules, origin: Origin::default(), sinks: Vec::new() }
    }

    /// Adds a sink. Without one, alerts go nowhere.
    pub fn to(mut self, sink: impl AlertSink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Sets the place that the alerts come from: the deployment and this process. Default: `steadfast`.
    ///
    /// Give each deployment a source of its own: the [ids](Alert::id) contain it.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Follows events in its own task until the result is dropped.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn follow(self, events: &Events) -> Subscription {
        self.follow_with(events, |_| {})
    }

    /// Like `follow`, and calls `refresh` at the beginning, after each reload and whenever a reload may have been
    /// missed.
    pub fn follow_with(self, events: &Events, refresh: impl FnMut(&mut AlertEngine) + Send + 'static) -> Subscription {
        let mut engine = AlertEngine::new(self.rules);
        engine.set_origin(self.origin);
        events.follow(Follower { engine, sinks: self.sinks, refresh, begun: false, tick: Instant::now() })
    }
}

/// Passes events to the engine and its alerts to the sinks.
struct Follower<F> {
    engine: AlertEngine,
    sinks: Vec<Box<dyn AlertSink>>,
    refresh: F,
    /// False until the first wake, at once, which reads what the rules depend on.
    begun: bool,
    /// The time of the next look at the clock while an alert fires.
    tick: Instant,
}

impl<F> Follower<F> {
    fn send(&mut self, alerts: &[Alert]) {
        for alert in alerts {
            self.sinks.iter_mut().for_each(|sink| sink.alert(alert));
        }
    }
}

impl<F: FnMut(&mut AlertEngine) + Send + 'static> Subscriber for Follower<F> {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Reloaded { .. }) {
            (self.refresh)(&mut self.engine);
        }
        let alerts = self.engine.on(event, Instant::now());
        self.send(&alerts);
    }

    fn events(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.event(event));
        // The clock decides, not a pause between events: there may be none.
        let now = Instant::now();
        if self.begun && now >= self.tick {
            self.wake(now);
        }
    }

    fn lost(&mut self, _: u64) {
        self.engine.lost();
        (self.refresh)(&mut self.engine);
    }

    /// The task sleeps until the next event while no alert fires.
    fn wake_at(&self) -> Option<Instant> {
        (!self.begun || self.engine.is_firing()).then_some(self.tick)
    }

    fn wake(&mut self, now: Instant) {
        if !self.begun {
            self.begun = true;
            (self.refresh)(&mut self.engine);
        }
        let alerts = self.engine.tick(now);
        self.send(&alerts);
        self.tick = now + TICK;
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("rules", &self.rules).field("sinks", &self.sinks.len()).finish()
    }
}

/// The longest delay before an alert is reported as resolved.
const TICK: Duration = Duration::from_secs(10);
