//! State in a PostgreSQL database, shared by all processes that use it.
//!
//! # When to use it, and when not
//!
//! Use it where more than one machine answers, or where backups already cover the database. On one machine a file
//! (`store::sqlite`, feature `sqlite`) needs no server.
//!
//! # The database's contents
//!
//! The database contains full texts. Idempotency keys are there with their answers; callers' keys and prompts only as
//! hashes. A task for people is there with its whole request and its answer, and a kept response with all of its
//! conversation. The ledger has names of keys, teams, features, sessions and models, with tokens and amounts, and no
//! word of a prompt. Of providers' keys it has a hash, with the tier's name, of those that have worked.
//!
//! Its tables begin with `steadfast_`, and are in the first schema of the role's `search_path`, where the role must be
//! allowed to create them once. It needs PostgreSQL 12 or later.
//!
//! # Connections
//!
//! A pool opens up to 8 connections as needed; after an outage the next call reconnects. The server's clock alone
//! measures durations, so the clocks of the machines need not agree.
//!
//! With `sslmode=require` in the URL the connection is TLS, and the system must trust the server's certificate (as with
//! libpq's `verify-full`). Without it, the connection is not encrypted.

mod error;
mod forget;
mod grants;
mod keys;
mod ledger;
mod owner;
mod places;
mod registry;
mod responses;
mod schema;
mod tasks;
#[cfg(test)]
mod tests;
mod worked_keys;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::sync::OnceCell;
use tokio_postgres::{
    Config, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::schema::MigrationRefusal;
use super::quota::AnswerQuota;
use crate::owner::StoreOwner;
use steadfast::{
    providers::transport,
    store::{StoreError, StoreErrorKind},
};

/// A state database. See the [module docs](self).
///
/// Clones share the pool of connections, which ends with the last of them. It lives in the tokio runtime in which it is
/// called.
///
/// ```no_run
/// use steadfast::IdempotencyLayer;
/// use steadfast_stores::postgres::Postgres;
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
    /// Its address, without the password.
    name: Box<str>,
    pool: Pool,
    /// Set once the tables are up to date, and the database is the owner's.
    ready: OnceCell<()>,
    owner: Option<StoreOwner>,
    quota: AnswerQuota,
}

/// The largest number of connections.
const CONNECTIONS: usize = 8;
/// The time limit of connecting, and of waiting for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The time after which a server that acknowledges nothing counts as gone.
const UNANSWERED: Duration = Duration::from_secs(10);

impl Postgres {
    /// Connects, and brings the tables up to date.
    ///
    /// The URL has libpq's form, `postgres://user:password@host:5432/database?sslmode=require`; the supported values of
    /// `sslmode` are `disable`, `prefer` (the default, which is without TLS here) and `require`.
    ///
    /// # Errors
    ///
    /// Returns [`Misconfigured`](StoreErrorKind::Misconfigured) for a wrong URL, password, database or right;
    /// [`NewerSchema`](StoreErrorKind::NewerSchema) if a later version of this crate made the tables, which stay
    /// unchanged; [`Unavailable`](StoreErrorKind::Unavailable) if the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let postgres = Self::lazy(url)?;
        postgres.check().await?;
        Ok(postgres)
    }

    /// Connects at the first call, and brings the tables up to date then: for a start that does not depend on the
    /// server.
    ///
    /// # Errors
    ///
    /// Returns [`Misconfigured`](StoreErrorKind::Misconfigured) for a wrong URL.
    pub fn lazy(url: &str) -> Result<Self, StoreError> {
        Self::lazy_for(url, None)
    }

    /// Connects as [`lazy`](Self::lazy) does, for the deployment of this name. It becomes the owner of a database that
    /// has none. If the database belongs to another, each call fails with
    /// [`Misconfigured`](StoreErrorKind::Misconfigured), and changes nothing.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`lazy`](Self::lazy).
    pub fn lazy_for(url: &str, owner: Option<StoreOwner>) -> Result<Self, StoreError> {
        let misconfigured = |what| StoreError::new(StoreErrorKind::Misconfigured, what);
        // The cause is left out: it may quote a password with an unescaped character.
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
        Ok(Self { inner: Arc::new(Inner { name, pool, ready: OnceCell::new(), owner, quota: AnswerQuota::default() }) })
    }

    /// Checks that the server answers, and brings its tables up to date if necessary.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`connect`](Self::connect).
    pub async fn check(&self) -> Result<(), StoreError> {
        self.client("connecting").await.map(drop)
    }

    /// Returns the owner for which it is open, once the server has said that it is that one's.
    pub fn owner(&self) -> Option<&StoreOwner> {
        self.inner.owner.as_ref().filter(|_| self.inner.ready.initialized())
    }

    /// Returns whether both are clones of one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns a connection to a database whose tables are up to date. An error names `what` as the operation.
    pub(crate) async fn client(&self, what: &'static str) -> Result<Object, StoreError> {
        let Inner { pool, ready, .. } = &*self.inner;
        let mut client = pool.get().await.map_err(|cause| self.not_connected(what, cause))?;
        ready
            .get_or_try_init(async || {
                schema::migrate(&mut client).await.map_err(|refused| match refused {
                    MigrationRefusal::Postgres(cause) => self.failed(what, cause),
                    MigrationRefusal::Lost(table) => {
                        let what = format!(
                            "{} has lost its table {table}: restore it from a backup, or name another database",
                            self.inner.name
                        );
                        StoreError::new(StoreErrorKind::Corrupt, what)
                    }
                    MigrationRefusal::Newer(version) => {
                        let (name, known) = (&self.inner.name, schema::latest());
                        let what =
                            format!("{name} has version {version}, but this program supports versions up to {known}");
                        StoreError::new(
                            StoreErrorKind::NewerSchema,
                            what + ": use a later program, or another database",
                        )
                    }
                })?;
                self.claim(&client, what).await
            })
            .await?;
        Ok(client)
    }

    /// Makes the deployment the owner, if it has a name.
    async fn claim(&self, client: &Object, what: &'static str) -> Result<(), StoreError> {
        let Some(owner) = &self.inner.owner else { return Ok(()) };
        match owner::claim(client, owner).await.map_err(|cause| self.failed(what, cause))? {
            None => Ok(()),
            Some(other) => {
                let another = "another database, or a schema of its own with `options=-csearch_path=NAME` in the URL";
                Err(owner.refusal(&self.inner.name, &other, another))
            }
        }
    }

    /// Converts the server's error.
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

/// Returns its address for a log, without a password.
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
