mod memory;
mod opaque;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::{Limits, testing::Scripted};
use crate::{
    Anthropic, CommitPoint, Dialect, ErrorKind, Gemini, LlmError, LlmRequest, LlmResponse, OpaqueCall, OpenAi,
    StreamEvent, Wire,
    chat::{FinishReason, Usage},
};

fn anthropic(transport: &Scripted) -> Anthropic {
    Anthropic::new("secret-key").model("claude").transport(transport.clone())
}

fn openai(transport: &Scripted) -> OpenAi {
    OpenAi::new("secret-key").model("gpt").transport(transport.clone())
}

async fn ask<S>(leaf: S) -> Result<LlmResponse, LlmError>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    leaf.oneshot(LlmRequest::prompt("hello")).await
}

async fn ask_stream<S>(leaf: S) -> Result<LlmResponse, LlmError>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    leaf.oneshot(LlmRequest::prompt("hello").with_stream(true)).await
}

const STREAM: &str = "\
event: message_start
data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-1\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}

event: ping
data: {\"type\":\"ping\"}

event: content_block_start
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}

event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}

event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo\"}}

event: content_block_stop
data: {\"type\":\"content_block_stop\",\"index\":0}

event: message_delta
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}

event: message_stop
data: {\"type\":\"message_stop\"}

";

/// The stream up to and with its first text.
fn begun() -> &'static str {
    &STREAM[..STREAM.find("lo\"").and_then(|at| STREAM[..at].rfind("event:")).expect("it is there")]
}

