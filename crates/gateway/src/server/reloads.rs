use std::{fmt, sync::Arc, time::Duration};

use steadfast::{Event, StackHandle, config::Config, events::Subscriber};

use crate::{lifecycle::Lifecycle, limits::Settings};

/// Follows the reloads of a configuration: what can change while the server runs does, and of the rest it is overrides that it
/// does not.
pub(crate) struct Reloads {
    lifecycle: Arc<Lifecycle>,
    stack: StackHandle,
    /// What is at work of what needs a start.
    started_with: Arc<Config>,
    /// What the command line says.
    overrides: Overrides,
    /// What was last overrides to wait for a start.
    reported: Vec<&'static str>,
}

/// What the command line and the environment say, which is stronger than the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrides {
    pub(crate) grace: Option<Duration>,
    pub(crate) listen: bool,
    pub(crate) keys: bool,
}

impl Reloads {
    /// Of the server that was started_with with this configuration.
    pub(crate) fn of(
        lifecycle: Arc<Lifecycle>,
        stack: StackHandle,
        started_with: Arc<Config>,
        overrides: Overrides,
    ) -> Self {
        let mut reloads = Self { lifecycle, stack, started_with, overrides, reported: Vec::new() };
        // What came between the start and this.
        reloads.follow();
        reloads
    }

    fn follow(&mut self) {
        let now = self.stack.config();
        self.lifecycle.current.store(Arc::new(Settings::of(&now, self.overrides.grace)));
        let pending = pending_restart(&self.started_with, &now, self.overrides);
        if pending != self.reported && !pending.is_empty() {
            let settings = pending.join(", ");
            tracing::warn!(settings, "these settings hold from the next start on");
        }
        self.reported = pending;
    }

    /// The events that it is to hear.
    pub(crate) fn wanted(event: &Event) -> bool {
        matches!(event, Event::Reloaded { .. })
    }
}

impl Subscriber for Reloads {
    fn event(&mut self, _: &Event) {
        self.follow();
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

/// What has changed since and waits for a start.
fn pending_restart(started_with: &Config, now: &Config, overrides: Overrides) -> Vec<&'static str> {
    let (was, is) = (&started_with.gateway, &now.gateway);
    let changed = [
        ("listen", started_with.listen != now.listen && !overrides.listen),
        ("gateway.keys", was.keys != is.keys && !overrides.keys),
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
    use steadfast::config::{Size, Span};

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
}
