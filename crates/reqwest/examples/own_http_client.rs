//! The leaves of steadfast over a `reqwest::Client` of your own, with its proxy, its certificates and its pool.
//!
//! `cargo run --example own_http_client` needs no key: a simulated provider listens on loopback.

use std::time::Duration;

use steadfast::{
    CircuitBreakerLayer, LlmRequest, RetryWithJitterLayer,
    providers::{
        OpenAi,
        simulated::{Fault, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// Makes the leaf. Your client sends and receives the same bytes as the crate's own.
fn leaf(client: reqwest::Client, base_url: &str) -> Result<OpenAi, BoxError> {
    let leaf = OpenAi::compatible("house", base_url)?.key("sk-of-the-house").model("gpt-4o");
    Ok(leaf.transport(steadfast_reqwest::transport(client)))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = Simulated::new("gpt-4o").reply("A function that remembers.");
    let server = SimulatedServer::start(provider).await?;
    // No redirects: the key would travel along. No timeout: the layers have the limits.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let llm = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().max_delay(Duration::from_millis(1)))
        .layer(CircuitBreakerLayer::new("house"))
        .service(leaf(client, &format!("{}/v1", server.base_url()))?);

    for stream in [false, true] {
        server.handle().fail_next(1, &Fault::Overloaded);
        let answer = llm.clone().oneshot(LlmRequest::prompt("Explain closures.").with_stream(stream)).await?;
        println!("{}", answer.served_by());
        assert_eq!(answer.served_by().to_string(), "house (gpt-4o, 2 attempts)");
        assert_eq!(answer.text().await?, "A function that remembers.");
    }
    Ok(())
}
