//! A running gateway, called with a key.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use steadfast::providers::{http::RequestBody, transport::HttpClient};
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::Failure;

pub(crate) struct Remote {
    url: Uri,
    key: Option<String>,
}

/// The time for an answer: a reload reads files.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer, in bytes: a task contains a whole request, once as it came and once for people.
const MAX_ANSWER: usize = 64 << 20;

impl Remote {
    /// Creates a client for the gateway at this address, with the key in an environment variable: other users can see a
    /// command line.
    pub(crate) fn of(url: Uri, key_env: &str, needed: &str) -> Result<Self, Failure> {
        let remote = Self::reading(url, key_env)?;
        if remote.key.is_none() {
            let message = format_args!("the variable {key_env} is not set; it must have a key with {needed}");
            return Err(Failure::usage(message));
        }
        Ok(remote)
    }

    /// Creates a client for what a caller of any key may read, and anyone where the gateway has no keys.
    pub(crate) fn reading(url: Uri, key_env: &str) -> Result<Self, Failure> {
        let key = std::env::var(key_env).ok().filter(|key| !key.is_empty());
        Ok(Self { key, ..Self::without_key(url)? })
    }

    /// Creates a client for a gateway without keys.
    pub(crate) fn without_key(url: Uri) -> Result<Self, Failure> {
        if url.scheme().is_none() || url.authority().is_none() {
            return Err(Failure::usage(format_args!("{url}: the URL must begin with http:// or https://")));
        }
        Ok(Self { url, key: None })
    }

    /// Returns the key.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the gateway's address, without a slash at its end.
    pub(crate) fn address(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    /// Returns whether the gateway is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// Sends an order with a body, or a query without one, and returns the answer.
    pub(crate) async fn ask(&self, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        self.order(method, path, body).await
    }

    /// Sends a request of this method, and returns the answer.
    pub(crate) async fn order(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let (status, body) = self.answer(method, path, body).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        // A status may come with one that tells a load balancer that nothing serves.
        let is_answer = status.is_success() || answer.get("state").is_some();
        if !is_answer || !answer.is_object() {
            return Err(self.refused(status, &answer));
        }
        Ok(answer)
    }

    /// Sends a query whose answer is a text, and returns it.
    pub(crate) async fn text(&self, path: &str) -> Result<Bytes, Failure> {
        let (status, body) = self.answer(Method::GET, path, None).await?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(self.refused(status, &serde_json::from_slice(&body).unwrap_or_default())),
        }
    }

    /// Sends a request of this method, and returns the status and the body of whatever comes.
    pub(crate) async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let asking = timeout(ANSWER_TIMEOUT, self.send(method, path, body));
        asking.await.map_err(|_| self.failed("no answer in time"))?.map_err(|what| self.failed(&what))
    }

    /// Returns the failure that an answer tells of.
    pub(crate) fn refused(&self, status: StatusCode, answer: &Value) -> Failure {
        let message = answer["error"]["message"].as_str().map_or_else(
            || format!("the server is not a steadfast gateway (status {})", status.as_u16()),
            str::to_owned,
        );
        self.failed(&message)
    }

    fn failed(&self, what: &str) -> Failure {
        Failure::Refused(format!("error: {}: {what}", self.url))
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Bytes), String> {
        let url = format!("{}{path}", self.address());
        let body: Bytes = body.map(|body| body.to_string().into()).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(RequestBody::from(body))
            .map_err(|error| error.to_string())?;
        if let Some(key) = &self.key {
            let bearer = HeaderValue::from_str(&format!("Bearer {key}"));
            let mut bearer = bearer.map_err(|_| "the key is no header's value")?;
            bearer.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        // No proxy leads to this machine.
        let client = if self.is_local() { HttpClient::new().no_proxy() } else { HttpClient::new() };
        let response = client.oneshot(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
        Ok((head.status, body.to_bytes()))
    }
}

/// Returns a name as a segment of a path or a query, with any character escaped.
pub(crate) fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => text.push(char::from(byte)),
            _ => _ = write!(text, "%{byte:02X}"),
        }
    }
    text
}
