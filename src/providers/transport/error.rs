use std::{error, fmt, path::Path};

use hyper_util::client::legacy;

type BoxError = Box<dyn error::Error + Send + Sync>;

/// The error of a request that got no response.
///
/// `source()` has the cause.
#[derive(Debug)]
pub struct TransportError(Cause);

#[derive(Debug)]
enum Cause {
    Pooled(legacy::Error),
    Connect(BoxError),
    Broken(hyper::Error),
}

impl TransportError {
    pub(super) const fn pooled(error: legacy::Error) -> Self {
        Self(Cause::Pooled(error))
    }

    pub(super) const fn connect(error: BoxError) -> Self {
        Self(Cause::Connect(error))
    }

    pub(super) const fn broken(error: hyper::Error) -> Self {
        Self(Cause::Broken(error))
    }

    /// Returns true if no connection could be made (name lookup, TCP, proxy, TLS): the provider has not seen any of the
    /// request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        match &self.0 {
            Cause::Pooled(error) => error.is_connect(),
            Cause::Connect(_) => true,
            Cause::Broken(_) => false,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_connect() {
            "could not connect"
        } else {
            "the connection broke before the response came"
        })
    }
}

impl error::Error for TransportError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            // Our own text already says the same as hyper-util's ("client error (Connect)").
            Cause::Pooled(error) => error.source(),
            Cause::Connect(error) => Some(&**error),
            Cause::Broken(error) => Some(error),
        }
    }
}

/// The error of a connection that took too long.
#[derive(Debug)]
pub(super) struct ConnectTimedOut(pub(super) std::time::Duration);

impl fmt::Display for ConnectTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {:?}", self.0)
    }
}

impl error::Error for ConnectTimedOut {}

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
