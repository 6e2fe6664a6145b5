use std::{
    error, fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper_util::client::legacy;

use crate::error::NetworkFacts;

type BoxError = Box<dyn error::Error + Send + Sync>;

/// The error of a request that got no response, or of an answer that broke off.
///
/// `source()` has the cause. It says whose failure it was: the number of the [connection](Self::connection), which all
/// calls that failed with it share, and whether [this machine's network](Self::is_local_network) failed.
#[derive(Debug)]
pub struct TransportError {
    cause: Cause,
    connection: Option<u64>,
}

#[derive(Debug)]
enum Cause {
    Pooled(legacy::Error),
    /// Shared by all that waited for it.
    Connect(Arc<dyn error::Error + Send + Sync>),
    Broken(hyper::Error),
    Body(hyper::Error),
}

impl TransportError {
    pub(super) const fn pooled(error: legacy::Error) -> Self {
        Self { cause: Cause::Pooled(error), connection: None }
    }

    pub(super) fn connect(error: impl Into<BoxError>, connection: u64) -> Self {
        Self { cause: Cause::Connect(error.into().into()), connection: Some(connection) }
    }

    /// Returns the same failure for another call that waited for the connection.
    pub(super) fn shared(&self) -> Option<Self> {
        let Cause::Connect(error) = &self.cause else { return None };
        Some(Self { cause: Cause::Connect(error.clone()), connection: self.connection })
    }

    pub(super) const fn broken(error: hyper::Error, connection: u64) -> Self {
        Self { cause: Cause::Broken(error), connection: Some(connection) }
    }

    pub(super) const fn body(error: hyper::Error, connection: Option<u64>) -> Self {
        Self { cause: Cause::Body(error), connection }
    }

    /// Returns true if no connection could be made (name lookup, TCP, proxy, TLS): the provider has not seen any of the
    /// request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        match &self.cause {
            Cause::Pooled(error) => error.is_connect(),
            Cause::Connect(_) => true,
            Cause::Broken(_) | Cause::Body(_) => false,
        }
    }

    /// Returns the number of the connection that failed. All calls that failed with it have the same number, and so
    /// have all that waited for one attempt to connect. Numbers are never used again in a process.
    #[must_use]
    pub fn connection(&self) -> Option<u64> {
        self.connection
    }

    /// Returns true if this machine's network failed, and not the provider: no name lookup, no route, no address of
    /// its own, no proxy, or no way to several hosts at once.
    #[must_use]
    pub fn is_local_network(&self) -> bool {
        let mut next = error::Error::source(self);
        while let Some(this) = next {
            if is_local(this) {
                return true;
            }
            next = this.source();
        }
        false
    }

    /// Returns true if nobody confirmed what was sent on the connection, for as long as the system waits.
    pub(super) fn is_unconfirmed(&self) -> bool {
        let Cause::Broken(error) = &self.cause else { return false };
        let mut next = error::Error::source(error);
        while let Some(this) = next {
            if this.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                return true;
            }
            next = this.source();
        }
        false
    }

    pub(crate) fn facts(&self) -> NetworkFacts {
        NetworkFacts { connection: self.connection, is_local: self.is_local_network() }
    }
}

/// Returns true for one cause that lies in this machine's network.
fn is_local(cause: &(dyn error::Error + 'static)) -> bool {
    if cause.is::<LocalFailure>() {
        return true;
    }
    let Some(error) = cause.downcast_ref::<io::Error>() else { return false };
    // The `source` of an `io::Error` skips the error that it wraps.
    let wrapped = error.get_ref();
    wrapped.is_some_and(|wrapped| is_local(wrapped)) || is_local_kind(error.kind())
}

fn is_local_kind(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(kind, AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// The failure of something between this machine and the provider: the name lookup, the proxy, the network.
#[derive(Debug)]
pub(super) struct LocalFailure {
    what: &'static str,
    source: BoxError,
}

impl LocalFailure {
    pub(super) fn lookup(source: impl Into<BoxError>) -> Self {
        Self { what: "the name lookup failed", source: source.into() }
    }

    pub(super) fn network(source: impl Into<BoxError>) -> Self {
        Self { what: "several providers cannot be reached at once", source: source.into() }
    }

    pub(super) fn proxy(source: impl Into<BoxError>) -> Self {
        Self { what: "the proxy cannot be reached", source: source.into() }
    }
}

impl fmt::Display for LocalFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl error::Error for LocalFailure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// Returns the number of the next connection.
pub(super) fn next_connection() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cause {
            _ if self.is_connect() => "could not connect",
            Cause::Body(_) => "the connection broke in the middle of the answer",
            _ => "the connection broke before the response came",
        })
    }
}

impl error::Error for TransportError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            // Our own text already says the same as hyper-util's ("client error (Connect)").
            Cause::Pooled(error) => error.source(),
            Cause::Connect(error) => Some(&**error),
            Cause::Broken(error) | Cause::Body(error) => Some(error),
        }
    }
}

/// The error of a connection that took too long.
#[derive(Debug)]
pub(super) struct ConnectTimedOut(pub(super) Duration);

impl fmt::Display for ConnectTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {:?}", self.0)
    }
}

impl error::Error for ConnectTimedOut {}

/// The reason for which an HTTP/2 connection carries no call.
#[derive(Debug)]
pub(super) enum NoStream {
    /// The server agreed on HTTP/2 and never spoke it.
    NoSettings(Duration),
    /// The server allows no stream.
    Zero(Duration),
    /// The connection ended before its first call.
    Ended(Option<hyper::Error>),
}

impl fmt::Display for NoStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSettings(limit) => write!(f, "the server agreed on HTTP/2 and sent no SETTINGS within {limit:?}"),
            Self::Zero(limit) => {
                write!(f, "the server allows no HTTP/2 stream: its SETTINGS_MAX_CONCURRENT_STREAMS was 0 for {limit:?}")
            }
            Self::Ended(_) => f.write_str("the HTTP/2 connection ended before its first call"),
        }
    }
}

impl error::Error for NoStream {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Ended(Some(error)) => Some(error),
            _ => None,
        }
    }
}

/// The error of an unusable setting of [`HttpClient`](super::HttpClient).
#[derive(Debug)]
pub struct InvalidTransport {
    what: String,
    source: Option<BoxError>,
}

impl InvalidTransport {
    pub(super) fn ca_file(path: &Path, source: BoxError) -> Self {
        Self { what: format!("cannot use the CA file {}", path.display()), source: Some(source) }
    }

    pub(super) fn proxy(why: impl fmt::Display) -> Self {
        Self { what: format!("cannot use the proxy: {why}"), source: None }
    }
}

impl fmt::Display for InvalidTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        // A person reads a configuration error, and needs the reason in the same line.
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl error::Error for InvalidTransport {}
