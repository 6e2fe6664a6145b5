//! Reloads, as those hear of them who follow the configuration in work of their own.

use steadfast::events::{Event, Events, Subscriber, Subscription};

/// Calls `act` after each reload, and whenever a reload may have been missed.
pub(crate) fn on_reload(events: &Events, act: impl FnMut() + Send + 'static) -> Subscription {
    events.follow_only(|event| matches!(event, Event::Reloaded { .. }), ReloadListener(act))
}

struct ReloadListener<F>(F);

impl<F: FnMut() + Send + 'static> Subscriber for ReloadListener<F> {
    fn event(&mut self, _: &Event) {
        (self.0)();
    }

    fn lost(&mut self, _: u64) {
        // A reload may have been among the lost events.
        (self.0)();
    }
}
