//! The connection to Redis: one for all, opened when needed and reopened after a failure.
//!
//! During an outage one call in every [`PAUSE`] tries to reach Redis; all others fail at once. So an outage costs a
//! request next to nothing, and ends without anyone's help. Redis may refuse operations of one purpose only, so
//! refusals are reported by purpose.
//!
//! A Redis that answers late still executes the commands that it received, unless their connection is closed. So the
//! connection outlives the first call without an answer, and its next reply ends the outage.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{clock::Clock, ledger::Ledger, target::Target};
use steadfast::{
    Event, Events,
    store::{StoreError, StoreErrorKind, StoreTrouble, StoreWatch},
};
use steadfast_internal::sync::{Mutex, lock};

pub(super) struct Link {
    pub(super) target: Target,
    pub(super) clock: Clock,
    pub(super) ledger: Mutex<Ledger>,
    state: Mutex<State>,
    /// Refusals, by purpose.
    watches: [StoreWatch; 3],
    /// One caller connects; concurrent callers wait for it, within their own time.
    connecting: tokio::sync::Mutex<()>,
    events: OnceLock<Events>,
}

/// The purpose of a call to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Keys,
    Answers,
    Replicas,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// The time of the first command without an answer in time since the last reply.
    silent_since: Option<Instant>,
    outage: Option<Outage>,
}

struct Connection {
    commands: MultiplexedConnection,
    driver: AbortHandle,
}

/// A call's finding that Redis does not answer in time.
enum Silence {
    /// It is the first to find it, on this connection.
    New(Option<MultiplexedConnection>),
    /// Another call that was under way at the same time has found it.
    Known,
    /// A call before it has found it too: the connection is no longer usable.
    Lasting,
}

/// An outage: from the first failure to the next success.
struct Outage {
    since: Instant,
    kind: StoreErrorKind,
    /// The time of the next try.
    next_try: Instant,
}

