use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use serde::Deserialize;
use steadfast::{RetryWithJitterLayer, provider_fn};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::*;
use crate::{
    Chat, CommitPoint, ErrorKind, LlmResponse, StreamEvent, Wire,
    chat::{Message, Part, Role, Tool, ToolCall, ToolResult},
    translate::StreamEncoder,
};

const DIALECTS: [(Dialect, &str); 3] =
    [(Dialect::Anthropic, "claude-sonnet-4-5"), (Dialect::OpenAi, "gpt-4o"), (Dialect::Gemini, "gemini-2.5-flash")];

/// The events of an answer "Hello", and how many of them there are before its end mark.
fn events(dialect: Dialect) -> (&'static [&'static str], usize) {
    match dialect {
        Dialect::Anthropic => (
            &[
                r#"{"type":"message_start","message":{"id":"msg_1","model":"claude","usage":{"input_tokens":5}}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#,
                r#"{"type":"message_stop"}"#,
            ],
            6,
        ),
        Dialect::OpenAi => (
            &[
                r#"{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"content":"Hel"}}]}"#,
                r#"{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"content":"lo"}}]}"#,
                r#"{"id":"c","model":"gpt","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            ],
            3,
        ),
        Dialect::Gemini => (
            &[
                r#"{"responseId":"r","candidates":[{"index":0,"content":{"parts":[{"text":"Hel"}]}}]}"#,
                r#"{"responseId":"r","candidates":[{"index":0,"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP"}]}"#,
            ],
            1,
        ),
        Dialect::Responses => (
            &[
                r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","model":"gpt","status":"in_progress","output":[]}}"#,
                r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}"#,
                r#"{"type":"response.output_text.delta","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hel"}"#,
                r#"{"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"lo"}"#,
                r#"{"type":"response.completed","sequence_number":4,"response":{"id":"resp_1","model":"gpt","status":"completed","output":[]}}"#,
            ],
            4,
        ),
    }
}

async fn exchange(dialect: Dialect) -> Exchange {
    exchange_for(dialect, LlmRequest::prompt("secret plans").with_stream(true)).await
}

async fn exchange_for(dialect: Dialect, request: LlmRequest) -> Exchange {
    Codec::new(dialect).model("model").key("secret-key-1").encode(&request).await.unwrap()
}

