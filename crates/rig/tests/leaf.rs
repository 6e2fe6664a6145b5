//! A model of rig as a tier, under rig's own OpenAI and Anthropic wires.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use rig_core::{
    DynModel,
    operation::Completion,
    providers::{anthropic::AnthropicConfig, openai::OpenAIConfig},
};
use rig_reqwest::ReqwestClient;
use serde_json::json;
use steadfast::{
    BoxLlmService, Chat, Dialect, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{
        Document, Effort, FinishReason, Image, Media, Message, OutputSchema, Part, Reasoning, Role, Thinking, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    provider_fn,
    providers::simulated::{Fault, Simulated},
};
use steadfast_rig::{GatewayClient, http_client, leaf};
use steadfast_simulator::SimulatedServer;
use tower::{ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);
const REPLY: &str = "one two three four five six";

fn openai(http: GatewayClient) -> DynModel<Completion> {
    OpenAIConfig::new("").with_base_url("http://127.0.0.1:1/v1").connect(http).chat("gpt-4o").erase()
}

/// Leaves around rig's models of both protocols, whose provider is in process.
fn leaves(provider: Simulated) -> [BoxLlmService; 2] {
    let http = http_client(provider);
    let claude = AnthropicConfig::new("").with_base_url("http://127.0.0.1:1").connect(http.clone());
    [leaf(openai(http)), leaf(claude.completion("claude-sonnet-4-5"))]
}

fn hello(is_stream: bool) -> LlmRequest {
    LlmRequest::prompt("hello").with_stream(is_stream)
}

#[tokio::test(start_paused = true)]
async fn whole_answers_and_streams_have_text_usage_and_end() {
    for (leaf, model) in leaves(Simulated::new("sonnet").reply(REPLY)).iter().zip(["gpt-4o", "claude-sonnet-4-5"]) {
        for is_stream in [false, true] {
            let answer = leaf.clone().oneshot(hello(is_stream)).await.unwrap();
            assert_eq!(answer.served_by().model, Some(model));
            assert_eq!(answer.body().arrives_in_frames(), is_stream);
            let message = answer.collect().await.unwrap();
            assert_eq!((&*message.text(), message.finish), (REPLY, Some(FinishReason::Stop)));
            assert_eq!(message.usage.map(|usage| usage.output), Some(6), "one a word; streamed: {is_stream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tools_call_and_its_result_go_both_ways() {
    let arguments = json!({"city": "Rome"});
    for leaf in leaves(Simulated::new("sonnet").reply(REPLY).call_tools(arguments.clone())) {
        for is_stream in [false, true] {
            let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
            let mut chat = Chat::new([Message::user("How is the weather?")]).stream(is_stream);
            chat = chat.tool(Tool::new("air_pressure", schema).description("Measures the air pressure"));
            let turn = leaf.clone().oneshot(chat.clone().into()).await.unwrap().collect().await.unwrap();
            assert_eq!(turn.finish, Some(FinishReason::ToolUse));
            let call = turn.tool_calls().next().unwrap().clone();
            assert_eq!(call.name, "air_pressure");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&call.arguments).unwrap(), arguments);
            // The simulated provider refuses a result without its call.
            chat.messages.push(turn);
            chat.messages.push(Message::new(Role::User, vec![Part::ToolResult(ToolResult::new(call.id, "990 hPa"))]));
            assert_eq!(leaf.clone().oneshot(chat.into()).await.unwrap().text().await.unwrap(), REPLY);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_calls_arguments_arrive_as_they_are_written() {
    let provider = Simulated::new("gpt-4o").call_tools(json!({"city": "Rome"})).pace(SECOND);
    let [leaf, _] = leaves(provider);
    let chat = Chat::new([Message::user("hello")]).stream(true).tool(Tool::new("look", json!({"type": "object"})));
    let mut body = leaf.oneshot(chat.into()).await.unwrap().into_body();
    let mut events = Vec::new();
    while let Some(frame) = body.frame().await {
        events.extend(frame.unwrap().events().to_vec());
    }
    let at = |wanted: fn(&StreamEvent) -> bool| events.iter().position(wanted).unwrap();
    let call = at(|event| matches!(event, StreamEvent::ToolCall { .. }));
    let arguments = at(|event| matches!(event, StreamEvent::Arguments { .. }));
    assert!(call < arguments, "{events:?}");
    assert_eq!(events.last(), Some(&StreamEvent::End));
}

/// A leaf over rig's own wire, and the conversations that steadfast reads from the bodies that this wire writes.
fn recorded(model: fn(GatewayClient) -> DynModel<Completion>) -> (BoxLlmService, Arc<Mutex<Vec<Chat>>>) {
    let chats = Arc::new(Mutex::new(Vec::new()));
    let kept = chats.clone();
    let provider = provider_fn(move |request: LlmRequest| {
        kept.lock().unwrap().push(request.chat().unwrap().clone());
        ready(Ok::<_, LlmError>(LlmResponse::from_text("ok")))
    });
    (leaf(model(http_client(provider))), chats)
}

#[tokio::test]
async fn a_whole_conversation_arrives() {
    let base64 =
        |media_type: &str| Media::Base64 { media_type: media_type.to_owned(), data: "iVBORw0KGgo=".to_owned() };
    let conversation = |has_errors, document: Option<&str>| {
        let mut result = ToolResult::new("call_1", "clouds");
        result.is_error = has_errors;
        let thought = Part::Reasoning(Reasoning { text: "Clouds?".to_owned(), opaque: None });
        let question = vec![
            Part::Text("How is the weather?".to_owned()),
            Part::Image(Image { media: base64("image/png") }),
            Part::Image(Image { media: Media::Url("https://example.org/now.png".to_owned()) }),
            Part::Document(Document { media: base64("application/pdf"), name: document.map(str::to_owned) }),
        ];
        let call = Part::ToolCall(ToolCall::new("call_1", "look", r#"{"at":"Rome"}"#));
        let mut chat = Chat::new([
            Message::new(Role::User, question),
            Message::new(Role::Assistant, vec![thought, call]),
            Message::new(Role::User, vec![Part::ToolResult(result)]),
            Message::assistant("It rains."),
            Message::user("And now?"),
        ]);
        chat.system = Some("Be brief.".to_owned());
        let schema = json!({"type": "object", "properties": {"at": {"type": "string"}}});
        chat.tool(Tool::new("look", schema).description("Looks at the sky"))
    };
    let anthropic = |http| {
        let config = AnthropicConfig::new("").with_base_url("http://127.0.0.1:1");
        config.connect(http).completion("claude-sonnet-4-5").erase()
    };
    // OpenAI's API has no mark for a tool's error, and needs a name for a document: rig has its own.
    for (model, has_errors, document) in
        [(openai as fn(GatewayClient) -> _, false, Some("document.pdf")), (anthropic, true, None)]
    {
        let (leaf, chats) = recorded(model);
        leaf.oneshot(conversation(true, Some("almanac")).into()).await.unwrap();
        let arrived = chats.lock().unwrap().remove(0);
        let mut expected = conversation(has_errors, document);
        expected.messages[1].content.remove(0);
        let parts = |chat: &Chat| -> Vec<(Role, Vec<Part>)> {
            let is_neutral = |part: &&Part| !matches!(part, Part::Extra { .. });
            let parts = |turn: &Message| (turn.role, turn.content.iter().filter(is_neutral).cloned().collect());
            chat.messages.iter().map(parts).collect()
        };
        assert_eq!(serde_json::to_value(parts(&arrived)).unwrap(), serde_json::to_value(parts(&expected)).unwrap());
        assert_eq!(arrived.system, expected.system);
        let (tool, sent) = (&arrived.tools[0], &expected.tools[0]);
        assert_eq!(
            (&tool.name, &tool.description, &tool.parameters),
            (&sent.name, &sent.description, &sent.parameters)
        );
    }
}

#[tokio::test]
async fn the_settings_arrive() {
    let (leaf, chats) = recorded(openai);
    let schema = json!({"type": "object", "properties": {}});
    let mut chat = Chat::new([Message::user("hello")]).tool(Tool::new("look", schema.clone()));
    chat.model = Some("another".to_owned());
    chat.tool_choice = Some(ToolChoice::Named("look".to_owned()));
    chat.parallel_tool_calls = Some(false);
    chat.temperature = Some(0.5);
    chat.max_tokens = Some(300);
    chat.top_p = Some(0.9);
    chat.stop = vec!["END".to_owned()];
    chat.thinking = Some(Thinking::Effort(Effort::High));
    leaf.clone().oneshot(chat.clone().into()).await.unwrap();
    let arrived = chats.lock().unwrap().remove(0);
    assert_eq!(arrived.model.as_deref(), Some("gpt-4o"), "the leaf's own model");
    assert_eq!((&arrived.tool_choice, arrived.parallel_tool_calls), (&chat.tool_choice, chat.parallel_tool_calls));
    assert_eq!((arrived.temperature, arrived.max_tokens), (chat.temperature, chat.max_tokens));
    assert_eq!((arrived.top_p, &arrived.stop), (chat.top_p, &chat.stop));
    // rig knows that gpt-4o does not reason, and would refuse the request otherwise.
    assert_eq!(arrived.thinking, None);

    let output = OutputSchema { name: "forecast".to_owned(), schema: Some(schema.into()), strict: true };
    let mut shaped = Chat::new([Message::user("hello")]);
    shaped.output = Some(output.clone());
    leaf.oneshot(shaped.clone().into()).await.unwrap();
    let arrived = chats.lock().unwrap().remove(0).output.unwrap();
    assert_eq!((arrived.name, arrived.strict), (output.name, true));
    // rig sends DeepSeek no schema.
    let (deepseek, chats) = recorded(|http| {
        let config = OpenAIConfig::with_key(&rig_core::providers::openai::wire::DEEPSEEK, "");
        config.connect(http).chat("deepseek-chat").erase()
    });
    assert_eq!(deepseek.oneshot(shaped.into()).await.unwrap_err().kind(), ErrorKind::UnsupportedFeature);
    assert!(chats.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_its_kind_and_is_asked_once() {
    for (fault, kind, status) in [
        (Fault::RateLimited { retry_after: Some(SECOND) }, ErrorKind::RateLimited, 429),
        (Fault::InsufficientQuota, ErrorKind::QuotaExhausted, 429),
        (Fault::Unauthorized, ErrorKind::Auth, 401),
        (Fault::ContextLength, ErrorKind::ContextLength, 400),
        // The status that OpenAI's API has for it.
        (Fault::Overloaded, ErrorKind::Overloaded, 503),
    ] {
        let provider = Simulated::new("gpt-4o");
        let handle = provider.handle();
        handle.fail(fault);
        let [leaf, _] = leaves(provider);
        for (calls, is_stream) in [(1, false), (2, true)] {
            let error = leaf.clone().oneshot(hello(is_stream)).await.unwrap_err();
            assert_eq!((error.kind(), error.status().map(|status| status.as_u16())), (kind, Some(status)), "{error}");
            assert_eq!((error.provider(), error.model()), (Some("openai"), Some("gpt-4o")));
            assert_eq!(error.retry_after().is_some(), kind == ErrorKind::RateLimited);
            assert_eq!(handle.stats().calls, calls);
        }
    }
}

#[tokio::test]
async fn a_cut_stream_is_broken_and_one_without_a_token_fails_over() {
    let server = SimulatedServer::start(Simulated::new("gpt-4o").reply(REPLY)).await.unwrap();
    let openai = OpenAIConfig::new("sk-simulated").with_base_url(format!("{}/v1", server.base_url()));
    let anthropic = AnthropicConfig::new("sk-simulated").with_base_url(server.base_url());
    for model in [
        openai.connect(ReqwestClient::default()).chat("gpt-4o").erase(),
        anthropic.connect(ReqwestClient::default()).completion("claude-sonnet-4-5").erase(),
    ] {
        // An answer with its finish reason and without `[DONE]` is whole to rig.
        for fault in [Fault::CutAfter(3), Fault::TruncatedAfter(3)] {
            server.handle().fail(fault.clone());
            let mut body = leaf(model.clone()).oneshot(hello(true)).await.unwrap().into_body();
            let mut words = String::new();
            let error = loop {
                match body.frame().await.expect("neither an end nor an error") {
                    Ok(frame) => {
                        for event in frame.events() {
                            assert_ne!(*event, StreamEvent::End, "{fault:?}: {words:?} passed for a whole answer");
                            if let StreamEvent::Text { text, .. } = event {
                                words.push_str(text);
                            }
                        }
                    }
                    Err(error) => break error,
                }
            };
            assert!(!words.is_empty());
            assert_eq!(error.kind(), ErrorKind::StreamBroken, "{fault:?}: {error}");
        }
        server.handle().fail(Fault::CutAfter(0));
        let stack = FallbackLayer::new("rig").tier("other", Simulated::new("other").reply("It rains."));
        let stack = ServiceBuilder::new().layer(stack).service(leaf(model));
        let answer = stack.oneshot(hello(true)).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "It rains.");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_or_stream_drops_the_providers() {
    let provider = Simulated::new("sonnet").reply(REPLY).latency(10 * SECOND).pace(SECOND);
    let handle = provider.handle();
    for leaf in leaves(provider) {
        let mut calling = Box::pin(leaf.clone().oneshot(hello(false)));
        assert!(calling.as_mut().now_or_never().is_none());
        assert_eq!(handle.stats().in_flight, 1);
        drop(calling);
        assert_eq!(handle.stats().in_flight, 0);

        let streaming = leaf.oneshot(hello(true)).await.unwrap();
        assert_eq!(handle.stats().in_flight, 1, "the rest of the stream is to come");
        drop(streaming);
        assert_eq!(handle.stats().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_rig_cannot_carry_goes_to_another_tier() {
    let provider = Simulated::new("gpt-4o");
    let handle = provider.handle();
    let [leaf, _] = leaves(provider);
    let other = || Part::Other { dialect: Dialect::Gemini, value: json!({"executableCode": {}}).into() };
    let mut json_mode = Chat::new([Message::user("hello")]);
    json_mode.output = Some(OutputSchema { name: "any".to_owned(), schema: None, strict: false });
    for chat in [
        json_mode,
        Chat::new([Message::new(Role::User, vec![other()])]),
        Chat::new([Message::user("hello"), Message::new(Role::Assistant, vec![other()]), Message::user("hello")]),
    ] {
        let error = leaf.clone().oneshot(chat.clone().into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{error}");
        let stack = FallbackLayer::new("rig").tier("other", Simulated::new("other").reply("It rains."));
        let stack = ServiceBuilder::new().layer(stack).service(leaf.clone());
        assert_eq!(stack.oneshot(chat.into()).await.unwrap().served_by().tier, Some("other"));
    }
    assert_eq!(handle.stats().calls, 0, "nothing was sent");
}
