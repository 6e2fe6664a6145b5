use std::{
    fmt,
    net::IpAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Version,
    header::{ACCEPT_ENCODING, PROXY_AUTHORIZATION},
    uri::Scheme,
};
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::{
    client::{legacy, proxy::matcher::Matcher},
    rt::{TokioExecutor, TokioTimer},
};
use pin_project::pin_project;
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::{
    connect::{self, Connector},
    error::{InvalidTransport, TransportError},
    exchange::{self, ExchangeFuture, ResponseBody},
    pool::{self, DirectServer, Pool},
    reach::Reach,
    tls::{self, Tls},
};
use crate::{
    internal::sync::{Mutex, lock},
    protocol::RequestBody,
};

/// The default HTTP client: hyper and rustls, with a pool of connections.
///
/// - **Protocols**: HTTP/2 if the server offers it in the TLS handshake, else HTTP/1.1. `http://` is allowed, for
///   servers on the same machine.
/// - **Trust**: the certificates of the operating system, with regard to `SSL_CERT_FILE` and `SSL_CERT_DIR`, or
///   Mozilla's list if the system has none; [`ca_file`](Self::ca_file) adds to them. The cryptography is always ring's,
///   even if the process has another default in rustls. The store is read once a process.
/// - **Proxies**: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, read at [`new`](Self::new); `http://` and
///   `https://` proxies, with basic authentication from the URL.
/// - **Compression**: it decompresses nothing, and asks for `identity` if the request has no `Accept-Encoding`. A layer
///   around it may ask for more, and decompress the answers; see the [module docs](super).
/// - **Redirects** are never followed: a key must not travel to a place that the caller has not named.
/// - **Time**: connecting (name lookup, TCP, proxy and TLS together) is limited to 10 seconds. Nothing else is; the
///   timeout layer does that.
/// - **Connections** stay open for 50 seconds after their last answer, and get no further call once they are four to
///   five minutes old: so a name that moves is followed under steady traffic too. One to an `http://` server without a proxy
///   belongs to its request until the answer is read; it closes if the request or the body of the answer is dropped
///   before.
///
/// Clones share the pool. A leaf without a client of its own makes one, so that its connections are its own. Building
/// needs no runtime; the first request does (tokio, with I/O and time), and the pooled connections live in that
/// runtime.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    /// For `https://`, and for `http://` without a proxy.
    pool: Arc<Pool>,
    /// For `http://` through a proxy.
    client: Renewed<RequestBody>,
    /// For bodies that come in pieces.
    streams: Renewed<StreamedBody>,
}

#[derive(Clone)]
struct Settings {
    tls: Tls,
    proxies: Arc<Matcher>,
    connect_timeout: Duration,
    address: Option<IpAddr>,
    reach: Arc<Reach>,
}

impl HttpClient {
    /// Creates a client with the defaults above.
    #[must_use]
    pub fn new() -> Self {
        Self::build(Settings {
            tls: tls::from_system(),
            proxies: Arc::new(Matcher::from_env()),
            connect_timeout: CONNECT_TIMEOUT,
            address: None,
            reach: Reach::of_process(),
        })
    }

    /// Trusts the certificates in this PEM file too. Call it once for each file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no certificate or an unusable one; the error names the file.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self, InvalidTransport> {
        let tls = self.shared.settings.tls.with_ca_file(path.as_ref())?;
        Ok(self.with(|settings| settings.tls = tls))
    }

    /// Sets the longest time to connect, with name lookup, proxy and TLS. Default: 10 seconds.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.connect_timeout = limit)
    }

    /// Connects to this address, whatever the name in the URL, which the server's certificate and the `Host` header
    /// still have. For one of several addresses of a name: see [`Addresses`](super::Addresses). A proxy gets the name
    /// as before. Default: the addresses of the name, the first that answers.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        self.with(|settings| settings.address = Some(address))
    }

    /// Sends all requests through this proxy, and ignores the environment: `http://user:password@host:port`.
    ///
    /// # Errors
    ///
    /// The URL cannot be parsed, or its scheme is not `http` or `https`. The error does not repeat the URL, which may
    /// hold a password.
    pub fn proxy(self, url: &str) -> Result<Self, InvalidTransport> {
        connect::check_proxy(url)?;
        Ok(self.with(|settings| settings.proxies = Arc::new(Matcher::builder().all(url).build())))
    }

    /// Uses no proxy, and ignores the environment.
    #[must_use]
    pub fn no_proxy(self) -> Self {
        self.with(|settings| settings.proxies = Arc::new(Matcher::builder().build()))
    }

    /// Sends a request whose body comes in pieces, such as an upload that is in no memory whole. An error of the body
    /// breaks the request off, so that no server takes its beginning for all of it. These requests have connections of
    /// their own.
    pub fn stream(&self, mut request: Request<StreamedBody>) -> ResponseFuture {
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(IDENTITY);
        self.shared.authorize(&mut request);
        ResponseFuture(SendState::Pooled(self.shared.streams.get().request(request)))
    }

    /// Returns the HTTP/2 streams and connections that are open now, for each server.
    #[must_use]
    pub fn connections(&self) -> Vec<HostConnections> {
        let hosts = self.shared.pool.hosts().into_iter();
        hosts.map(|(host, streams, connections)| HostConnections { host, streams, connections }).collect()
    }

    /// Returns a client with a setting changed, and connections of its own.
    fn with(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Self::build(settings)
    }

    /// Returns a client that knows of no other's failures.
    #[cfg(test)]
    pub(super) fn reach(self, reach: Arc<Reach>) -> Self {
        self.with(|settings| settings.reach = reach)
    }

    fn build(settings: Settings) -> Self {
        let Settings { tls, proxies, connect_timeout, address, reach } = &settings;
        let connector = Connector::new(tls, proxies.clone(), *connect_timeout, *address, reach.clone());
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(pool::IDLE)
            // Without a ping, a silent network leaves the streams of a dead connection waiting until their own
            // timeouts.
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT);
        let client = Renewed::new(builder.clone(), connector.clone());
        let streams = Renewed::new(builder, connector.clone());
        Self { shared: Arc::new(Shared { settings, pool: Arc::new(Pool::new(connector)), client, streams }) }
    }
}

