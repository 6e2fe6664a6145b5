//! The bodies of a door that has another format than its dialect.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::BoxError;

use crate::{
    ErrorKind, LlmError,
    providers::{
        bedrock::{converse, invoke},
        http::{RequestBody, leaf::Body, service::read_whole},
    },
};

/// Returns a body of Messages as one of Converse, with the notes on its losses.
pub(super) fn request(
    body: RequestBody,
    strict: bool,
) -> Result<(RequestBody, Vec<Cow<'static, str>>), LlmError> {
    let converted = converse::request(&body.into_bytes())?;
    let notes: Vec<Cow<'static, str>> = converted.notes.into_iter().collect();
    match notes.into_iter() {
        mut lost if strict && lost.len() > 0 => {
            Err(LlmError::new(ErrorKind::UnsupportedFeature, lost.next().unwrap_or_default()))
        }
        notes => Ok((converted.body.into(), notes.collect())),
    }
}

/// The media type of AWS's binary event streams.
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// Returns an answer in the format of Messages.
pub(super) async fn answer(
    response: Response<Body>,
    is_converse: bool,
    limit: usize,
) -> Result<Response<Body>, BoxError> {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !response.status().is_success() {
        return Ok(response);
    }
    if essence.eq_ignore_ascii_case(EVENT_STREAM) {
        let (mut head, body) = response.into_parts();
        let pieces = body.into_data_stream();
        let body = match is_converse {
            true => streamed(converse::sse(pieces)),
            false => streamed(invoke::sse(pieces)),
        };
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        head.headers.remove(header::CONTENT_LENGTH);
        return Ok(Response::from_parts(head, body));
    }
    if !is_converse || !essence.eq_ignore_ascii_case("application/json") {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let whole = read_whole(body, limit).await?;
    let message = converse::answer(&whole)?;
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::new(Full::new(Bytes::from(message)).map_err(|never| match never {}))))
}

fn streamed(pieces: impl futures_core::Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    Body::new(StreamBody::new(pieces.map_ok(Frame::data)))
}
