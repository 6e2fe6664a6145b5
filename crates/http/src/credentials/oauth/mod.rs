//! Requests to token servers, and their answers: OAuth 2.0 (RFC 6749, sections 5.1 and 5.2), and the forms of Google's
//! and Azure's own servers.
//!
//! A call knows which of its parts are secrets. No error repeats one, even if the server's answer does.

use std::{
    borrow::Cow,
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Map, Value};

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use super::{SourceError, Token, date, fetch};
use crate::{
    InvalidConfig,
    boxed::Transport,
    internal::{base64, wall_clock},
    protocol::{RequestBody, Secret, excerpt},
};

/// A value of a form.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Plain(&'a str),
    /// It appears in no error.
    Secret(&'a str),
}

use Part::{Plain, Secret as Hidden};

/// A request to a token server, with the secrets in it.
pub(super) struct Call<'a> {
    who: &'a str,
    request: Request<RequestBody>,
    secrets: Vec<Cow<'a, str>>,
    passing: &'static [u16],
}

impl<'a> Call<'a> {
    pub(super) fn get(who: &'a str, url: &Uri) -> Self {
        Self::new(who, Method::GET, url, Bytes::new())
    }

    /// Puts nothing, as a session of AWS's metadata begins.
    pub(super) fn put(who: &'a str, url: &Uri) -> Self {
        Self::new(who, Method::PUT, url, Bytes::new())
    }

    /// Posts a form.
    pub(super) fn form(who: &'a str, url: &Uri, fields: &[(&str, Part<'a>)]) -> Self {
        let mut body = String::new();
        let mut secrets = Vec::new();
        for (name, part) in fields {
            let value = match *part {
                Plain(value) => value,
                Hidden(value) => {
                    secrets.push(value.into());
                    value
                }
            };
            let and = if body.is_empty() { "" } else { "&" };
            let _ = write!(body, "{and}{name}={}", fetch::encoded(value));
        }
        let mut call = Self::new(who, Method::POST, url, body.into());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.request.headers_mut().insert(CONTENT_TYPE, form);
        call.secrets = secrets;
        call
    }

    /// Posts JSON without a secret.
    pub(super) fn json(who: &'a str, url: &Uri, body: &Value) -> Self {
        let mut call = Self::new(who, Method::POST, url, body.to_string().into());
        call.request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        call
    }

    fn new(who: &'a str, method: Method, url: &Uri, body: Bytes) -> Self {
        let mut request = Request::new(body.into());
        *request.method_mut() = method;
        *request.uri_mut() = url.clone();
        Self { who, request, secrets: Vec::new(), passing: &[] }
    }

    /// Adds a header. Its value is a secret.
    pub(super) fn header(mut self, name: HeaderName, value: Cow<'a, str>) -> Result<Self, SourceError> {
        let Ok(mut header) = HeaderValue::from_str(&value) else {
            let who = self.who;
            return Err(SourceError::setup(format!("the value of the header `{name}` for {who} has a line break")));
        };
        header.set_sensitive(true);
        self.request.headers_mut().insert(name, header);
        self.secrets.push(value);
        Ok(self)
    }

    /// Adds `Authorization: Bearer`.
    pub(super) fn bearer(mut self, token: &'a str) -> Result<Self, SourceError> {
        self.secrets.push(token.into());
        self.header(AUTHORIZATION, format!("Bearer {token}").into())
    }

    /// Adds `Authorization: Basic` (RFC 6749, section 2.3.1).
    pub(super) fn basic(mut self, id: &str, secret: &'a str) -> Result<Self, SourceError> {
        let pair = base64::encode(format!("{}:{}", fetch::encoded(id), fetch::encoded(secret)).as_bytes());
        self.secrets.extend([secret.into(), pair.clone().into()]);
        self.header(AUTHORIZATION, format!("Basic {pair}").into())
    }

    /// Sets further statuses of refusals that pass.
    pub(super) fn passing(mut self, statuses: &'static [u16]) -> Self {
        self.passing = statuses;
        self
    }

    /// Sends it. Each status is an answer.
    pub(super) async fn send(self, transport: &Transport) -> Result<Answer<'a>, SourceError> {
        let Self { who, request, secrets, passing } = self;
        let (status, headers, body) = fetch::ask(transport, request, who).await?;
        Ok(Answer { who, secrets, passing, status, headers, body })
    }
}

