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
use crate::{LlmError, internal::base64, providers::json::parse};

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
