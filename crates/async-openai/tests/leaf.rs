//! The other direction: a leaf around async-openai's own client and types, by `steadfast::providers::codec`. It fails
//! as steadfast's own leaf does at the same server.

use std::time::Duration;

use async_openai::{Client, config::OpenAIConfig, error::OpenAIError, middleware::HttpRequestFactory};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use steadfast::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    chat::{Message, Part, Role, Tool, ToolCall, ToolResult},
    provider_fn,
    providers::{
        OpenAi,
        codec::{Codec, Exchange},
        simulated::{Fault, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{ServiceExt, service_fn};

fn failure(exchange: &Exchange, error: OpenAIError) -> LlmError {
    match error {
        OpenAIError::ApiError(error) => exchange.error_json(error.status_code, &error.api_error),
        OpenAIError::Reqwest(error) if error.is_body() || error.is_decode() => {
            LlmError::new(ErrorKind::StreamBroken, "the connection broke").with_source(error)
        }
        OpenAIError::Reqwest(error) => exchange.unanswered(error),
        OpenAIError::StreamError(error) => LlmError::new(ErrorKind::StreamBroken, error.to_string()),
        // An error in place of an answer, or one that its types cannot hold: its words quote the answer.
        OpenAIError::JSONDeserialize(_, body) => exchange.answer(body).err().unwrap_or_else(malformed),
        _ => malformed(),
    }
}

fn malformed() -> LlmError {
    LlmError::new(ErrorKind::Malformed, "async-openai cannot read the answer")
}

async fn answer(codec: Codec, client: Client<OpenAIConfig>, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let exchange = codec.encode(&request).await?;
    let of_call = exchange.clone();
    let failed = move |error| failure(&of_call, error);
    if request.is_stream() {
        let chunks = client.chat().create_stream(exchange.json()?).await.map_err(&failed)?;
        exchange.stream_json(chunks.map_err(failed)).await
    } else {
        exchange.answer_json(&client.chat().create(exchange.json()?).await.map_err(failed)?)
    }
}

/// A client that repeats nothing by itself.
fn client(server: &SimulatedServer) -> Client<OpenAIConfig> {
    let http = reqwest::Client::new();
    let send = service_fn(move |factory: HttpRequestFactory| {
        let http = http.clone();
        async move { Ok::<_, OpenAIError>(http.execute(factory.build().await?).await?) }
    });
    let config = OpenAIConfig::new().with_api_base(format!("{}/v1", server.base_url())).with_api_key("key");
    Client::with_config(config).with_http_service(send)
}

async fn outcome(leaf: impl LlmService, request: LlmRequest) -> Result<String, LlmError> {
    leaf.oneshot(request).await.map_err(Into::into)?.text().await
}

#[tokio::test]
async fn a_leaf_around_it_fails_as_the_crates_own_does() {
    let server = SimulatedServer::start(Simulated::new("gpt-4o").reply("It rains.")).await.unwrap();
    let (codec, client) = (Codec::new(Dialect::OpenAi).model("gpt-4o"), client(&server));
    let theirs = provider_fn(move |request| answer(codec.clone(), client.clone(), request));
    let ours = OpenAi::new("key").base_url(&format!("{}/v1", server.base_url())).unwrap().model("gpt-4o");
    let faults = [
        Fault::ServerError,
        Fault::BadGateway,
        Fault::Unavailable,
        Fault::Overloaded,
        Fault::RateLimited { retry_after: Some(Duration::from_secs(3)) },
        Fault::InsufficientQuota,
        Fault::Unauthorized,
        Fault::BadRequest,
        Fault::ContextLength,
        Fault::ContentFilter,
        Fault::Empty,
        Fault::CutAfter(1),
        Fault::ErrorEventAfter(1),
        Fault::NoEndMark,
    ];
    for stream in [false, true] {
        let ask = || LlmRequest::prompt("How is the weather?").with_stream(stream);
        assert_eq!(outcome(theirs.clone(), ask()).await.unwrap(), "It rains.", "{stream}");
        for fault in &faults {
            server.handle().fail_next(2, fault);
            let kind = |outcome: Result<String, LlmError>| {
                outcome.map_err(|error| (error.kind(), error.code().map(str::to_owned)))
            };
            let (ours, theirs) = (outcome(ours.clone(), ask()).await, outcome(theirs.clone(), ask()).await);
            assert_eq!(kind(ours), kind(theirs), "{fault:?} {stream}");
        }
    }
}

#[tokio::test]
async fn its_types_carry_a_whole_conversation() {
    let schema = json!({"type": "object", "properties": {"at": {"type": "string"}}});
    let call = ToolCall::new("call_1", "weather", r#"{"at":"Oslo"}"#);
    let mut chat = Chat::new([
        Message::user("How is the weather?"),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
        Message::new(Role::User, vec![Part::ToolResult(ToolResult::new("call_1", "rain"))]),
    ])
    .system("Be brief.")
    .tool(Tool::new("weather", schema).description("Says it."))
    .max_tokens(100)
    .temperature(0.5);
    chat.stop = vec!["END".into()];
    let exchange = Codec::new(Dialect::OpenAi).model("gpt-4o").encode(&chat.into()).await.unwrap();
    let typed: async_openai::types::chat::CreateChatCompletionRequest = exchange.json().unwrap();
    let theirs = serde_json::to_value(&typed).unwrap();
    // A content of `null` is none.
    let ours = String::from_utf8(exchange.body().to_vec()).unwrap().replace(r#""content":null,"#, "");
    let ours: Value = serde_json::from_str(&ours).unwrap();
    for (name, value) in ours.as_object().unwrap() {
        assert_eq!(&theirs[name], value, "{name}");
    }
}