fn items(events: &[&'static str]) -> Vec<Result<&'static str, BoxError>> {
    events.iter().map(|event| Ok(*event)).collect()
}

/// The error of a stream of these items, and whether its caller has seen a part of the answer.
async fn failure(exchange: Exchange, items: Vec<Result<&'static str, BoxError>>) -> (bool, LlmError) {
    match exchange.stream(stream::iter(items)).await {
        Err(error) => (false, error),
        Ok(response) => (true, response.collect().await.expect_err("the stream fails")),
    }
}

/// Holds an error to what no error may have: prompts, answers and keys.
fn assert_discreet(error: &LlmError) {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(" {next} {next:?}"));
        cause = next.source();
    }
    assert!(!text.contains("secret"), "{text}");
    assert!(error.provider().is_some() && error.model() == Some("model") && error.dialect().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_stream_without_its_end_mark_is_an_error_wherever_it_is_cut() {
    for (dialect, _) in DIALECTS {
        let (events, end) = events(dialect);
        for cut in 0..=end {
            let (seen, error) = failure(exchange(dialect).await, items(&events[..cut])).await;
            assert_eq!(error.kind(), ErrorKind::StreamBroken, "{dialect} {cut}");
            assert_eq!(seen, events[..cut].iter().any(|event| event.contains("Hel")), "{dialect} {cut}");
            let whole = LlmRequest::prompt("secret plans").with_stream(true).with_commit(CommitPoint::Complete);
            let (seen, error) = failure(exchange_for(dialect, whole).await, items(&events[..cut])).await;
            assert_eq!((seen, error.kind()), (false, ErrorKind::StreamBroken), "{dialect} {cut}");
            assert_discreet(&error);
        }
        let response = exchange(dialect).await.stream(stream::iter(items(events))).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "Hello", "{dialect}");
    }
}

#[tokio::test]
async fn a_stream_is_held_back_until_its_first_token() {
    for (dialect, _) in DIALECTS {
        let (events, _) = events(dialect);
        let first = events.iter().position(|event| event.contains("Hel")).unwrap();
        for (sent, comes) in [(first, false), (first + 1, true)] {
            let pending = stream::iter(items(&events[..sent])).chain(stream::pending());
            let response = exchange(dialect).await.stream(pending).now_or_never();
            assert_eq!(response.is_some(), comes, "{dialect}");
        }
    }
}

#[tokio::test]
async fn events_of_a_client_become_server_sent_events_again() {
    for (dialect, _) in DIALECTS {
        let (events, _) = events(dialect);
        // A client may print an event in several lines.
        let pretty: Vec<String> = events
            .iter()
            .map(|event| serde_json::to_string_pretty(&serde_json::from_str::<Value>(event).unwrap()).unwrap())
            .collect();
        let written = pretty.clone().into_iter().map(Ok::<_, Infallible>);
        let mut body = exchange(dialect).await.stream(stream::iter(written)).await.unwrap().into_body();
        let mut encoder = StreamEncoder::new(dialect);
        let (mut raw, mut text) = (Vec::new(), String::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.unwrap();
            raw.extend_from_slice(&encoder.frame(&frame));
            for event in frame.events() {
                if let StreamEvent::Text { text: piece, .. } = event {
                    text.push_str(piece);
                }
            }
        }
        assert_eq!(text, "Hello", "{dialect}");
        let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from(raw))]);
        let read: Vec<_> = sse_stream::SseStream::from_bytes_stream(pieces).collect().await;
        let read: Vec<sse_stream::Sse> = read.into_iter().map(Result::unwrap).collect();
        let mut read_data: Vec<_> = read.iter().map(|event| event.data.clone().unwrap()).collect();
        // The end mark that the client has kept to itself.
        assert_eq!(read_data.pop_if(|data| *data == "[DONE]").is_some(), dialect == Dialect::OpenAi);
        assert_eq!(read_data, pretty);
        for (event, data) in read.iter().zip(events) {
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event.event.as_deref(), data["type"].as_str(), "{dialect}");
        }
    }
}

#[tokio::test]
async fn an_error_of_a_clients_stream_keeps_its_kind_until_content_has_come() {
    let overloaded = || Err(LlmError::new(ErrorKind::Overloaded, "Overloaded").with_code("overloaded").into());
    let broken = || Err(std::io::Error::other("connection reset").into());
    for (dialect, _) in DIALECTS {
        let (events, _) = events(dialect);
        let first = events.iter().position(|event| event.contains("Hel")).unwrap();
        for (at, item, seen, kind) in [
            (0, overloaded(), false, ErrorKind::Overloaded),
            (first, overloaded(), false, ErrorKind::Overloaded),
            (first + 1, overloaded(), true, ErrorKind::StreamBroken),
            (first, broken(), false, ErrorKind::StreamBroken),
            (first + 1, broken(), true, ErrorKind::StreamBroken),
        ] {
            let mut items = items(&events[..at]);
            items.push(item);
            let (was_seen, error) = failure(exchange(dialect).await, items).await;
            assert_eq!((was_seen, error.kind()), (seen, kind), "{dialect} {at}");
            assert_discreet(&error);
        }
    }
}

