//! The other direction: a leaf around async-openai's own client and types. It fails as steadfast's own leaf does at the
//! same server.

use std::time::Duration;

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    middleware::HttpRequestFactory,
    types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs},
};
use serde_json::{Value, json};
use steadfast::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest, LlmService,
    chat::{Message, Part, Role, Tool, ToolCall, ToolResult},
    providers::{
        OpenAi,
        codec::Codec,
        simulated::{Fault, Simulated},
    },
};
use steadfast_async_openai::{leaf, llm_error};
use steadfast_simulator::SimulatedServer;
use tower::{ServiceExt, service_fn};

/// A client that repeats nothing by itself.
fn client(server: &SimulatedServer) -> Client<OpenAIConfig> {
    client_by(server, reqwest::Client::new())
}

fn client_by(server: &SimulatedServer, http: reqwest::Client) -> Client<OpenAIConfig> {
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
    let theirs = leaf(client(&server), "gpt-4o");
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
async fn a_clients_error_has_the_kind_of_the_leafs_without_its_url() {
    let server = SimulatedServer::start(Simulated::new("gpt-4o")).await.unwrap();
    let own = OpenAi::new("key").base_url(&format!("{}/v1", server.base_url())).unwrap().model("gpt-4o");
    let request = || {
        let message = ChatCompletionRequestUserMessage::from("hello");
        CreateChatCompletionRequestArgs::default().model("gpt-4o").messages([message.into()]).build().unwrap()
    };
    for fault in [Fault::Overloaded, Fault::InsufficientQuota, Fault::Unauthorized, Fault::ContextLength] {
        server.handle().fail_next(2, &fault);
        let own = outcome(own.clone(), LlmRequest::prompt("hello")).await.unwrap_err();
        let theirs = llm_error(client(&server).chat().create(request()).await.unwrap_err());
        assert_eq!(
            (theirs.kind(), theirs.status(), theirs.code()),
            (own.kind(), own.status(), own.code()),
            "{fault:?}"
        );
    }
    let nowhere = OpenAIConfig::new().with_api_base("http://127.0.0.1:1/secret/v1").with_api_key("key");
    let error = Client::with_config(nowhere).chat().create(request()).await.unwrap_err();
    let error = llm_error(error);
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");

    server.handle().fail(Fault::Hang);
    let http = reqwest::Client::builder().timeout(Duration::from_millis(100)).build().unwrap();
    let slow = client_by(&server, http);
    let error = slow.chat().create(request()).await.unwrap_err();
    assert_eq!(llm_error(error).kind(), ErrorKind::Timeout);
    let error = outcome(leaf(slow, "gpt-4o"), LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!((error.kind(), error.model()), (ErrorKind::Timeout, Some("gpt-4o")));
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
