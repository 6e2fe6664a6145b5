//! Failures after the head: `response.failed` of streams that are encoded, and of those that pass.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{arguments, call, encoder, grammar, stream, text, types};
use crate::{
    Dialect, ErrorKind, Frame, LlmError, StreamEvent,
    translate::{StreamEncoder, encode_error},
};

/// The last event's response, of a stream that breaks no rule.
fn failed(stream: &str) -> Value {
    let reading = grammar::read(stream);
    assert!(reading.broken.is_empty(), "{:?} in\n{stream}", reading.broken);
    assert_eq!(reading.end, "response.failed");
    reading.last
}

fn error(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "it failed")
}

#[test]
fn a_failure_has_the_items_so_far() {
    let mut encoder = encoder();
    let events = [text(0, "a"), call(1, "c", "f"), arguments(1, "{\"x\"")];
    let mut bytes = stream(&mut encoder, &events.map(Frame::event));
    bytes.push_str(std::str::from_utf8(&encoder.error(&error(ErrorKind::Server))).unwrap());
    let response = failed(&bytes);
    assert_eq!(response["output"][0]["content"][0]["text"], "a");
    assert_eq!(response["output"][1]["arguments"], "{\"x\"");
    assert_eq!(response["output"][1]["status"], "incomplete");
    assert_eq!(response["error"]["code"], "server_error");
    assert!(encoder.error(&error(ErrorKind::Server)).is_empty(), "a stream ends once");
}

