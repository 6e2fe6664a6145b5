//! The layers' reports: one typed event, sent once where a state changes.
//!
//! # Design
//!
//! Layers send an [`Event`] once, where the state changes. `Observe`, outermost, sends one for each request when its
//! answer has ended. [`Events::follow`] gives each subscriber a task and a bounded queue of its own: sending never
//! waits, and an event that does not fit is lost and counted. Subscribers are state machines over events (and a time,
//! where one matters), so that tests need no clock: `StatusBoard`, `Metrics`, `AlertEngine`. After a loss they read
//! the handles (circuits, bulkhead) again.
//!
//! Switches and circuits that open or close are lines of the log, through `tracing`, also where nobody follows the
//! events; a subscriber that [writes a log](Subscriber::is_log) writes them in the library's place.
//!
//! The status goes by the callers' outcomes as well as by circuits (`status/recent.rs`): failing requests turn it
//! though every circuit is closed. Who serves is known by chain, from one account of these events
//! (`crates/subscribers/src/chains.rs`), which the status, the metrics and the alerts share. A thread of its own writes
//! the log behind a bounded queue, so that a log without a reader holds no request up.

mod accountant;
mod comparison;
mod failure;
mod follow;
mod handed_over;
mod inbox;
mod operation;
mod report;
mod request;

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

#[doc(hidden)]
pub use self::inbox::Place;
use self::inbox::{Filter, Inbox, Inboxes};
#[doc(hidden)]
pub use self::{
    accountant::{Account, Accountant},
    report::{report, report_setup},
    request::Caller,
};
pub use self::{
    comparison::{ComparedTexts, Comparison, ComparisonSide, ComparisonSkipReason},
    failure::Failure,
    follow::{Subscriber, Subscription},
    handed_over::{HandedOver, HandoffStep},
    operation::Operation,
    request::{CachedAnswer, RequestEnded, RequestOutcome},
};
use crate::{ErrorKind, chat::Usage, prices::Usd};

