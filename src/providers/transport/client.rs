use std::{
    fmt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response, header::PROXY_AUTHORIZATION};
use hyper::body::Incoming;
use hyper_util::{
    client::{legacy, proxy::matcher::Matcher},
    rt::{TokioExecutor, TokioTimer},
};
use pin_project::pin_project;
use tower::Service;

use super::{
    connect::{self, Connector},
    error::{InvalidTransport, TransportError},
    tls::{self, Tls},
};
use crate::providers::http::RequestBody;

/// The default HTTP client: hyper and rustls, with a pool of connections.
///
/// - **Protocols**: HTTP/2 where the server offers it in the TLS handshake, else HTTP/1.1. `http://` is allowed, for servers on
///   the same machine.
/// - **Trust**: the certificates of the operating system (`SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded), or Mozilla's list
///   where the system has none; [`ca_file`](Self::ca_file) adds to them. The cryptography is always ring's, whatever
///   the process has installed as rustls' default. The store is read once a process.
/// - **Proxies**: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, read at [`new`](Self::new); `http://` and `https://`
///   proxies, with basic authentication from the URL.
/// - **Redirects** are never followed: a key must not travel to a place that the caller has not named.
/// - **Time**: connecting (name lookup, TCP, proxy and TLS together) is limited to 10 seconds; nothing else is,
///   for that is the timeout layer's work.
///
/// Clones share the pool. Leaves that were not given a client have one each, so that their connections are their own.
/// Building needs no runtime; the first request does (tokio, with I/O and time), and the pooled connections live in that runtime.
#[derive(Clone)]
pub struct HttpClient {
    settings: Settings,
    client: legacy::Client<Connector, RequestBody>,
}

#[derive(Clone)]
struct Settings {
    tls: Tls,
    proxies: Arc<Matcher>,
    connect_timeout: Duration,
}

impl HttpClient {
    /// A client with the defaults above.
    #[must_use]
    pub fn new() -> Self {
        Self::build(Settings {
            tls: tls::from_system(),
            proxies: Arc::new(Matcher::from_env()),
            connect_timeout: CONNECT_TIMEOUT,
        })
    }

    /// Trusts the certificates in this PEM file too. May be called several times.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, holds no certificate, or one that cannot be used; the error names the file.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Result<Self, InvalidTransport> {
        self.settings.tls = self.settings.tls.with_ca_file(path.as_ref())?;
        Ok(Self::build(self.settings))
    }

    /// How long connecting may take, name lookup, proxy and TLS included. Default: 10 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        Self::build(self.settings)
    }

    /// Sends all requests through this proxy, whatever the environment says: `http://user:password@host:port`.
    ///
    /// # Errors
    ///
    /// When the URL cannot be parsed, or its scheme is not `http` or `https`. The error does not repeat the URL, which
    /// may hold a password.
    pub fn proxy(mut self, url: &str) -> Result<Self, InvalidTransport> {
        connect::check_proxy(url)?;
        self.settings.proxies = Arc::new(Matcher::builder().all(url).build());
        Ok(Self::build(self.settings))
    }

    /// Uses no proxy, whatever the environment says.
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.settings.proxies = Arc::new(Matcher::builder().build());
        Self::build(self.settings)
    }

    fn build(settings: Settings) -> Self {
        let connector = Connector::new(&settings.tls, settings.proxies.clone(), settings.connect_timeout);
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            // A silent network otherwise leaves the streams of a dead connection waiting until their own timeouts.
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .build(connector);
        Self { settings, client }
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxies are left out: their URLs may hold passwords.
        f.debug_struct("HttpClient").field("connect_timeout", &self.settings.connect_timeout).finish_non_exhaustive()
    }
}

impl Service<Request<RequestBody>> for HttpClient {
    type Response = Response<Incoming>;
    type Error = TransportError;
    type Future = ResponseFuture;

    /// Always ready: the pool has no upper limit.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<RequestBody>>::poll_ready(&mut self.client, cx).map_err(TransportError::new)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        // An HTTPS proxy is authorized when the tunnel is made; a plain one with each request.
        if request.uri().scheme_str() == Some("http")
            && let Some(proxy) = self.settings.proxies.intercept(request.uri())
            && let Some(authorization) = proxy.basic_auth()
        {
            let mut authorization = authorization.clone();
            authorization.set_sensitive(true);
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        ResponseFuture { inner: self.client.call(request) }
    }
}

/// The future of [`HttpClient`]: resolves when the head of the response is here.
#[pin_project]
pub struct ResponseFuture {
    #[pin]
    inner: legacy::ResponseFuture,
}

impl Future for ResponseFuture {
    type Output = Result<Response<Incoming>, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().inner.poll(cx)).map_err(TransportError::new))
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Twice the 5 s of the OpenAI and Anthropic SDKs, which count TCP and TLS apart.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the 60 s after which common load balancers close an idle connection; hyper-util has 90 s.
const POOL_IDLE: Duration = Duration::from_secs(50);
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