/// A server's answer.
pub(super) struct Answer<'a> {
    who: &'a str,
    secrets: Vec<Cow<'a, str>>,
    passing: &'static [u16],
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer<'_> {
    /// Reads a token.
    pub(super) fn grant(&self) -> Result<Grant, Failure> {
        let object = self.object()?;
        let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let failed = |problem: &str| Failure::Failed(SourceError::new(format!("the answer of {} {problem}", self.who)));
        // The latter is that of Google's IAM credentials API.
        let Some(access) = text("access_token").or_else(|| text("accessToken")) else {
            return Err(failed("has no `access_token`"));
        };
        if !access.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(failed("has an `access_token` with characters that no token has"));
        }
        if text("token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(failed("has a `token_type` other than `Bearer`"));
        }
        let life = self.life(&object);
        if life.is_zero() {
            return Err(failed("has a token that has ended already; the server, or this machine's clock, is wrong"));
        }
        Ok(Grant { token: Token::bearer(access).expires_in(life), refresh: text("refresh_token").map(str::to_owned) })
    }

    /// Returns the time for which a token holds, from now.
    ///
    /// A date counts from the server's own date, so that a clock that is off does no harm. The nearer end is used where
    /// there are two: a managed identity's server keeps its answers, and may repeat the seconds of an old one.
    fn life(&self, object: &Map<String, Value>) -> Duration {
        let seconds = object.get("expires_in").and_then(seconds).map(Duration::from_secs);
        let dated = object.get("expires_on").and_then(self::seconds).map(|at| UNIX_EPOCH + Duration::from_secs(at));
        let date = dated.or_else(|| object.get("expireTime").and_then(Value::as_str).and_then(date::parse));
        let until = |now: SystemTime| date.map(|date| date.duration_since(now).unwrap_or_default());
        let life = match (seconds, fetch::date(&self.headers)) {
            (seconds, Some(now)) => [seconds, until(now)].into_iter().flatten().min(),
            (None, None) => until(wall_clock::now()),
            (seconds, None) => seconds,
        };
        life.unwrap_or(UNSTATED).min(LONGEST)
    }

    /// Reads a success's JSON object.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Failure> {
        if !self.status.is_success() {
            return Err(Failure::Refused(self.refusal()));
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => {
                if let Some(page) = fetch::page(&self.headers, &self.body, self.who) {
                    return Err(page.into());
                }
                // Without words of the body, which may be a token.
                let found = excerpt(&self.body, None);
                Err(SourceError::new(format!("the answer of {} is no JSON object: {found}", self.who)).into())
            }
        }
    }

    /// Reads a success's text.
    pub(super) fn text(&self) -> Result<&str, Failure> {
        if !self.status.is_success() {
            return Err(Failure::Refused(self.refusal()));
        }
        let text = std::str::from_utf8(&self.body).map_err(|_| format!("the answer of {} is not UTF-8", self.who));
        Ok(text.map_err(SourceError::new)?)
    }

    /// Reads a refusal's words.
    fn refusal(&self) -> Refusal {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |of: &Value, names: &[&str]| {
            let found = names.iter().find_map(|name| of.get(name)?.as_str());
            found.map(|text| self.scrubbed(text)).unwrap_or_default()
        };
        let error = &body["error"];
        let (code, said) = match error {
            Value::Object(_) => (text(error, &["status"]), text(error, &["message"])),
            _ => (text(&body, &["error"]), text(&body, &["error_description", "message", "Message"])),
        };
        let said = match body {
            Value::Object(_) => said,
            _ => self.scrubbed(&excerpt(&self.body, Some(&Secret(None)))),
        };
        let subtype = text(&body, &["error_subtype"]);
        let (status, date) = (self.status, fetch::date(&self.headers));
        let is_passing = status.is_server_error()
            || matches!(status.as_u16(), 408 | 425 | 429)
            || self.passing.contains(&status.as_u16());
        Refusal { who: self.who.to_owned(), status, is_passing, code, subtype, said, date }
    }

    /// Returns a server's text in one line, shortened, without the secrets and whatever looks like one.
    fn scrubbed(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for secret in self.secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
            for spelled in [Cow::Borrowed(&**secret), fetch::encoded(secret).into()] {
                if text.contains(&*spelled) {
                    text = text.replace(&*spelled, "[secret]").into();
                }
            }
        }
        let mut out = String::new();
        for word in text.split_whitespace() {
            let word = if is_opaque(word) { "[secret]" } else { word };
            if out.len() + word.len() > LONGEST_TEXT {
                out.push_str(" ...");
                break;
            }
            let space = if out.is_empty() { "" } else { " " };
            let _ = write!(out, "{space}{word}");
        }
        out
    }
}

