use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::Gemini;
use crate::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{
        Effort, FinishReason, Image, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role, ServiceTier,
        Thinking, Tool, ToolCall, ToolChoice, ToolResult, Usage,
    },
    http::testing::Scripted,
};

/// Returns the request sent for this chat, and the notes on the response.
async fn encoded(model: &'static str, chat: Chat) -> (Value, Vec<String>) {
    let answer = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#;
    let transport = Scripted::json(answer);
    let leaf = Gemini::new("k").model(model).transport(transport.clone());
    let response = leaf.oneshot(chat.into()).await.expect("a good answer");
    (transport.sent(), response.notes().iter().map(ToString::to_string).collect())
}

async fn answered(body: &str) -> Result<LlmResponse, LlmError> {
    let mut leaf = Gemini::new("k").model("gemini").transport(Scripted::json(body.to_owned()));
    leaf.ready().await?.call(LlmRequest::prompt("hello")).await
}

async fn streamed(chunks: &[&str]) -> Result<Message, LlmError> {
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
    let mut leaf = Gemini::new("k").model("gemini").transport(Scripted::events(text));
    leaf.ready().await?.call(LlmRequest::prompt("hello").with_stream(true)).await?.collect().await
}

fn signed(token: &str) -> Option<Opaque> {
    Some(Opaque { dialect: Dialect::Gemini, token: token.into(), redacted: false })
}

#[tokio::test]
async fn conversation_with_tools_and_pictures_is_written_as_the_api_wants_it() {
    let mut call = ToolCall::new("call_0", "weather", "{\"city\": \"Paris\"}");
    call.opaque = signed("sig");
    let foreign = ToolCall::new("toolu_1", "time", "");
    let thought = Part::Reasoning(Reasoning { text: "hm".into(), opaque: signed("t") });
    let mut failed = ToolResult::new("toolu_1", "no clock");
    failed.is_error = true;
    let picture = Part::Image(Image { media: Media::Base64 { media_type: "image/png".into(), data: "QUJD".into() } });
    let results =
        vec![Part::ToolResult(ToolResult::new("call_0", "{\"sky\":\"rain\"}")), Part::ToolResult(failed), picture];
    let mut chat = Chat::new([
        Message::user("Weather?"),
        Message::new(Role::Assistant, vec![thought, Part::ToolCall(call), Part::ToolCall(foreign)]),
        Message::new(Role::User, results),
        Message::user("And?"),
    ]);
    chat = chat.system("Be brief.").max_tokens(1000).temperature(0.5);
    chat.tools.push(Tool::new("weather", json!({"type": "object"})).description("Of a city"));
    chat.tool_choice = Some(ToolChoice::Named("weather".into()));
    chat.stop = vec!["END".into()];
    chat.thinking = Some(Thinking::Budget(500));
    let (sent, notes) = encoded("gemini-2.5-flash", chat).await;
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [
                {"text": "hm", "thought": true, "thoughtSignature": "t"},
                {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": "sig"},
                {"functionCall": {"name": "time", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"sky": "rain"}}},
                {"functionResponse": {"name": "time", "response": {"error": "no clock"}}},
                {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
                {"text": "And?"},
            ]},
        ],
        "tools": [{"functionDeclarations": [
            {"name": "weather", "description": "Of a city", "parametersJsonSchema": {"type": "object"}},
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        "generationConfig": {
            "temperature": 0.5, "maxOutputTokens": 1000, "stopSequences": ["END"],
            "thinkingConfig": {"thinkingBudget": 500, "includeThoughts": true},
        },
    });
    assert_eq!(sent, expected);
    assert!(notes.is_empty(), "{notes:?}");
}

#[tokio::test]
async fn output_schema_is_asked_for_by_its_fields() {
    let mut chat = Chat::new([Message::user("?")]);
    chat.output = Some(OutputSchema { name: "n".into(), schema: Some(json!({"type": "object"}).into()), strict: true });
    let (sent, notes) = encoded("gemini-2.5-flash", chat).await;
    let expected = json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}});
    assert_eq!((&sent["generationConfig"], notes.len()), (&expected, 0));
}