/// hyper-util's client, with other connections from time to time: it knows of no longest age. Calls on the old ones go
/// on.
struct Renewed<B> {
    builder: legacy::Builder,
    connector: Connector,
    current: Mutex<(Instant, legacy::Client<Connector, B>)>,
}

impl<B> Renewed<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    fn new(builder: legacy::Builder, connector: Connector) -> Self {
        let current = Mutex::new((Instant::now(), builder.build(connector.clone())));
        Self { builder, connector, current }
    }

    fn get(&self) -> legacy::Client<Connector, B> {
        let mut current = lock(&self.current);
        if current.0.elapsed() >= pool::LONGEST_AGE {
            *current = (Instant::now(), self.builder.build(self.connector.clone()));
        }
        current.1.clone()
    }
}

/// The open HTTP/2 connections to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostConnections {
    /// The name of the server, with its port if it is unusual.
    pub host: String,
    /// The calls that are on the connections.
    pub streams: usize,
    /// The connections that take calls.
    pub connections: usize,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxies are omitted: their URLs may hold passwords.
        f.debug_struct("HttpClient")
            .field("connect_timeout", &self.shared.settings.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns the server of a request that the crate's own pool can take.
    fn straight(&self, request: &Request<RequestBody>) -> Option<Arc<DirectServer>> {
        let uri = request.uri();
        let is_usual = request.version() == Version::HTTP_11 && request.method() != Method::CONNECT;
        if !is_usual {
            return None;
        }
        let authority = uri.authority()?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return self.pool.host(authority);
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        self.pool.known(authority).or_else(|| match self.settings.proxies.intercept(uri) {
            Some(_) => None,
            None => DirectServer::new(authority, false),
        })
    }

    /// Sends a request by hyper-util's client, which knows proxies and HTTP/2.
    fn send(&self, mut request: Request<RequestBody>) -> legacy::ResponseFuture {
        self.authorize(&mut request);
        self.client.get().request(request)
    }

    /// Adds what a proxy asks for.
    fn authorize<B>(&self, request: &mut Request<B>) {
        // An HTTPS proxy is authorized when the tunnel is made; a plain one with each request.
        if request.uri().scheme() == Some(&Scheme::HTTP)
            && let Some(proxy) = self.settings.proxies.intercept(request.uri())
            && let Some(authorization) = proxy.basic_auth()
        {
            let mut authorization = authorization.clone();
            authorization.set_sensitive(true);
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
    }
}

impl Service<Request<RequestBody>> for HttpClient {
    type Response = Response<ResponseBody>;
    type Error = TransportError;
    type Future = ResponseFuture;

    /// Always ready: the pool has no upper limit.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> ResponseFuture {
        // A layer around this client decompresses answers, and has asked for the codings that it knows.
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(IDENTITY);
        ResponseFuture(match self.shared.straight(&request) {
            Some(server) => SendState::Straight(exchange::ask(self.shared.pool.clone(), server, request)),
            None => SendState::Pooled(self.shared.send(request)),
        })
    }
}

/// A body that comes in pieces, of any length.
pub type StreamedBody = UnsyncBoxBody<Bytes, BoxError>;

/// The future of [`HttpClient`]: resolves with the head of the response.
#[pin_project]
pub struct ResponseFuture(#[pin] SendState);

#[pin_project(project = SendStateProjection)]
enum SendState {
    Straight(ExchangeFuture),
    Pooled(#[pin] legacy::ResponseFuture),
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            SendStateProjection::Straight(asking) => asking.as_mut().poll(cx),
            SendStateProjection::Pooled(sending) => {
                let response = ready!(sending.poll(cx)).map_err(TransportError::pooled)?;
                Poll::Ready(Ok(response.map(ResponseBody::from)))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// Twice the 5 s of the OpenAI and Anthropic SDKs, which count TCP and TLS apart.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
