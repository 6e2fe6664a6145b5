//! A Redis's address and transport.

use std::{fmt, io, path::PathBuf, sync::Arc};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use steadfast::{
    providers::transport::tls_config,
    store::{StoreError, StoreErrorKind},
};

/// The parts of a URL.
pub(super) struct Target {
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// User, password and database.
    pub(super) login: RedisConnectionInfo,
}

enum Address {
    Tcp(String, u16),
    Socket(PathBuf),
}

/// A connection over any transport.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        // TLS is added here, with the crate's own choice of cryptography: the client's would be the process's.
        let secure = [("rediss://", "redis://"), ("valkeys://", "valkey://")];
        let plain = secure.iter().find_map(|(secure, plain)| Some(format!("{plain}{}", url.strip_prefix(secure)?)));
        if url.contains('#') {
            return Err(misconfigured("a Redis URL takes no fragment (#): certificates are always checked"));
        }
        let info = plain.as_deref().unwrap_or(url).into_connection_info().map_err(|error| {
            // The parser's error is about the form, and contains no password.
            misconfigured("a Redis is named as redis://[user:password@]host[:port][/database], with rediss:// for TLS")
                .with_source(error)
        })?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Socket(path.clone()),
            _ => return Err(misconfigured("unknown scheme; use redis:// or rediss://")),
        };
        let tls = match (&plain, &address) {
            (Some(_), Address::Tcp(host, _)) => {
                let name = ServerName::try_from(host.clone()).map_err(|error| {
                    misconfigured("the host is no name that a certificate can have").with_source(error)
                })?;
                Some((TlsConnector::from(Arc::new(tls_config())), name))
            }
            _ => None,
        };
        Ok(Self { address, tls, login: info.redis_settings().clone() })
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let (host, port) = match &self.address {
            Address::Tcp(host, port) => (host.as_str(), *port),
            #[cfg(unix)]
            Address::Socket(path) => return Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Address::Socket(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }
}

fn misconfigured(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Misconfigured, what)
}

/// Hides user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        match &self.address {
            Address::Tcp(host, port) => write!(f, "{scheme}://{host}:{port}/{}", self.login.db()),
            Address::Socket(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_its_password() {
        let target = Target::parse("redis://ana:s3cret@redis.example:7000/3").unwrap();
        assert_eq!(target.to_string(), "redis://redis.example:7000/3");
        assert_eq!((target.login.username(), target.login.password()), (Some("ana"), Some("s3cret")));
        let target = Target::parse("rediss://:s3cret@[::1]").unwrap();
        assert_eq!(target.to_string(), "rediss://::1:6379/0");
        assert!(target.tls.is_some());
        assert_eq!(Target::parse("unix:///run/redis.sock").unwrap().to_string(), "redis+unix:///run/redis.sock");
    }

    #[test]
    fn what_is_no_url_of_a_redis_is_refused_at_once_and_not_repeated() {
        for wrong in [
            "",
            "redis",
            "http://s3cret@host",
            "redis://",
            "redis://:s3cret@host/one",
            "redis://:s3cret@host:99999",
            "rediss://:s3cret@host/0#insecure",
            "redis://0.0.0.0",
        ] {
            let error = Target::parse(wrong).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{wrong}");
            let told = format!("{error} {error:?}");
            assert!(!told.contains("s3cret"), "{told}");
        }
    }
}