#[tokio::test]
async fn what_is_no_event_is_malformed_before_content_and_breaks_the_stream_after_it() {
    for (dialect, _) in DIALECTS {
        let (events, _) = events(dialect);
        let first = events.iter().position(|event| event.contains("Hel")).unwrap();
        for bad in ["", "secret words", r#""secret words""#, r#"{"secret"#, "\n\r\n", "<html>", "[1,2"] {
            for (at, kind) in [(0, ErrorKind::Malformed), (first + 1, ErrorKind::StreamBroken)] {
                let mut items = items(&events[..at]);
                items.push(Ok(bad));
                let (_, error) = failure(exchange(dialect).await, items).await;
                assert_eq!(error.kind(), kind, "{dialect} {at} {bad:?}");
                assert_discreet(&error);
            }
        }
    }
    let limits = Limits::default().event(100).answer(150);
    let small = Codec::new(Dialect::OpenAi).model("model").limits(limits);
    for events in [vec!["x".repeat(101)], vec![r#"{"choices":[]}"#.to_owned(); 11]] {
        let exchange = small.encode(&LlmRequest::prompt("secret plans")).await.unwrap();
        let events = stream::iter(events.into_iter().map(Ok::<_, Infallible>));
        let error = exchange.stream(events).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.message().contains("larger than the limit of"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_quotes_nothing() {
    let bodies: [(&[u8], ErrorKind); 7] = [
        (b"", ErrorKind::EmptyAnswer),
        (b"\n", ErrorKind::EmptyAnswer),
        (b"secret words", ErrorKind::Malformed),
        (b"\xff\xfe", ErrorKind::Malformed),
        (b"<html><title>Just a moment</title>secret</html>", ErrorKind::Malformed),
        (br#"{"content": "secret"#, ErrorKind::Malformed),
        (br#"["secret"]"#, ErrorKind::Malformed),
    ];
    for (dialect, _) in DIALECTS {
        for (body, kind) in bodies {
            let error = exchange(dialect).await.answer(body).unwrap_err();
            assert_eq!(error.kind(), kind, "{dialect} {body:?}: {error}");
            assert_discreet(&error);
        }
        // An answer of another dialect.
        for (other, body) in [
            (
                Dialect::Anthropic,
                r#"{"type":"message","content":[{"type":"text","text":"secret"}],"stop_reason":"end_turn"}"#,
            ),
            (Dialect::OpenAi, r#"{"choices":[{"index":0,"message":{"content":"secret"},"finish_reason":"stop"}]}"#),
            (Dialect::Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"secret"}]},"finishReason":"STOP"}]}"#),
        ] {
            match exchange(dialect).await.answer(body) {
                Ok(response) => assert_eq!((other, response.text().await.unwrap()), (dialect, "secret".to_owned())),
                Err(error) => {
                    assert_ne!(other, dialect, "{error}");
                    assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::EmptyAnswer), "{error}");
                    assert_discreet(&error);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_error_without_a_body_of_its_own_has_the_kind_of_its_status() {
    let page = "<html><title>504 Gateway Time-out</title>secret-key-1</html>";
    for (dialect, _) in DIALECTS {
        let exchange = exchange(dialect).await;
        for (status, kind) in [
            (401, ErrorKind::Auth),
            (403, ErrorKind::Blocked),
            (404, ErrorKind::NotFound),
            (413, ErrorKind::TooLarge),
            (500, ErrorKind::Server),
            (503, ErrorKind::Overloaded),
            (504, ErrorKind::Timeout),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            for body in ["", page, "secret-key-1 is wrong", r#"{"prompt": "secret plans"}"#] {
                let error = exchange.error(status, &HeaderMap::new(), body);
                assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{dialect} {body}");
                assert_discreet(&error);
            }
            assert!(exchange.error(status, &HeaderMap::new(), page).message().contains("504 Gateway"));
        }
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        headers.insert("request-id", "req_7".parse().unwrap());
        let error = exchange.error(StatusCode::TOO_MANY_REQUESTS, &headers, "");
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::RateLimited, Some("req_7")));
        assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(6)), "{error}");
        let unanswered = exchange.unanswered(std::io::Error::other("no route to host"));
        assert_eq!(unanswered.kind(), ErrorKind::Connect);
        assert_discreet(&unanswered);
    }
}

#[test]
fn a_message_that_is_the_whole_body_is_read_as_one() {
    let codec = Codec::new(Dialect::OpenAi).model("model").key("secret-key-1");
    let body = r#"{"error": {"message": "Engine is full, secret-key-1.", "type": "server_error", "code": "server_is_overloaded"}}"#;
    for status in [Some(StatusCode::INTERNAL_SERVER_ERROR), None] {
        let error = codec.error_json(status, &json!({"message": body, "type": null, "code": null}));
        assert_eq!((error.kind(), error.code()), (ErrorKind::Overloaded, Some("server_is_overloaded")));
        assert_eq!((error.message(), error.status()), ("Engine is full, [key]", status));
        assert_discreet(&error);
    }
    let page = json!({"message": "<html><title>502 Bad Gateway</title>secret</html>"});
    let error = codec.error_json(StatusCode::BAD_GATEWAY, &page);
    assert_eq!((error.kind(), error.message()), (ErrorKind::Server, "the server sent an HTML page: 502 Bad Gateway"));
    for odd in [
        Value::Null,
        json!(7),
        json!([1]),
        json!("secretive"),
        json!({"secret": "plans"}),
        json!({"message": "{secret"}),
    ] {
        let error = codec.error_json(None, &odd);
        assert_eq!((error.kind(), error.status()), (ErrorKind::Server, None), "{odd}");
        if odd != json!("secretive") {
            assert_discreet(&error);
        }
    }
}

#[tokio::test]
async fn a_type_that_cannot_carry_the_request_sends_it_to_another_tier() {
    #[derive(Debug, Deserialize)]
    struct OnlyNumbers {
        #[expect(dead_code, reason = "it is only read")]
        messages: Vec<u32>,
    }
    let error = exchange(Dialect::OpenAi).await.json::<OnlyNumbers>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    assert_discreet(&error);
    // Only a parser of the whole finds what is wrong here, and a leaf would leave it to the provider.
    let wire = Wire::new(Dialect::OpenAi, r#"{"model":"model","messages":["secret \x"]}"#).unwrap();
    let error = exchange_for(Dialect::OpenAi, wire.into()).await.json::<Value>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_discreet(&error);
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_the_model_refuses_is_left_out_of_the_next_attempt_and_of_later_requests() {
    let codec = Codec::new(Dialect::OpenAi).model("gpt-4o");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let leaf = provider_fn(move |request: LlmRequest| {
        let (codec, calls) = (codec.clone(), counted.clone());
        async move {
            calls.fetch_add(1, Relaxed);
            let exchange = codec.encode(&request).await?;
            let asked: Value = exchange.json()?;
            if asked.get("temperature").is_some() {
                let words = "Unsupported parameter: 'temperature' is not supported with this model.";
                let fields = json!({"message": words, "type": "invalid_request_error", "param": "temperature"});
                return Err(exchange.error_json(StatusCode::BAD_REQUEST, &fields));
            }
            exchange.answer(r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#)
        }
    });
    let llm = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).service(leaf);
    let ask = || LlmRequest::from(Chat::new([Message::user("hello")]).temperature(0.5));
    for expected in [2, 3] {
        let response: LlmResponse = llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!(response.notes(), ["refused_parameter: `temperature` was left out: the model refuses it"]);
        assert_eq!(calls.load(Relaxed), expected);
    }
}

#[tokio::test]
async fn the_callers_own_bytes_are_forwarded_and_only_their_model_changes() {
    let body = r#"{ "model":"gpt-4o" , "messages":[ {"role":"user","content":"hello"} ],"own":1 }"#;
    let mut headers = HeaderMap::new();
    for (name, value) in [("openai-beta", "x"), ("authorization", "Bearer the-callers")] {
        headers.insert(name, value.parse().unwrap());
    }
    let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap().headers(headers));
    let codec = Codec::compatible("house").key("ours");
    let exchange = codec.encode(&request).await.unwrap();
    assert_eq!(exchange.body(), body);
    assert_eq!(
        (&exchange.headers()["openai-beta"], &exchange.headers()["authorization"]),
        (&"x".parse().unwrap(), &"Bearer ours".parse().unwrap())
    );
    let exchange = codec.model("other").encode(&request).await.unwrap();
    assert_eq!(exchange.body(), body.replace("gpt-4o", "other"));
    assert_eq!((exchange.model(), exchange.path()), ("other", "/chat/completions"));
    assert!(!format!("{exchange:?}").contains("hello"));
}

#[tokio::test]
async fn without_a_model_nothing_is_encoded() {
    let error = Codec::new(Dialect::Gemini).encode(&LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::InvalidRequest, Some("gemini")));
}

/// A word that every dialect takes as a name, a text or a stop text.
fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_]{0,11}"
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß日🦀\n\t]{0,30}".prop_map(|text| format!("x{text}x"))
}

