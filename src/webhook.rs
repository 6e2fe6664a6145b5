//! Delivery to webhooks, shared by alerts and by messages about tasks.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::{InvalidConfig, providers::http::RequestBody, retry_after, wall_clock};

/// Any HTTP client. Only the head of a response is read.
pub(crate) type Transport = BoxCloneSyncService<Request<RequestBody>, Response<()>, BoxError>;

pub(crate) fn boxed<S, R, B>(transport: S) -> Transport
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
pub(crate) fn address(url: &str, field: &'static str) -> Result<Uri, InvalidConfig> {
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
pub(crate) fn request(url: &Uri, body: Bytes) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    request
}

const USER_AGENT: &str = concat!("steadfast/", env!("CARGO_PKG_VERSION"));

/// The outcome of an attempt.
pub(crate) enum Outcome {
    Taken,
    /// Another attempt may succeed, after at least this time.
    Later(&'static str, Option<StatusCode>, Duration),
    Refused(StatusCode),
}

/// Makes one attempt.
pub(crate) async fn post(transport: &mut Transport, request: Request<RequestBody>, limit: Duration) -> Outcome {
    let answer = timeout(limit, async { transport.ready().await?.call(request).await });
    let response = match answer.await {
        Err(_) => return Outcome::Later("no answer in time", None, Duration::ZERO),
        // The error's text may quote the URL.
        Ok(Err(_)) => return Outcome::Later("no answer", None, Duration::ZERO),
        Ok(Ok(response)) => response,
    };
    let status = response.status();
    match status {
        status if status.is_success() => Outcome::Taken,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => later(status, response.headers()),
        status if status.is_server_error() => later(status, response.headers()),
        status => Outcome::Refused(status),
    }
}

fn later(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let asked = retry_after::from_headers(headers, None, wall_clock::now());
    Outcome::Later("the receiver deferred it", Some(status), asked.unwrap_or_default())
}

/// The growth of waits between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    /// The longest wait that a webhook may request. A longer one is cut, so that attempts end sooner.
    pub(crate) longest_asked: Duration,
}

impl Waits {
    /// Returns the wait after an attempt, counted from 1: the requested time, half of the backoff, and up to the other
    /// half at random.
    pub(crate) fn after(&self, attempt: u32, asked: Duration, random: &mut fastrand::Rng) -> Duration {
        let backoff = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest);
        let half = backoff.mul_f64(random.f64() / 2.0);
        if asked.is_zero() { backoff / 2 + half } else { asked.min(self.longest_asked) + half }
    }
}

/// Escapes the control characters of Slack's markup, so that a name cannot mention `<!channel>`.
pub(crate) fn escaped(text: &str) -> String {
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
