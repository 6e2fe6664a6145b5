//! Delivery to webhooks, shared by alerts and by messages about tasks: addresses, attempts, time limits, retries and
//! escaping. Alerts wait in memory and are sent in order; tasks' messages wait in their store.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

use steadfast::{
    InvalidConfig,
    providers::{http::RequestBody, transport::HttpClient},
    retry_after,
};
use steadfast_internal::wall_clock;

/// Any HTTP client. Only the head of a response is read.
type Transport = BoxCloneSyncService<Request<RequestBody>, Response<()>, BoxError>;

fn boxed<S, R, B>(transport: S) -> Transport
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: From<RequestBody> + 'static,
    B: 'static,
{
    let transport = transport
        .map_request(|request: Request<RequestBody>| request.map(R::from))
        .map_response(|response: Response<B>| response.map(drop))
        .map_err(Into::into);
    BoxCloneSyncService::new(transport)
}

/// Parses a webhook's address. The error does not repeat it, because it can contain a key.
pub fn address(url: &str, field: &'static str) -> Result<Uri, InvalidConfig> {
    let wrong = |problem: &'static str| InvalidConfig::new(field, problem);
    let url: Uri = url.trim().parse().map_err(|_| wrong("it is not a URL"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it must start with http:// or https://"));
    }
    if url.host().is_none_or(str::is_empty) {
        return Err(wrong("it has no host"));
    }
    // hyper would drop user information silently.
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("it must not contain a user name or password; set the authorization instead"));
    }
    Ok(url)
}

/// Creates a request that posts this JSON to a webhook.
pub fn request(url: &Uri, body: Bytes) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    request
}

const USER_AGENT: &str = concat!("steadfast/", env!("CARGO_PKG_VERSION"));

/// A sender's settings, as its owner's builder sets them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Default: a client of its own, created at the start.
    transport: Option<Transport>,
    /// The number of attempts; 0 counts as 1.
    pub max_attempts: u32,
    /// The time limit of each attempt. Default: 10 s.
    pub timeout: Duration,
    seed: Option<u64>,
}

impl Settings {
    /// Creates settings with a time limit of 10 s for each attempt.
    pub fn new(max_attempts: u32) -> Self {
        Self { transport: None, max_attempts, timeout: Duration::from_secs(10), seed: None }
    }

    /// Sets the HTTP client. Default: one of its own.
    pub fn transport<S, R, B>(&mut self, transport: S)
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: 'static,
    {
        self.transport = Some(boxed(transport));
    }

    /// Sets the seed of the waits' random part.
    pub fn seed(&mut self, seed: u64) {
        self.seed = Some(seed);
    }

    /// Creates the sender.
    pub fn sender(self, backoff: Backoff) -> Sender {
        Sender {
            transport: self.transport.unwrap_or_else(|| boxed(HttpClient::new())),
            max_attempts: self.max_attempts.max(1),
            timeout: self.timeout,
            backoff,
            random: self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        }
    }
}

/// A sender of messages: it makes attempts, classifies their outcomes and computes the waits between them. Its owner
/// keeps the messages.
#[derive(Clone, Debug)]
pub struct Sender {
    transport: Transport,
    max_attempts: u32,
    timeout: Duration,
    backoff: Backoff,
    random: fastrand::Rng,
}

impl Sender {
    /// Makes one attempt.
    pub async fn post(&mut self, request: Request<RequestBody>) -> Result<(), Failure> {
        let failure = |problem, status, retry_after| Failure { problem, status, retry_after };
        let answer = timeout(self.timeout, async { self.transport.ready().await?.call(request).await });
        let response = match answer.await {
            Err(_) => return Err(failure("no answer in time", None, Some(Duration::ZERO))),
            // The error's text may quote the URL.
            Ok(Err(_)) => return Err(failure("no answer", None, Some(Duration::ZERO))),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let is_temporary =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(match is_temporary {
            true => {
                let requested = retry_after::from_headers(response.headers(), None, wall_clock::now());
                failure("the receiver deferred it", Some(status), Some(requested.unwrap_or_default()))
            }
            false => failure("it was refused", Some(status), None),
        })
    }

    /// Returns the wait after a failed attempt, counted from 1; `None` after the last one. The receiver's requested
    /// wait is a floor.
    pub fn wait_after(&mut self, attempt: u32, requested: Duration) -> Option<Duration> {
        (attempt < self.max_attempts).then(|| self.backoff.after(attempt, requested, &mut self.random))
    }

    /// Returns a sender for a concurrent message, with random waits of its own.
    pub fn fork(&mut self) -> Self {
        Self { random: self.random.fork(), ..self.clone() }
    }
}

/// The reason for which an attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// The problem, in words.
    pub problem: &'static str,
    /// The receiver's status, if it answered.
    pub status: Option<StatusCode>,
    /// The receiver's requested wait, or zero; `None` if the receiver refused the message.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} ({})", self.problem, status.as_u16()),
            None => f.write_str(self.problem),
        }
    }
}

/// The growth of waits between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The wait after the first attempt; each further one doubles it.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// The longest wait that a receiver may request. A longer one is cut, so that attempts end sooner.
    pub longest_requested: Duration,
}

impl Backoff {
    /// Returns the wait after an attempt, counted from 1: half of the backoff, or the requested time instead, and up to
    /// the other half at random.
    fn after(&self, attempt: u32, requested: Duration, random: &mut fastrand::Rng) -> Duration {
        let backoff = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest);
        let half = backoff.mul_f64(random.f64() / 2.0);
        if requested.is_zero() { backoff / 2 + half } else { requested.min(self.longest_requested) + half }
    }
}

/// Escapes the control characters of Slack's markup, so that a name cannot mention `<!channel>`.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let _ = match c {
            '&' => safe.write_str("&amp;"),
            '<' => safe.write_str("&lt;"),
            '>' => safe.write_str("&gt;"),
            c => safe.write_char(c),
        };
    }
    safe
}

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