/// A change in a layer's state, or the end of a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Another tier than before serves the requests of a chain: those for all tiers, for a model, of a feature, or for
    /// a tier that the caller named. The fallback reports the first failed request at once. If the first tier has been
    /// back and fails again, it waits for ten failures in a row, and for twenty after two such relapses: a single
    /// failure now and then is no switch.
    ModelSwitched {
        /// The chain's id: its first tier's name, with its requests behind it if another chain before it begins there.
        chain: Arc<str>,
        /// The first tier of the chain.
        first: Arc<str>,
        /// The tier that served before.
        from: Arc<str>,
        /// The tier that serves now.
        to: Arc<str>,
        /// The reason for which the tier before did not serve.
        reason: ErrorKind,
        /// The failure behind the reason: where circuits refused, the last one that a call met; `None` for an order by
        /// hand.
        failure: Option<Failure>,
        /// The time of the switch.
        at: Instant,
    },
    /// A chain's first tier serves again; or a reload has replaced it, or removed the tier that served in its place.
    /// The fallback reports the first answer at once. If the first tier has failed again after that, it waits for five
    /// answers in a row over at least a minute, and after two such relapses for twenty over at least 20 minutes.
    ModelRecovered {
        /// The chain's id.
        chain: Arc<str>,
        /// The tier that served meanwhile.
        from: Arc<str>,
        /// The first tier of the chain.
        to: Arc<str>,
        /// The time for which the first tier did not serve, until the first of these answers.
        after: Duration,
        /// The time of the recovery.
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
        /// The reason.
        reason: CircuitReason,
        /// The failure that opened it; `None` for any other change, and for an order by hand.
        failure: Option<Failure>,
        /// The time of the change.
        at: Instant,
    },
    /// An active check asked whether a failed tier works again, without a caller's request. The task of
    /// `steadfast_stack::StackHandle::check_recovery` sends this.
    RecoveryChecked {
        /// The tier.
        tier: Arc<str>,
        /// The kind of its failure; `None` for an answer.
        failure: Option<ErrorKind>,
        /// The duration of the check.
        took: Duration,
        /// The time of the check's end.
        at: Instant,
    },
    /// A circuit holds the calls of one caller apart: they fail there, and those of others do not. Its calls go to the
    /// next tier, or are refused, until a probe of its own is answered.
    CallerHeldApart {
        /// The circuit's name.
        circuit: Arc<str>,
        /// The caller's tenant or key; `None` for one that only a session names.
        caller: Option<Arc<str>>,
        /// The kind of the last failure, if the circuit told of it at once.
        failure: Option<ErrorKind>,
        /// The time of the report.
        at: Instant,
    },
    /// A call ended that began before its circuit's last change of state, so its outcome changed nothing.
    LateResult {
        /// The circuit's name.
        circuit: Arc<str>,
        /// The kind of its failure; `None` for an answer, or if the caller left.
        failure: Option<ErrorKind>,
        /// The time of the call's end.
        at: Instant,
    },
    /// A request ended. `ObserveLayer` sends this.
    RequestEnded(RequestEnded),
    /// A `Hedge` sent a second call for a request, and the request has ended there. It sends this once
    /// for each second call.
    Hedged {
        /// The tier that was late or failed.
        tier: Arc<str>,
        /// The tier of the second call; the same one, where the same service was called again.
        to: Arc<str>,
        /// True if the second call answered the request; false if the first did, both failed, or the caller left.
        won: bool,
        /// The time from the start of the first call to that of the second.
        after: Duration,
        /// The time of the request's end at the hedge.
        at: Instant,
    },
    /// Every tier that may serve a request, by its feature's policy and its needs, failed or refused it. Sent once for
    /// each such request. Not sent for a request that stopped before the last tier (out of time or attempts, its
    /// session pinned) or because of itself (wrong, too long, against the content policy),
    /// or by its caller's own short limit.
    AllTiersFailed {
        /// The feature that made the request.
        feature: Option<Arc<str>>,
        /// The failure that the error leads with.
        reason: ErrorKind,
        /// The time of the failure.
        at: Instant,
    },
    /// A share of a spending cap is used up. Sent once for each share and period.
    BudgetReached {
        /// The cap's name.
        cap: Arc<str>,
        /// The key, for a cap per key. Callers may invent keys, so no bounded list has them all.
        key: Option<Arc<str>>,
        /// The share, in percent: 80 or 100 by default.
        percent: u8,
        /// The amount that ended answers and attempts of this period cost.
        spent: Usd,
        /// The amount reserved for requests in flight. The share counts both.
        reserved: Usd,
        /// The cap's amount.
        limit: Usd,
        /// The end of the period.
        resets_at: Instant,
        /// The time of the event.
        at: Instant,
    },
    /// A spending cap's period ended in which a share was used up: money is available again.
    BudgetReset {
        /// The cap's name.
        cap: Arc<str>,
        /// The key, for a cap per key.
        key: Option<Arc<str>>,
        /// The time of the event.
        at: Instant,
    },
    /// An operator changed the running stack through a handle. Not sent if nothing changed. Further consequences (a
    /// [`CircuitChanged`](Self::CircuitChanged), a [`ModelSwitched`](Self::ModelSwitched)) are events of their own.
    Operated {
        /// The operation.
        operation: Operation,
        /// The operator, if the handle was acting as someone.
        by: Option<Arc<str>>,
        /// The time of the operation.
        at: Instant,
    },
    /// A request was handed to people, or its task took a further step. A `steadfast_handoff::Desk` sends this.
    HandedOver(HandedOver),
    /// A mirrored request ended on both sides. `MirrorLayer` sends this, without any text of either answer.
    Mirrored(Arc<Comparison>),
    /// A request was chosen for mirroring but not compared. `MirrorLayer` sends this once for each, except for those
    /// that `MirrorHandle::close` ended.
    NotCompared {
        /// The feature that made the request.
        feature: Option<Arc<str>>,
        /// The reason.
        why: ComparisonSkipReason,
        /// The time of the event.
        at: Instant,
    },
    /// The number of requests that wait for a person changed, across all processes that share the tasks. `Deliveries`
    /// sends this.
    HandoffWaiting {
        /// The number of waiting tasks that no person has claimed.
        waiting: u64,
        /// The age of the oldest of them.
        oldest: Option<Duration>,
        /// The time of the count.
        at: Instant,
    },
    /// A configuration replaced the one before.
    Reloaded {
        /// The number of tiers whose circuits and budgets continue unchanged.
        kept: usize,
        /// The number of tiers that are new or changed.
        changed: usize,
        /// The paths of all settings that changed, such as `features.chat`.
        settings: Arc<[Box<str>]>,
        /// The time of the reload.
        at: Instant,
    },
    /// A store that is shared or outlives the process failed or timed out, and this process continues with its own
    /// knowledge; or the store answers again.
    StoreChanged {
        /// The store's purpose, such as `idempotency`.
        store: Arc<str>,
        /// True if the store answers.
        available: bool,
        /// The time of the change.
        at: Instant,
    },
    /// A source of credentials gave no new token. Sent once when it begins to fail, and once more when its last token
    /// has ended.
    CredentialsFailed {
        /// The source, such as ``the profile `work` ``.
        source: Arc<str>,
        /// The problem and its remedy, without a secret.
        problem: Arc<str>,
        /// True if the last token is still used; false if requests fail for want of one.
        usable: bool,
        /// The time of the failure.
        at: Instant,
    },
    /// A source of credentials that failed gave a token again.
    CredentialsRenewed {
        /// The source.
        source: Arc<str>,
        /// The time of the renewal.
        at: Instant,
    },
    /// A model refused a parameter that the translation carried or that its caller chose for another model, and
    /// answered without it. The leaf leaves the parameter out for an hour. Sent once for each parameter. A row in the
    /// table of models spares the first call.
    ParameterRefused {
        /// The provider, as its leaf is named.
        provider: Arc<str>,
        /// The model.
        model: Arc<str>,
        /// The parameter's place in a body of the provider's dialect: `temperature`, `tools[].strict` in each tool,
        /// `tools[web_search]` for the tools of a type, `anthropic-beta: x` for a flag of the header.
        parameter: Arc<str>,
        /// The time of the refusal.
        at: Instant,
    },
    /// A provider reported tokens that cannot be right, by what passed. The estimate counts in their place. Sent at
    /// most
    /// once for an answer.
    UsageReplaced {
        /// The provider, as its leaf is named.
        provider: Arc<str>,
        /// The model.
        model: Option<Arc<str>>,
        /// The reported tokens.
        reported: Usage,
        /// The tokens that count.
        counted: Usage,
        /// The time of the answer.
        at: Instant,
    },
    /// A new configuration was refused; the one before continues.
    ReloadRefused {
        /// The problem of the configuration.
        problem: Arc<str>,
        /// The time of the refusal.
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
    /// A few calls go through as probes.
    HalfOpen,
}

