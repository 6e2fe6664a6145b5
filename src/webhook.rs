//! What is posted to webhooks, and what becomes of it: alerts, and what is told of tasks.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::{InvalidConfig, internal::wall_clock, providers::http::RequestBody, retry_after};

/// Any HTTP client; of the answer only its head is read.
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

/// Where a webhook is. The error does not repeat it, for it can hold a key.
pub(crate) fn address(url: &str, field: &'static str) -> Result<Uri, InvalidConfig> {
    let wrong = |problem: &'static str| InvalidConfig::new(field, problem);
    let url: Uri = url.trim().parse().map_err(|_| wrong("it is not a URL"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it must start with http:// or https://"));
    }
    if url.host().is_none_or(str::is_empty) {
        return Err(wrong("it has no host"));
    }
    // hyper would leave them out without a word.
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("it must not hold a user name or password: set the authorization"));
    }
    Ok(url)
}

/// This JSON for a webhook.
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

/// What came of an attempt.
pub(crate) enum Outcome {
    Taken,
    /// It may be taken later, not before so long.
    Later(&'static str, Option<StatusCode>, Duration),
    Refused(StatusCode),
}

/// Sends it once.
pub(crate) async fn post(transport: &mut Transport, request: Request<RequestBody>, limit: Duration) -> Outcome {
    let answer = timeout(limit, async { transport.ready().await?.call(request).await });
    let response = match answer.await {
        Err(_) => return Outcome::Later("no answer in time", None, Duration::ZERO),
        // What the error says may quote the URL.
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
    Outcome::Later("it was put off", Some(status), asked.unwrap_or_default())
}

/// How the waits between attempts grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    /// The most that a webhook may ask for: beyond it, attempts are spent sooner.
    pub(crate) longest_asked: Duration,
}

impl Waits {
    /// The wait after an attempt, the first of which is 1: half of the backoff, and up to the other half at random,
    /// above what was asked for.
    pub(crate) fn after(&self, attempt: u32, asked: Duration, random: &mut fastrand::Rng) -> Duration {
        let backoff = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest);
        let half = backoff.mul_f64(random.f64() / 2.0);
        if asked.is_zero() { backoff / 2 + half } else { asked.min(self.longest_asked) + half }
    }
}

/// In Slack's markup these three are control characters: a name must not mention `<!channel>`.
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
