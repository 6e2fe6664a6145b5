use std::{fmt, sync::Arc, time::Duration};

use steadfast::{Event, StackHandle, config::Config, events::Subscriber};

use crate::{lifecycle::Lifecycle, limits::Settings};

/// Follows the reloads of a configuration: what can change while the server runs does, and of the rest it is said that it
/// does not.
pub(crate) struct Reloads {
    lifecycle: Arc<Lifecycle>,
    stack: StackHandle,
    /// What is at work of what needs a start.
    begun: Arc<Config>,
    /// What the command line says.
    said: Said,
    /// What was last said to wait for a start.
    told: Vec<&'static str>,
}

/// What the command line and the environment say, which is stronger than the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) grace: Option<Duration>,
    pub(crate) listen: bool,
    pub(crate) keys: bool,
}

impl Reloads {
    /// Of the server that was begun with this configuration.
    pub(crate) fn of(lifecycle: Arc<Lifecycle>, stack: StackHandle, begun: Arc<Config>, said: Said) -> Self {
        let mut reloads = Self { lifecycle, stack, begun, said, told: Vec::new() };
        // What came between the start and this.
        reloads.follow();
        reloads
    }

    fn follow(&mut self) {
        let now = self.stack.config();
        self.lifecycle.current.store(Arc::new(Settings::of(&now, self.said.grace)));
        let waiting = waiting(&self.begun, &now, self.said);
        if waiting != self.told && !waiting.is_empty() {
            let settings = waiting.join(", ");
            tracing::warn!(settings, "these settings hold from the next start on");
        }
        self.told = waiting;
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
        f.debug_struct("Reloads").field("told", &self.told).finish_non_exhaustive()
    }
}

/// What has changed since and waits for a start.
fn waiting(begun: &Config, now: &Config, said: Said) -> Vec<&'static str> {
    let (was, is) = (&begun.gateway, &now.gateway);
    let changed = [
        ("listen", begun.listen != now.listen && !said.listen),
        ("gateway.keys", was.keys != is.keys && !said.keys),
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

    const NOTHING: Said = Said { grace: None, listen: false, keys: false };

    #[test]
    fn what_cannot_change_while_the_server_runs_waits_for_a_start() {
        let begun = Config::default();
        let mut now = begun.clone();
        now.gateway.max_body = Some(Size(1 << 20));
        now.gateway.keep_alive = Some(Span(Duration::from_secs(5)));
        assert!(waiting(&begun, &now, NOTHING).is_empty());
        now.listen = Some(([127, 0, 0, 1], 1).into());
        now.gateway.connections = Some(5);
        assert_eq!(waiting(&begun, &now, NOTHING), ["listen", "gateway.connections"]);
        assert_eq!(waiting(&begun, &now, Said { listen: true, ..NOTHING }), ["gateway.connections"]);
    }
}