impl CircuitState {
    /// Returns a stable name: `closed`, `open`, `half-open`.
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

/// The reason for a circuit's change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitReason {
    /// Too many failures, in a row or by their rate.
    Failures,
    /// Too many slow calls.
    SlowCalls,
    /// The provider called too many different requests invalid at once.
    InvalidRequestStorm,
    /// The provider asked for a pause (Retry-After).
    Throttled,
    /// The quota is used up.
    Quota,
    /// The provider refuses the key.
    Auth,
    /// The cooldown is over.
    Cooldown,
    /// A probe failed.
    ProbeFailed,
    /// The probes succeeded.
    Recovered,
    /// An operator ordered it through a handle.
    Forced,
}

impl CircuitReason {
    /// Returns a stable name, such as `slow_calls`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::SlowCalls => "slow_calls",
            Self::InvalidRequestStorm => "invalid_request_storm",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Cooldown => "cooldown",
            Self::ProbeFailed => "probe_failed",
            Self::Recovered => "recovered",
            Self::Forced => "forced",
        }
    }
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

/// The channel of events: layers send into it and subscribers follow it. Clones are the same channel.
///
/// Sending never waits and allocates nothing: a subscriber that is too slow loses the oldest events and receives their
/// number.
#[derive(Clone)]
pub struct Events {
    channel: Arc<Channel>,
}

pub(crate) struct Channel {
    /// True if there is a subscriber, readable without a lock. It may turn false one event too late, never too early.
    is_followed: AtomicBool,
    inboxes: Inboxes,
    /// The number of subscribers that write a log.
    logs: AtomicUsize,
    /// Created for the first receiver that [subscribes](Events::subscribe), because its memory is not small.
    raw: OnceLock<broadcast::Sender<Event>>,
}

