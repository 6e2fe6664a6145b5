//! Redis: [`Redis`], the meeting point of replicas.

mod answers;
mod clock;
mod flights;
mod forget;
mod headroom;
mod idempotency;
mod in_flight;
mod ledger;
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
use steadfast::{
    Events,
    store::{StoreError, StoreErrorKind, StoreTrouble},
};

/// A Redis, version 5 or later, or a Valkey: the meeting point of a stack's replicas. Clones share one connection.
///
/// It holds only state that replicas can lose without losing work: it may be a cache without persistence that evicts at
/// will. A lost circuit or count is as if no replica had reported it; a lost idempotency key is as a new one.
///
/// **Outages.** An outage fails no request, and delays none by more than the [`limit`](Self::limit). A caller without a
/// reply continues with its own knowledge. During an outage one try for all callers goes out twice a second. A warning
/// in the log reports the beginning of an outage, and another line its end; so do [`events`](Self::events).
///
/// ```
/// use steadfast::store::StoreErrorKind;
/// use steadfast_stores::redis::Redis;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let redis = Redis::open("redis://127.0.0.1:1/0").unwrap().prefix("shop:");
/// assert_eq!(redis.ping().await.unwrap_err().kind(), StoreErrorKind::Unavailable, "no server is there");
/// assert_eq!(Redis::open("mysql://127.0.0.1").unwrap_err().kind(), StoreErrorKind::Misconfigured);
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    link: Arc<Link>,
    prefix: Arc<str>,
    limit: Duration,
    /// Created for the first listener.
    listener: Arc<OnceLock<Listener>>,
}

/// The default of [`Redis::prefix`].
const PREFIX: &str = "steadfast:";
/// The error for a Redis Cluster.
const NO_CLUSTER: &str = "this is a Redis Cluster (cluster_enabled:1): name a server of its own, or one behind Sentinel or a \
    managed service with cluster mode off";
/// The default of [`Redis::limit`].
const LIMIT: Duration = Duration::from_millis(250);
/// The time by which a command may run after its limit: more than two clocks drift apart between two looks.
const GRACE: Duration = Duration::from_secs(2);

impl Redis {
    /// Opens the Redis of a URL: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS (checked against
    /// the system's certificates), `unix:///path` for a socket. It connects at the first call, so a server that is
    /// unreachable now may be available later.
    ///
    /// # Errors
    ///
    /// Returns [`Misconfigured`](steadfast::store::StoreErrorKind::Misconfigured) if this is no such URL. A wrong
    /// password shows only at the first call.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(Target::parse(url)?));
        Ok(Self { link, prefix: PREFIX.into(), limit: LIMIT, listener: Arc::default() })
    }

    /// Uses the same connection with this prefix for the name of each key. Default: `steadfast:`. Stacks that share
    /// nothing in one Redis need a prefix each.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self.listener = Arc::default();
        self
    }

    /// Uses the same connection with this time limit for each call, connecting included. Default: 250 ms.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Reports the beginning and end of an outage to this channel
    /// ([`Event::StoreChanged`](steadfast::Event::StoreChanged) of the store `redis`). Default: only the log. For one
    /// connection only the first call takes effect.
    #[must_use]
    pub fn events(self, events: &Events) -> Self {
        self.set_events(events);
        self
    }

    /// Sets the channel that reports whether the server is available. Only the first call takes effect.
    pub fn set_events(&self, events: &Events) {
        self.link.set_events(events);
    }

    /// Checks that the server answers and accepts commands, and that it is no cluster.
    ///
    /// # Errors
    ///
    /// Returns the problem, within the [`limit`](Self::limit). A Redis Cluster is
    /// [`Misconfigured`](StoreErrorKind::Misconfigured): its keys are spread over servers, and a script here takes
    /// several.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asking = async {
            let mut connection = self.link.connection().await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await?;
            // A user without this right gets its error, and that of a cluster, from the first script.
            Ok(redis::cmd("INFO").arg("cluster").query_async::<String>(&mut connection).await.unwrap_or_default())
        };
        let reply = self.link.ask("a ping", None, self.limit, |_| false, asking).await?;
        match reply.lines().any(|line| line.trim_end() == "cluster_enabled:1") {
            true => Err(StoreError::new(StoreErrorKind::Misconfigured, NO_CLUSTER)),
            false => Ok(()),
        }
    }

    /// Returns the current troubles: `redis` if it cannot be reached, else the refused purposes `idempotency`, `cache`
    /// or `replicas`. Empty if all calls so far succeeded.
    pub fn troubles(&self) -> Vec<StoreTrouble> {
        self.link.troubles()
    }

    /// Runs a script that changes nothing.
    async fn look<T: FromRedisValue>(
        &self,
        what: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run_script(what, Purpose::Answers, |_| false, script).await
    }

    /// Runs a script that writes.
    async fn run<T: FromRedisValue>(
        &self,
        what: &'static str,
        purpose: Purpose,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run_script(what, purpose, |_| true, script).await
    }

    /// Runs a script. `proves` tells whether it has written.
    async fn run_script<T: FromRedisValue>(
        &self,
        what: &'static str,
        purpose: Purpose,
        proves: impl FnOnce(&T) -> bool,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let asking = async { script.invoke_async(&mut self.link.connection().await?).await };
        self.link.ask(what, Some(purpose), self.limit, proves, asking).await
    }

    /// Returns the time until which a command sent now may run, by Redis's clock: empty while that is unknown.
    fn not_after(&self) -> String {
        let limit = self.limit.saturating_add(GRACE);
        self.link.clock.after(Instant::now(), limit).map_or_else(String::new, |at| at.to_string())
    }

    /// Updates the clock from a script's reply.
    fn set_clock(&self, now: Option<&Vec<u8>>) {
        if let Some(now) = now.and_then(|now| number(now)) {
            self.link.clock.set(now, Instant::now());
        }
    }

    /// Returns whether both share a connection and names.
    pub fn is(&self, other: &Self) -> bool {
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

/// Returns a duration for Redis. Anything beyond ten years is cut.
fn millis(span: Duration) -> u64 {
    const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
    u64::try_from(span.as_millis()).map_or(TEN_YEARS, |millis| millis.min(TEN_YEARS))
}

/// Hides user and password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("link", &self.link)
            .field("prefix", &self.prefix)
            .field("limit", &self.limit)
            .finish()
    }
}
