//! The streams of `InvokeModelWithResponseStream`: events of Messages in AWS's framing.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use serde::Deserialize;
use tower::BoxError;

use super::{
    event_stream::Message,
    messages_stream::{MessagesStream, Rewrite, event, malformed},
};
use crate::{LlmError, internal::base64, json::parse};

/// Rewrites the body of `InvokeModelWithResponseStream` as the server-sent events of Messages.
///
/// Each event's JSON stays as it came, with Bedrock's additions: `amazon-bedrock-invocationMetrics`, and the trace and
/// the action of a guardrail. An exception within the stream becomes an `error` event of the closest type. Messages of
/// unknown types are passed over.
///
/// The returned stream fails if the body is damaged, or is cut before `message_stop`.
pub fn sse<S>(body: S) -> impl Stream<Item = Result<Bytes, BoxError>> + Unpin + use<S>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Unpin,
{
    MessagesStream::new(body, Chunks { is_complete: false })
}

struct Chunks {
    is_complete: bool,
}

/// The payload of a `chunk`. A second field, `p`, is padding that hides its length.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    bytes: Option<Cow<'a, str>>,
}

impl Rewrite for Chunks {
    fn message(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), LlmError> {
        if message.event_type() != Some("chunk") {
            return Ok(());
        }
        let chunk: Chunk<'_> = parse(message.payload()).map_err(|_| malformed("a chunk of the stream is not JSON"))?;
        let Some(text) = chunk.bytes else { return Ok(()) };
        let json = base64::decode(&text).ok_or_else(|| malformed("a chunk of the stream is not base64"))?;
        let kind = kind(&json);
        self.is_complete |= kind.as_deref() == Some("message_stop");
        event(out, kind.as_deref(), &json);
        Ok(())
    }

    fn finish(&mut self, _: &mut BytesMut) -> bool {
        self.is_complete
    }
}

/// Returns the type of an event, if it can be the name of one.
fn kind(json: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    let Typed { r#type: kind } = parse(json).ok()?;
    kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(kind)
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::bedrock::event_stream::{HeaderValue, encode};

    fn chunk(json: &str) -> Vec<u8> {
        payload(&format!(r#"{{"bytes":"{}","p":"abcdefgh"}}"#, base64::encode(json.as_bytes())))
    }

    fn payload(payload: &str) -> Vec<u8> {
        let headers = [(":event-type", HeaderValue::Text("chunk")), (":message-type", HeaderValue::Text("event"))];
        encode(&headers, payload.as_bytes()).unwrap()
    }

    /// The text of the stream, and the error that ends it.
    async fn read(body: Vec<u8>) -> (String, Option<BoxError>) {
        let mut sse = sse(stream::iter([Ok(Bytes::from(body))]));
        let (mut text, mut error) = (String::new(), None);
        while let Some(piece) = sse.next().await {
            match piece {
                Ok(piece) => text.push_str(str::from_utf8(&piece).unwrap()),
                Err(broken) => error = Some(broken),
            }
        }
        (text, error)
    }

    const START: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":3}}}"#;
    const STOP: &str = r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":3}}"#;

    #[tokio::test]
    async fn events_come_out_as_they_went_in() {
        let other = encode(&[(":event-type", HeaderValue::Text("initial-response"))], b"{}").unwrap();
        let spaced = "{\r\n \"type\": \"ping\"\n}";
        let (text, error) = read([other, chunk(START), chunk(spaced), chunk("{}"), chunk(STOP)].concat()).await;
        let spaced = spaced.replace(['\r', '\n'], " ");
        let expected = format!(
            "event: message_start\ndata: {START}\n\nevent: ping\ndata: {spaced}\n\ndata: {{}}\n\nevent: message_stop\ndata: {STOP}\n\n"
        );
        assert_eq!(text, expected);
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn a_type_that_is_no_name_is_none() {
        let (text, _) = read(chunk(r#"{"type":"a\ndata: b"}"#)).await;
        assert_eq!(text, "data: {\"type\":\"a\\ndata: b\"}\n\n");
    }

    #[tokio::test]
    async fn a_stream_without_its_end_is_broken() {
        let whole = [chunk(START), chunk(STOP)].concat();
        let first = chunk(START).len();
        for end in 0..whole.len() {
            let (text, error) = read(whole[..end].to_vec()).await;
            assert_eq!(text.is_empty(), end < first);
            assert!(error.is_some(), "cut at {end}");
        }
        // Behind the end nothing is missed.
        let (_, error) = read([whole, b"rest".to_vec()].concat()).await;
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn damage_is_named() {
        let mut body = [chunk(START), chunk(STOP)].concat();
        body[40] ^= 1;
        let (text, error) = read(body).await;
        assert_eq!(text, "");
        assert!(error.unwrap().to_string().contains("the message's checksum does not match, at byte"));
    }

    #[tokio::test]
    async fn what_is_no_chunk_is_malformed() {
        for wrong in ["no JSON", "7", r#"{"bytes":"wrong!"}"#, r#"{"bytes":"A"}"#, r#"{"bytes":7}"#] {
            let (_, error) = read([chunk(START), payload(wrong)].concat()).await;
            let error: LlmError = error.unwrap().into();
            assert_eq!(error.kind(), crate::ErrorKind::Malformed, "{wrong}");
        }
        let (_, error) = read([payload("{}"), chunk(STOP)].concat()).await;
        assert!(error.is_none(), "a chunk without bytes has nothing to say");
    }

    #[tokio::test]
    async fn an_exception_ends_the_stream_with_an_error_of_messages() {
        let headers = [
            (":exception-type", HeaderValue::Text("modelTimeoutException")),
            (":message-type", HeaderValue::Text("exception")),
        ];
        let exception = encode(&headers, br#"{"message":"too slow"}"#).unwrap();
        let (text, error) = read([chunk(START), exception, chunk(STOP)].concat()).await;
        let data = text.split("event: error\ndata: ").nth(1).unwrap();
        let data: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(
            data,
            serde_json::json!({"type": "error", "error":
                {"type": "timeout_error", "message": "too slow", "code": "modelTimeoutException"}})
        );
        assert!(error.is_none());
    }
}