#[tokio::test]
async fn calls_of_other_models_get_the_documented_stand_in_where_signatures_are_required() {
    let calls = ["f", "g"].map(|name| Part::ToolCall(ToolCall::new(name, name, "{}")));
    let chat = Chat::new([Message::user("?"), Message::new(Role::Assistant, calls.into())]);
    for (model, first) in [("gemini-3-pro", json!("skip_thought_signature_validator")), ("gemini-2.5-pro", Value::Null)]
    {
        let (sent, _) = encoded(model, chat.clone()).await;
        assert_eq!(sent["contents"][1]["parts"][0]["thoughtSignature"], first, "{model}");
        assert_eq!(sent["contents"][1]["parts"][1]["thoughtSignature"], Value::Null, "only the first one has it");
    }
}

#[tokio::test]
async fn web_address_of_a_picture_is_refused_and_a_cloud_one_is_sent() {
    let chat =
        |url: &str| Chat::new([Message::new(Role::User, vec![Part::Image(Image { media: Media::Url(url.into()) })])]);
    let leaf = Gemini::new("k").model("m").transport(Scripted::json("{}"));
    let error = leaf.oneshot(chat("https://a.test/b.png").into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    let (sent, _) = encoded("m", chat("gs://bucket/b.png")).await;
    assert_eq!(sent["contents"][0]["parts"][0], json!({"fileData": {"fileUri": "gs://bucket/b.png"}}));
}

#[tokio::test]
async fn effort_is_a_level_or_a_budget_by_the_models_generation() {
    for (model, expected) in [
        ("gemini-3-flash-preview", json!({"thinkingLevel": "LOW", "includeThoughts": true})),
        ("gemini-2.5-flash", json!({"thinkingBudget": 1024, "includeThoughts": true})),
    ] {
        let mut chat = Chat::new([Message::user("?")]);
        chat.thinking = Some(Thinking::Effort(Effort::Low));
        let (sent, _) = encoded(model, chat).await;
        assert_eq!(sent["generationConfig"]["thinkingConfig"], expected);
    }
}

#[tokio::test]
async fn whole_answer_is_read_with_all_its_parts() {
    let body = r#"{"responseId":"r1","modelVersion":"gemini-1","candidates":[{"content":{"role":"model","parts":[
        {"text":"hm","thought":true},{"text":"hi","thoughtSignature":"s"},{"functionCall":{"name":"f","args":{"a":1.0}}},
        {"functionCall":{"id":"x","name":"g"},"thoughtSignature":"t"},{"inlineData":{"mimeType":"image/png","data":"QUJD"}},
        {"executableCode":{"code":"1"}},{}]},"finishReason":"STOP"}],
        "usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":7,"thoughtsTokenCount":3,
        "totalTokenCount":110}}"#;
    let message = answered(body).await.unwrap().collect().await.unwrap();
    let mut second = ToolCall::new("x", "g", "{}");
    second.opaque = signed("t");
    let expected = [
        Part::Reasoning(Reasoning { text: "hm".into(), opaque: None }),
        Part::Text("hi".into()),
        Part::Reasoning(Reasoning { text: String::new(), opaque: signed("s") }),
        Part::ToolCall(ToolCall::new("call_r1_0", "f", "{\"a\":1.0}")),
        Part::ToolCall(second),
        Part::Image(Image { media: Media::Base64 { media_type: "image/png".into(), data: "QUJD".into() } }),
        Part::Other { dialect: Dialect::Gemini, value: json!({"executableCode": {"code": "1"}}).into() },
    ];
    assert_eq!(message.content, expected);
    assert_eq!(message.finish, Some(FinishReason::ToolUse), "calls finish as STOP");
    let mut usage = Usage::new(100, 10);
    (usage.cache_read, usage.reasoning) = (60, 3);
    assert_eq!(message.usage, Some(usage));
    assert_eq!((message.id.as_deref(), message.model.as_deref()), (Some("r1"), Some("gemini-1")));
}

