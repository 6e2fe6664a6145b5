//! The connection to a Redis: one for all, made when it is needed, made again when it broke.
//!
//! While Redis is away only one in every [`PAUSE`] tries whether it is back; all others are told at once. So an outage costs
//! a request that would ask it next to nothing, and it heals without anybody's help.

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

use super::{clock::Clock, target::Target};
use crate::{
    Event, Events,
    store::{StoreError, StoreErrorKind},
    sync::{Mutex, lock},
};

pub(super) struct Link {
    pub(super) target: Target,
    pub(super) clock: Clock,
    state: Mutex<State>,
    /// One makes the connection; who comes meanwhile waits for it, within their own time.
    connecting: tokio::sync::Mutex<()>,
    events: OnceLock<Events>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    trouble: Option<Trouble>,
}

struct Connection {
    commands: MultiplexedConnection,
    driver: AbortHandle,
}

/// What is the matter, from the first failure to the next success.
struct Trouble {
    since: Instant,
    kind: StoreErrorKind,
    /// When somebody may try whether it is over; `None`: anybody may, at once.
    next_try: Option<Instant>,
}

/// How long nobody asks a Redis that is away.
const PAUSE: Duration = Duration::from_millis(500);

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            clock: Clock::default(),
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            events: OnceLock::new(),
        }
    }

    /// The first who says so is heeded.
    pub(super) fn tells(&self, events: &Events) {
        let _ = self.events.set(events.clone());
    }

    /// What Redis says, within `limit`, the making of a connection included.
    ///
    /// `writes`: only what writes can show that a Redis takes writes again.
    ///
    /// # Cancel safety
    ///
    /// What was sent may have been done.
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        limit: Duration,
        writes: bool,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        self.turn(what)?;
        match timeout(limit, asking).await {
            Ok(Ok(said)) => {
                self.works(writes);
                Ok(said)
            }
            Ok(Err(error)) => Err(self.fails(what, kind_of(&error), error)),
            Err(_) => Err(self.fails(what, Failure::LOST, format!("no answer within {limit:?}"))),
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
        let next_try = lock(&self.state).trouble.as_ref().and_then(|trouble| trouble.next_try);
        next_try.is_some_and(|next_try| Instant::now() < next_try)
    }

    /// Whether to ask at all.
    fn turn(&self, what: &'static str) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let Some(Trouble { kind, next_try: Some(next_try), .. }) = &mut state.trouble else { return Ok(()) };
        if now < *next_try {
            return Err(StoreError::new(*kind, what).with_source("it was so a moment ago, and was not asked again"));
        }
        *next_try = now + PAUSE;
        Ok(())
    }

    fn works(&self, writes: bool) {
        let over = {
            let mut state = lock(&self.state);
            match &state.trouble {
                Some(trouble) if writes || trouble.next_try.is_some() => state.trouble.take(),
                _ => None,
            }
        };
        if let Some(Trouble { since, .. }) = over {
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
        Failure { kind, lost, pauses }: Failure,
        cause: impl Into<tower::BoxError>,
    ) -> StoreError {
        let error = StoreError::new(kind, what).with_source(cause);
        let now = Instant::now();
        let (is_new, gone) = {
            let mut state = lock(&self.state);
            let gone = if lost { state.connection.take() } else { None };
            let next_try = pauses.then(|| now + PAUSE);
            let is_new = state.trouble.is_none();
            let since = state.trouble.as_ref().map_or(now, |trouble| trouble.since);
            state.trouble = Some(Trouble { since, kind, next_try });
            (is_new, gone)
        };
        // Outside of the lock: others' commands end with it.
        drop(gone);
        if is_new {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
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
        let trouble = lock(&self.state).trouble.as_ref().map(|trouble| trouble.kind);
        f.debug_struct("Link").field("target", &self.target.to_string()).field("trouble", &trouble).finish()
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
