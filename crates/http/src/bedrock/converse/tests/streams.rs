use serde_json::{Value, json};

use super::{event, exception, kinds, messages};
use crate::bedrock::event_stream::{HeaderValue, encode};

#[tokio::test]
async fn a_stream_has_the_order_and_the_indices_of_messages() {
    let delta = |index: u64, delta: Value| {
        event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta, "p": "abc"}))
    };
    let stop = |index: u64| event("contentBlockStop", &json!({"contentBlockIndex": index}));
    let usage = json!({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 1}});
    let mut stream = vec![
        event("messageStart", &json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "so"}})),
        delta(0, json!({"reasoningContent": {"signature": "SIG"}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "YWI="}})),
        delta(1, json!({"reasoningContent": {"redactedContent": "Yw=="}})),
        stop(1),
        // An empty text is no block.
        delta(2, json!({"text": ""})),
        stop(2),
        delta(3, json!({"text": "hi"})),
        event("somethingNew", &json!([1])),
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": 5, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
        ),
        delta(5, json!({"toolUse": {"input": "{\"a\":"}})),
        delta(5, json!({"toolUse": {"input": "1}"}})),
        stop(5),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event("metadata", &usage),
    ];
    let (events, error) = messages(&stream).await;
    assert_eq!(error, None);
    assert_eq!(
        kinds(&events),
        [
            "message_start",
            "content_block_start 0",
            "content_block_delta 0",
            "content_block_delta 0",
            "content_block_stop 0",
            "content_block_start 1",
            "content_block_stop 1",
            "content_block_start 2",
            "content_block_delta 2",
            "content_block_stop 2",
            "content_block_start 3",
            "content_block_delta 3",
            "content_block_delta 3",
            "content_block_stop 3",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events[0]["message"]["id"], "r");
    assert_eq!(events[3]["delta"], json!({"type": "signature_delta", "signature": "SIG"}));
    assert_eq!(events[5]["content_block"], json!({"type": "redacted_thinking", "data": "abc"}));
    assert_eq!(events[10]["content_block"], json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}));
    assert_eq!(events[12]["delta"], json!({"type": "input_json_delta", "partial_json": "1}"}));
    assert_eq!(events[14]["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!(events[14]["usage"], json!({"input_tokens": 3, "output_tokens": 4}));
    assert_eq!(events[14]["metrics"], json!({"latencyMs": 1}));
    // The usage may come before the end, too.
    let metadata = stream.pop().unwrap();
    stream.insert(1, metadata);
    assert_eq!(messages(&stream).await, (events.clone(), None));
    // Without it the answer is whole.
    stream.remove(1);
    let (cut, error) = messages(&stream).await;
    assert_eq!((kinds(&cut), error), (kinds(&events), None));
    assert_eq!(cut[14]["usage"], json!({}));
    // Without its end it is not.
    stream.pop();
    let (cut, error) = messages(&stream).await;
    assert_eq!(cut.last().unwrap()["type"], "content_block_stop");
    assert_eq!(error.unwrap(), "the event stream ends before the answer does");
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let (events, error) = messages(&[event("messageStop", &json!({"stopReason": "end_turn"}))]).await;
    assert_eq!(
        (kinds(&events), error),
        (["message_start", "message_delta", "message_stop"].map(String::from).to_vec(), None)
    );
}

#[tokio::test]
async fn a_guardrail_in_a_stream_keeps_its_trace() {
    let trace = json!({"guardrail": {"inputAssessment": {}}});
    let (events, error) = messages(&[
        event("messageStart", &json!({"role": "assistant"})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "Sorry."}})),
        event("messageStop", &json!({"stopReason": "guardrail_intervened"})),
        event("metadata", &json!({"usage": {"inputTokens": 0, "outputTokens": 0}, "trace": trace})),
    ])
    .await;
    assert_eq!(error, None);
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!((&delta["delta"]["stop_reason"], &delta["trace"]), (&json!("refusal"), &trace));
}

#[tokio::test]
async fn an_exception_in_a_stream_is_an_error_of_messages() {
    let start = event("messageStart", &json!({"role": "assistant"}));
    for (exception, kind, message) in [
        (exception("throttlingException", r#"{"message":"Too many tokens"}"#), "rate_limit_error", "Too many tokens"),
        (
            exception("serviceUnavailableException", "{}"),
            "overloaded_error",
            "Bedrock reports serviceUnavailableException",
        ),
        (
            exception("modelStreamErrorException", r#"{"message":"a","originalStatusCode":500,"originalMessage":"b"}"#),
            "api_error",
            "a: b",
        ),
        (exception("validationException", "no JSON"), "invalid_request_error", "Bedrock reports validationException"),
        (exception("newException", r#"{"Message":"x"}"#), "api_error", "x"),
        (
            encode(
                &[
                    (":message-type", HeaderValue::Text("error")),
                    (":error-code", HeaderValue::Text("InternalServerException")),
                    (":error-message", HeaderValue::Text("oops")),
                ],
                b"",
            )
            .unwrap(),
            "api_error",
            "oops",
        ),
    ] {
        let late = event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "late"}}));
        let (events, error) = messages(&[start.clone(), exception, late]).await;
        assert_eq!((kinds(&events), error), (["message_start", "error"].map(String::from).to_vec(), None));
        assert_eq!((&events[1]["error"]["type"], &events[1]["error"]["message"]), (&json!(kind), &json!(message)));
    }
    // Behind the end it changes nothing.
    let whole =
        [start, event("messageStop", &json!({"stopReason": "end_turn"})), exception("throttlingException", "{}")];
    let (events, error) = messages(&whole).await;
    assert_eq!((events.last().unwrap()["type"].as_str(), error), (Some("message_stop"), None));
}

#[tokio::test]
async fn what_does_not_follow_converse_breaks_the_stream() {
    for (kind, payload) in [
        ("contentBlockDelta", json!([])),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"redactedContent": "!"}}})),
    ] {
        let (_, error) = messages(&[event(kind, &payload)]).await;
        assert!(error.is_some(), "{payload}");
    }
}