#[tokio::test]
async fn thoughts_that_are_counted_in_are_not_counted_twice() {
    let body = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],
        "usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":10,"thoughtsTokenCount":3,"totalTokenCount":110}}"#;
    assert_eq!(answered(body).await.unwrap().usage().unwrap().output, 10);
}

#[tokio::test]
async fn list_of_chunks_is_one_answer() {
    let body = r#"[{"candidates":[{"content":{"parts":[{"text":"he"}]}}]},
        {"candidates":[{"content":{"parts":[{"text":"llo"}]},"finishReason":"STOP"}]}]"#;
    assert_eq!(answered(body).await.unwrap().text().await.unwrap(), "hello");
}

#[tokio::test]
async fn failures_inside_a_200_are_errors() {
    for (body, kind) in [
        (r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, ErrorKind::ContentPolicy),
        (r#"{"candidates":[{"finishReason":"SAFETY"}]}"#, ErrorKind::ContentPolicy),
        (r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#, ErrorKind::Malformed),
        (r#"{"candidates":[{"finishReason":"OTHER"}]}"#, ErrorKind::EmptyAnswer),
        (r#"{"usageMetadata":{}}"#, ErrorKind::EmptyAnswer),
        (r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"overloaded"}}"#, ErrorKind::Overloaded),
        (r#"{"candidates":"#, ErrorKind::Malformed),
    ] {
        assert_eq!(answered(body).await.unwrap_err().kind(), kind, "{body}");
    }
    let cut = r#"{"candidates":[{"content":{"parts":[{"text":"half"}]},"finishReason":"SAFETY"}]}"#;
    let message = answered(cut).await.unwrap().collect().await.unwrap();
    assert_eq!((message.text().as_str(), message.finish), ("half", Some(FinishReason::Filtered)));
}

#[tokio::test]
async fn what_a_failed_answer_has_cost_is_known_whole_and_streamed() {
    let used = r#""usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":7}"#;
    for body in [
        format!(r#"{{"promptFeedback":{{"blockReason":"SAFETY"}},{used}}}"#),
        format!(r#"{{"candidates":[{{"finishReason":"SAFETY"}}],{used}}}"#),
        format!(r#"{{"candidates":[{{"finishReason":"MALFORMED_FUNCTION_CALL"}}],{used}}}"#),
        format!(r#"{{"candidates":[{{"finishReason":"OTHER"}}],{used}}}"#),
        format!("{{{used}}}"),
    ] {
        assert_eq!(answered(&body).await.unwrap_err().usage(), Some(Usage::new(5, 2)), "{body}");
        assert_eq!(streamed(&[&body]).await.unwrap_err().usage(), Some(Usage::new(5, 2)), "streamed: {body}");
    }
}

#[tokio::test]
async fn a_failed_answer_has_its_headers_service_tier_whole_and_streamed() {
    let body = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":5}}"#;
    for (reply, stream) in [
        (Scripted::json(body), false),
        (
            Scripted::events(format!(
                "data: {body}

"
            )),
            true,
        ),
    ] {
        let mut leaf = Gemini::new("k").model("gemini").transport(reply.header("x-gemini-service-tier", "flex"));
        let request = LlmRequest::prompt("hello").with_stream(stream);
        let answering = async { leaf.ready().await?.call(request).await?.collect().await };
        let usage = answering.await.unwrap_err().usage().unwrap();
        assert_eq!(usage.service_tier, ServiceTier::Flex, "stream {stream}");
    }
}

/// A server that lies about a failed answer closes no cap with it.
#[tokio::test]
async fn what_a_failed_answer_says_that_it_used_has_bounds() {
    let used = r#""usageMetadata":{"promptTokenCount":999999999999,"candidatesTokenCount":999999999999}"#;
    for body in [format!(r#"{{"promptFeedback":{{"blockReason":"SAFETY"}},{used}}}"#), format!("{{{used}}}")] {
        for error in [answered(&body).await.unwrap_err(), streamed(&[&body]).await.unwrap_err()] {
            let usage = error.usage().unwrap();
            assert!(usage.input < 100_000 && usage.output < 10_000, "{body}: {usage:?}");
        }
    }
}

#[tokio::test]
async fn stream_ends_with_its_body_after_a_reason_for_stopping() {
    let text = r#"{"candidates":[{"content":{"parts":[{"text":"he"}]}}]}"#;
    let end = r#"{"candidates":[{"content":{"parts":[{"text":"llo"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1}}"#;
    let late = r#"{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2}}"#;
    let message = streamed(&[text, end, late]).await.unwrap();
    assert_eq!((message.text().as_str(), message.finish), ("hello", Some(FinishReason::Stop)));
    assert_eq!(message.usage, Some(Usage::new(5, 2)), "the last count is the one");
    assert_eq!(streamed(&[text]).await.unwrap_err().kind(), ErrorKind::StreamBroken);
    assert_eq!(streamed(&[late]).await.unwrap_err().kind(), ErrorKind::EmptyAnswer);
}

#[tokio::test]
async fn texts_thoughts_and_calls_keep_their_order() {
    let part = |part: &str| format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{part}]}}}}]}}");
    let chunks = [
        part(r#"{"text":"a"},{"text":"b"}"#),
        part(r#"{"functionCall":{"name":"f","args":{}}}"#),
        part(r#"{"text":"c"}"#),
        part(r#"{"text":"d","thought":true}"#),
        part(r#"{"text":"e"}"#),
        r#"{"candidates":[{"finishReason":"STOP"}]}"#.to_owned(),
    ];
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let expected = [
        Part::Text("ab".into()),
        Part::ToolCall(ToolCall::new("call_0", "f", "{}")),
        Part::Text("c".into()),
        Part::Reasoning(Reasoning { text: "d".into(), opaque: None }),
        Part::Text("e".into()),
    ];
    assert_eq!(streamed(&chunks).await.unwrap().content, expected);
}

/// The chunks of Google's documentation of streamed arguments, around these parts.
async fn pieced(parts: &[&str], reason: &str) -> Result<Message, LlmError> {
    let mut chunks: Vec<String> = parts
        .iter()
        .map(|part| format!(r#"{{"candidates":[{{"content":{{"role":"model","parts":[{part}]}}}}]}}"#))
        .collect();
    chunks.push(format!(r#"{{"candidates":[{{"finishReason":"{reason}"}}]}}"#));
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    streamed(&chunks).await
}

#[tokio::test]
async fn arguments_in_pieces_are_one_call() {
    let begin = r#"{"functionCall":{"name":"weather","willContinue":true},"thoughtSignature":"s"}"#;
    let city = r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.city","stringValue":"New ","willContinue":true}],"willContinue":true}}"#;
    let more = r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.city","stringValue":"Delhi"}],"willContinue":true}}"#;
    let days = r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.days","numberValue":3}],"willContinue":true}}"#;
    let end = r#"{"functionCall":{}}"#;
    let message = pieced(&[begin, city, more, days, end], "STOP").await.unwrap();
    let mut call = ToolCall::new("call_0", "weather", r#"{"city":"New Delhi","days":3}"#);
    call.opaque = signed("s");
    assert_eq!(message.content, [Part::ToolCall(call.clone())]);
    assert_eq!(message.finish, Some(FinishReason::ToolUse));
    // Two such calls, a call that takes nothing, and one that came whole.
    let whole = r#"{"functionCall":{"name":"g","args":{"a":1}}}"#;
    let at_once = r#"{"functionCall":{"name":"h","partialArgs":[{"jsonPath":"$.x[0]","boolValue":true}]}}"#;
    let message = pieced(&[begin, city, end, begin, end, whole, at_once], "STOP").await.unwrap();
    let called: Vec<_> = message.tool_calls().map(|call| (&*call.name, &*call.arguments)).collect();
    let expected =
        [("weather", r#"{"city":"New "}"#), ("weather", "{}"), ("g", r#"{"a":1}"#), ("h", r#"{"x":[true]}"#)];
    assert_eq!(called, expected);
    // Without another end, the reason for stopping ends the call. A call that was cut off is not whole.
    let message = pieced(&[begin, city, more], "STOP").await.unwrap();
    assert_eq!(message.tool_calls().next().unwrap().arguments, r#"{"city":"New Delhi"}"#);
    let message = pieced(&[begin, city], "MAX_TOKENS").await.unwrap();
    assert_eq!(message.tool_calls().next().unwrap().arguments, r#"{"city":"New "#);
    let again = [begin, days, days, end];
    assert_eq!(pieced(&again, "STOP").await.unwrap_err().kind(), ErrorKind::StreamBroken);
}

#[tokio::test]
async fn a_malformed_call_after_thoughts_is_no_answer() {
    let thought = r#"{"text":"hm","thought":true}"#;
    let error = pieced(&[thought], "MALFORMED_FUNCTION_CALL").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Malformed, Some("MALFORMED_FUNCTION_CALL")));
    let said = pieced(&[thought, r#"{"text":"yes"}"#], "MALFORMED_FUNCTION_CALL").await.unwrap();
    assert_eq!(said.text(), "yes");
    let body = r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]},"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#;
    assert_eq!(answered(body).await.unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test(start_paused = true)]
async fn delay_is_read_from_the_body() {
    let body = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}});
    for text in [body.to_string(), format!("[{body}]")] {
        let leaf = Gemini::new("k").model("m").transport(Scripted::new(429, "application/json", text));
        let error = leaf.oneshot(LlmRequest::prompt("?")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(std::time::Duration::from_millis(34_500)));
        assert_eq!(error.code(), Some("RESOURCE_EXHAUSTED"));
    }
}

#[test]
fn callers_request_becomes_a_chat() {
    let body = json!({
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"parts": [{"text": "?"}, {"inline_data": {"mime_type": "application/pdf", "data": "QUJD"}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "rain"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"type": {"type": "STRING"}}}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 5, "stopSequences": ["END"], "responseMimeType": "application/json",
            "thinkingConfig": {"thinkingBudget": -1}},
    });
    let chat = crate::Wire::new(Dialect::Gemini, body.to_string()).unwrap().chat().unwrap().clone();
    assert_eq!(chat.system.as_deref(), Some("Be brief."));
    assert!(matches!(&chat.messages[0].content[1], Part::Document(_)));
    let mut call = ToolCall::new("call_0", "f", "{\"a\":1}");
    call.opaque = signed("s");
    assert_eq!(chat.messages[1].content, [Part::ToolCall(call)]);
    let mut result = ToolResult::new("call_0", "rain");
    result.name = Some("f".into());
    assert_eq!(chat.messages[2].content, [Part::ToolResult(result)]);
    assert_eq!(chat.tools[0].parameters, json!({"type": "object", "properties": {"type": {"type": "string"}}}));
    assert_eq!((chat.tool_choice, chat.thinking), (Some(ToolChoice::Required), Some(Thinking::Auto)));
    assert_eq!((chat.max_tokens, chat.output.map(|output| output.schema)), (Some(5), Some(None)));
}

#[tokio::test(start_paused = true)]
async fn short_delay_of_a_daily_quota_is_not_believed() {
    let body = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}});
    let leaf = Gemini::new("k").model("m").transport(Scripted::new(429, "application/json", body.to_string()));
    let error = leaf.oneshot(LlmRequest::prompt("?")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::QuotaExhausted, None));
}

#[tokio::test]
async fn a_result_without_a_response_is_translated_to_itself() {
    for result in [
        json!({"functionResponse": {"name": "f"}}),
        json!({"functionResponse": {"name": "f", "id": "call_1"}}),
        json!({"functionResponse": {"name": "f", "response": {}}}),
    ] {
        let contents = json!([
            {"role": "user", "parts": [{"text": "?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [result]},
        ]);
        let body = json!({"contents": contents});
        let chat = crate::Wire::new(Dialect::Gemini, body.to_string()).unwrap().chat().unwrap().clone();
        assert_eq!(encoded("gemini-2.5-flash", chat).await.0["contents"], contents);
    }
}
