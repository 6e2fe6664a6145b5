//! Gemini's paths, which name the model and the form of its answer, and its streams in the form of a JSON array.
//!
//! The other protocols say both in the body. `alt=sse` in the query asks for a stream of events; without it Google
//! sends the same answers as the elements of one array, piece by piece. An error that comes before the first of them
//! is an array of one element, and a later one is the array's last element.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response, Uri, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use steadfast::providers::sse::{Decoder, SseEvent};

use super::{
    query::{decoded_path, pairs},
    refusal,
};

/// The versions of Google's API, by the beginnings of their paths. The last is OpenAI's and Anthropic's too.
pub(crate) const VERSIONS: [&str; 3] = ["/v1beta", "/v1alpha", "/v1"];

/// The method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Generate,
    Stream,
    CountTokens,
}

/// Returns the model, as the path spells it, and the method; `None` for a path that is no call of this API.
pub(crate) fn call_at(path: &str) -> Option<(&str, Method)> {
    let named = VERSIONS.iter().find_map(|version| path.strip_prefix(version)?.strip_prefix("/models/"))?;
    call_of(named)
}

/// Returns the model and the method of a path's end, such as `gemini-2.5-pro:generateContent`.
pub(crate) fn call_of(named: &str) -> Option<(&str, Method)> {
    let (model, method) = named.rsplit_once(':').filter(|(model, _)| !model.is_empty())?;
    let method = match method {
        "generateContent" => Method::Generate,
        "streamGenerateContent" => Method::Stream,
        "countTokens" => Method::CountTokens,
        _ => return None,
    };
    Some((model, method))
}

/// Returns true for a path that asks a model for an answer.
pub(crate) fn asks_model(path: &str) -> bool {
    call_at(path).is_some_and(|(_, method)| method != Method::CountTokens)
}

/// Returns true for a path of this API alone. `/v1/models` is no such path: OpenAI's clients list models there.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/v1beta/") || path.starts_with("/v1alpha/") || call_at(path).is_some()
}

/// Returns true if a header is one that this API's clients send.
pub(crate) fn has_headers(headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client")
}

/// Returns true if the query asks for a stream of events.
pub(crate) fn wants_events(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"))
}

/// Returns the key in a query. Nothing else of a query is kept, and nothing of it is logged.
pub(crate) fn key_in(uri: &Uri) -> Option<String> {
    let found = pairs(uri).ok()?.into_iter().find(|[name, _]| name == "key");
    found.map(|[_, key]| key).filter(|key| !key.is_empty())
}

/// The model of a call and the form of its answer, where the path names both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathCall {
    pub(crate) model: Box<str>,
    pub(crate) stream: bool,
    /// True for a stream in the form of a JSON array.
    pub(crate) is_array: bool,
}

impl PathCall {
    /// Returns the call of an address of this API.
    pub(crate) fn at(uri: &Uri) -> Option<Self> {
        let (model, method) = call_at(uri.path())?;
        let stream = method == Method::Stream;
        // A name with a wrong escape is no model's.
        let model = decoded_path(model).map_or_else(|| model.into(), Into::into);
        Some(Self { model, stream, is_array: stream && !wants_events(uri.query()) })
    }
}

/// Returns the request whose tokens are to be counted. The API takes it alone, or with its contents only.
pub(crate) fn counted_request(body: &Bytes) -> Bytes {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow, rename = "generateContentRequest", alias = "generate_content_request")]
        whole: Option<&'a RawValue>,
    }
    // A list would be read as the fields in their order.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let fields: Option<Fields<'_>> = is_object.then(|| serde_json::from_slice(body).ok()).flatten();
    fields.and_then(|fields| fields.whole).map_or_else(|| body.clone(), |whole| body.slice_ref(whole.get().as_bytes()))
}

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
    fn a_path_names_the_model_and_the_form_of_the_answer() {
        let call = |model: &str, stream, is_array| Some(PathCall { model: model.into(), stream, is_array });
        for (address, expected) in [
            ("/v1beta/models/gemini-2.5-pro:generateContent", call("gemini-2.5-pro", false, false)),
            ("/v1/models/gpt-4o:generateContent?key=k", call("gpt-4o", false, false)),
            ("/v1alpha/models/g:streamGenerateContent?key=k&alt=sse", call("g", true, false)),
            ("/v1beta/models/g:streamGenerateContent", call("g", true, true)),
            ("/v1beta/models/g:streamGenerateContent?alt=json", call("g", true, true)),
            ("/v1beta/models/meta/llama3:8b:generateContent", call("meta/llama3:8b", false, false)),
            ("/v1beta/models/meta%2Fllama+3:generateContent", call("meta/llama+3", false, false)),
            ("/v1beta/models/%zz:generateContent", call("%zz", false, false)),
            ("/v1beta/models/:generateContent", None),
            ("/v1beta/models/g:embedContent", None),
            ("/v1beta/models/g", None),
            ("/v1beta/tunedModels/g:generateContent", None),
            ("/v2/models/g:generateContent", None),
        ] {
            assert_eq!(PathCall::at(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_key_in_a_query_is_found_in_any_place() {
        for (address, key) in [
            ("/v1beta/models?key=a%2Bb", Some("a+b")),
            ("/v1beta/models?alt=sse&key=k", Some("k")),
            ("/v1beta/models?key=", None),
            ("/v1beta/models?keys=k", None),
            ("/v1beta/models?key=%zz", None),
            ("/v1beta/models", None),
        ] {
            assert_eq!(key_in(&address.parse().unwrap()).as_deref(), key, "{address}");
        }
    }

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

    #[test]
    fn tokens_are_counted_of_the_request_within_or_of_the_body() {
        for (body, request) in [
            (r#"{"contents":[]}"#, r#"{"contents":[]}"#),
            (r#"{"generateContentRequest": {"model":"m", "contents":[1]} }"#, r#"{"model":"m", "contents":[1]}"#),
            (r#"{"generateContentRequest":null,"contents":[]}"#, r#"{"generateContentRequest":null,"contents":[]}"#),
            ("[1]", "[1]"),
        ] {
            assert_eq!(counted_request(&Bytes::from_static(body.as_bytes())), request);
        }
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
