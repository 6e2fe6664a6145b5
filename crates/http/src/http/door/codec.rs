//! The bodies of a door that has another format than its dialect.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::BoxError;

use crate::{
    ErrorKind, LlmError,
    bedrock::{
        converse::{self, AnswerHead, ToolNames},
        invoke,
    },
    body::HeldMemory,
    boxed::Body,
    http::{RequestBody, reading::read_whole},
};

/// A body of Converse, with the notes on its losses.
pub(super) type Converted = (RequestBody, Vec<Cow<'static, str>>, ToolNames);

/// Returns a body of Messages as one of Converse.
pub(super) fn request(body: RequestBody, strict: bool) -> Result<Converted, LlmError> {
    let converted = converse::request(&body.into_bytes())?;
    if strict && converted.is_lossy {
        return Err(LlmError::new(ErrorKind::UnsupportedFeature, converted.notes.join("; ")));
    }
    Ok((converted.body.into(), converted.notes, converted.tool_names))
}

/// The media type of AWS's binary event streams.
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// Returns an answer in the format of Messages.
pub(super) async fn answer(
    response: Response<Body>,
    converse: Option<(&str, ToolNames)>,
    limit: usize,
    mut memory: HeldMemory,
) -> Result<Response<Body>, BoxError> {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !response.status().is_success() {
        return Ok(response);
    }
    if essence.eq_ignore_ascii_case(EVENT_STREAM) {
        let (mut head, body) = response.into_parts();
        let pieces = body.into_data_stream();
        let body = match converse {
            Some((model, names)) => streamed(converse::sse(pieces, head_of(&head.headers, model).tool_names(names))),
            None => streamed(invoke::sse(pieces)),
        };
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        head.headers.remove(header::CONTENT_LENGTH);
        return Ok(Response::from_parts(head, body));
    }
    let Some((model, names)) = converse.filter(|_| essence.eq_ignore_ascii_case("application/json")) else {
        return Ok(response);
    };
    let (mut head, body) = response.into_parts();
    let whole = read_whole(body, limit, &mut memory).await?;
    let message = converse::answer(&whole, &head_of(&head.headers, model).tool_names(names))?;
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::new(Full::new(Bytes::from(message)).map_err(|never| match never {}))))
}

/// Returns the parts of an answer that Converse has in its head and in the request's address.
fn head_of(headers: &HeaderMap, model: &str) -> AnswerHead {
    let head = AnswerHead::default().model(model);
    match headers.get("x-amzn-requestid").and_then(|id| id.to_str().ok()) {
        Some(id) => head.id(id),
        None => head,
    }
}

fn streamed(pieces: impl futures_core::Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    Body::new(StreamBody::new(pieces.map_ok(Frame::data)))
}
