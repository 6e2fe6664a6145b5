//! rig's own OpenAI and Anthropic clients over a stack, in process and on paused time.

use std::{convert::Infallible, future::ready, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use rig_agent::{Agent, AgentBuilder, agent::MultiTurnStreamItem, rig_tool};
use rig_core::{
    DynModel,
    completion::CompletionResponse,
    error::ProviderError,
    operation::Completion,
    providers::{
        anthropic::{Anthropic, AnthropicConfig},
        openai::{OpenAI, OpenAIConfig},
    },
    streaming::{Item, StreamEvent},
    tool::ToolExecutionError,
    transcription::TranscriptionRequestBuilder,
};
use serde_json::json;
use steadfast::{
    BulkheadLayer, FallbackLayer, RetryWithJitterLayer,
    providers::{
        Anthropic as AnthropicLeaf, OpenAi,
        http::RequestBody,
        simulated::{Fault, Simulated},
    },
};
use steadfast_gateway::Gateway;
use steadfast_rig::{GatewayClient, http_client};
use steadfast_simulator::SimulatedServer;
use tokio::sync::mpsc;
use tower::{ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const REPLY: &str = "one two three four five six";

/// A client whose own server is not there: whatever it sends itself fails.
fn openai(http: GatewayClient) -> OpenAI {
    OpenAIConfig::new("sk-of-the-caller").with_base_url("http://127.0.0.1:1/v1").connect(http)
}

fn anthropic(http: GatewayClient) -> Anthropic {
    AnthropicConfig::new("sk-of-the-caller").with_base_url("http://127.0.0.1:1").connect(http)
}

/// The same stack behind both protocols.
fn models(http: &GatewayClient) -> [DynModel<Completion>; 2] {
    let claude = anthropic(http.clone()).completion("claude-sonnet-4-5").erase();
    [openai(http.clone()).chat("gpt-4o").erase(), claude]
}

/// Returns the text of a stream as it came, and the answer or the error that ended it.
async fn streamed(model: &DynModel<Completion>) -> (String, Result<CompletionResponse, ProviderError>) {
    let (mut stream, mut text) = (model.stream("hello").unwrap(), String::new());
    while let Some(item) = stream.next().await {
        match item {
            Ok(Item::Event(StreamEvent::Text { text: more, .. })) => text.push_str(&more),
            Ok(_) => {}
            Err(error) => return (text, Err(error)),
        }
    }
    (text, stream.finish().await)
}

#[tokio::test(start_paused = true)]
async fn whole_answers_and_streams_come_from_the_stack() {
    let http = http_client(Simulated::new("sonnet").reply(REPLY));
    for model in models(&http) {
        let answer = model.call("hello").await.unwrap();
        assert_eq!(answer.text(), REPLY);
        assert!(answer.usage.output_tokens.is_some_and(|tokens| tokens > 0), "{:?}", answer.usage);
        let (text, end) = streamed(&model).await;
        assert_eq!(text, REPLY);
        assert_eq!(end.unwrap().text(), REPLY);
    }
}

/// OpenAI's `completion` is the Responses API.
#[tokio::test(start_paused = true)]
async fn openais_default_api_comes_from_the_stack_too() {
    let model = openai(http_client(Simulated::new("gpt-4o").reply(REPLY))).completion("gpt-4o").erase();
    assert_eq!(model.call("hello").await.unwrap().text(), REPLY);
    let (text, end) = streamed(&model).await;
    assert_eq!(text, REPLY);
    assert_eq!(end.unwrap().text(), REPLY);
}

#[tokio::test(start_paused = true)]
async fn the_list_of_models_comes_from_the_stack() {
    let http = GatewayClient::new(Gateway::builder(Simulated::new("sonnet")).models(["gpt-4o"]));
    for list in [openai(http.clone()).list_models().await, anthropic(http.clone()).list_models().await] {
        // The gateway marks a name that is no Claude's for clients of Anthropic's API.
        let ids: Vec<_> = list.unwrap().data.into_iter().map(|model| model.id).collect();
        assert!(ids.len() == 1 && ids[0].ends_with("gpt-4o"), "{ids:?}");
    }
    openai(http).verify().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_its_status_however_late_and_is_asked_once() {
    let provider = Simulated::new("sonnet").latency(60 * SECOND);
    let handle = provider.handle();
    handle.fail(Fault::RateLimited { retry_after: Some(SECOND) });
    for (number, model) in models(&http_client(provider)).iter().enumerate() {
        let whole = model.call("hello").await.unwrap_err();
        let (_, late) = streamed(model).await;
        for error in [whole, late.unwrap_err()] {
            assert_eq!(error.provider_response_status().map(|status| status.as_u16()), Some(429), "{error}");
            assert_eq!(error.provider_response_headers().unwrap()["retry-after"], "1", "{error}");
            assert!(error.to_string().contains("rate limit"), "{error}");
        }
        assert_eq!(handle.stats().calls, 2 * (number as u64 + 1), "rig repeats nothing by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agents_retries_are_the_stacks_alone() {
    let provider = Simulated::new("gpt-4o");
    let handle = provider.handle();
    handle.fail(Fault::ServerError);
    let stack = ServiceBuilder::new().layer(RetryWithJitterLayer::new().max_attempts(3)).service(provider);
    let agent = AgentBuilder::new(openai(http_client(stack)).chat("gpt-4o")).build();
    agent.prompt("hello").max_turns(5).await.unwrap_err();
    assert_eq!(handle.stats().calls, 3);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_ends_with_an_error() {
    let provider = Simulated::new("sonnet").reply(REPLY);
    provider.handle().fail(Fault::CutAfter(3));
    for model in models(&http_client(provider)) {
        let (text, end) = streamed(&model).await;
        assert!(!text.is_empty() && text.len() < REPLY.len(), "{text}");
        assert!(end.is_err(), "{text:?} passed for a whole answer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_or_stream_drops_the_providers_and_frees_its_place() {
    let provider = Simulated::new("sonnet").reply(REPLY).latency(10 * SECOND).pace(SECOND);
    let handle = provider.handle();
    let bulkhead = BulkheadLayer::new();
    let places = bulkhead.handle();
    let http = http_client(ServiceBuilder::new().layer(bulkhead).service(provider));
    let under_way = || (handle.stats().in_flight, places.in_flight("default"));
    for model in models(&http) {
        let mut calling = Box::pin(model.call("hello"));
        assert!(calling.as_mut().now_or_never().is_none());
        assert_eq!(under_way(), (1, 1));
        drop(calling);
        assert_eq!(under_way(), (0, 0));

        let mut stream = model.stream("hello").unwrap();
        assert!(stream.next().await.unwrap().is_ok(), "the first token is here");
        assert_eq!(under_way(), (1, 1));
        drop(stream);
        assert_eq!(under_way(), (0, 0));
    }
}

/// Returns a transport that answers with this body, and the headers that it receives.
macro_rules! recording_transport {
    ($answer:expr) => {{
        let (sends, sent) = mpsc::unbounded_channel();
        let transport = service_fn(move |request: Request<RequestBody>| {
            let _ = sends.send(request.headers().clone());
            let answer = Response::builder().header("content-type", "application/json");
            ready(Ok::<_, Infallible>(answer.body(Full::<Bytes>::from($answer.to_string())).unwrap()))
        });
        (transport, sent)
    }};
}

#[tokio::test(start_paused = true)]
async fn the_callers_key_reaches_no_provider() {
    let (transport, mut to_openai) = recording_transport!(json!({"id": "c", "object": "chat.completion", "created": 1,
        "model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"},
        "finish_reason": "stop"}]}));
    let gpt = OpenAi::new("sk-of-the-stack").transport(transport).model("gpt-4o");
    let (transport, mut to_anthropic) = recording_transport!(json!({"id": "m", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
        "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 1}}));
    let claude = AnthropicLeaf::new("sk-of-the-stack").transport(transport).model("claude-sonnet-4-5");

    for model in models(&http_client(gpt)).into_iter().chain(models(&http_client(claude))) {
        assert_eq!(model.call("hello").await.unwrap().text(), "hi");
    }
    for (sent, header, value) in [
        (&mut to_openai, "authorization", "Bearer sk-of-the-stack"),
        (&mut to_anthropic, "x-api-key", "sk-of-the-stack"),
    ] {
        for _ in 0..2 {
            let headers = sent.recv().await.unwrap();
            assert_eq!(headers[header], value);
            assert!(!format!("{headers:?}").contains("sk-of-the-caller"), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn other_paths_are_refused_by_name_or_go_out_as_before() {
    let refusing = openai(http_client(Simulated::new("gpt-4o")));
    let embedding =
        refusing.embedding("text-embedding-3-small", None).call(vec!["hello".to_owned()]).await.unwrap_err();
    let recording = TranscriptionRequestBuilder::new(b"RIFF".to_vec()).build();
    let transcription = refusing.transcription("whisper-1").call(recording).await.unwrap_err();
    for error in [embedding, transcription] {
        assert_eq!(error.provider_response_status().map(|status| status.as_u16()), Some(404), "{error}");
        assert!(error.to_string().contains("unknown_path"), "{error}");
    }

    // A server that is not the stack's.
    let elsewhere = SimulatedServer::start(Simulated::new("elsewhere")).await.unwrap();
    let config = OpenAIConfig::new("sk-of-the-caller").with_base_url(format!("{}/v1", elsewhere.base_url()));
    let reqwest = rig_agent::core::http_client::DynHttpClient::new(rig_reqwest::ReqwestClient::default());
    let client = config.connect(http_client(Simulated::new("gpt-4o").reply(REPLY)).others_by(reqwest));
    let sent = client.embedding("text-embedding-3-small", None).call(vec!["hello".to_owned()]).await.unwrap_err();
    let recording = TranscriptionRequestBuilder::new(b"RIFF".to_vec()).build();
    let sent_form = client.transcription("whisper-1").call(recording).await.unwrap_err();
    for sent in [sent, sent_form] {
        assert!(!sent.to_string().contains("unknown_path"), "the other server's own answer: {sent}");
        assert!(sent.provider_response_status().is_some(), "{sent}");
    }
    assert_eq!(client.chat("gpt-4o").call("hello").await.unwrap().text(), REPLY);
}

#[rig_tool(description = "Measures the air pressure in a city, in hPa", params(city = "The city's name"))]
fn air_pressure(city: String) -> Result<String, ToolExecutionError> {
    Ok(format!("990 hPa in {city}"))
}

fn agent(model: impl Into<DynModel<Completion>>) -> Agent {
    AgentBuilder::new(model).preamble("You forecast the weather.").tool(AirPressure).default_max_turns(3).build()
}

#[tokio::test(start_paused = true)]
async fn an_agents_tools_work_over_a_fallback() {
    let gpt = Simulated::new("gpt-4o");
    gpt.handle().fail(Fault::InsufficientQuota);
    let claude = Simulated::new("claude").reply(REPLY).call_tools(json!({"city": "Rome"}));
    let served = claude.handle();
    let stack = ServiceBuilder::new().layer(FallbackLayer::new("gpt").tier("claude", claude)).service(gpt);
    for (number, model) in models(&http_client(stack)).into_iter().enumerate() {
        let agent = agent(model);
        assert_eq!(agent.prompt("How is the weather?").await.unwrap().output(), REPLY);

        let mut stream = agent.prompt("How is the weather?").stream();
        let (mut text, mut results) = (String::new(), Vec::new());
        while let Some(item) = stream.next().await {
            match item.unwrap() {
                MultiTurnStreamItem::StreamAssistantItem(Item::Event(StreamEvent::Text { text: more, .. })) => {
                    text.push_str(&more);
                }
                MultiTurnStreamItem::ToolResult { tool_result, .. } => results.push(tool_result),
                _ => {}
            }
        }
        assert_eq!((&*text, results.len()), (REPLY, 1));
        assert_eq!(results[0].content[0].as_text(), Some("990 hPa in Rome"));
        assert_eq!(served.stats().calls, 4 * (number as u64 + 1), "two turns each, whole and streamed");
    }
}