/// The number of events by which a subscriber may lag before it loses some.
const CAPACITY: usize = 4096;

impl Events {
    /// Creates a channel. A subscriber may lag by 4,096 events.
    pub fn new() -> Self {
        let channel = Channel {
            is_followed: AtomicBool::new(false),
            inboxes: Inboxes::default(),
            logs: AtomicUsize::new(0),
            raw: OnceLock::new(),
        };
        Self { channel: Arc::new(channel) }
    }

    /// Returns a receiver of all events from now on, one by one. [`follow`](Self::follow) costs less.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        let receiver = self.channel.raw.get_or_init(|| broadcast::channel(CAPACITY).0).subscribe();
        self.channel.mark_followed();
        receiver
    }

    /// Opens a queue of the events from now on that pass the filter.
    pub(crate) fn inbox(&self, filter: Filter) -> Inbox {
        let inbox = self.channel.inboxes.open(Arc::downgrade(&self.channel), filter);
        self.channel.mark_followed();
        inbox
    }

    /// Returns whether there is a subscriber. Without one, a layer can skip the work of making an event.
    #[inline]
    pub fn has_subscribers(&self) -> bool {
        self.channel.is_followed.load(Relaxed)
    }

    /// Returns whether a subscriber writes the events to a log. The library itself then reports nothing there.
    pub(crate) fn is_logged(&self) -> bool {
        self.channel.logs.load(Relaxed) > 0
    }

    /// Counts a subscriber that writes a log, until the result is dropped.
    fn count_log(&self) -> LogCount {
        self.channel.logs.fetch_add(1, Relaxed);
        LogCount(Arc::downgrade(&self.channel))
    }

    /// Sends an event to all subscribers.
    // One copy for all senders: inlining would move the event from one to the next.
    #[inline(never)]
    pub fn send(&self, event: Event) {
        if !self.has_subscribers() {
            return;
        }
        let Channel { inboxes, raw, .. } = &*self.channel;
        let is_heard = match raw.get() {
            None => inboxes.put(event),
            Some(raw) => {
                let is_queued = !inboxes.is_empty() && inboxes.put(event.clone());
                // An error means that no receiver is left.
                raw.send(event).is_ok() || is_queued
            }
        };
        if !is_heard {
            self.channel.last_subscriber_left();
        }
    }

    /// Returns a place in a subscriber's queue, if there is one, so that the caller can write an event in place of
    /// [sending](Self::send) it. For events of each request.
    #[inline(always)]
    #[doc(hidden)]
    pub fn place(&self) -> Option<Place<'_>> {
        if self.channel.raw.get().is_some() { None } else { self.channel.inboxes.place() }
    }

    /// Sends an event to all subscribers. Makes it only if there is one.
    #[inline]
    pub fn send_with(&self, event: impl FnOnce() -> Event) {
        if self.has_subscribers() {
            self.send(event());
        }
    }
}

/// A subscriber that writes a log.
struct LogCount(Weak<Channel>);

impl Drop for LogCount {
    fn drop(&mut self) {
        if let Some(channel) = self.0.upgrade() {
            channel.logs.fetch_sub(1, Relaxed);
        }
    }
}

impl Channel {
    fn mark_followed(&self) {
        self.is_followed.store(true, SeqCst);
    }

    /// Records that the last subscriber left.
    #[cold]
    fn last_subscriber_left(&self) {
        self.is_followed.store(false, SeqCst);
        // A subscriber may have joined in between and set the flag too early.
        if self.listeners() > 0 {
            self.is_followed.store(true, SeqCst);
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
        let (chain, first, from, to) = ("sonnet".into(), "sonnet".into(), "sonnet".into(), to.into());
        Event::ModelSwitched { chain, first, from, to, reason: ErrorKind::Timeout, failure: None, at: Instant::now() }
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
        assert!(events.has_subscribers());
        drop(heard);
        events.send(switched("gpt"));
        assert!(!events.has_subscribers(), "it was noticed by the event that nobody heard");
        let mut again = events.subscribe();
        events.send_with(|| switched("gpt"));
        assert!(again.try_recv().is_ok());
    }
}
