//! State in a PostgreSQL database, shared by all processes that name it.
//!
//! # When to use it, and when not
//!
//! Where more than one machine answers, or the database that is there is the one that is backed up. On one machine a file
//! (`stores::sqlite`, feature `sqlite`) needs no server.
//!
//! # What is in the database
//!
//! What was said, in full. Idempotency keys are there with the answers under them; of their callers' keys and prompts there are
//! hashes only. A task for people is there with its whole request and its answer.
//!
//! Its tables begin with `steadfast_`, and are in the first schema of the role's `search_path`, where the role must be allowed
//! to make them once. PostgreSQL 12 or later.
//!
//! # How it is reached
//!
//! Up to 8 connections in a pool, made when they are needed; a server that was away is found again by the next call.
//! Spans are measured by the server's clock alone, so that the clocks of the machines need not agree.
//!
//! With `sslmode=require` in the URL the connection is TLS, and the server's certificate must be one that the system
//! trusts (as libpq's `verify-full`). Without, it is not.

mod error;
mod forget;
mod keys;
mod schema;
mod tasks;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::sync::OnceCell;
use tokio_postgres::{
    Config, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::schema::Refused;
use super::room::Room;
use crate::providers::transport;
use crate::store::{StoreError, StoreErrorKind};

/// A database of state. See the [module docs](self).
///
/// Clones are the same pool of connections, which ends with the last of them. It lives in the tokio runtime in which it is
/// asked.
///
/// ```no_run
/// use steadfast::{IdempotencyLayer, stores::postgres::Postgres};
///
/// # async fn run() -> Result<(), steadfast::store::StoreError> {
/// let database = Postgres::connect("postgres://steadfast:secret@db.internal/steadfast?sslmode=require").await?;
/// let layer = IdempotencyLayer::over(database);
/// # drop(layer);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where it is, without the password.
    name: Box<str>,
    pool: Pool,
    /// Once the tables are up to date.
    ready: OnceCell<()>,
    room: Room,
}

/// The connections at the most.
const CONNECTIONS: usize = 8;
/// How long a connection may take, and the wait for one.
const CONNECT: Duration = Duration::from_secs(5);
/// After this a server that does not take what was sent is gone.
const UNANSWERED: Duration = Duration::from_secs(10);

impl Postgres {
    /// Connects, and brings the tables up to date.
    ///
    /// The URL is as libpq's, `postgres://user:password@host:5432/database?sslmode=require`; of `sslmode` it knows
    /// `disable`, `prefer` (the default, which is without TLS here) and `require`.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](StoreErrorKind::Misconfigured) for a wrong URL, password, database or right;
    /// [`NewerSchema`](StoreErrorKind::NewerSchema) where a later version of this crate has made the tables: nothing of them is
    /// touched then; [`Unavailable`](StoreErrorKind::Unavailable) where the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let postgres = Self::lazy(url)?;
        postgres.check().await?;
        Ok(postgres)
    }

    /// Connects when it is asked for the first time, and brings the tables up to date then: for a start that does not depend
    /// on the server.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](StoreErrorKind::Misconfigured) for a wrong URL.
    pub fn lazy(url: &str) -> Result<Self, StoreError> {
        let misconfigured = |what| StoreError::new(StoreErrorKind::Misconfigured, what);
        // Not with its cause, which may quote a password that has an unescaped character in it.
        let wrong = "it is no PostgreSQL URL, such as postgres://user:password@host:5432/database?sslmode=require \
            (sslmode: disable, prefer or require; a special character of a password as %40)";
        let mut config = Config::from_str(url).map_err(|_| misconfigured(wrong))?;
        if config.get_hosts().is_empty() {
            return Err(misconfigured(wrong));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNANSWERED);
        }
        if config.get_application_name().is_none() {
            config.application_name("steadfast");
        }
        let name = name(&config);
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match config.get_ssl_mode() {
            SslMode::Require => {
                let tls = MakeRustlsConnect::new(transport::tls_config());
                Manager::from_config(config, tls, manager)
            }
            _ => Manager::from_config(config, NoTls, manager),
        };
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|cause| misconfigured("the pool of connections").with_source(cause))?;
        Ok(Self { inner: Arc::new(Inner { name, pool, ready: OnceCell::new(), room: Room::default() }) })
    }

    /// Asks whether it is there, and whether its tables are up to date; brings them up to date where they are not.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn check(&self) -> Result<(), StoreError> {
        self.client("connecting").await.map(drop)
    }

    /// Whether both are clones of one.
    #[cfg(feature = "config")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// A connection to a database whose tables are up to date. `what` is said in an error.
    pub(crate) async fn client(&self, what: &'static str) -> Result<Object, StoreError> {
        let Inner { pool, ready, .. } = &*self.inner;
        let mut client = pool.get().await.map_err(|cause| self.not_connected(what, cause))?;
        ready
            .get_or_try_init(async || {
                schema::migrate(&mut client).await.map_err(|refused| match refused {
                    Refused::Postgres(cause) => self.failed(what, cause),
                    Refused::Lost(table) => {
                        let what = format!(
                            "{} has lost its table {table}: restore it from a backup, or name another database",
                            self.inner.name
                        );
                        StoreError::new(StoreErrorKind::Corrupt, what)
                    }
                    Refused::Newer(version) => {
                        let (name, known) = (&self.inner.name, schema::latest());
                        let what =
                            format!("{name} is of version {version}, and this program knows those up to {known}");
                        StoreError::new(
                            StoreErrorKind::NewerSchema,
                            what + ": use a later program, or another database",
                        )
                    }
                })
            })
            .await?;
        Ok(client)
    }

    /// What kept the server from doing something.
    pub(crate) fn failed(&self, what: &'static str, cause: tokio_postgres::Error) -> StoreError {
        error::failed(self.said(what), cause)
    }

    fn not_connected(&self, what: &'static str, cause: PoolError) -> StoreError {
        match cause {
            PoolError::Backend(cause) => error::not_connected(self.said(what), cause),
            other => StoreError::new(StoreErrorKind::Unavailable, self.said(what)).with_source(other.to_string()),
        }
    }

    fn said(&self, what: &'static str) -> String {
        format!("{what}, at {}", self.inner.name)
    }
}

/// Where it is, for a log: no password.
fn name(config: &Config) -> Box<str> {
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = config.get_ports().get(at).or_else(|| config.get_ports().first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            #[cfg(unix)]
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    let hosts: Vec<_> = hosts.collect();
    let database = config.get_dbname().or_else(|| config.get_user()).unwrap_or_default();
    format!("postgres {}/{database}", hosts.join(",")).into()
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
