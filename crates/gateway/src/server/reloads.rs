use std::{fmt, sync::Arc, time::Duration};

use steadfast::{Event, events::Subscriber};
use steadfast_stack::{Config, Gateway, KeySource, StackHandle};

use crate::{api::Keys, lifecycle::Lifecycle, limits::Settings};

/// Follows the reloads of a configuration: applies the settings that can change while the server runs, and logs the
/// others.
pub(crate) struct Reloads {
    lifecycle: Arc<Lifecycle>,
    stack: StackHandle,
    /// The configuration at the start, for the settings that need one.
    started_with: Arc<Config>,
    /// The command line's settings.
    overrides: Overrides,
    /// The callers' keys, which may name what a reload has removed.
    keys: Option<Arc<Keys>>,
    /// The settings that were last reported to need a restart.
    reported: Vec<&'static str>,
}

/// The settings of the command line and the environment, which take precedence over the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrides {
    pub(crate) grace: Option<Duration>,
    pub(crate) listen: bool,
    pub(crate) keys: bool,
}

impl Reloads {
    /// Follows the reloads of the server that started with this configuration.
    pub(crate) fn of(
        lifecycle: Arc<Lifecycle>,
        stack: StackHandle,
        started_with: Arc<Config>,
        overrides: Overrides,
        keys: Option<Arc<Keys>>,
    ) -> Self {
        let mut reloads = Self { lifecycle, stack, started_with, overrides, keys, reported: Vec::new() };
        // A reload may have come between the start and this.
        reloads.follow();
        reloads
    }

    fn follow(&mut self) {
        let now = self.stack.config();
        self.lifecycle.current.store(Arc::new(Settings::of(&now, self.overrides.grace)));
        let pending = pending_restart(&self.started_with, &now, self.overrides);
        if pending != self.reported && !pending.is_empty() {
            let settings = pending.join(", ");
            tracing::warn!(settings, "changed settings need a restart");
        }
        self.reported = pending;
    }

    /// Returns true for the events that this subscriber needs.
    pub(crate) fn wanted(event: &Event) -> bool {
        matches!(event, Event::Reloaded { .. })
    }
}

impl Subscriber for Reloads {
    fn event(&mut self, _: &Event) {
        self.follow();
        if let Some(keys) = &self.keys {
            keys.follow_configuration();
        }
    }

    fn lost(&mut self, _: u64) {
        self.follow();
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("reported", &self.reported).finish_non_exhaustive()
    }
}

/// Returns the settings that have changed and need a restart.
fn pending_restart(started_with: &Config, now: &Config, overrides: Overrides) -> Vec<&'static str> {
    let (was, is) = (&started_with.gateway, &now.gateway);
    let stored = |gateway: &Gateway| gateway.keys.as_ref().and_then(KeySource::registry).cloned();
    let (is_stored, is_moved) = (stored(was).is_some(), stored(was) != stored(is));
    let is_another_store = started_with.stores.durable != now.stores.durable;
    let changed = [
        ("listen", started_with.listen != now.listen && !overrides.listen),
        ("gateway.keys", is_moved || was.keys != is.keys && !overrides.keys),
        ("gateway.oidc", was.oidc != is.oidc),
        ("stores.durable, for keys", is_stored && is_another_store),
        ("stores.durable, for orders by hand", is_another_store),
        ("gateway.connections", was.connections != is.connections),
        ("gateway.max_head", was.max_head != is.max_head),
        ("gateway.head_timeout", was.head_timeout != is.head_timeout),
        ("gateway.unread_timeout", was.unread_timeout != is.unread_timeout),
        ("gateway.memory", was.memory != is.memory),
        ("gateway.records", was.records != is.records),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use steadfast_stack::{Secret, Size, Span};

    use super::*;

    const NOTHING: Overrides = Overrides { grace: None, listen: false, keys: false };

    #[test]
    fn what_cannot_change_while_the_server_runs_waits_for_a_start() {
        let started_with = Config::default();
        let mut now = started_with.clone();
        now.gateway.max_body = Some(Size(1 << 20));
        now.gateway.keep_alive = Some(Span(Duration::from_secs(5)));
        assert!(pending_restart(&started_with, &now, NOTHING).is_empty());
        now.listen = Some(([127, 0, 0, 1], 1).into());
        now.gateway.connections = Some(5);
        assert_eq!(pending_restart(&started_with, &now, NOTHING), ["listen", "gateway.connections"]);
        assert_eq!(
            pending_restart(&started_with, &now, Overrides { listen: true, ..NOTHING }),
            ["gateway.connections"]
        );
    }

    #[test]
    fn orders_by_hand_stay_in_the_store_of_the_start() {
        let mut started_with = Config::default();
        let mut now = started_with.clone();
        now.stores.durable = Some(Secret::new("sqlite:other.db"));
        let said = ["stores.durable, for orders by hand"];
        assert_eq!(pending_restart(&started_with, &now, NOTHING), said, "new");
        started_with.stores.durable = Some(Secret::new("sqlite:state.db"));
        assert_eq!(pending_restart(&started_with, &now, NOTHING), said, "moved");
        now.stores.durable = None;
        assert_eq!(pending_restart(&started_with, &now, NOTHING), said, "gone");
    }
}
