//! async-openai's own client over a stack, in process and on paused time.

use std::{convert::Infallible, future::ready, time::Duration};

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs},
    types::embeddings::CreateEmbeddingRequestArgs,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use steadfast::{
    BulkheadLayer,
    providers::{
        OpenAi,
        http::RequestBody,
        simulated::{Fault, Simulated},
    },
};
use steadfast_async_openai::{OpenAiService, service};
use steadfast_gateway::Gateway;
use steadfast_simulator::SimulatedServer;
use tokio::sync::mpsc;
use tower::{ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// A client whose own server is not there: whatever it sends itself fails.
fn client(service: OpenAiService) -> Client<OpenAIConfig> {
    let config = OpenAIConfig::new().with_api_base("http://127.0.0.1:1/v1").with_api_key("sk-of-the-caller");
    Client::with_config(config).with_http_service(service)
}

fn hello() -> CreateChatCompletionRequest {
    let message = ChatCompletionRequestUserMessage::from("hello");
    CreateChatCompletionRequestArgs::default().model("gpt-4o").messages([message.into()]).build().unwrap()
}

async fn text(client: &Client<OpenAIConfig>) -> Result<String, OpenAIError> {
    let answer = client.chat().create(hello()).await?;
    Ok(answer.choices[0].message.content.clone().unwrap())
}

/// Returns the text of a stream, and the error that ended it.
async fn streamed(client: &Client<OpenAIConfig>) -> (String, Option<OpenAIError>) {
    let (mut stream, mut text) = (client.chat().create_stream(hello()).await.unwrap(), String::new());
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => text.extend(chunk.choices.into_iter().filter_map(|choice| choice.delta.content)),
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}

#[tokio::test(start_paused = true)]
async fn whole_answers_streams_and_the_list_of_models_come_from_the_stack() {
    let gpt = Simulated::new("gpt-4o").reply("Hello from the stack.");
    let client = client(OpenAiService::new(Gateway::builder(gpt).models(["gpt-4o"])));
    assert_eq!(text(&client).await.unwrap(), "Hello from the stack.");
    let (text, error) = streamed(&client).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(text, "Hello from the stack.");
    let models = client.models().list().await.unwrap();
    assert_eq!(models.data.iter().map(|model| &*model.id).collect::<Vec<_>>(), ["gpt-4o"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_the_clients_own_error_and_is_asked_once() {
    let gpt = Simulated::new("gpt-4o");
    let handle = gpt.handle();
    handle.fail(Fault::RateLimited { retry_after: Some(SECOND) });
    let error = text(&client(service(gpt))).await.unwrap_err();
    let OpenAIError::ApiError(error) = error else { panic!("{error:?}") };
    assert_eq!(error.status_code.as_u16(), 429);
    assert!(error.api_error.code.is_some(), "{error:?}");
    assert_eq!(handle.stats().calls, 1, "the client repeats nothing by itself");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_late_still_has_a_status() {
    let gpt = Simulated::new("gpt-4o").latency(60 * SECOND);
    gpt.handle().fail(Fault::ServerError);
    let error = client(service(gpt)).chat().create_stream(hello()).await.err().expect("no stream begins");
    let OpenAIError::ApiError(error) = error else { panic!("{error:?}") };
    assert!(error.status_code.is_server_error(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_ends_with_an_error() {
    let gpt = Simulated::new("gpt-4o").reply("one two three four five six");
    gpt.handle().fail(Fault::CutAfter(3));
    let (text, error) = streamed(&client(service(gpt))).await;
    assert!(!text.is_empty() && text.len() < "one two three four five six".len(), "{text}");
    assert!(error.is_some(), "{text:?} passed for a whole answer");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_drops_the_providers_and_frees_its_place() {
    let gpt = Simulated::new("gpt-4o").latency(10 * SECOND);
    let handle = gpt.handle();
    let bulkhead = BulkheadLayer::new();
    let places = bulkhead.handle();
    let client = client(service(ServiceBuilder::new().layer(bulkhead).service(gpt)));
    let chat = client.chat();
    let mut calling = Box::pin(chat.create(hello()));
    assert!(calling.as_mut().now_or_never().is_none());
    assert_eq!((handle.stats().in_flight, places.in_flight("default")), (1, 1));
    drop(calling);
    assert_eq!((handle.stats().in_flight, places.in_flight("default")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_callers_key_reaches_no_provider() {
    let answer = r#"{"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices":
        [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}"#;
    let (sends, mut sent) = mpsc::unbounded_channel();
    let transport = service_fn(move |request: Request<RequestBody>| {
        let _ = sends.send(request.headers().clone());
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(answer))))
    });
    let leaf = OpenAi::new("sk-of-the-stack").transport(transport).model("gpt-4o");
    assert_eq!(text(&client(service(leaf))).await.unwrap(), "hi");
    let headers = sent.recv().await.unwrap();
    assert_eq!(headers["authorization"], "Bearer sk-of-the-stack");
    assert!(!format!("{headers:?}").contains("sk-of-the-caller"), "{headers:?}");
}

#[tokio::test]
async fn other_paths_are_refused_by_name_or_go_out_as_before() {
    let client = client(service(Simulated::new("gpt-4o")));
    let error = client.models().delete("gpt-4o").await.unwrap_err();
    assert!(matches!(&error, OpenAIError::ApiError(error) if error.status_code.as_u16() == 405), "{error:?}");

    // A server that is not the stack's.
    let elsewhere = SimulatedServer::start(Simulated::new("elsewhere")).await.unwrap();
    let config = OpenAIConfig::new().with_api_base(format!("{}/v1", elsewhere.base_url()));
    let embed = async |service: OpenAiService| {
        let request = CreateEmbeddingRequestArgs::default().model("e").input("hello").build().unwrap();
        Client::with_config(config.clone()).with_http_service(service).embeddings().create(request).await
    };
    let refused = embed(service(Simulated::new("gpt-4o"))).await.unwrap_err();
    assert!(format!("{refused:?}").contains("unknown_path"), "{refused:?}");
    let sent = embed(service(Simulated::new("gpt-4o")).others_by(reqwest::Client::new())).await;
    assert!(!format!("{sent:?}").contains("unknown_path"), "the other server's own answer: {sent:?}");
}
