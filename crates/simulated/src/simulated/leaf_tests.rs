//! The in-process leaf, on paused time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::*;
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{Chat, FinishReason, Message, OutputSchema, Part, Role, Tool, ToolCall, ToolChoice, ToolResult},
};

const SECOND: Duration = Duration::from_secs(1);

fn provider() -> Simulated {
    Simulated::new("sonnet").reply("Hello from afar")
}

fn prompt() -> LlmRequest {
    LlmRequest::prompt("Hi there")
}

async fn ask(provider: &Simulated, stream: bool) -> Result<LlmResponse, LlmError> {
    provider.clone().oneshot(prompt().with_stream(stream)).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_who_gave_it_and_what_it_took() {
    let response = ask(&provider(), false).await.unwrap();
    assert_eq!(response.served_by().provider, Some("simulated"));
    assert_eq!(response.served_by().model, Some("sonnet"));
    let usage = response.usage().unwrap();
    assert_eq!((usage.input, usage.output), (2, 3));
    let message = response.collect().await.unwrap();
    assert_eq!((message.text().as_str(), message.finish), ("Hello from afar", Some(FinishReason::Stop)));
}

#[tokio::test(start_paused = true)]
async fn the_first_token_comes_after_the_latency_and_the_rest_at_the_pace() {
    let provider = provider().latency(3 * SECOND).pace(SECOND);
    let start = Instant::now();
    let response = ask(&provider, true).await.unwrap();
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert_eq!(response.text().await.unwrap(), "Hello from afar");
    assert_eq!(start.elapsed(), 6 * SECOND);

    let start = Instant::now();
    ask(&provider, false).await.unwrap();
    assert_eq!(start.elapsed(), 6 * SECOND);
    assert_eq!(provider.handle().stats().answered, 2);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_stream_ends_with_usage_reason_and_mark() {
    let mut body = ask(&provider(), true).await.unwrap().into_body();
    let mut events = Vec::new();
    while let Some(frame) = body.frame().await {
        events.extend_from_slice(frame.unwrap().events());
    }
    assert!(matches!(&events[0], StreamEvent::Start { model: Some(model), .. } if model == "sonnet"));
    let end = &events[events.len() - 3..];
    let [StreamEvent::Usage(usage), StreamEvent::Finish(FinishReason::Stop), StreamEvent::End] = end else {
        panic!("{end:?}");
    };
    assert_eq!(usage.output, 3);
}

#[tokio::test(start_paused = true)]
async fn faults_are_the_errors_that_a_real_leaf_gives() {
    let wait = Duration::from_millis(1500);
    for (fault, kind, status) in [
        (Fault::ServerError, ErrorKind::Server, 500),
        (Fault::BadGateway, ErrorKind::Server, 502),
        (Fault::Unavailable, ErrorKind::Overloaded, 503),
        (Fault::Overloaded, ErrorKind::Overloaded, 529),
        (Fault::RateLimited { retry_after: Some(wait) }, ErrorKind::RateLimited, 429),
        (Fault::ComeBackLater, ErrorKind::Overloaded, 429),
        (Fault::InsufficientQuota, ErrorKind::QuotaExhausted, 429),
        (Fault::Unauthorized, ErrorKind::Auth, 401),
        (Fault::BadRequest, ErrorKind::InvalidRequest, 400),
        (Fault::ContextLength, ErrorKind::ContextLength, 400),
        (Fault::Status(530), ErrorKind::Server, 530),
        (Fault::Status(302), ErrorKind::Malformed, 302),
        (Fault::Status(409), ErrorKind::Server, 409),
        (Fault::Status(410), ErrorKind::NotFound, 410),
        (Fault::Status(429), ErrorKind::Overloaded, 429),
        (Fault::Status(498), ErrorKind::Overloaded, 498),
        (Fault::Status(524), ErrorKind::Timeout, 524),
        (Fault::HtmlPage, ErrorKind::Malformed, 200),
        (Fault::Refused, ErrorKind::Connect, 0),
    ] {
        let provider = provider().fault_mix(fault.clone());
        for stream in [false, true] {
            let error = ask(&provider, stream).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault}");
            assert_eq!(error.status().map_or(0, |status| status.as_u16()), status, "{fault}");
            assert_eq!((error.provider(), error.model()), (Some("simulated"), Some("sonnet")));
            let asked = (kind == ErrorKind::RateLimited).then_some(wait);
            assert_eq!(error.retry_after(), asked, "{fault}");
        }
        assert_eq!(provider.handle().stats().failed_by[fault.name()], 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_its_first_token_is_a_service_error() {
    for (fault, kind) in [
        (Fault::CutAfter(0), ErrorKind::StreamBroken),
        (Fault::TruncatedAfter(0), ErrorKind::StreamBroken),
        (Fault::ErrorEventAfter(0), ErrorKind::Overloaded),
        (Fault::Empty, ErrorKind::EmptyAnswer),
    ] {
        let provider = provider().fault_mix(fault.clone());
        let error = ask(&provider, true).await.unwrap_err();
        assert_eq!((error.kind(), error.provider()), (kind, Some("simulated")), "{fault}");
        assert_eq!(provider.handle().stats().failed_by[fault.name()], 1);
        assert!(ask(&provider, false).await.is_err());
        assert_eq!(provider.handle().stats().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_later_breaks_in_its_body() {
    for (fault, kind) in [
        (Fault::CutAfter(2), ErrorKind::StreamBroken),
        (Fault::TruncatedAfter(99), ErrorKind::StreamBroken),
        (Fault::ErrorEventAfter(1), ErrorKind::StreamBroken),
    ] {
        let provider = provider().fault_mix(fault.clone());
        let response = ask(&provider, true).await.unwrap();
        let error = response.text().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault}");
        assert_eq!(provider.handle().stats().failed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_commit_point_at_the_end_a_cut_is_a_service_error() {
    let provider = provider().commit(CommitPoint::Complete).fault_mix(Fault::CutAfter(2));
    assert_eq!(ask(&provider, true).await.unwrap_err().kind(), ErrorKind::StreamBroken);
}

#[tokio::test(start_paused = true)]
async fn silence_lasts_until_the_caller_leaves() {
    let faults = [Fault::Hang, Fault::StallAfter(0), Fault::KeepAlivesOnly { every: SECOND }];
    for fault in faults {
        for stream in [false, true] {
            let provider = provider().fault_mix(fault.clone());
            assert!(timeout(3600 * SECOND, ask(&provider, stream)).await.is_err(), "{fault}");
            let stats = provider.handle().stats();
            assert_eq!((stats.cancelled, stats.in_flight), (1, 0), "{fault}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_comes_after_its_tokens() {
    let provider = provider().fault_mix(Fault::StallAfter(2));
    let mut body = ask(&provider, true).await.unwrap().into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    assert!(timeout(3600 * SECOND, body.frame()).await.is_err());
    assert_eq!(provider.handle().stats().in_flight, 1);
    drop(body);
    assert_eq!(provider.handle().stats().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_is_in_flight_no_more() {
    let provider = provider().latency(SECOND).pace(SECOND);
    let handle = provider.handle();
    drop(provider.clone().oneshot(prompt()));
    assert_eq!(handle.stats().calls, 0);
    for milliseconds in [1, 500, 1_001, 1_500, 2_500, 3_500] {
        let call = async {
            let response = ask(&provider, true).await.unwrap();
            assert_eq!(handle.stats().in_flight, 1);
            response.text().await
        };
        assert!(timeout(Duration::from_millis(milliseconds), call).await.is_err());
        assert_eq!(handle.stats().in_flight, 0);
    }
    assert_eq!(handle.stats().cancelled, 6);
}

#[tokio::test(start_paused = true)]
async fn many_calls_run_side_by_side() {
    let provider = provider().latency(SECOND);
    let start = Instant::now();
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(provider.clone().oneshot(prompt()))).collect();
    sleep(SECOND / 2).await;
    assert_eq!(provider.handle().stats().in_flight, 50);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_its_own_fault() {
    let provider = provider().fault_mix(Fault::ServerError);
    let own = prompt().with_extension(Fault::Overloaded);
    assert_eq!(provider.clone().oneshot(own).await.unwrap_err().kind(), ErrorKind::Overloaded);
    let start = Instant::now();
    let slow = prompt().with_extension(Fault::Slow(SECOND));
    assert!(provider.clone().oneshot(slow).await.is_ok());
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(provider.oneshot(prompt()).await.unwrap_err().kind(), ErrorKind::Server);
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_called_and_its_result_is_answered() {
    let provider = provider().call_tools(serde_json::json!({ "city": "東京" }));
    let mut chat = Chat::new([Message::user("Weather?")]).tool(Tool::new("weather", serde_json::json!({})));
    for stream in [false, true] {
        let request = LlmRequest::from(chat.clone().stream(stream));
        let message = provider.clone().oneshot(request).await.unwrap().collect().await.unwrap();
        let call = message.tool_calls().next().unwrap();
        assert_eq!((call.name.as_str(), call.arguments.as_str()), ("weather", r#"{"city":"東京"}"#));
        assert_eq!(message.finish, Some(FinishReason::ToolUse));
    }
    let other =
        serde_json::json!({"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]});
    let other = Chat::new([Message::user("How long?")]).tool(Tool::new("trip", other));
    let message = provider.clone().oneshot(other.into()).await.unwrap().collect().await.unwrap();
    assert_eq!(message.tool_calls().next().unwrap().arguments, r#"{"days":1}"#, "it takes no city");
    let result = Part::ToolResult(ToolResult::new("call", "sunny"));
    chat.messages.push(Message::new(Role::User, vec![result]));
    let message = provider.clone().oneshot(chat.into()).await.unwrap().collect().await.unwrap();
    assert_eq!(message.text(), "Hello from afar");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_caller_cut_short_says_so() {
    let chat = Chat::new([Message::user("Hi")]).max_tokens(2);
    let message = provider().oneshot(chat.into()).await.unwrap().collect().await.unwrap();
    assert_eq!((message.text().as_str(), message.finish), ("Hello from ", Some(FinishReason::Length)));
}

fn weather() -> Tool {
    let city = serde_json::json!({"type": "string"});
    Tool::new("weather", serde_json::json!({"type": "object", "properties": {"city": city}, "required": ["city"]}))
}

async fn whole_and_streamed(provider: &Simulated, chat: &Chat) -> Message {
    let ask = |stream| provider.clone().oneshot(LlmRequest::from(chat.clone().stream(stream)));
    let whole = ask(false).await.unwrap().collect().await.unwrap();
    let streamed = ask(true).await.unwrap().collect().await.unwrap();
    assert_eq!((whole.text(), &whole.finish), (streamed.text(), &streamed.finish));
    let calls = |message: &Message| -> Vec<_> {
        message.tool_calls().map(|call| (call.name.clone(), call.arguments.clone())).collect()
    };
    assert_eq!(calls(&whole), calls(&streamed));
    whole
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_must_be_called_is_called() {
    let tools = [
        weather(),
        Tool::new("final_answer", serde_json::json!({"type": "object", "properties": {"days": {"type": "integer"}}})),
    ];
    let mut chat = Chat::new([Message::user("Weather?")]).tool(tools[0].clone()).tool(tools[1].clone());
    let message = whole_and_streamed(&provider(), &chat).await;
    assert_eq!((message.tool_calls().count(), message.text().as_str()), (0, "Hello from afar"), "it need not");

    chat.tool_choice = Some(ToolChoice::Required);
    let first = whole_and_streamed(&provider(), &chat).await;
    let call = first.tool_calls().next().unwrap().clone();
    assert_eq!((call.name.as_str(), call.arguments.as_str()), ("weather", r#"{"city":"Hello from afar"}"#));
    assert_eq!(first.finish, Some(FinishReason::ToolUse));
    // A caller that requires a call each time reaches the last tool, and stays there.
    for _ in 0..2 {
        chat.messages.push(Message::new(Role::Assistant, vec![Part::ToolCall(ToolCall::new("a", &call.name, "{}"))]));
        chat.messages.push(Message::new(Role::User, vec![Part::ToolResult(ToolResult::new("a", "sunny"))]));
        let next = whole_and_streamed(&provider(), &chat).await;
        let call = next.tool_calls().next().unwrap();
        assert_eq!((call.name.as_str(), call.arguments.as_str()), ("final_answer", r#"{"days":1}"#));
    }
    chat.tool_choice = Some(ToolChoice::Named("weather".into()));
    let oslo = serde_json::json!({"city": "Oslo"});
    let named = whole_and_streamed(&provider().call_tools(oslo.clone()), &chat).await;
    assert_eq!(named.tool_calls().next().unwrap().arguments, oslo.to_string());
    chat.tool_choice = Some(ToolChoice::Named("final_answer".into()));
    let named = whole_and_streamed(&provider().call_tools(oslo), &chat).await;
    assert_eq!(named.tool_calls().next().unwrap().arguments, r#"{"days":1}"#, "another tool's are not for it");
    chat.tool_choice = Some(ToolChoice::None);
    let none = whole_and_streamed(&provider().call_tools(true.into()), &chat).await;
    assert_eq!(none.tool_calls().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_the_shape_that_is_asked_for() {
    let schema = serde_json::json!({
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    });
    let mut chat = Chat::new([Message::user("Weather?")]);
    chat.output = Some(OutputSchema { name: "a".into(), schema: Some(schema.into()), strict: true });
    let message = whole_and_streamed(&provider(), &chat).await;
    assert_eq!(message.text(), r#"{"city":"Hello from afar","days":3}"#);
    assert_eq!(message.finish, Some(FinishReason::Stop));
    let cut = whole_and_streamed(&provider(), &chat.clone().max_tokens(2)).await;
    assert_eq!((cut.text().as_str(), cut.finish), (r#"{"city":"Hello f"#, Some(FinishReason::Length)));
    let own = whole_and_streamed(&provider().reply("{\"city\": \"Oslo\", \"days\": 4}"), &chat).await;
    assert_eq!(own.text(), "{\"city\": \"Oslo\", \"days\": 4}", "what was written as JSON is said as it is");
    chat.output = Some(OutputSchema { name: "a".into(), schema: None, strict: false });
    assert_eq!(whole_and_streamed(&provider(), &chat).await.text(), r#"{"answer":"Hello from afar"}"#);
}