#[tokio::test]
async fn request_goes_to_the_providers_address_with_key_and_version() {
    let transport = Scripted::json("{}");
    let _malformed = ask(anthropic(&transport)).await;
    let request = transport.request();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "https://api.anthropic.com/v1/messages");
    assert_eq!(request.headers()["x-api-key"], "secret-key");
    assert!(request.headers()["x-api-key"].is_sensitive());
    assert_eq!(request.headers()["anthropic-version"], "2023-06-01");
    assert_eq!(request.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn response_says_who_answered_and_keeps_id_and_headers() {
    let answer = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
    let transport = Scripted::json(answer).header("request-id", "req_7");
    let response = ask(anthropic(&transport)).await.unwrap();
    assert_eq!(response.served_by().provider, Some("anthropic"));
    assert_eq!(response.served_by().model, Some("claude"));
    assert_eq!(response.request_id(), Some("req_7"));
    assert_eq!(response.headers().unwrap()["request-id"], "req_7");
    let (dialect, raw) = response.body().wire().expect("the provider's own bytes");
    assert_eq!((dialect, raw.as_ref()), (Dialect::Anthropic, answer.as_bytes()));
}

#[tokio::test]
async fn leafs_own_model_wins_and_a_request_without_any_is_refused() {
    let transport = Scripted::json("{}");
    let asked = LlmRequest::from(crate::Chat::new([crate::chat::Message::user("hello")]).model("asked"));
    let _malformed = anthropic(&transport).oneshot(asked.clone()).await;
    assert_eq!(transport.sent()["model"], "claude");

    let transport = Scripted::json("{}");
    let _malformed = Anthropic::new("k").transport(transport.clone()).oneshot(asked).await;
    assert_eq!(transport.sent()["model"], "asked");

    let error = ask(Anthropic::new("k").transport(transport)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_eq!(error.provider(), Some("anthropic"));
}

#[tokio::test]
async fn same_dialect_is_forwarded_byte_for_byte_but_the_model() {
    let body = r#"{ "temperature":1.0, "model" : "old", "new_field": {"model":"x"}, "messages":[]}"#;
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-beta", HeaderValue::from_static("a,b"));
    headers.insert("anthropic-version", HeaderValue::from_static("2026-10-21"));
    headers.insert("x-api-key", HeaderValue::from_static("the caller's"));
    headers.insert("authorization", HeaderValue::from_static("the caller's"));
    headers.insert("content-length", HeaderValue::from_static("1"));
    let wire = Wire::new(Dialect::Anthropic, body).unwrap().headers(headers);
    let transport = Scripted::json("{}");
    let _malformed = anthropic(&transport).oneshot(wire.into()).await;
    assert_eq!(transport.body(), body.replace("\"old\"", "\"claude\""));
    let request = transport.request();
    assert_eq!(request.headers()["anthropic-beta"], "a,b");
    assert_eq!(request.headers()["anthropic-version"], "2026-10-21", "the caller's version is for the caller's bytes");
    assert_eq!(request.headers()["x-api-key"], "secret-key", "the caller's key is for another door");
    assert!(!request.headers().contains_key("authorization") && !request.headers().contains_key("content-length"));
}

#[tokio::test]
async fn other_dialect_goes_through_the_neutral_form() {
    let body =
        r#"{"model":"gpt","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hello"}]}"#;
    let transport = Scripted::json("{}");
    let _malformed = anthropic(&transport).oneshot(Wire::new(Dialect::OpenAi, body).unwrap().into()).await;
    let expected = serde_json::json!({
        "model": "claude",
        "max_tokens": 4096,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    });
    assert_eq!(transport.sent(), expected);
}

#[tokio::test]
async fn gemini_says_model_and_stream_in_the_path() {
    let transport = Scripted::json("{}");
    let leaf = Gemini::new("k").transport(transport.clone());
    let wire = Wire::new(Dialect::Gemini, r#"{"contents":[]}"#).unwrap().path("gemini-2.5-flash", true);
    let _malformed = leaf.oneshot(wire.into()).await;
    let address =
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    assert_eq!(transport.request().uri(), address);
    assert_eq!(transport.request().headers()["x-goog-api-key"], "k");
    assert_eq!(transport.body(), r#"{"contents":[]}"#);

    let transport = Scripted::json("{}");
    let _malformed = ask(Gemini::new("k").model("../x?y#z").transport(transport.clone())).await;
    let path = transport.request().uri().path().to_owned();
    assert_eq!(path, "/v1beta/%2E%2E/x%3Fy%23z:generateContent", "a model's name stays in its place");
}

#[tokio::test]
async fn stream_resolves_at_the_first_token_and_holds_back_what_came_before() {
    let transport = Scripted::events(STREAM).header("request-id", "req_9");
    let mut response = ask_stream(anthropic(&transport)).await.unwrap();
    assert!(response.body().arrives_in_frames());
    assert_eq!(transport.sent()["stream"], true);
    let mut raw = Vec::new();
    let mut events = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.unwrap();
        raw.extend_from_slice(frame.raw().expect("the provider's bytes").1);
        events.extend(frame.events().to_vec());
    }
    assert_eq!(String::from_utf8(raw).unwrap(), STREAM);
    assert!(matches!(&events[0], StreamEvent::Start { id: Some(id), .. } if id == "msg_1"));
    assert_eq!(events.last(), Some(&StreamEvent::End));
    assert_eq!(response.usage(), Some(Usage::new(5, 7)));
    assert_eq!(response.request_id(), Some("req_9"));
}

#[tokio::test]
async fn any_cutting_of_a_stream_gives_the_same_message() {
    for size in [1, 2, 3, 7, 64, 1000] {
        let pieces: Vec<_> = STREAM.as_bytes().chunks(size).map(Bytes::from_static).collect();
        let transport = Scripted::events("").pieces(pieces);
        let message = ask_stream(anthropic(&transport)).await.unwrap().collect().await.unwrap();
        assert_eq!(message.text(), "Hello");
        assert_eq!(message.finish, Some(FinishReason::Stop));
    }
}

#[tokio::test]
async fn stream_without_its_end_mark_is_broken_not_short() {
    let transport = Scripted::events(begun());
    let response = ask_stream(anthropic(&transport)).await.unwrap();
    let error = response.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert_eq!((error.provider(), error.model()), (Some("anthropic"), Some("claude")));

    // A stream that is held back in whole fails as a service error.
    let error = ask_stream(anthropic(&transport).commit(CommitPoint::Complete)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
}

#[tokio::test]
async fn stream_that_ends_before_its_first_token_is_a_service_error() {
    for body in ["", ": hello\n\n", &STREAM[..STREAM.find("event: content").expect("it is there")]] {
        let error = ask_stream(anthropic(&Scripted::events(body.to_owned()))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StreamBroken, "{body:?}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(200));
    }
}

#[tokio::test]
async fn connection_that_breaks_in_a_stream_is_told_with_its_cause() {
    let transport = Scripted::events(begun()).broken();
    let error = ask_stream(anthropic(&transport)).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert!(error.to_string().contains("connection reset by peer"), "{error}");
}

#[tokio::test]
async fn answer_that_breaks_off_is_no_answer() {
    let error = ask(anthropic(&Scripted::json("{\"type\":").broken())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
}

#[tokio::test]
async fn error_event_before_content_is_what_it_says_and_after_content_breaks_the_stream() {
    let report = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let error = ask_stream(anthropic(&Scripted::events(report))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.code(), Some("overloaded_error"));

    let transport = Scripted::events(format!("{}{report}", begun()));
    let error = ask_stream(anthropic(&transport)).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert_eq!(error.code(), Some("overloaded_error"), "the provider's own code is kept");
}

#[tokio::test]
async fn bare_json_error_in_a_stream_is_read() {
    let body = format!("{}\n{{\n  \"error\": {{\"type\": \"overloaded_error\", \"message\": \"busy\"}}\n}}\n", begun());
    let error = ask_stream(anthropic(&Scripted::events(body))).await.unwrap().collect().await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::StreamBroken, "busy"));
}

#[tokio::test]
async fn json_answer_to_a_streaming_request_is_read_for_what_it_is() {
    let whole = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
    let response = ask_stream(anthropic(&Scripted::json(whole))).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hi");

    let report = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
    let error = ask_stream(anthropic(&Scripted::json(report))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn page_with_a_200_is_malformed_and_named() {
    let page = "<!DOCTYPE html><html><head><title>Sign in to the Wi-Fi</title></head></html>";
    for streams in [false, true] {
        for content_type in ["text/html", "text/plain"] {
            let leaf = anthropic(&Scripted::new(200, content_type, page));
            let error = leaf.oneshot(LlmRequest::prompt("hello").with_stream(streams)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.message().contains("Sign in to the Wi-Fi"), "{error}");
        }
    }
}

#[tokio::test]
async fn empty_and_foreign_bodies_are_named() {
    for (body, kind) in [
        ("", ErrorKind::EmptyAnswer),
        (" \n\n", ErrorKind::EmptyAnswer),
        ("{}", ErrorKind::Malformed),
        ("null", ErrorKind::Malformed),
        ("{\"content\":[]}", ErrorKind::EmptyAnswer),
        ("{\"content\":[{\"type\":\"text\",\"text\":\"secret\"}", ErrorKind::Malformed),
    ] {
        let error = ask(anthropic(&Scripted::json(body))).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{body:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "no answer in an error");
    }
}

#[tokio::test]
async fn words_of_an_answer_are_in_no_error() {
    for body in [
        "secret words",
        "data: secret words\n\n",
        "data: {\"type\":\"secret\n\n",
        "data: [\"secret\"]\n\n",
        "data: {\"type\":\"message_start\",\"message\":\"secret\"}\n\n",
    ] {
        for content_type in ["text/plain", "text/event-stream"] {
            let error = ask_stream(anthropic(&Scripted::new(200, content_type, body))).await.unwrap_err();
            let mut told = format!("{error} {error:?}");
            let mut next = std::error::Error::source(&error);
            while let Some(source) = next {
                told.push_str(&source.to_string());
                next = source.source();
            }
            assert!(!told.contains("secret"), "{told}");
        }
    }
}

/// Words within gzip, by `gzip -n`.
#[cfg(feature = "codings")]
const PACKED: &[u8] = b"\
    \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x2a\xa9\x2c\x48\x55\xb2\x52\xca\x4d\x2d\x2e\x4e\x4c\
    \x4f\x55\xd2\x51\x4a\xce\xcf\x2b\x49\xcd\x2b\x51\xb2\x8a\xae\x86\x49\x96\xa4\x56\x94\x00\x65\xc0\x94\
    \x95\x52\x46\xa6\x52\x6d\xac\x8e\x52\x71\x49\x7e\x41\x7c\x51\x6a\x62\x71\x7e\x1e\x50\x30\x35\x2f\x25\
    \xbe\xa4\xb4\x28\x4f\xa9\x16\x00\x8d\xea\x39\x72\x53\x00\x00\x00";

/// A server may forget the label of an answer's encoding, and a proxy may forget to remove it.
#[cfg(feature = "codings")]
#[tokio::test]
async fn an_encoding_that_its_label_hides_is_opened_and_one_that_is_none_is_read() {
    for pieces in [1, 4, PACKED.len()] {
        let pieces = PACKED.chunks(pieces).map(Bytes::from_static);
        let response = ask(anthropic(&Scripted::json("").pieces(pieces))).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "hi");
    }
    let plain = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
    for label in ["gzip", "zstd"] {
        let response = ask(anthropic(&Scripted::json(plain).header("content-encoding", label))).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "hi", "{label}");
    }
}

#[tokio::test]
async fn compressed_answer_is_named() {
    let transport = Scripted::json("\u{1f}").header("content-encoding", "compress");
    let error = ask(anthropic(&transport)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("compressed"), "{error}");
    // The transport asks for the codings that it can decompress.
    assert!(!transport.request().headers().contains_key("accept-encoding"));
}

proptest::proptest! {
    #[test]
    fn cut_or_damaged_stream_is_never_a_short_success(
        cut in 0..STREAM.len() - 1,
        at in 0..STREAM.len(),
        byte in proptest::prelude::any::<u8>(),
    ) {
        let collected = |events: &[u8]| {
            let events = events.to_vec();
            tokio_test::block_on(async { ask_stream(anthropic(&Scripted::events(events))).await?.collect().await })
        };
        let whole = collected(STREAM.as_bytes());
        // A cut inside the last event may leave that event whole: the decoder accepts a missing blank line.
        let short = collected(&STREAM.as_bytes()[..cut]);
        let last = STREAM.len() - 2;
        match short {
            Ok(message) => proptest::prop_assert!(cut >= last && message == *whole.as_ref().unwrap()),
            Err(error) => proptest::prop_assert!(cut < last || error.kind() != ErrorKind::Other),
        }
        let mut damaged = STREAM.as_bytes().to_vec();
        damaged[at] = byte;
        if let Err(error) = collected(&damaged) {
            proptest::prop_assert!(error.kind() != ErrorKind::Other && error.status().is_some());
        }
    }
}

#[tokio::test]
async fn redirect_is_an_error_that_says_where_to() {
    let transport = Scripted::new(302, "text/plain", "").header("location", "https://login.test/?token=secret");
    let error = ask(anthropic(&transport)).await.unwrap_err();
    assert_eq!((error.kind(), error.status().unwrap().as_u16()), (ErrorKind::Malformed, 302));
    assert!(error.message().contains("login.test") && !error.message().contains("secret"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn error_answer_tells_delay_permission_id_and_raw_body() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"req_1"}"#;
    let transport = Scripted::new(429, "application/json", body)
        .header("retry-after", "16")
        .header("x-should-retry", "true")
        .header("request-id", "req_2");
    let error = ask(anthropic(&transport)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(16)));
    assert_eq!(error.should_retry(), Some(true));
    assert_eq!(error.request_id(), Some("req_1"));
    assert_eq!(error.code(), Some("rate_limit_error"));
    assert_eq!(error.raw().map(|raw| raw.as_ref()), Some(body.as_bytes()));
}

#[tokio::test]
async fn retry_after_of_a_wrong_request_is_not_believed() {
    let body = r#"{"error":{"type":"invalid_request_error","message":"no"}}"#;
    let transport = Scripted::new(400, "application/json", body).header("retry-after", "16");
    let error = ask(anthropic(&transport)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::InvalidRequest, None));
}

#[tokio::test]
async fn error_bodies_of_every_shape_are_read() {
    let endless: &str = format!(r#"{{"error":{{"message":"{}"}}}}"#, "长".repeat(400)).leak();
    let cut = format!("{} ...", "长".repeat(166));
    for (status, body, kind, message) in [
        (400, r#"{"error":"prompt is too long"}"#, ErrorKind::ContextLength, "prompt is too long"),
        (401, r#"{"detail":"Invalid API Key"}"#, ErrorKind::Auth, "Invalid API Key"),
        (429, r#"{"message":"Requests rate limit exceeded"}"#, ErrorKind::RateLimited, "Requests rate limit exceeded"),
        (429, r#"{"status":"come back later"}"#, ErrorKind::Overloaded, "the body is not of the provider's format"),
        (429, "", ErrorKind::Overloaded, "the body is empty"),
        (
            422,
            r#"{"object":"error","message":{"detail":[{"loc":["body","store"],"msg":"Extra inputs","input":"secret"}]}}"#,
            ErrorKind::InvalidRequest,
            "body.store: Extra inputs",
        ),
        (
            503,
            "<html><head><title>503 Service Unavailable</title></head></html>",
            ErrorKind::Overloaded,
            "the server sent an HTML page: 503 Service Unavailable",
        ),
        (
            502,
            r#"{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"{\"error\":{\"message\":\"at capacity\"}}"}}}"#,
            ErrorKind::Server,
            "Provider returned error: at capacity",
        ),
        (400, r#"[{"error":{"code":400,"message":"bad"}}]"#, ErrorKind::InvalidRequest, "bad"),
        // Not every language has spaces: too long a message is cut, and not lost.
        (400, endless, ErrorKind::InvalidRequest, &cut),
    ] {
        let error = ask(openai(&Scripted::new(status, "application/json", body))).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, message), "{body}");
        assert!(!format!("{error:?}").contains("secret"));
    }
}

#[tokio::test]
async fn key_is_in_no_error_and_no_debug() {
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-abc***xyz. You can","code":"invalid_api_key"}}"#;
    let leaf = openai(&Scripted::new(401, "application/json", body));
    assert!(!format!("{leaf:?}").contains("secret-key"));
    let error = ask(leaf).await.unwrap_err();
    assert_eq!(error.message(), "Incorrect API key provided: [key] You can");

    // The leaf's own key, in any form.
    let leaf = openai(&Scripted::new(401, "text/plain", "no user has secret-key today"));
    assert_eq!(ask(leaf).await.unwrap_err().message(), "the body is not JSON: no user has [key] today");

    // The bytes that go unchanged to a caller of the same dialect do not contain it either.
    let leaf = openai(&Scripted::new(500, "application/json", r#"{"error":{"message":"secret-key, secret-key!"}}"#));
    let error = ask(leaf).await.unwrap_err();
    assert_eq!(error.raw().unwrap(), &r#"{"error":{"message":"[key], [key]!"}}"#);

    let leaf = openai(&Scripted::new(200, "text/html", "<html>no user has secret-key</html>"));
    assert_eq!(ask(leaf).await.unwrap_err().raw().unwrap(), &"<html>no user has [key]</html>");

    let error = ask(OpenAi::new("sec\nret").model("m").transport(Scripted::json("{}"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(!error.to_string().contains("sec"), "{error}");
}

#[tokio::test]
async fn endless_line_is_refused_at_the_limit_of_an_event() {
    let pieces = (0..100).map(|_| Bytes::from_static(&[b'x'; 1000]));
    let transport = Scripted::events("").pieces(pieces);
    let leaf = anthropic(&transport).limits(Limits::default().event(10_000));
    let error = ask_stream(leaf).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("10000 bytes"), "{error}");
}

#[tokio::test]
async fn flood_of_pings_is_refused_at_the_limit_of_an_answer_and_not_kept() {
    let ping = Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n: and a comment\n\n");
    let transport = Scripted::events("").pieces((0..2000).map(|_| ping.clone()));
    let leaf = anthropic(&transport).limits(Limits::default().answer(50_000)).commit(CommitPoint::FirstEvent);
    let error = ask_stream(leaf).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("50000 bytes"), "{error}");
}

#[tokio::test]
async fn whole_answer_over_the_limit_is_refused_and_an_error_body_is_cut() {
    let large = format!("{{\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}}]}}", "x".repeat(10_000));
    let leaf = anthropic(&Scripted::json(large)).limits(Limits::default().answer(10_000));
    assert_eq!(ask(leaf).await.unwrap_err().kind(), ErrorKind::Malformed);

    let large = "x".repeat(1_000_000);
    let error = ask(anthropic(&Scripted::new(500, "text/plain", large))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert_eq!(error.raw().map(Bytes::len), Some(64 << 10));
}

#[tokio::test]
async fn transport_that_gets_no_response_is_a_connect_error() {
    let refused = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Err::<http::Response<Full<Bytes>>, _>(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused"))
    });
    let error = ask(Anthropic::new("k").model("m").transport(refused)).await.unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::Connect, Some("anthropic")));
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_on_the_transport_is_a_timeout() {
    let slow = tower::service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<http::Response<Full<Bytes>>, std::io::Error>>()
    });
    let transport = tower::timeout::Timeout::new(slow, Duration::from_secs(1));
    let error = ask(Anthropic::new("k").model("m").transport(transport)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn default_transport_reports_a_closed_port_as_connect() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
    let leaf = OpenAi::compatible("local", &format!("http://127.0.0.1:{port}/v1")).unwrap().model("m");
    let leaf = leaf.transport(crate::transport::HttpClient::new().no_proxy());
    let error = ask(leaf).await.unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::Connect, Some("local")));
}

#[test]
fn leaf_is_a_service_that_can_be_shared() {
    fn assert<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    assert::<Anthropic>();
    assert::<OpenAi>();
    assert::<Gemini>();
}

#[test]
fn malformed_base_url_is_refused_by_name() {
    let error = OpenAi::compatible("x", "localhost:8000").unwrap_err();
    assert_eq!(error.field(), "base_url");
    assert!(Anthropic::new("k").base_url("ftp://x").is_err());
    assert!(Gemini::new("k").base_url("http://127.0.0.1:1").is_ok());
}

#[tokio::test]
async fn headers_and_names_of_the_user_are_used() {
    let transport = Scripted::json("{}");
    let leaf = openai(&transport)
        .header(HeaderName::from_static("openai-project"), HeaderValue::from_static("p"))
        .named("east")
        .base_url("http://127.0.0.1:9/v1?api-version=1")
        .unwrap()
        .key_header(HeaderName::from_static("api-key"));
    let error = ask(leaf).await.unwrap_err();
    assert_eq!(error.provider(), Some("east"));
    let request = transport.request();
    assert_eq!(request.uri(), "http://127.0.0.1:9/v1/chat/completions?api-version=1");
    assert_eq!(request.headers()["openai-project"], "p");
    assert_eq!(request.headers()["api-key"], "secret-key");
    assert!(!request.headers().contains_key("authorization"));
}

#[test]
fn environment_gives_key_and_address_or_an_error_that_names_the_variable() {
    let with = |pairs: &'static [(&'static str, &'static str)]| {
        move |name: &'static str| {
            Ok(pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        }
    };
    assert_eq!(Anthropic::from_variables(with(&[])).unwrap_err().field(), "ANTHROPIC_API_KEY");
    assert_eq!(OpenAi::from_variables(with(&[])).unwrap_err().field(), "OPENAI_API_KEY");
    let error = Gemini::from_variables(with(&[])).unwrap_err();
    assert_eq!(error.to_string(), "GEMINI_API_KEY: it is not set, nor is GOOGLE_API_KEY");
    assert!(Gemini::from_variables(with(&[("GOOGLE_API_KEY", "k")])).is_ok());
    let error = OpenAi::from_variables(with(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "nowhere")])).unwrap_err();
    assert_eq!(error.field(), "OPENAI_BASE_URL");
    let leaf = Anthropic::from_variables(with(&[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_BASE_URL", "http://a.test/")]));
    assert_eq!(leaf.unwrap().settings.base.path(), "/v1");
}

#[tokio::test]
async fn connection_of_an_ended_stream_is_used_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        // Only one connection is ever taken: a second one would wait for ever.
        let (mut connection, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let mut seen = Vec::new();
            while !seen.ends_with(b"}]}]}") && !seen.ends_with(b"true}") {
                seen.push(connection.read_u8().await.unwrap());
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let answer = format!("{head}{:x}\r\n{STREAM}\r\n0\r\n\r\n", STREAM.len());
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = crate::transport::HttpClient::new().no_proxy();
    let leaf = Anthropic::new("k").model("m").base_url(&url).unwrap().transport(client);
    for _ in 0..2 {
        assert_eq!(ask_stream(leaf.clone()).await.unwrap().text().await.unwrap(), "Hello");
    }
    server.await.unwrap();
}

#[tokio::test]
async fn errors_say_with_which_connection_and_whose_network_failed() {
    use tokio::io::AsyncWriteExt;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let begun = &STREAM[..STREAM.find("event: content_block_stop").unwrap()];
        let answer = format!("{head}{:x}\r\n{begun}\r\n", begun.len());
        connection.write_all(answer.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    let client = crate::transport::HttpClient::new().no_proxy();
    let leaf = |url: &str| Anthropic::new("k").model("m").base_url(url).unwrap().transport(client.clone());
    let error = ask_stream(leaf(&url)).await.unwrap().text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert!(error.connection().is_some() && !error.is_local_network(), "{error:?}");
    let error = ask_stream(leaf("http://no-such-name.invalid")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.connection().is_some() && error.is_local_network(), "{error:?}");
}

/// RFC 8259 (8.1) and the specification of event streams let a reader ignore it.
#[tokio::test]
async fn a_byte_order_mark_changes_no_answer() {
    const CHAT: &str = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    const MESSAGE: &str = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
    const CONTENT: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#;
    const ERROR: &str =
        r#"{"error":{"message":"over the limit","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let marked = |text: &str| format!("\u{feff}{text}");
    assert_eq!(ask(openai(&Scripted::json(marked(CHAT)))).await.unwrap().text().await.unwrap(), "hi");
    assert_eq!(ask(anthropic(&Scripted::json(marked(MESSAGE)))).await.unwrap().text().await.unwrap(), "hi");
    let gemini = Gemini::new("k").model("m").transport(Scripted::json(marked(CONTENT)));
    assert_eq!(ask(gemini).await.unwrap().text().await.unwrap(), "hi");
    let answer = ask(openai(&Scripted::json(marked(CHAT)))).await.unwrap();
    assert_eq!(answer.body().wire().unwrap().1, CHAT, "a caller's SDK may not know the mark");
    let events = Scripted::events(marked(STREAM));
    assert_eq!(ask_stream(anthropic(&events)).await.unwrap().text().await.unwrap(), "Hello");
    let error = ask(openai(&Scripted::new(429, "application/json", marked(ERROR)))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExhausted);
    assert_eq!(ask(openai(&Scripted::json("\u{feff}"))).await.unwrap_err().kind(), ErrorKind::EmptyAnswer);
}

#[tokio::test(start_paused = true)]
async fn an_errors_head_counts_where_its_body_never_ends() {
    const WORDS: &str = r#"{"error":{"message":"words of the provider"}}"#;
    let kinds = [
        (401, ErrorKind::Auth),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Server),
        (503, ErrorKind::Overloaded),
        (529, ErrorKind::Overloaded),
    ];
    let hour = Duration::from_secs(3600);
    let forms =
        [("nothing", "", hour), ("half", &WORDS[..20], hour), ("whole", WORDS, hour), ("drip", " ", hour / 9000)];
    let opaque = || LlmRequest::from(OpaqueCall::json(Dialect::OpenAi, "/v1/embeddings", r#"{"model":"m"}"#).unwrap());
    for (status, kind) in kinds {
        for (form, body, pace) in forms {
            let transport = Scripted::new(status, "application/json", body).endless(pace).header("retry-after", "7");
            let paths = [
                ("whole", LlmRequest::prompt("hello")),
                ("stream", LlmRequest::prompt("hello").with_stream(true)),
                ("opaque", opaque()),
            ];
            for (path, request) in paths {
                let begun = Instant::now();
                let error = openai(&transport).oneshot(request).await.unwrap_err();
                assert_eq!(error.status().unwrap().as_u16(), status, "{path}, {form}");
                // What has come of the body has its say.
                assert!(error.kind() == kind || form == "whole", "{path}, {form}: {error:?}");
                assert!(begun.elapsed() < Duration::from_millis(1100), "{path}, {form}: {:?}", begun.elapsed());
                let waits = matches!(kind, ErrorKind::RateLimited | ErrorKind::Overloaded);
                assert!(!waits || error.retry_after().is_some(), "{path}, {form}, {status}");
                assert_eq!(
                    error.message().contains("words of the provider"),
                    form == "whole",
                    "{path}, {form}: {error}"
                );
            }
            {
                let texts = crate::embed::EmbedRequest::new(["hello".into()]);
                let leaf = crate::openai::OpenAiEmbeddings::new(openai(&transport));
                assert_eq!(
                    leaf.oneshot(texts).await.unwrap_err().status().unwrap().as_u16(),
                    status,
                    "embeddings, {form}"
                );
            }
        }
    }
    // A page in place of an answer is a failure whatever it says.
    let page = Scripted::new(200, "text/html", "<html>").endless(hour);
    assert_eq!(ask(openai(&page)).await.unwrap_err().kind(), ErrorKind::Malformed);
}
