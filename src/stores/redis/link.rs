//! The connection to a Redis: one for all, made when it is needed, made again when it broke.
//!
//! While Redis is away only one in every [`PAUSE`] tries whether it is back; all others are told at once. So an outage costs
//! a request that would ask it next to nothing, and it heals without anybody's help. What it refuses of one purpose's questions
//! says nothing of the others', and is told of by purpose.

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

use super::{clock::Clock, idempotency::Ledger, target::Target};
use crate::{
    Event, Events,
    internal::sync::{Mutex, lock},
    store::{
        StoreError, StoreErrorKind,
        trouble::{StoreTrouble, Watch},
    },
};

pub(super) struct Link {
    pub(super) target: Target,
    pub(super) clock: Clock,
    pub(super) ledger: Mutex<Ledger>,
    state: Mutex<State>,
    /// What is refused, by purpose.
    watches: [Watch; 3],
    /// One makes the connection; who comes meanwhile waits for it, within their own time.
    connecting: tokio::sync::Mutex<()>,
    events: OnceLock<Events>,
}

/// What Redis is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Keys,
    Answers,
    Replicas,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    away: Option<Away>,
}

struct Connection {
    commands: MultiplexedConnection,
    driver: AbortHandle,
}

/// Nobody is there: from the first failure to the next success.
struct Away {
    since: Instant,
    kind: StoreErrorKind,
    /// When somebody may try whether it is over.
    next_try: Instant,
}

/// How long nobody asks a Redis that is away.
const PAUSE: Duration = Duration::from_millis(500);

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            clock: Clock::default(),
            ledger: Mutex::default(),
            state: Mutex::default(),
            watches: ["idempotency", "cache", "replicas"].map(Watch::new),
            connecting: tokio::sync::Mutex::default(),
            events: OnceLock::new(),
        }
    }

    /// The first who says so is heeded.
    pub(super) fn tells(&self, events: &Events) {
        let _ = self.events.set(events.clone());
        self.watches.iter().for_each(|watch| watch.tells(events));
    }

    /// What is the matter: with the way there or, where that is well, with what is asked.
    pub(super) fn troubles(&self) -> Vec<StoreTrouble> {
        let away = lock(&self.state).away.as_ref().map(|away| (away.kind, away.since));
        match away {
            Some((kind, since)) => vec![StoreTrouble { store: "redis".into(), kind, since }],
            None => self.watches.iter().filter_map(Watch::trouble).collect(),
        }
    }

    /// What Redis says, within `limit`, the making of a connection included.
    ///
    /// `proves`: whether what it says shows that it takes writes again. Of no purpose: it is only asked whether it is there.
    ///
    /// # Cancel safety
    ///
    /// What was sent may have been done.
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        purpose: Option<Purpose>,
        limit: Duration,
        proves: impl FnOnce(&T) -> bool,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        self.turn(what)?;
        let begun = Instant::now();
        match timeout(limit, asking).await {
            Ok(Ok(said)) => {
                self.is_there(begun);
                if let Some(purpose) = purpose.filter(|_| proves(&said)) {
                    self.watches[purpose as usize].works(Instant::now());
                }
                Ok(said)
            }
            Ok(Err(error)) => Err(self.fails(what, purpose, begun, kind_of(&error), error)),
            Err(_) => Err(self.fails(what, purpose, begun, Failure::LOST, format!("no answer within {limit:?}"))),
        }
    }

    /// The connection, made if there is none.
    pub(super) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let stream = self.target.connect().await?;
        // The time is bounded by whoever asks.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (commands, driver) = MultiplexedConnection::new_with_config(&self.target.login, stream, config).await?;
        let driver = tokio::spawn(driver).abort_handle();
        let connection = Arc::new(Connection { commands: commands.clone(), driver });
        let before = lock(&self.state).connection.replace(connection);
        drop(before);
        Ok(commands)
    }

    fn present(&self) -> Option<MultiplexedConnection> {
        let state = lock(&self.state);
        let connection = state.connection.as_ref()?;
        // Its task may have ended since: Redis has closed the connection.
        (!connection.driver.is_finished()).then(|| connection.commands.clone())
    }

    /// Whether nobody asks just now.
    pub(super) fn is_away(&self) -> bool {
        lock(&self.state).away.as_ref().is_some_and(|away| Instant::now() < away.next_try)
    }

    /// Whether to ask at all.
    fn turn(&self, what: &'static str) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let Some(Away { kind, next_try, .. }) = &mut state.away else { return Ok(()) };
        if now < *next_try {
            return Err(StoreError::new(*kind, what).with_source("it was so a moment ago, and was not asked again"));
        }
        *next_try = now + PAUSE;
        Ok(())
    }

    /// It has answered what was asked then: an answer that had come before it went shows nothing.
    fn is_there(&self, asked: Instant) {
        let over = lock(&self.state).away.take_if(|away| away.since <= asked);
        if let Some(Away { since, .. }) = over {
            tracing::info!(redis = %self.target, after = ?since.elapsed(), "Redis is back: replicas share again");
            self.changed(true);
        }
    }

    fn changed(&self, available: bool) {
        if let Some(events) = self.events.get() {
            events.send_with(|| Event::StoreChanged { store: "redis".into(), available, at: Instant::now() });
        }
    }

    /// Says so if it is new.
    fn fails(
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
            self.is_there(asked);
            if let Some(purpose) = purpose {
                self.watches[purpose as usize].fails(kind, &format_args!("{error}: {}", cause()), now);
            }
            return error;
        }
        let (is_new, gone) = {
            let mut state = lock(&self.state);
            let gone = if lost { state.connection.take() } else { None };
            let since = state.away.as_ref().map(|away| away.since);
            state.away = Some(Away { since: since.unwrap_or(now), kind, next_try: now + PAUSE });
            (since.is_none(), gone)
        };
        // Outside of the lock: others' commands end with it.
        drop(gone);
        if is_new {
            let cause = cause();
            tracing::warn!(redis = %self.target, %error, cause, "Redis is away: each replica goes by what it knows itself");
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
    /// The connection is of no use any more.
    lost: bool,
    /// It makes no sense to ask again at once.
    pauses: bool,
}

