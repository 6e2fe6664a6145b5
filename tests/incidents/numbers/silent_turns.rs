//! A model that ends its turn without a word has answered; a server that fails in silence has not.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, CircuitBreakerLayer, CommitPoint, Dialect, ErrorKind, LlmRequest, LlmResponse, RetryWithJitterLayer,
    Wire,
    events::CircuitState,
    providers::{Anthropic, Gemini, OpenAi},
};
use tower::{ServiceBuilder, ServiceExt};

/// The turn before the silent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Question,
    ToolResult,
}

/// The silent turn's account of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Tokens,
    Thoughts,
}

const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini];

/// A request as each vendor's documentation has it.
fn asked(dialect: Dialect, before: Before) -> LlmRequest {
    let is_question = before == Before::Question;
    let body = match dialect {
        Dialect::Anthropic => {
            let mut messages = vec![json!({"role": "user", "content": "hi"})];
            if !is_question {
                messages.push(json!({"role": "assistant", "content":
                    [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}));
                messages.push(json!({"role": "user", "content":
                    [{"type": "tool_result", "tool_use_id": "t", "content": "done"}]}));
            }
            json!({"model": "m", "max_tokens": 50, "messages": messages})
        }
        Dialect::OpenAi => {
            let mut messages = vec![json!({"role": "user", "content": "hi"})];
            if !is_question {
                messages.push(json!({"role": "assistant", "content": null, "tool_calls":
                    [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}));
                messages.push(json!({"role": "tool", "tool_call_id": "t", "content": "done"}));
            }
            json!({"model": "m", "messages": messages})
        }
        Dialect::Responses => {
            let mut input = vec![json!({"type": "message", "role": "user", "content": "hi"})];
            if !is_question {
                input.push(json!({"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"}));
                input.push(json!({"type": "function_call_output", "call_id": "t", "output": "done"}));
            }
            json!({"model": "m", "store": false, "input": input})
        }
        _ => {
            let mut contents = vec![json!({"role": "user", "parts": [{"text": "hi"}]})];
            if !is_question {
                contents.push(json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}));
                contents.push(json!({"role": "user", "parts":
                    [{"functionResponse": {"name": "f", "response": {"result": "done"}}}]}));
            }
            json!({"contents": contents})
        }
    };
    LlmRequest::from(Wire::new(dialect, body.to_string()).expect("a request"))
}

/// The answer of a model that has nothing to say, whole or as a stream.
fn silent(dialect: Dialect, says: Says, stream: bool) -> String {
    let tokens = if says == Says::Nothing { 0 } else { 3 };
    let thinks = says == Says::Thoughts;
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    match (dialect, stream) {
        (Dialect::Anthropic, false) => {
            let content =
                if thinks { json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]) } else { json!([]) };
            json!({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": content,
                "stop_reason": "end_turn", "usage": {"input_tokens": 9, "output_tokens": tokens}})
            .to_string()
        }
        (Dialect::Anthropic, true) => {
            let mut events = event(
                "message_start",
                json!({"type": "message_start", "message":
                {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [],
                    "usage": {"input_tokens": 9, "output_tokens": 1}}}),
            );
            if thinks {
                events += &event(
                    "content_block_start",
                    json!({"type": "content_block_start", "index": 0,
                    "content_block": {"type": "thinking", "thinking": ""}}),
                );
                events += &event(
                    "content_block_delta",
                    json!({"type": "content_block_delta", "index": 0,
                    "delta": {"type": "thinking_delta", "thinking": "hm"}}),
                );
                events += &event("content_block_stop", json!({"type": "content_block_stop", "index": 0}));
            }
            events += &event(
                "message_delta",
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": tokens}}),
            );
            events + &event("message_stop", json!({"type": "message_stop"}))
        }
        (Dialect::OpenAi, _) => {
            let turn = if stream { "delta" } else { "message" };
            let mut said = json!({"role": "assistant", "content": ""});
            if thinks {
                said["reasoning_content"] = json!("hm");
            }
            let mut answer = json!({"id": "m", "model": "c", "object": "chat.completion", "choices":
                [{"index": 0, turn: said, "finish_reason": "stop"}]});
            let usage = json!({"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens});
            if !stream {
                answer["usage"] = usage;
                return answer.to_string();
            }
            let last = json!({"id": "m", "model": "c", "choices": [], "usage": usage});
            format!("data: {answer}\n\ndata: {last}\n\ndata: [DONE]\n\n")
        }
        (Dialect::Responses, _) => {
            let output = if thinks {
                json!([{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}])
            } else {
                json!([])
            };
            let response = json!({"id": "resp_1", "object": "response", "model": "c", "status": "completed",
                "output": output, "usage": {"input_tokens": 9, "output_tokens": tokens, "total_tokens": 9 + tokens}});
            if !stream {
                return response.to_string();
            }
            let mut begun = response.clone();
            (begun["status"], begun["output"], begun["usage"]) = (json!("in_progress"), json!([]), Value::Null);
            let mut events =
                event("response.created", json!({"type": "response.created", "sequence_number": 0, "response": begun}));
            if thinks {
                events += &event(
                    "response.reasoning_summary_text.delta",
                    json!({"type": "response.reasoning_summary_text.delta", "sequence_number": 1, "item_id": "r",
                        "output_index": 0, "summary_index": 0, "delta": "hm"}),
                );
            }
            events
                + &event(
                    "response.completed",
                    json!({"type": "response.completed", "sequence_number": 2, "response": response}),
                )
        }
        (_, _) => {
            let mut content = json!({"role": "model"});
            if thinks {
                content["parts"] = json!([{"text": "hm", "thought": true}]);
            }
            let answer = json!({"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata":
                {"promptTokenCount": 9, "candidatesTokenCount": tokens, "totalTokenCount": 9 + tokens}});
            if stream { format!("data: {answer}\n\n") } else { answer.to_string() }
        }
    }
}