/// A turn of the model with calls, and the results of all of them.
fn calls() -> impl Strategy<Value = Vec<Message>> {
    let call = (any::<bool>(), proptest::collection::btree_map(word(), text(), 0..3), text());
    (text(), proptest::collection::vec(call, 1..3)).prop_map(|(said, calls)| {
        let (mut asked, mut results) = (vec![Part::Text(said)], Vec::new());
        for (place, (first, arguments, result)) in calls.into_iter().enumerate() {
            let (id, name) = (format!("call_{place}"), if first { "weather" } else { "time" });
            asked.push(Part::ToolCall(ToolCall::new(id.as_str(), name, json!(arguments).to_string())));
            results.push(Part::ToolResult(ToolResult::new(id, result)));
        }
        vec![Message::new(Role::Assistant, asked), Message::new(Role::User, results)]
    })
}

fn chats() -> impl Strategy<Value = Chat> {
    let turn = prop_oneof![text().prop_map(|text| vec![Message::assistant(text)]), calls()];
    let turns = proptest::collection::vec((text(), turn), 0..3);
    let settings = (
        proptest::option::of(text()),
        proptest::option::of(1..4000_u32),
        proptest::option::of(prop_oneof![Just(0.0), Just(0.25), Just(1.0)]),
        proptest::collection::vec(word(), 0..3),
        any::<bool>(),
    );
    (turns, text(), settings).prop_map(|(turns, last, (system, max_tokens, temperature, stop, stream))| {
        let turns = turns.into_iter().enumerate().flat_map(|(turn, (asked, mut answered))| {
            // An id belongs to one call of a conversation.
            for part in answered.iter_mut().flat_map(|message| &mut message.content) {
                match part {
                    Part::ToolCall(call) => call.id.push_str(&format!("_{turn}")),
                    Part::ToolResult(result) => result.call_id.push_str(&format!("_{turn}")),
                    _ => {}
                }
            }
            [vec![Message::user(asked)], answered].concat()
        });
        let mut chat = Chat::new(turns.chain([Message::user(last)])).stream(stream);
        for name in ["weather", "time"] {
            let schema = json!({"type": "object", "properties": {"at": {"type": "string"}}});
            chat = chat.tool(Tool::new(name, schema).description("Says it."));
        }
        (chat.system, chat.max_tokens, chat.temperature, chat.stop) = (system, max_tokens, temperature, stop);
        chat
    })
}