/// Returns true if a word has a run of letters that only a token or a key has.
fn is_opaque(word: &str) -> bool {
    // Without a slash, so that an address or a resource's name stays.
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+=%".contains(byte);
    word.as_bytes().split(|byte| !is_token(byte)).any(|run| run.len() >= OPAQUE)
}

/// A token that a server has given.
pub(super) struct Grant {
    pub(super) token: Token,
    /// The refresh token that replaces the one before.
    pub(super) refresh: Option<String>,
}

/// The reason for which there is no token.
pub(super) enum Failure {
    Refused(Refusal),
    Failed(SourceError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    /// Returns an error that says what to do about a refusal.
    pub(super) fn advise(self, advice: impl FnOnce(&Refusal) -> Cow<'static, str>) -> SourceError {
        match self {
            Self::Failed(error) => error,
            Self::Refused(refusal) => {
                // A busy server says nothing about the configuration.
                let is_busy = refusal.status.is_server_error() || matches!(refusal.status.as_u16(), 408 | 425 | 429);
                let advice = if is_busy { Cow::Borrowed("") } else { advice(&refusal) };
                refusal.into_error(&advice)
            }
        }
    }
}

/// A server's refusal.
pub(super) struct Refusal {
    who: String,
    pub(super) status: StatusCode,
    /// True if the same request may succeed soon.
    is_passing: bool,
    /// The server's name of the error: `invalid_grant`.
    pub(super) code: String,
    pub(super) subtype: String,
    /// The server's sentence.
    pub(super) said: String,
    /// The server's date.
    pub(super) date: Option<SystemTime>,
}

impl Refusal {
    pub(super) fn into_error(self, advice: &str) -> SourceError {
        let mut text = format!("{} refused with status {}", self.who, self.status.as_u16());
        let parts = [&self.code, &self.subtype, &self.said];
        for (number, part) in parts.into_iter().filter(|part| !part.is_empty()).enumerate() {
            let _ = write!(text, "{} {}", if number == 0 { ":" } else { "," }, part.trim_end_matches('.'));
        }
        if !advice.is_empty() {
            let _ = write!(text, "; {advice}");
        }
        if self.is_passing { SourceError::new(text) } else { SourceError::setup(text) }
    }
}

/// Parses the address of a server that gets secrets: `https://`, or `http://` on this machine.
pub(super) fn secure_url(field: &str, text: &str) -> Result<Uri, InvalidConfig> {
    let url = any_url(field, text)?;
    let host = url.host().unwrap_or_default();
    if url.scheme_str() == Some("https") || matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        return Ok(url);
    }
    Err(InvalidConfig::new(field.to_owned(), "it must start with https://, since a secret is sent there"))
}

/// Parses an address.
pub(super) fn any_url(field: &str, text: &str) -> Result<Uri, InvalidConfig> {
    let wrong = |problem: &'static str| InvalidConfig::new(field.to_owned(), problem);
    let url: Uri = text.trim().parse().map_err(|_| wrong("it is not a URL"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it must start with http:// or https://"));
    }
    if url.authority().is_none_or(|authority| authority.as_str().contains('@') || authority.host().is_empty()) {
        return Err(wrong("it must have a host, and no user name or password"));
    }
    Ok(url)
}

/// Returns a whole number of seconds; some servers write it as a text.
fn seconds(value: &Value) -> Option<u64> {
    let most = LONGEST_NUMBER;
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .map(|seconds| seconds.min(most))
}

/// The life of a token whose server states none (RFC 6749 recommends `expires_in`, and does not require it).
const UNSTATED: Duration = Duration::from_secs(300);
/// The longest life that is believed. Azure's managed identities have the longest: 24 hours.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// No date beyond the year 9999, so that adding never overflows.
const LONGEST_NUMBER: u64 = 253_402_300_799;
const LONGEST_TEXT: usize = 500;
/// The length below which a secret is a stand-in, and may be a part of plain words.
const SHORTEST_SECRET: usize = 8;
/// Google's and Azure's tokens have hundreds of characters. A service account's domain has up to 54.
const OPAQUE: usize = 64;