/// A stack of circuit and retry over a provider that says this, with its circuit and the number of its calls.
fn stack(dialect: Dialect, body: String, stream: bool) -> (BoxLlmService, impl Fn() -> CircuitState, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        counted.fetch_add(1, Relaxed);
        let mut response = Response::new(Full::new(Bytes::from(body.clone())));
        let content_type = if stream { "text/event-stream" } else { "application/json" };
        response.headers_mut().insert("content-type", content_type.parse().unwrap());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let leaf = match dialect {
        Dialect::Anthropic => BoxLlmService::new(Anthropic::new("key").model("m").transport(transport)),
        Dialect::OpenAi => BoxLlmService::new(OpenAi::new("key").model("m").transport(transport)),
        Dialect::Responses => BoxLlmService::new(OpenAi::new("key").model("m").responses().transport(transport)),
        _ => BoxLlmService::new(Gemini::new("key").model("m").transport(transport)),
    };
    let circuit = CircuitBreakerLayer::new("tier").consecutive_failures(3);
    let handle = circuit.handle();
    let service = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).layer(circuit).service(leaf);
    (BoxLlmService::new(service), move || handle.state(), calls)
}

/// Each turn that a model meant, in every protocol, asked for by each protocol's caller: one call, an answer without
/// a word, its tokens counted, and nothing against the provider. Anthropic documents it ("Empty responses with
/// end_turn"); a turn of thoughts alone ends like one that ends after its thoughts in a stream.
#[tokio::test(start_paused = true)]
async fn a_turn_that_a_model_ends_without_a_word_is_its_answer() {
    let mut cells = 0;
    for provider in DIALECTS {
        for caller in DIALECTS {
            for stream in [false, true] {
                for before in [Before::Question, Before::ToolResult] {
                    for says in [Says::Nothing, Says::Tokens, Says::Thoughts] {
                        if (before, says) == (Before::Question, Says::Nothing) {
                            continue;
                        }
                        for point in [CommitPoint::FirstToken, CommitPoint::FirstText, CommitPoint::Complete] {
                            let what =
                                format!("{provider} for {caller}, stream {stream}: {before:?} {says:?} {point:?}");
                            let (llm, circuit, calls) = stack(provider, silent(provider, says, stream), stream);
                            for turn in 1..=5 {
                                let request = asked(caller, before).with_stream(stream).with_commit(point);
                                let answer =
                                    llm.clone().oneshot(request).await.unwrap_or_else(|e| panic!("{what}: {e}"));
                                let message =
                                    answer.into_body().collect().await.unwrap_or_else(|e| panic!("{what}: {e}"));
                                assert_eq!(message.text(), "", "{what}");
                                let tokens = if says == Says::Nothing { 0 } else { 3 };
                                assert_eq!(message.usage.map(|usage| usage.output), Some(tokens), "{what}");
                                assert_eq!(calls.load(Relaxed), turn, "{what}");
                            }
                            assert_eq!(circuit(), CircuitState::Closed, "{what}");
                            cells += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cells, 4 * 4 * 2 * 5 * 3);
}

/// A server that fails in silence says neither a word nor a token, and nothing was done before that could be enough:
/// it is asked again, and counts as failed. Where nobody said more, its answer is still to be had from the error.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_in_silence_is_asked_again_and_its_answer_is_kept() {
    for provider in DIALECTS {
        for stream in [false, true] {
            let (llm, circuit, calls) = stack(provider, silent(provider, Says::Nothing, stream), stream);
            let request = || asked(provider, Before::Question).with_stream(stream);
            let error = llm.clone().oneshot(request()).await.expect_err("nothing came");
            assert_eq!((error.kind(), calls.load(Relaxed)), (ErrorKind::EmptyAnswer, 2), "{provider}");
            let kept = LlmResponse::from_failed_answer(error).expect("the provider's own answer");
            assert_eq!((kept.served_by().model, kept.served_by().attempts), (Some("m"), 2), "{provider}");
            match kept.body().wire() {
                Some((dialect, raw)) if !stream => {
                    assert_eq!((dialect, &raw[..]), (provider, silent(provider, Says::Nothing, stream).as_bytes()));
                }
                _ => assert!(stream, "{provider}"),
            }
            let message = kept.into_body().collect().await.expect("whole");
            assert_eq!(message.text(), "");
            let _ = llm.clone().oneshot(request()).await.expect_err("nothing came");
            assert_eq!(circuit(), CircuitState::Open, "{provider}");
        }
    }
}

/// A silent answer without a reason for its end is no answer to give to anybody, whole or streamed.
#[tokio::test(start_paused = true)]
async fn a_silent_answer_that_gives_no_reason_for_its_end_is_kept_for_nobody() {
    for (provider, reason) in
        [(Dialect::Anthropic, "\"end_turn\""), (Dialect::OpenAi, "\"stop\""), (Dialect::Gemini, "\"STOP\"")]
    {
        for stream in [false, true] {
            let body = silent(provider, Says::Nothing, stream);
            assert!(body.contains(reason), "{body}");
            let (llm, _, _) = stack(provider, body.replace(reason, "null"), stream);
            let request = asked(provider, Before::Question).with_stream(stream);
            let error = llm.oneshot(request).await.expect_err("nothing came");
            let error = LlmResponse::from_failed_answer(error).map(drop).expect_err("it is no answer");
            assert!(matches!(error.kind(), ErrorKind::EmptyAnswer | ErrorKind::StreamBroken), "{provider}: {error}");
        }
    }
}
