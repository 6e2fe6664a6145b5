//! Gemini's streams in the form of a JSON array.
//!
//! `alt=sse` in the query asks for a stream of events; without it Google sends the same answers as the elements of one
//! array, piece by piece. An error that comes before the first of them is an array of one element, and a later one is
//! the array's last element.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, header};
use http_body_util::BodyExt;
use steadfast::providers::sse::{Decoder, SseEvent};

use super::refusal;

/// Returns an error in the form of a stream that is an array; any other response as it is.
pub(crate) async fn error_in_array(response: Response<Body>) -> Response<Body> {
    if response.status().is_success() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    // The gateway's errors are in memory already.
    let error = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let is_object = error.trim_ascii_start().starts_with(b"{");
    let body = if is_object { [b"[", &*error, b"]"].concat().into() } else { error };
    let mut response = refusal::json(head.status, body);
    *response.headers_mut() = head.headers;
    response
}

/// Writes the events of a stream as the elements of a JSON array.
#[derive(Debug)]
pub(crate) struct ArrayWriter {
    events: Decoder,
    has_begun: bool,
}

impl ArrayWriter {
    pub(crate) fn new() -> Self {
        // The provider's reader has limited each event.
        Self { events: Decoder::new(usize::MAX), has_begun: false }
    }

    /// Returns the elements of these events.
    pub(crate) fn write(&mut self, events: Bytes) -> Bytes {
        let mut elements = BytesMut::with_capacity(events.len());
        self.events.push(events);
        while let Ok(Some(event)) = self.events.next_event() {
            self.put(&event, &mut elements);
        }
        elements.freeze()
    }

    /// Returns the end of the array.
    pub(crate) fn end(&mut self) -> Bytes {
        let mut last = BytesMut::new();
        if let Ok(Some(event)) = self.events.finish() {
            self.put(&event, &mut last);
        }
        last.put_slice(if self.has_begun { b"]" } else { b"[]" });
        last.freeze()
    }

    fn put(&mut self, event: &SseEvent, elements: &mut BytesMut) {
        // Comments are no elements.
        if event.data().is_empty() {
            return;
        }
        elements.put_slice(if std::mem::replace(&mut self.has_begun, true) { b",\r\n" } else { b"[" });
        elements.put_slice(event.data());
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn events_become_the_elements_of_an_array_with_their_own_bytes() {
        let mut array = ArrayWriter::new();
        let mut written = Vec::new();
        for events in [
            "data: {\"a\": 1.0}\r\n\r\n",
            ": keep-alive\n\n",
            "data: {\"b\":\r\ndata: 2}\r\n\r\ndata: {\"c\":3}\n\n",
            "data: {\"error\":{\"code\":503}}\n\n",
        ] {
            written.extend_from_slice(&array.write(Bytes::from_static(events.as_bytes())));
        }
        written.extend_from_slice(&array.end());
        let expected = "[{\"a\": 1.0},\r\n{\"b\":\n2},\r\n{\"c\":3},\r\n{\"error\":{\"code\":503}}]";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        assert_eq!(ArrayWriter::new().end(), "[]");
    }

    #[tokio::test]
    async fn an_error_before_the_array_is_its_only_element() {
        let error = refusal::json(StatusCode::BAD_REQUEST, r#"{"error":{"code":400}}"#);
        let response = error_in_array(error).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), r#"[{"error":{"code":400}}]"#);
    }
}
