//! One HTTP exchange with a token server.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;

use super::{SourceError, sigv4};
use crate::{boxed::Transport, protocol::RequestBody};

/// The longest time for a token server to answer, in whole. The AWS SDKs allow metadata a second, Google's libraries
/// token servers up to a minute.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes. A token has a few kilobytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// Sends a request to a token server and reads its answer, within ten seconds and a mebibyte.
///
/// An answer of any status is one, and the caller judges it. `who` names the server in errors: "AWS STS". No error
/// holds anything of the request or the answer.
pub(crate) async fn ask(
    transport: &Transport,
    request: Request<RequestBody>,
    who: &str,
) -> Result<(StatusCode, HeaderMap, Bytes), SourceError> {
    ask_within(LIMIT, transport, request, who).await
}

/// Does the same as [`ask`] within another time, for addresses that may be nobody's.
pub(crate) async fn ask_within(
    limit: Duration,
    transport: &Transport,
    request: Request<RequestBody>,
    who: &str,
) -> Result<(StatusCode, HeaderMap, Bytes), SourceError> {
    let host = request.uri().host().unwrap_or("?").to_owned();
    let exchange = async {
        let response = transport.clone().oneshot(request).await.map_err(|error| {
            SourceError::new(format!("{who} cannot be reached at `{host}`; check the network, DNS and proxy"))
                .with_source(error)
        })?;
        let (head, mut body) = response.into_parts();
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| SourceError::new(format!("the answer of {who} broke off")).with_source(error))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.len() + data.len() > LARGEST_ANSWER {
                return Err(SourceError::new(format!("the answer of {who} is larger than 1 MiB; check its address")));
            }
            read.extend_from_slice(&data);
        }
        Ok((head.status, head.headers, read.freeze()))
    };
    match timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            let seconds = limit.as_secs_f64();
            Err(SourceError::new(format!("{who} did not answer at `{host}` within {seconds} s; check the network")))
        }
    }
}

/// Returns the problem of an answer that is a web page, as proxies and captive portals send them.
pub(crate) fn page(headers: &HeaderMap, body: &[u8], who: &str) -> Option<SourceError> {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    let start = body.trim_ascii_start();
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let is_page =
        content_type.to_ascii_lowercase().starts_with(b"text/html") || begins(b"<!doctype html") || begins(b"<html");
    is_page.then(|| {
        SourceError::new(format!("{who} answered with a web page; check its address and the proxies on the way"))
    })
}

/// Returns the `Date` of an answer.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

/// Returns the body of a form (`application/x-www-form-urlencoded`).
pub(crate) fn form(fields: &[(&str, impl AsRef<str>)]) -> String {
    let field = |(name, value): &(&str, _)| format!("{name}={}", encoded(AsRef::<str>::as_ref(value)));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

/// Percent-encodes a value for a query or a form.
pub(crate) fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    sigv4::encode(value.as_bytes(), &mut encoded);
    encoded
}

/// Returns the sentence of a refusal: the server's code, and its message unless that repeats a secret.
pub(crate) fn refusal(
    who: &str,
    status: StatusCode,
    code: &str,
    message: Option<&str>,
    secrets: &[Option<&str>],
) -> String {
    let is_safe = |text: &&str| !secrets.iter().flatten().any(|secret| text.contains(*secret));
    let clean = |text: &str| -> String {
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(LONGEST_MESSAGE).collect()
    };
    let parts = [Some(code).filter(|code| !code.is_empty()), message];
    let words: Vec<String> = parts.into_iter().flatten().filter(is_safe).map(clean).collect();
    let words = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    format!("{who} refused with status {}{words}", status.as_u16())
}

/// The characters of a server's message that go into an error.
const LONGEST_MESSAGE: usize = 300;
