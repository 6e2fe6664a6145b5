use std::{
    error,
    future::ready,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
    vec,
};

use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::{
        legacy::connect::{Connected, Connection, HttpConnector, dns::Name, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use pin_project::pin_project;
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tower::{Service, ServiceExt};

use super::{
    error::{ConnectTimedOut, InvalidTransport, LocalFailure},
    maybe_tls::MaybeTls,
    names::Names,
    reach::Reach,
    tls::Tls,
};

type BoxError = Box<dyn error::Error + Send + Sync>;
type ConnectFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Makes connections: the way to the server ([`Route`]) and TLS on top, all under one timeout.
#[derive(Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<Route>,
    http1: HttpsConnector<Route>,
    timeout: Duration,
    /// `None`: the limit of time begins as it connects.
    end: Option<Instant>,
    reach: Arc<Reach>,
}

impl Connector {
    pub(super) fn new(
        tls: &Tls,
        proxies: Arc<Matcher>,
        timeout: Duration,
        address: Option<IpAddr>,
        reach: Arc<Reach>,
    ) -> Self {
        let connector = |address| {
            let mut tcp = HttpConnector::new_with_resolver(Resolver::of(address, timeout));
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            // Divided among the addresses of a name, so that one dead address does not take all the time.
            tcp.set_connect_timeout(Some(timeout));
            tcp.set_keepalive(Some(TCP_KEEPALIVE));
            #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
            tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
            tcp
        };
        // A proxy has an address of its own.
        let to_proxy = (connector(None), tls.proxy.clone()).into();
        let route = Route { to_proxy, tcp: connector(address), proxies };
        let (inner, http1) = ((route.clone(), tls.provider.clone()), (route, tls.http1.clone()));
        Self { inner: inner.into(), http1: http1.into(), timeout, end: None, reach }
    }

    /// Returns one that offers HTTP/1.1 alone.
    pub(super) fn of_http1(self) -> Self {
        Self { inner: self.http1.clone(), ..self }
    }

    /// Returns one that ends with the longest time to connect from now on, with both.
    pub(super) fn limited(self) -> (Self, Instant, Duration) {
        let (end, limit) = (Instant::now() + self.timeout, self.timeout);
        (Self { end: Some(end), ..self }, end, limit)
    }

    /// Learns that a server has answered.
    pub(super) fn heard(&self, host: &str) {
        self.reach.heard(host);
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeTls<RoutedStream>;
    type Error = BoxError;
    type Future = ConnectFuture<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (limit, reach) = (self.timeout, self.reach.clone());
        let end = self.end.unwrap_or_else(|| Instant::now() + limit);
        let host: Box<str> = to.host().unwrap_or_default().into();
        let connecting = self.inner.call(to);
        Box::pin(async move {
            let connected = timeout_at(end, connecting).await.unwrap_or_else(|_| Err(ConnectTimedOut(limit).into()));
            match connected {
                Ok(stream) => {
                    reach.reached(&host);
                    Ok(stream.into())
                }
                Err(error) if reach.failed(&host) => Err(LocalFailure::network(error).into()),
                Err(error) => Err(error),
            }
        })
    }
}

/// Looks names up, or gives each name one address.
#[derive(Clone)]
enum Resolver {
    /// With the longest time for a lookup.
    ByName(Names, Duration),
    Fixed(IpAddr),
}

impl Resolver {
    fn of(address: Option<IpAddr>, limit: Duration) -> Self {
        // Shorter than the limit of the whole, so that the error names the lookup.
        address.map_or_else(|| Self::ByName(Names::of_system(), limit * 9 / 10), Self::Fixed)
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self {
            Self::ByName(names, limit) => {
                let (names, limit) = (names.clone(), *limit);
                Box::pin(async move { Ok(names.look_up(name.as_str(), limit).await?.into_iter()) })
            }
            // The connector sets the port.
            Self::Fixed(address) => Box::pin(ready(Ok(vec![SocketAddr::new(*address, 0)].into_iter()))),
        }
    }
}

/// The way to a server: direct, or through a proxy.
#[derive(Clone)]
struct Route {
    tcp: HttpConnector<Resolver>,
    to_proxy: HttpsConnector<HttpConnector<Resolver>>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Route {
    type Response = RoutedStream;
    type Error = BoxError;
    type Future = ConnectFuture<RoutedStream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&to) else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move { Ok(RoutedStream::new(MaybeTls::Plain(connecting.await?), false)) });
        };
        let to_proxy = self.to_proxy.clone().map_err(unreachable_proxy);
        let address = proxy.uri().clone();
        if to.scheme_str() == Some("http") {
            return Box::pin(async move { Ok(RoutedStream::new(to_proxy.oneshot(address).await?.into(), true)) });
        }
        let mut tunnel = Tunnel::new(address, to_proxy);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move { Ok(RoutedStream::new(tunnel.oneshot(to).await?.into(), false)) })
    }
}