#[test]
fn a_failure_before_all_else_is_a_whole_stream() {
    let bytes = encoder().error(&error(ErrorKind::QuotaExhausted));
    let bytes = std::str::from_utf8(&bytes).unwrap();
    assert_eq!(types(bytes), ["created", "in_progress", "failed"]);
    assert_eq!(failed(bytes)["error"]["code"], "insufficient_quota");
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_a_code_that_clients_know() {
    let wait = |kind| error(kind).with_retry_after(Duration::from_millis(1_200));
    for (error, code, words) in [
        (wait(ErrorKind::RateLimited), "rate_limit_exceeded", "Please try again in 1.2s."),
        (wait(ErrorKind::CircuitOpen), "rate_limit_exceeded", "Please try again in 1.2s."),
        (error(ErrorKind::RateLimited), "rate_limit_exceeded", "it failed"),
        (error(ErrorKind::CircuitOpen), "server_error", "it failed"),
        (error(ErrorKind::ContextLength), "context_length_exceeded", "it failed"),
        (error(ErrorKind::Budget), "insufficient_quota", "it failed"),
        (error(ErrorKind::InvalidRequest), "invalid_prompt", "it failed"),
        (error(ErrorKind::StreamBroken), "server_error", "it failed"),
        // After content the stream broke, whatever the cause; the cause is what the client acts on.
        (error(ErrorKind::StreamBroken).with_source(wait(ErrorKind::RateLimited)), "rate_limit_exceeded", "it failed"),
        // The provider's own code and words, not even with a full stop more.
        (
            error(ErrorKind::StreamBroken).with_code("usage_not_included").with_dialect(Dialect::Responses),
            "usage_not_included",
            "it failed",
        ),
        (
            LlmError::new(ErrorKind::RateLimited, "Slow. Please try again in 7s. More words.")
                .with_code("rate_limit_exceeded")
                .with_dialect(Dialect::Responses)
                .with_retry_after(Duration::from_secs(7)),
            "rate_limit_exceeded",
            "Slow. Please try again in 7s. More words.",
        ),
        // Another provider's code says nothing to this one's clients.
        (
            wait(ErrorKind::RateLimited).with_code("rate_limit_error").with_dialect(Dialect::Anthropic),
            "rate_limit_exceeded",
            "Please try again in 1.2s.",
        ),
    ] {
        let bytes = encoder().error(&error);
        let failed = failed(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(failed["error"]["code"], code, "{error}");
        let message = failed["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert!(error.dialect() != Some(Dialect::Responses) || message == words, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_head_has_openais_form() {
    let own = |code: &str, kind| error(kind).with_code(code).with_dialect(Dialect::OpenAi);
    let raw = Bytes::from_static(br#"{"error":{"message":"m","param":"input[2]","code":"invalid_value","type":"t"}}"#);
    let wait = error(ErrorKind::RateLimited).with_retry_after(Duration::from_millis(50));
    for (error, status, code, param) in [
        (wait, 429, json!("rate_limit_exceeded"), Value::Null),
        (
            error(ErrorKind::NotFound).with_code("previous_response_not_found"),
            404,
            json!("previous_response_not_found"),
            json!("previous_response_id"),
        ),
        (
            error(ErrorKind::UnsupportedFeature).with_code("unsupported_path"),
            404,
            json!("unsupported_path"),
            Value::Null,
        ),
        (own("invalid_value", ErrorKind::InvalidRequest).with_raw(raw), 400, json!("invalid_value"), json!("input[2]")),
        (error(ErrorKind::NotFound), 404, json!("model_not_found"), json!("model")),
        (error(ErrorKind::ContextLength), 400, json!("context_length_exceeded"), json!("input")),
        (own("1302", ErrorKind::Server), 500, Value::Null, Value::Null),
    ] {
        let (got, body) = encode_error(&error, Dialect::Responses);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((got.as_u16(), &body["error"]["code"], &body["error"]["param"]), (status, &code, &param), "{error}");
        assert!(body["error"]["type"].is_string());
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("it failed") && (status != 429 || message.ends_with("Please try again in 0.05s.")),
            "{message}"
        );
    }
}

/// The codes of `ResponseError.code` in OpenAI's SDK for Python, version 3.54.
const FAILURES: &[&str] = &[
    "server_error",
    "rate_limit_exceeded",
    "invalid_prompt",
    "data_residency_mismatch",
    "bio_policy",
    "misalignment_policy_violation",
    "vector_store_timeout",
    "invalid_image",
    "invalid_image_format",
    "invalid_base64_image",
    "invalid_image_url",
    "image_too_large",
    "image_too_small",
    "image_parse_error",
    "image_content_policy_violation",
    "invalid_image_mode",
    "image_file_too_large",
    "unsupported_image_media_type",
    "empty_image_file",
    "failed_to_download_image",
    "image_file_not_found",
];
/// The further codes of a failed response that Codex acts on.
const ACTED_ON: [&str; 3] = ["context_length_exceeded", "insufficient_quota", "usage_not_included"];

/// Clients decide by type and code, and know those of OpenAI.
#[test]
fn an_error_of_any_provider_has_a_type_and_a_code_of_openais() {
    let types = ["invalid_request_error", "server_error", "requests", "insufficient_quota"];
    let codes = [
        "content_policy_violation",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
        "rate_limit_exceeded",
        "server_error",
        "unsupported_parameter",
    ];
    // Failures of the gateway's own layers have codes of its own.
    let own = ["all_providers_unavailable", "store_unavailable", "idempotency_key_reused"];
    let is_own = |kind| {
        use ErrorKind::{CircuitOpen, Credentials, Exhausted, IdempotencyConflict, OutOfService, Store};
        matches!(kind, CircuitOpen | Credentials | Exhausted | IdempotencyConflict | OutOfService | Store)
    };
    let upstream = [
        (Dialect::Anthropic, "overloaded_error"),
        (Dialect::OpenAi, "engine_overloaded_error"),
        (Dialect::OpenAi, "all_providers_unavailable"),
        (Dialect::Gemini, "RESOURCE_EXHAUSTED"),
        (Dialect::Responses, "server_error"),
    ];
    for kind in ErrorKind::ALL {
        for (dialect, code) in upstream {
            let error = error(*kind).with_code(code).with_dialect(dialect);
            let (_, body) = encode_error(&error, Dialect::Responses);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let code = body["error"]["code"].as_str();
            assert!(types.contains(&body["error"]["type"].as_str().unwrap()), "{kind:?} of {dialect}: {body}");
            let is_known = |code| codes.contains(&code) || (is_own(*kind) && own.contains(&code));
            assert!(code.is_none_or(is_known), "{kind:?} of {dialect}: {body}");
            let failed = failed(std::str::from_utf8(&encoder().error(&error)).unwrap());
            let code = failed["error"]["code"].as_str().unwrap();
            assert!(FAILURES.contains(&code) || ACTED_ON.contains(&code), "{kind:?} of {dialect}: {failed}");
        }
    }
}

/// A passing stream: its events, without `event:` lines if not `named`.
fn passing(named: bool) -> Vec<Frame> {
    let item = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []},
    ]});
    let begun = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []});
    let part = json!({"type": "output_text", "text": "", "annotations": []});
    let at = |more: Value| {
        let mut event = json!({"item_id": "msg_1", "output_index": 0, "content_index": 0});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let response = json!({"id": "resp_own", "object": "response", "status": "in_progress", "output": [], "error": null, "metadata": {"k": "v"}});
    let events = [
        (
            "response.created",
            json!({"response": response}),
            StreamEvent::Start { id: Some("resp_own".into()), model: None },
        ),
        ("response.in_progress", json!({"response": response}), StreamEvent::Other),
        ("response.output_item.added", json!({"output_index": 0, "item": begun}), StreamEvent::Other),
        ("response.content_part.added", at(json!({"part": part})), StreamEvent::Other),
        ("response.output_text.delta", at(json!({"delta": "hi"})), text(0, "hi")),
        ("response.output_text.done", at(json!({"text": "hi"})), StreamEvent::Other),
        (
            "response.content_part.done",
            at(json!({"part": {"type": "output_text", "text": "hi", "annotations": []}})),
            StreamEvent::Other,
        ),
        ("response.output_item.done", json!({"output_index": 0, "item": item}), StreamEvent::Other),
        (
            "response.output_item.added",
            json!({"output_index": 1, "item": {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "", "status": "in_progress"}}),
            call(1, "c", "f"),
        ),
        (
            "response.function_call_arguments.delta",
            json!({"output_index": 1, "item_id": "fc_1", "delta": "{\"type\":\"response.output_item.done\""}),
            arguments(1, "{}"),
        ),
    ];
    (0_u64..)
        .zip(events)
        .map(|(number, (name, mut event, meaning))| {
            event["type"] = name.into();
            event["sequence_number"] = number.into();
            let head = if named { format!("event: {name}\n") } else { String::new() };
            Frame::event(meaning).with_raw(Dialect::Responses, format!("{head}data: {event}\n\n").into())
        })
        .collect()
}

