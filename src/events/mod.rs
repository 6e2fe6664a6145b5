//! What the layers tell the world: one typed event, sent once where the state changes.

pub mod alerts;
mod away;
#[cfg(any(feature = "metrics", feature = "otel"))]
mod conventions;
mod follow;
mod handed_over;
mod inbox;
mod line_limit;
mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
mod operation;
mod request;
mod status;
#[cfg(test)]
mod testing;
#[cfg(feature = "otel")]
pub mod traces;
mod window;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

use self::inbox::{Inbox, Inboxes, OnlyQueue, Wanted};
pub use self::{
    follow::{Following, Subscriber},
    handed_over::{HandedOver, HandoffStep},
    line_limit::LineLimit,
    logs::Logs,
    operation::Operation,
    request::{CachedAnswer, RequestEnded, RequestOutcome},
    status::{
        CacheStatus, Latency, RecentRequests, ServingState, Status, StatusBoard, Switch, TierHealth, TierStatus,
        TimeOnFallback,
    },
};
use crate::{
    ErrorKind,
    layers::mirror::{Comparison, NotCompared},
    prices::Usd,
};

/// Something changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Requests are served by another tier than before, further from the primary. The first is told at once. Where the primary has been
    /// back and fails again, ten in a row are told, and twenty where that has happened twice: a request that fails now and then
    /// is no switch.
    ModelSwitched {
        /// The tier that served before.
        from: Arc<str>,
        /// The tier that serves now.
        to: Arc<str>,
        /// Why the tier before did not.
        reason: ErrorKind,
        /// When.
        at: Instant,
    },
    /// The primary serves again; or a reload has put another in its place, or taken away the tier that served for it. Its first answer is
    /// told at once. Where it has failed again after that, it is told when it has answered five requests in a row for a minute, and where that
    /// has happened twice, twenty in a row for 20 minutes.
    ModelRecovered {
        /// The tier that served meanwhile.
        from: Arc<str>,
        /// The primary.
        to: Arc<str>,
        /// How long the primary did not serve, until the first of these answers.
        after: Duration,
        /// When.
        at: Instant,
    },
    /// A circuit changed its state.
    CircuitChanged {
        /// The circuit's name.
        circuit: Arc<str>,
        /// The state before.
        from: CircuitState,
        /// The state now.
        to: CircuitState,
        /// Why.
        reason: CircuitReason,
        /// When.
        at: Instant,
    },
    /// A tier that failed was asked whether it works again, without a request: told by what
    /// `StackHandle::check_recovery` starts (feature `config`).
    RecoveryChecked {
        /// The tier.
        tier: Arc<str>,
        /// The kind of its failure; `None` for an answer.
        failure: Option<ErrorKind>,
        /// How long that took.
        took: Duration,
        /// When.
        at: Instant,
    },
    /// A call has ended that began before its circuit's last change of state, so that its outcome changed nothing.
    LateResult {
        /// The circuit's name.
        circuit: Arc<str>,
        /// The kind of its failure; `None` for an answer, and for a call whose caller left.
        failure: Option<ErrorKind>,
        /// When.
        at: Instant,
    },
    /// A request has ended: told by an `ObserveLayer`.
    RequestEnded(RequestEnded),
    /// A [`Hedge`](crate::Hedge) has sent a second call for a request, and the request has come to its end there: told once for
    /// each second call.
    Hedged {
        /// The tier that was late or failed.
        tier: Arc<str>,
        /// The tier of the second call; the same one, where the same service was called again.
        to: Arc<str>,
        /// Whether the second call answered the request: not if the first did, if both failed, or if the caller left.
        won: bool,
        /// How long after the first call it was begun.
        after: Duration,
        /// When.
        at: Instant,
    },
    /// Every tier that may serve a request has failed or refused it: by its feature's policy or among all, and by what it
    /// needs. Sent once for each such request. Not sent of one that stopped before the last tier (out of time or attempts,
    /// its session pinned) or because of itself (it is wrong, too long, against the content policy).
    AllTiersFailed {
        /// The feature that asked.
        feature: Option<Arc<str>>,
        /// The failure that the error leads with.
        reason: ErrorKind,
        /// When.
        at: Instant,
    },
    /// A share of a spending cap is used up. Sent once for each share and period.
    BudgetReached {
        /// The cap's name.
        cap: Arc<str>,
        /// Whose it is, of a cap for each key. Callers may invent keys: no bounded list has them all.
        key: Option<Arc<str>>,
        /// The share, in percent: 80 or 100 by default.
        percent: u8,
        /// What was spent in this period, by answers and attempts that have ended.
        spent: Usd,
        /// What is reserved for requests in flight. The share counts both.
        reserved: Usd,
        /// The cap.
        limit: Usd,
        /// When the period ends.
        resets_at: Instant,
        /// When.
        at: Instant,
    },
    /// A period of a spending cap of which a share was used up has ended: there is money again.
    BudgetReset {
        /// The cap's name.
        cap: Arc<str>,
        /// Whose it is, of a cap for each key.
        key: Option<Arc<str>>,
        /// When.
        at: Instant,
    },
    /// Somebody did something to the running stack by hand, through a handle. Not sent of what was so already. What comes of
    /// it (a [`CircuitChanged`](Self::CircuitChanged), a [`ModelSwitched`](Self::ModelSwitched)) is told beside it.
    Operated {
        /// What.
        operation: Operation,
        /// Who, where the handle was [acting](crate::CircuitBreakerHandle::acting_as) as somebody.
        by: Option<Arc<str>>,
        /// When.
        at: Instant,
    },
    /// A request was handed to people, or what became of it: told by a `Desk` (feature `handoff`).
    HandedOver(HandedOver),
    /// A mirrored request has ended on both sides: told by a `MirrorLayer`, without a word of what was said.
    Mirrored(Arc<Comparison>),
    /// A request was chosen to be mirrored and not compared: told by a `MirrorLayer`, once for each, but for those that were
    /// ended by [`MirrorHandle::close`](crate::MirrorHandle::close).
    NotCompared {
        /// The feature that asked.
        feature: Option<Arc<str>>,
        /// Why.
        why: NotCompared,
        /// When.
        at: Instant,
    },
    /// Another number of requests waits for a person than was told before: of all processes that share the tasks. Told by
    /// `Deliveries` (feature `handoff`).
    HandoffWaiting {
        /// How many wait that nobody is at.
        waiting: u64,
        /// How long the oldest of them has been waiting.
        oldest: Option<Duration>,
        /// When.
        at: Instant,
    },
    /// A configuration was loaded in place of the one before.
    Reloaded {
        /// The tiers whose circuits and budgets went on as they were.
        kept: usize,
        /// The tiers that are new or changed.
        changed: usize,
        /// When.
        at: Instant,
    },
    /// A store that is shared or outlives the process is left alone, since it failed or said nothing in time, and this
    /// process goes on with what it knows itself; or it answers again.
    StoreChanged {
        /// What it is asked for, such as `idempotency`.
        store: Arc<str>,
        /// Whether it answers.
        available: bool,
        /// When.
        at: Instant,
    },
    /// A model refused a parameter that the translation carried or that its caller chose for another model, and answered
    /// without it: it is left out for an hour. Sent once for each. A table of models that knows this one spares the first
    /// call.
    ParameterRefused {
        /// The provider, as its leaf is named.
        provider: Arc<str>,
        /// The model.
        model: Arc<str>,
        /// Where it stands in a body of the provider's dialect.
        parameter: &'static str,
        /// When.
        at: Instant,
    },
    /// A configuration was refused; the one before goes on.
    ReloadRefused {
        /// What is wrong with it.
        problem: Arc<str>,
        /// When.
        at: Instant,
    },
}