/// A conversation's content, without the borders between turns of one speaker, which not every dialect has.
fn meaning(chat: &Chat, with_ids: bool) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    for message in &chat.messages {
        for part in &message.content {
            let id = |id: &str| if with_ids { id.to_owned() } else { String::new() };
            parts.push(match part {
                Part::Text(text) => json!([format!("{:?}", message.role), text]),
                Part::ToolCall(call) => {
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    json!(["call", id(&call.id), call.name, arguments])
                }
                Part::ToolResult(result) => {
                    let text: String = result.content.iter().filter_map(Part::as_text).collect();
                    json!(["result", id(&result.call_id), text, result.is_error])
                }
                Part::Extra { .. } => continue,
                other => panic!("{other:?} was not there"),
            });
        }
    }
    let tools: Vec<_> =
        chat.tools.iter().map(|tool| json!([tool.name, tool.description, tool.parameters.value().unwrap()])).collect();
    json!([chat.system, parts, tools, chat.max_tokens, chat.temperature, chat.stop, chat.stream])
}

proptest! {
    #[test]
    fn a_conversation_is_the_same_after_a_journey_through_each_dialects_json(chat in chats()) {
        for (dialect, model) in DIALECTS {
            let codec = Codec::new(dialect).model(model);
            let request = LlmRequest::from(chat.clone());
            let exchange = codec.encode(&request).now_or_never().expect("short work").unwrap();
            let mut wire = Wire::new(dialect, exchange.body()).unwrap();
            if dialect == Dialect::Gemini {
                wire = wire.path(model, exchange.path().contains(":streamGenerateContent"));
            }
            let back = LlmRequest::from(wire);
            let mut expected = chat.clone();
            if dialect == Dialect::Anthropic && expected.max_tokens.is_none() {
                // It requires a number.
                prop_assert!(exchange.notes().iter().any(|note| note.starts_with("max_output")), "{:?}", exchange.notes());
                expected.max_tokens = back.chat().unwrap().max_tokens;
            } else {
                prop_assert_eq!(exchange.notes().len(), 0, "{:?}", exchange.notes());
            }
            prop_assert_eq!(back.model(), Some(model));
            let with_ids = dialect != Dialect::Gemini;
            prop_assert_eq!(meaning(back.chat().unwrap(), with_ids), meaning(&expected, with_ids), "{}", dialect);
        }
    }
}