#[test]
fn a_passing_stream_fails_under_its_own_id_and_numbers_at_any_point() {
    for named in [true, false] {
        let frames = passing(named);
        for length in 1..=frames.len() {
            let mut encoder = StreamEncoder::new(Dialect::Responses);
            let mut bytes = stream(&mut encoder, &frames[..length]);
            let keep_alive =
                Frame::event(StreamEvent::KeepAlive).with_raw(Dialect::Responses, Bytes::from_static(b": ping\n\n"));
            bytes.push_str(&stream(&mut encoder, &[keep_alive]));
            let broken = error(ErrorKind::StreamBroken);
            bytes.push_str(std::str::from_utf8(&encoder.error(&broken)).unwrap());
            let mut reading = grammar::read(&bytes);
            if !named {
                assert!(reading.broken.remove("an event is named by its type"));
            }
            assert!(reading.broken.is_empty(), "{:?} in\n{bytes}", reading.broken);
            assert_eq!((&reading.last["id"], &reading.last["metadata"]["k"]), (&json!("resp_own"), &json!("v")));
            let items = reading.last["output"].as_array().unwrap().len();
            assert_eq!(items, usize::from(length > 7), "the finished item, and no other");
        }
    }
}

#[test]
fn a_passing_stream_that_begins_again_fails() {
    let mut encoder = StreamEncoder::new(Dialect::Responses);
    let mut bytes = stream(&mut encoder, &passing(true));
    let again = Frame::event(StreamEvent::Restarted { reason: ErrorKind::Server });
    bytes.push_str(&stream(&mut encoder, &[again]));
    assert_eq!(failed(&bytes)["error"]["code"], "server_error");
}

#[test]
fn a_stream_that_has_begun_under_one_id_goes_on_under_it() {
    // A tier of another dialect began and broke; the next one speaks the caller's.
    let start = StreamEvent::Start { id: Some("a".into()), model: None };
    let again = StreamEvent::Restarted { reason: ErrorKind::Server };
    let mut encoder = encoder();
    let mut bytes = stream(&mut encoder, &[Frame::event(start), Frame::event(again)]);
    bytes.push_str(&stream(&mut encoder, &passing(true)[..5]));
    bytes.push_str(&stream(&mut encoder, &[Frame::event(StreamEvent::End)]));
    let reading = grammar::read(&bytes);
    assert!(reading.broken.is_empty(), "{:?} in\n{bytes}", reading.broken);
    assert_eq!(
        (&reading.last["id"], &reading.last["output"][0]["content"][0]["text"]),
        (&json!("resp_a"), &json!("hi"))
    );
}

#[test]
fn a_huge_passing_stream_keeps_little() {
    let item =
        json!({"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "x".repeat(700_000)});
    let mut frames = passing(true);
    frames.truncate(2);
    for number in 2..12_u64 {
        let event = json!({"type": "response.output_item.done", "sequence_number": number, "output_index": number, "item": item});
        let raw = format!("event: response.output_item.done\ndata: {event}\n\n");
        frames.push(Frame::event(StreamEvent::Other).with_raw(Dialect::Responses, raw.into()));
    }
    let mut encoder = StreamEncoder::new(Dialect::Responses);
    stream(&mut encoder, &frames);
    let bytes = encoder.error(&error(ErrorKind::StreamBroken));
    assert!((700_000..1_100_000).contains(&bytes.len()), "{}", bytes.len());
}