/// The state of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls go through, to see whether the provider works again.
    HalfOpen,
}

impl CircuitState {
    /// A stable name: `closed`, `open`, `half-open`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitReason {
    /// Too many failures, in a row or by their rate.
    Failures,
    /// Too many slow calls.
    SlowCalls,
    /// Too many different requests were called invalid at once.
    InvalidRequestStorm,
    /// The provider asked for a pause (Retry-After).
    Throttled,
    /// The quota is used up.
    Quota,
    /// The key is refused.
    Auth,
    /// The cooldown is over.
    Cooldown,
    /// A probe failed.
    ProbeFailed,
    /// The probes succeeded.
    Recovered,
    /// Somebody said so through a handle.
    Forced,
}

impl fmt::Display for CircuitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failures => "failures",
            Self::SlowCalls => "slow calls",
            Self::InvalidRequestStorm => "a storm of invalid requests",
            Self::Throttled => "throttled",
            Self::Quota => "quota used up",
            Self::Auth => "key refused",
            Self::Cooldown => "the cooldown is over",
            Self::ProbeFailed => "the probe failed",
            Self::Recovered => "the probe succeeded",
            Self::Forced => "by hand",
        })
    }
}

/// Where events go, and where to listen. Clones are the same channel.
///
/// Sending never waits: whoever is too slow loses the oldest events and is told how many. It allocates nothing.
#[derive(Clone)]
pub struct Events {
    channel: Arc<Channel>,
}

struct Channel {
    /// Whether anybody listens, without a lock. It may say so for one event too long, never too short.
    heard: AtomicBool,
    inboxes: Inboxes,
    /// Made for the first who [subscribes](Events::subscribe): its memory is not small.
    raw: OnceLock<broadcast::Sender<Event>>,
}

