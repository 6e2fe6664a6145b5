//! Redis: [`Redis`], where replicas meet.

mod answers;
mod clock;
mod flights;
mod forget;
mod idempotency;
mod link;
mod listener;
mod replicas;
mod target;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{FromRedisValue, ScriptInvocation};
use tokio::time::Instant;

use self::{
    link::{Link, Purpose},
    listener::Listener,
    target::Target,
};
use crate::Events;
use crate::store::{StoreError, StoreErrorKind, StoreTrouble};

/// A Redis, version 5 or later, or a Valkey: where replicas of a stack meet. Clones share one connection.
///
/// What is kept there is what replicas can lose without losing work: it may be a cache without persistence that evicts what
/// it likes. A lost circuit or count is as one that nobody told of; a lost idempotency key is as a new one.
///
/// **Outages.** No request fails for it, and none waits longer than the [`limit`](Self::limit) for it. Whoever asks in vain goes
/// by what it knows itself. While it is away it is tried twice a second, by one for all. A warning tells when an outage begins,
/// and another line when it is over; so do [`events`](Self::events).
///
/// ```
/// use steadfast::{store::StoreErrorKind, stores::redis::Redis};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let redis = Redis::open("redis://127.0.0.1:1/0").unwrap().prefix("shop:");
/// assert_eq!(redis.ping().await.unwrap_err().kind(), StoreErrorKind::Unavailable, "nobody is there");
/// assert_eq!(Redis::open("mysql://127.0.0.1").unwrap_err().kind(), StoreErrorKind::Misconfigured);
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    link: Arc<Link>,
    prefix: Arc<str>,
    limit: Duration,
    /// Made for the first who listens.
    listener: Arc<OnceLock<Listener>>,
}

/// The default of [`Redis::prefix`].
const PREFIX: &str = "steadfast:";
/// What is said of a Redis Cluster.
const NO_CLUSTER: &str = "this is a Redis Cluster (cluster_enabled:1): name a server of its own, or one behind Sentinel or a \
    managed service with cluster mode off";
/// The default of [`Redis::limit`].
const LIMIT: Duration = Duration::from_millis(250);
/// How much later than its limit something may still be done: more than two clocks drift apart between two looks.
const GRACE: Duration = Duration::from_secs(2);

impl Redis {
    /// The Redis of a URL: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS (checked against the system's
    /// certificates), `unix:///path` for a socket. Nothing is connected before it is asked for something: one that cannot be
    /// reached now may be there later.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](crate::store::StoreErrorKind::Misconfigured): this is no such URL. A wrong password is known only when Redis
    /// is asked.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(Target::parse(url)?));
        Ok(Self { link, prefix: PREFIX.into(), limit: LIMIT, listener: Arc::default() })
    }

    /// Over the same connection, with this before the name of each key. Default: `steadfast:`. Those who are to share
    /// nothing in one Redis need a prefix each.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self.listener = Arc::default();
        self
    }

    /// Over the same connection, with this as the longest time that one question may take, the making of a connection
    /// included. Default: 250 ms.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets where it is told that Redis is away, and that it is back ([`Event::StoreChanged`](crate::Event::StoreChanged) of the
    /// store `redis`). Default: in the log alone. Of one connection, where it was said first.
    #[must_use]
    pub fn events(self, events: &Events) -> Self {
        self.tells(events);
        self
    }

    pub(crate) fn tells(&self, events: &Events) {
        self.link.tells(events);
    }

    /// Asks whether it is there and takes commands, and whether it is a server of its own.
    ///
    /// # Errors
    ///
    /// What is the matter, within the [`limit`](Self::limit). A Redis Cluster is
    /// [`Misconfigured`](StoreErrorKind::Misconfigured): its keys are spread over servers, and a script here takes several.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asking = async {
            let mut connection = self.link.connection().await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await?;
            // Who may not ask that is told so, and of a cluster by the first script.
            Ok(redis::cmd("INFO").arg("cluster").query_async::<String>(&mut connection).await.unwrap_or_default())
        };
        let said = self.link.ask("a ping", None, self.limit, |_| false, asking).await?;
        match said.lines().any(|line| line.trim_end() == "cluster_enabled:1") {
            true => Err(StoreError::new(StoreErrorKind::Misconfigured, NO_CLUSTER)),
            false => Ok(()),
        }
    }

    /// What is the matter with it at the moment: `redis` where it cannot be reached, else what it refuses of `idempotency`,
    /// `cache` or `replicas`. Empty while all is well, as far as it was asked.
    pub fn troubles(&self) -> Vec<StoreTrouble> {
        self.link.troubles()
    }

    /// What a script says that changes nothing.
    async fn look<T: FromRedisValue>(
        &self,
        what: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.asks(what, Purpose::Answers, |_| false, script).await
    }

    /// What a script says that writes.
    async fn run<T: FromRedisValue>(
        &self,
        what: &'static str,
        purpose: Purpose,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.asks(what, purpose, |_| true, script).await
    }

    /// What a script says. `proves`: whether it has written.
    async fn asks<T: FromRedisValue>(
        &self,
        what: &'static str,
        purpose: Purpose,
        proves: impl FnOnce(&T) -> bool,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let asking = async { script.invoke_async(&mut self.link.connection().await?).await };
        self.link.ask(what, Some(purpose), self.limit, proves, asking).await
    }

    /// Until when what is sent now may be done, by Redis's clock: empty while that is not known.
    fn not_after(&self) -> String {
        let limit = self.limit.saturating_add(GRACE);
        self.link.clock.after(Instant::now(), limit).map_or_else(String::new, |at| at.to_string())
    }

    /// A script has told the time.
    fn tells_time(&self, now: Option<&Vec<u8>>) {
        if let Some(now) = now.and_then(|now| number(now)) {
            self.link.clock.set(now, Instant::now());
        }
    }

    /// Whether both are over one connection, with the same names.
    #[cfg_attr(not(feature = "config"), allow(dead_code, reason = "nothing else is loaded anew"))]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.link, &other.link) && self.prefix == other.prefix
    }

    fn listener(&self) -> &Listener {
        self.listener.get_or_init(|| Listener::start(self.link.clone(), &self.prefix))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A span as Redis takes it. More than ten years are as good as ever.
fn millis(span: Duration) -> u64 {
    const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
    u64::try_from(span.as_millis()).map_or(TEN_YEARS, |millis| millis.min(TEN_YEARS))
}

/// Without user and password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("link", &self.link)
            .field("prefix", &self.prefix)
            .field("limit", &self.limit)
            .finish()
    }
}
