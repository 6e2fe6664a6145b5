//! A service with a rig agent and its tool, before and after the lines that put a stack under its client, in an outage
//! of its provider: `cargo run --example weather_agent`. It needs no key.

use futures_util::StreamExt;
use rig_agent::{
    Agent, AgentBuilder,
    agent::MultiTurnStreamItem,
    core::{providers::openai::OpenAI, tool::ToolExecutionError},
    rig_tool,
};
use rig_core::{
    providers::openai::OpenAIConfig,
    streaming::{Item, StreamEvent},
};
use steadfast::{
    BoxLlmService, CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer,
    providers::{
        OpenAi,
        simulated::{Fault, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{BoxError, ServiceBuilder};

#[rig_tool(description = "Measures the air pressure in a city, in hPa", params(city = "The city's name"))]
fn air_pressure(city: String) -> Result<u32, ToolExecutionError> {
    Ok(if city == "Rome" { 990 } else { 1_020 })
}

/// The service as it is. Nothing in it changes.
fn forecaster(client: &OpenAI) -> Agent {
    let agent = AgentBuilder::new(client.chat("gpt-4o")).preamble("You forecast the weather.");
    agent.tool(AirPressure).default_max_turns(3).build()
}

/// The service as it is, whole answers.
async fn forecast(agent: &Agent) -> Result<String, BoxError> {
    Ok(agent.prompt("How is the weather in Rome?").await?.output().to_owned())
}

/// The service as it is, streams.
async fn spoken_forecast(agent: &Agent) -> Result<String, BoxError> {
    let (mut items, mut text) = (agent.prompt("How is the weather in Rome?").stream(), String::new());
    while let Some(item) = items.next().await {
        if let MultiTurnStreamItem::StreamAssistantItem(Item::Event(StreamEvent::Text { text: more, .. })) = item? {
            text.push_str(&more);
        }
    }
    Ok(text)
}

/// A provider whose model calls the tool, and then answers.
fn model(name: &str, reply: &str) -> Simulated {
    Simulated::new(name).reply(reply).call_tools(serde_json::json!({"city": "Rome"}))
}

/// The first tier is the service's provider; the second is another. In earnest: `Stack::from_path("steadfast.yaml")`.
fn stack(url: &str) -> Result<BoxLlmService, BoxError> {
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::new("gpt").tier("claude", model("claude-sonnet-4-5", "It rains.")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("gpt"))
        .service(OpenAi::new("sk-simulated").base_url(url)?.model("gpt-4o"));
    Ok(BoxLlmService::new(stack))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = SimulatedServer::start(model("gpt-4o", "The sun shines.")).await?;
    let url = format!("{}/v1", provider.base_url());

    let client = OpenAIConfig::new("sk-simulated").with_base_url(&url).client();
    let before = forecaster(&client);
    let client = client.with_http(steadfast_rig::http_client(stack(&url)?));
    let after = forecaster(&client);

    for agent in [&before, &after] {
        assert_eq!(forecast(agent).await?, "The sun shines.");
        assert_eq!(spoken_forecast(agent).await?, "The sun shines.");
    }

    provider.handle().fail(Fault::InsufficientQuota);
    let (mut lost_before, mut lost) = (0, 0);
    for number in 0..2_000 {
        let streamed = number % 2 == 1;
        let ask = async |agent| if streamed { spoken_forecast(agent).await } else { forecast(agent).await };
        lost_before += usize::from(number < 20 && ask(&before).await.is_err());
        lost += usize::from(ask(&after).await.ok().as_deref() != Some("It rains."));
    }
    println!("before: lost {lost_before} of 20; after: lost {lost} of 2000");
    assert_eq!((lost_before, lost), (20, 0));
    Ok(())
}