/// How many events one who listens may be behind before some are lost.
const CAPACITY: usize = 4096;

impl Events {
    /// A new channel. Whoever listens may be 4,096 events behind.
    pub fn new() -> Self {
        let channel = Channel { heard: AtomicBool::new(false), inboxes: Inboxes::default(), raw: OnceLock::new() };
        Self { channel: Arc::new(channel) }
    }

    /// Listens from now on, event by event. See [`follow`](Self::follow) for what costs less.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        let receiver = self.channel.raw.get_or_init(|| broadcast::channel(CAPACITY).0).subscribe();
        self.channel.is_heard_again();
        receiver
    }

    /// A queue of the events from now on that are wanted.
    fn inbox(&self, wanted: Wanted) -> Inbox {
        let inbox = self.channel.inboxes.open(Arc::downgrade(&self.channel), wanted);
        self.channel.is_heard_again();
        inbox
    }

    /// Whether anybody listens: what it takes to tell an event can be left undone if not.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.channel.heard.load(Relaxed)
    }

    /// Sends an event to all who listen.
    // One copy for all who send: inlined, the event would be copied on from one to the next.
    #[inline(never)]
    pub fn send(&self, event: Event) {
        if !self.is_heard() {
            return;
        }
        let heard = match self.channel.raw.get() {
            None => self.channel.inboxes.put(event),
            Some(raw) => self.channel.put_raw(raw, event),
        };
        if !heard {
            self.channel.fell_silent();
        }
    }

    /// The queue into which an event can be put in place of [sending](Self::send) it: where nobody else listens. For what is sent
    /// at each request.
    #[inline(always)]
    pub(crate) fn only_queue(&self) -> Option<OnlyQueue<'_>> {
        if self.channel.raw.get().is_some() { None } else { self.channel.inboxes.only() }
    }

    /// Sends an event to all who listen; it is made only if somebody does.
    #[inline]
    pub fn send_with(&self, event: impl FnOnce() -> Event) {
        if self.is_heard() {
            self.send(event());
        }
    }
}

impl Channel {
    fn is_heard_again(&self) {
        self.heard.store(true, SeqCst);
    }

    /// Puts an event into the queues, and sends it to those who have subscribed; `false` if nobody listens.
    #[cold]
    fn put_raw(&self, raw: &broadcast::Sender<Event>, event: Event) -> bool {
        // An error says that of these nobody listens.
        if self.inboxes.is_empty() {
            return raw.send(event).is_ok();
        }
        raw.send(event.clone()).is_ok() | self.inboxes.put(event)
    }

    /// The last who listened has left.
    #[cold]
    fn fell_silent(&self) {
        self.heard.store(false, SeqCst);
        // Somebody may have come in between and said so a moment too early.
        if self.listeners() > 0 {
            self.heard.store(true, SeqCst);
        }
    }

    fn listeners(&self) -> usize {
        self.inboxes.len() + self.raw.get().map_or(0, broadcast::Sender::receiver_count)
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("subscribers", &self.channel.listeners()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn switched(to: &str) -> Event {
        let (from, to) = ("sonnet".into(), to.into());
        Event::ModelSwitched { from, to, reason: ErrorKind::Timeout, at: Instant::now() }
    }

    #[test]
    fn nobody_needs_to_listen() {
        Events::new().send(switched("gpt"));
    }

    #[test]
    fn clones_are_the_same_channel() {
        let events = Events::new();
        let mut heard = events.subscribe();
        let event = switched("gpt");
        events.clone().send(event.clone());
        assert_eq!(heard.try_recv(), Ok(event));
        assert_eq!(format!("{events:?}"), "Events { subscribers: 1, .. }");
    }

    #[test]
    fn a_subscriber_that_is_too_slow_is_told_how_many_it_lost() {
        let events = Events::new();
        let mut heard = events.subscribe();
        for _ in 0..CAPACITY {
            events.send(switched("gpt"));
        }
        events.send(switched("canned"));
        assert_eq!(heard.try_recv(), Err(TryRecvError::Lagged(1)));
        assert!(heard.try_recv().is_ok());
    }

    #[test]
    fn an_event_is_made_only_while_somebody_listens() {
        let events = Events::new();
        events.send_with(|| unreachable!("nobody listens"));
        let heard = events.subscribe();
        assert!(events.is_heard());
        drop(heard);
        events.send(switched("gpt"));
        assert!(!events.is_heard(), "it was noticed by the event that nobody heard");
        let mut again = events.subscribe();
        events.send_with(|| switched("gpt"));
        assert!(again.try_recv().is_ok());
    }
}