/// The time between two tries during an outage.
const PAUSE: Duration = Duration::from_millis(500);

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            clock: Clock::default(),
            ledger: Mutex::default(),
            state: Mutex::default(),
            watches: ["idempotency", "cache", "replicas"].map(StoreWatch::new),
            connecting: tokio::sync::Mutex::default(),
            events: OnceLock::new(),
        }
    }

    /// Sets the channel of events. Only the first call takes effect.
    pub(super) fn set_events(&self, events: &Events) {
        let _ = self.events.set(events.clone());
        self.watches.iter().for_each(|watch| watch.set_events(events));
    }

    /// Returns the troubles: of the connection or, if that works, of single purposes.
    pub(super) fn troubles(&self) -> Vec<StoreTrouble> {
        let away = lock(&self.state).outage.as_ref().map(|away| (away.kind, away.since));
        match away {
            Some((kind, since)) => vec![StoreTrouble::new("redis", kind, since)],
            None => self.watches.iter().filter_map(StoreWatch::trouble).collect(),
        }
    }

    /// Returns Redis's reply within `limit`, connecting included.
    ///
    /// `proves` decides whether the reply shows that writes work again. A call without a purpose only checks that Redis
    /// answers.
    ///
    /// # Cancel safety
    ///
    /// A command that was sent may have been executed.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        what: &'static str,
        purpose: Option<Purpose>,
        limit: Duration,
        proves: impl FnOnce(&T) -> bool,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        self.admit(what)?;
        let begun = Instant::now();
        match timeout(limit, asking).await {
            Ok(Ok(reply)) => {
                self.record_success(begun);
                if let Some(purpose) = purpose.filter(|_| proves(&reply)) {
                    self.watches[purpose as usize].record_success(Instant::now());
                }
                Ok(reply)
            }
            Ok(Err(error)) => Err(self.record_failure(what, purpose, begun, kind_of(&error), error)),
            Err(_) => {
                let silence = self.record_silence(begun);
                let failure = Failure { lost: matches!(silence, Silence::Lasting), ..Failure::LOST };
                let error = self.record_failure(what, purpose, begun, failure, format!("no answer within {limit:?}"));
                if let Silence::New(Some(commands)) = silence {
                    self.await_reply(commands, limit);
                }
                Err(error)
            }
        }
    }

    /// Returns the connection, and opens it if there is none.
    pub(super) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let stream = self.target.connect().await?;
        // The caller bounds the time.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (commands, driver) = MultiplexedConnection::new_with_config(&self.target.login, stream, config).await?;
        let driver = tokio::spawn(driver).abort_handle();
        let connection = Arc::new(Connection { commands: commands.clone(), driver });
        let before = {
            let mut state = lock(&self.state);
            state.silent_since = None;
            state.connection.replace(connection)
        };
        drop(before);
        Ok(commands)
    }

    fn present(&self) -> Option<MultiplexedConnection> {
        let state = lock(&self.state);
        let connection = state.connection.as_ref()?;
        // Its task may have ended since, because Redis closed the connection.
        (!connection.driver.is_finished()).then(|| connection.commands.clone())
    }

    /// Returns whether Redis is in an outage and no try is due.
    pub(super) fn is_out(&self) -> bool {
        lock(&self.state).outage.as_ref().is_some_and(|away| Instant::now() < away.next_try)
    }

    /// Returns an error if the call must not be made.
    fn admit(&self, what: &'static str) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let Some(Outage { kind, next_try, .. }) = &mut state.outage else { return Ok(()) };
        if now < *next_try {
            return Err(StoreError::new(*kind, what).with_source("it failed a moment ago and is not tried again yet"));
        }
        *next_try = now + PAUSE;
        Ok(())
    }

    /// Records that a call that began at `asked` had no answer in time.
    fn record_silence(&self, asked: Instant) -> Silence {
        let mut state = lock(&self.state);
        match state.silent_since {
            Some(since) if since <= asked => Silence::Lasting,
            Some(_) => Silence::Known,
            None => {
                state.silent_since = Some(Instant::now());
                Silence::New(state.connection.as_ref().map(|connection| connection.commands.clone()))
            }
        }
    }

    /// Ends the outage with the next reply on this connection, if there is one within `limit`.
    fn await_reply(self: &Arc<Self>, mut commands: MultiplexedConnection, limit: Duration) {
        let link = Arc::downgrade(self);
        let asked = Instant::now();
        tokio::spawn(async move {
            let reply = timeout(limit, redis::cmd("PING").query_async::<redis::Value>(&mut commands)).await;
            if let (Ok(Ok(_)), Some(link)) = (reply, link.upgrade()) {
                link.record_success(asked);
            }
        });
    }

    /// Records a success of a call that began at `asked`. A call from before the outage does not end it.
    fn record_success(&self, asked: Instant) {
        let over = {
            let mut state = lock(&self.state);
            state.silent_since = None;
            state.outage.take_if(|away| away.since <= asked)
        };
        if let Some(Outage { since, .. }) = over {
            tracing::info!(redis = %self.target, after = ?since.elapsed(), "Redis available again");
            self.changed(true);
        }
    }

    fn changed(&self, available: bool) {
        if let Some(events) = self.events.get() {
            events.send_with(|| Event::StoreChanged { store: "redis".into(), available, at: Instant::now() });
        }
    }

    /// Records a failure, and reports it if it is new.
    fn record_failure(
        &self,
        what: &'static str,
        purpose: Option<Purpose>,
        asked: Instant,
        Failure { kind, lost, pauses }: Failure,
        cause: impl Into<tower::BoxError>,
    ) -> StoreError {
        let error = StoreError::new(kind, what).with_source(cause);
        let cause = || std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let now = Instant::now();
        if !pauses {
            self.record_success(asked);
            if let Some(purpose) = purpose {
                self.watches[purpose as usize].record_failure(kind, &format_args!("{error}: {}", cause()), now);
            }
            return error;
        }
        let (is_new, gone) = {
            let mut state = lock(&self.state);
            let gone = if lost { state.connection.take() } else { None };
            let since = state.outage.as_ref().map(|away| away.since);
            state.outage = Some(Outage { since: since.unwrap_or(now), kind, next_try: now + PAUSE });
            (since.is_none(), gone)
        };
        // Outside of the lock: dropping it ends other callers' commands.
        drop(gone);
        if is_new {
            let cause = cause();
            tracing::warn!(redis = %self.target, %error, cause, "Redis unavailable; replicas continue on their own");
            self.changed(false);
        }
        error
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.target.to_string()).field("troubles", &self.troubles()).finish()
    }
}

struct Failure {
    kind: StoreErrorKind,
    /// True if the connection is no longer usable.
    lost: bool,
    /// True if an immediate retry is pointless.
    pauses: bool,
}

impl Failure {
    const LOST: Self = Self { kind: StoreErrorKind::Unavailable, lost: true, pauses: true };
}

/// Classifies an error by Redis's first word, or by the failure of the connection.
fn kind_of(error: &RedisError) -> Failure {
    let away = |kind| Failure { kind, ..Failure::LOST };
    let refused = |kind| Failure { kind, lost: false, pauses: false };
    match error.code() {
        Some("OOM") => refused(StoreErrorKind::Full),
        // Redis also says so when it cannot save, usually because of a full disk.
        Some("READONLY" | "MISCONF" | "NOREPLICAS") => refused(StoreErrorKind::ReadOnly),
        Some("NOAUTH" | "WRONGPASS") => away(StoreErrorKind::Misconfigured),
        // The user lacks the right; or it is a cluster, where a single server was named.
        Some("NOPERM" | "MOVED" | "ASK" | "CROSSSLOT") => refused(StoreErrorKind::Misconfigured),
        // The server is busy, and the connection is still good.
        Some("LOADING" | "BUSY" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN") => {
            Failure { lost: false, ..Failure::LOST }
        }
        // The database does not exist.
        Some("ERR") if error.detail().is_some_and(|said| said.contains("DB index")) => {
            away(StoreErrorKind::Misconfigured)
        }
        // The stored value is not what this crate writes.
        Some(_) => refused(StoreErrorKind::Corrupt),
        None => match error.kind() {
            ErrorKind::UnexpectedReturnType => refused(StoreErrorKind::Corrupt),
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => away(StoreErrorKind::Misconfigured),
            // Refused, reset, closed, or not Redis at all.
            _ => Failure::LOST,
        },
    }
}
