//! A service that asks a model through async-openai, before and after the lines that put a stack under its client, in
//! an outage of its provider: `cargo run --example forecast`. It needs no key.

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs},
};
use futures_util::StreamExt;
use steadfast::{
    BoxLlmService, CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer,
    providers::{
        OpenAi,
        simulated::{Fault, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{BoxError, ServiceBuilder};

fn question(city: &str) -> Result<CreateChatCompletionRequest, OpenAIError> {
    let message = ChatCompletionRequestUserMessage::from(format!("How is the weather in {city}?"));
    CreateChatCompletionRequestArgs::default().model("gpt-4o").messages([message.into()]).build()
}

/// The service as it is, whole answers. Nothing in it changes.
async fn forecast(client: &Client<OpenAIConfig>, city: &str) -> Result<String, OpenAIError> {
    let answer = client.chat().create(question(city)?).await?;
    Ok(answer.choices.into_iter().find_map(|choice| choice.message.content).unwrap_or_default())
}

/// The service as it is, streams.
async fn spoken_forecast(client: &Client<OpenAIConfig>, city: &str) -> Result<String, OpenAIError> {
    let (mut stream, mut text) = (client.chat().create_stream(question(city)?).await?, String::new());
    while let Some(chunk) = stream.next().await {
        text.extend(chunk?.choices.into_iter().filter_map(|choice| choice.delta.content));
    }
    Ok(text)
}

/// The first tier is the service's provider; the second is another. In earnest: `Stack::from_path("steadfast.yaml")`.
fn stack(url: &str) -> Result<BoxLlmService, BoxError> {
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::new("gpt").tier("claude", Simulated::new("claude-sonnet-4-5").reply("It rains.")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("gpt"))
        .service(OpenAi::new("sk-simulated").base_url(url)?.model("gpt-4o"));
    Ok(BoxLlmService::new(stack))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = SimulatedServer::start(Simulated::new("gpt-4o").reply("The sun shines.")).await?;
    let url = format!("{}/v1", provider.base_url());

    let client = Client::with_config(OpenAIConfig::new().with_api_base(&url).with_api_key("sk-simulated"));
    let before = client.clone();
    let client = client.with_http_service(steadfast_async_openai::service(stack(&url)?));

    assert_eq!(forecast(&before, "Rome").await?, "The sun shines.");
    assert_eq!(forecast(&client, "Rome").await?, "The sun shines.");

    provider.handle().fail(Fault::InsufficientQuota);
    let (mut lost_before, mut lost) = (0, 0);
    for number in 0..2_000 {
        let streamed = number % 2 == 1;
        let ask = async |client| {
            if streamed { spoken_forecast(client, "Rome").await } else { forecast(client, "Rome").await }
        };
        lost_before += usize::from(number < 20 && ask(&before).await.is_err());
        lost += usize::from(ask(&client).await.ok().as_deref() != Some("It rains."));
    }
    println!("before: lost {lost_before} of 20; after: lost {lost} of 2000");
    assert_eq!((lost_before, lost), (20, 0));
    Ok(())
}