fn unreachable_proxy(error: BoxError) -> BoxError {
    LocalFailure::proxy(error).into()
}

/// A connection that knows if a proxy reads its requests: these need the whole URL in their first line.
#[pin_project]
pub(super) struct RoutedStream {
    #[pin]
    stream: MaybeTls<TokioIo<TcpStream>>,
    asks_proxy: bool,
    patience: Patience,
}

impl RoutedStream {
    fn new(stream: MaybeTls<TokioIo<TcpStream>>, asks_proxy: bool) -> Self {
        Self { stream, asks_proxy, patience: Patience::default() }
    }
}

impl Connection for RoutedStream {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.asks_proxy).extra(self.patience.clone())
    }
}

/// The longest time for which what was sent on a connection may stay unconfirmed, for its socket.
#[derive(Clone, Default)]
pub(super) struct Patience(Arc<AtomicU8>);

impl Patience {
    /// Returns the one of a connection.
    pub(super) fn of(connection: &impl Connection) -> Self {
        let mut extras = Extensions::new();
        connection.connected().get_extras(&mut extras);
        extras.remove().unwrap_or_default()
    }

    /// Sets it, short or as usual, for what is sent from now on.
    pub(super) fn set(&self, is_short: bool) {
        self.0.store(if is_short { SHORT } else { USUAL }, Relaxed);
    }

    /// Tells the socket before it is written to.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    fn apply(&self, stream: &MaybeTls<TokioIo<TcpStream>>) {
        if self.0.load(Relaxed) != TOLD
            && let MaybeTls::Plain(stream) = stream
        {
            let is_short = self.0.swap(TOLD, Relaxed) == SHORT;
            let limit = if is_short { SHORT_USER_TIMEOUT } else { TCP_USER_TIMEOUT };
            // A system that cannot do it keeps the longer limit.
            let _set = SockRef::from(stream.inner()).set_tcp_user_timeout(Some(limit));
        }
    }

    #[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
    fn apply(&self, _: &MaybeTls<TokioIo<TcpStream>>) {}
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const TOLD: u8 = 0;
const SHORT: u8 = 1;
const USUAL: u8 = 2;

impl Read for RoutedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buffer)
    }
}

impl Write for RoutedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.patience.apply(&self.stream);
        self.project().stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.patience.apply(&self.stream);
        self.project().stream.poll_write_vectored(cx, parts)
    }
}

/// Refuses a URL that [`Route`] cannot use: the matcher would ignore it silently.
pub(super) fn check_proxy(url: &str) -> Result<(), InvalidTransport> {
    let uri: Uri = url.parse().map_err(|_| InvalidTransport::proxy("it is no URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(()),
        Some(other) => {
            Err(InvalidTransport::proxy(format_args!("its scheme is {other}, and only http and https are supported")))
        }
        None => Err(InvalidTransport::proxy("it has no scheme")),
    }
}

/// Below the five minutes after which stateful firewalls forget a silent connection, and a model that thinks is silent.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// The longest time for which what was sent may stay unconfirmed: what a silent HTTP/2 connection gets.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for a request that can go out on another connection: the system has repeated it after 0.2, 0.6 and 1.4 s.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const SHORT_USER_TIMEOUT: Duration = Duration::from_millis(1500);