impl Failure {
    const LOST: Self = Self { kind: StoreErrorKind::Unavailable, lost: true, pauses: true };
}

/// By the word that Redis begins an error with, or by what went wrong on the way to it.
fn kind_of(error: &RedisError) -> Failure {
    let away = |kind| Failure { kind, ..Failure::LOST };
    let refused = |kind| Failure { kind, lost: false, pauses: false };
    match error.code() {
        Some("OOM") => refused(StoreErrorKind::Full),
        // It says so too where it cannot save what it is told: a full disk, as a rule.
        Some("READONLY" | "MISCONF" | "NOREPLICAS") => refused(StoreErrorKind::ReadOnly),
        Some("NOAUTH" | "WRONGPASS") => away(StoreErrorKind::Misconfigured),
        // Not this user's; or of a cluster, where a single server was named.
        Some("NOPERM" | "MOVED" | "ASK" | "CROSSSLOT") => refused(StoreErrorKind::Misconfigured),
        // Busy with itself, and the connection is as good as before.
        Some("LOADING" | "BUSY" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN") => {
            Failure { lost: false, ..Failure::LOST }
        }
        // No such database.
        Some("ERR") if error.detail().is_some_and(|said| said.contains("DB index")) => {
            away(StoreErrorKind::Misconfigured)
        }
        // What is there is not what is written there.
        Some(_) => refused(StoreErrorKind::Corrupt),
        None => match error.kind() {
            ErrorKind::UnexpectedReturnType => refused(StoreErrorKind::Corrupt),
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => away(StoreErrorKind::Misconfigured),
            // Refused, reset, closed, or not Redis at all.
            _ => Failure::LOST,
        },
    }
}
